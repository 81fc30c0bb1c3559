//! Compiles the ONNX protobuf definition with a pure-Rust compiler, so that no `protoc` is needed.
//!
//! `raw_data` becomes `bytes::Bytes`: decoding from a memory-mapped file then copies no weights.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/backbone/onnx.proto");
    let descriptors = protox::compile(["src/backbone/onnx.proto"], ["src/backbone"])?;
    prost_build::Config::new().bytes([".onnx.TensorProto.raw_data"]).compile_fds(descriptors)?;
    Ok(())
}
