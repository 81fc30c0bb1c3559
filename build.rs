//! Compiles what src/images/jpeg must know of libjpeg's private fields, and lists the files of the page that src/serve embeds.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/images/jpeg/internals.c");
    // mozjpeg-sys names the headers that it compiled libjpeg with.
    let headers = std::env::var_os("DEP_JPEG_INCLUDE").ok_or("mozjpeg-sys names no headers")?;
    cc::Build::new()
        .includes(std::env::split_paths(&headers))
        .file("src/images/jpeg/internals.c")
        .compile("cnncodes-jpeg-internals");
    if std::env::var_os("CARGO_FEATURE_SERVE").is_some() {
        list_page()?;
    }
    Ok(())
}

/// Writes `page_files.rs`: a slice of the names of the files in src/serve/page and their bytes.
fn list_page() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/serve/page");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo names no folder")?);
    let page = root.join("src/serve/page");
    let mut files = Vec::new();
    find_files(&page, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&page)?.to_str().ok_or("a file of the page is not named in UTF-8")?;
        let name = name.replace('\\', "/");
        writeln!(table, "    ({name:?}, include_bytes!({file:?}) as &[u8]),")?;
    }
    table.push_str("]\n");
    let output = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo names no folder for output")?);
    std::fs::write(output.join("page_files.rs"), table)?;
    Ok(())
}

fn find_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() {
            find_files(&path, files)?;
        } else if !is_hidden {
            files.push(path);
        }
    }
    Ok(())
}
