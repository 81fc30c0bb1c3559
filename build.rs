//! Compiles what src/images/jpeg must know of libjpeg's private fields.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/images/jpeg/internals.c");
    // mozjpeg-sys names the headers that it compiled libjpeg with.
    let headers = std::env::var_os("DEP_JPEG_INCLUDE").ok_or("mozjpeg-sys names no headers")?;
    cc::Build::new()
        .includes(std::env::split_paths(&headers))
        .file("src/images/jpeg/internals.c")
        .compile("cnncodes-jpeg-internals");
    Ok(())
}
