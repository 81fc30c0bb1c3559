//! Writes `src/network/onnx.rs` from `onnx.proto` (Apache-2.0, the ONNX project), without `protoc`:
//!
//!     cargo run --manifest-path scripts/dev/onnx-messages/Cargo.toml
//!
//! `raw_data` becomes `bytes::Bytes`: decoding from a memory-mapped file then copies no weights.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = here.join("../../../src/network/onnx.rs");
    let folder = std::env::temp_dir();
    let descriptors = protox::compile([here.join("onnx.proto")], [here])?;
    prost_build::Config::new()
        .bytes([".onnx.TensorProto.raw_data"])
        .disable_comments(["."])
        .out_dir(&folder)
        .compile_fds(descriptors)?;
    let messages = std::fs::read_to_string(folder.join("onnx.rs"))?;
    let header = "//! The messages of ONNX files, written by scripts/dev/onnx-messages; its onnx.proto explains them.\n\n";
    std::fs::write(generated, format!("{header}{messages}"))?;
    Ok(())
}
