//! Compiles the ONNX protobuf definition with a pure-Rust compiler, so that no `protoc` is needed, and what src/images/jpeg
//! must know of libjpeg's private fields.
//!
//! `raw_data` becomes `bytes::Bytes`: decoding from a memory-mapped file then copies no weights.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/network/onnx.proto");
    let descriptors = protox::compile(["src/network/onnx.proto"], ["src/network"])?;
    prost_build::Config::new().bytes([".onnx.TensorProto.raw_data"]).compile_fds(descriptors)?;

    println!("cargo::rerun-if-changed=src/images/jpeg/internals.c");
    // mozjpeg-sys names the headers that it compiled libjpeg with.
    let headers = std::env::var_os("DEP_JPEG_INCLUDE").ok_or("mozjpeg-sys names no headers")?;
    cc::Build::new()
        .includes(std::env::split_paths(&headers))
        .file("src/images/jpeg/internals.c")
        .compile("cnncodes-jpeg-internals");
    Ok(())
}
