//! Pixels as Pillow has them, of pictures that scripts/reference/check_pixels.py draws in every way of storing them.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cnncodes::images::{DecodeOptions, Preprocess, Preset, TensorLayout, decode};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    name: String,
    size: (u32, u32),
    levels: u8,
    sha256: String,
    rgb: Option<String>,
}

/// What is wrong with a case, if anything is.
fn complaint(folder: &Path, case: &Case) -> Option<String> {
    let bytes = fs::read(folder.join(&case.name)).unwrap();
    let image = match decode(&bytes, &DecodeOptions::default()) {
        Ok(image) => image,
        Err(error) => return Some(format!("{}: {error}", case.name)),
    };
    if image.dimensions() != case.size {
        return Some(format!("{}: {:?} instead of {:?}", case.name, image.dimensions(), case.size));
    }
    // The way of `extract`, which turns a JPEG while it reads it.
    let recipe = Preprocess::preset(Preset::Torchvision).unwrap();
    let mut tensors = [vec![0.0; recipe.tensor_len()], vec![0.0; recipe.tensor_len()]];
    recipe.apply(&image, TensorLayout::Nchw, &mut tensors[0]).unwrap();
    let options = DecodeOptions::default();
    cnncodes::images::load(&bytes, &options, &recipe, TensorLayout::Nchw, &mut tensors[1]).unwrap();
    if tensors[0] != tensors[1] {
        return Some(format!("{}: another tensor when it is loaded in one go", case.name));
    }
    let sha256: String = Sha256::digest(image.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
    if sha256 == case.sha256 {
        return None;
    }
    let expected = case.rgb.as_ref().map(|rgb| BASE64_STANDARD.decode(rgb).unwrap()).unwrap_or_default();
    let largest = image.as_raw().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
    match largest {
        Some(largest) if largest <= case.levels => None,
        _ => Some(format!("{}: other pixels, by up to {largest:?} levels", case.name)),
    }
}

#[test]
fn pixels_and_orientation_are_pillows_however_they_are_stored() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!(
            "SKIPPED: pixels_and_orientation_are_pillows_however_they_are_stored: CNNCODES_PYTHON names no Python with Pillow"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_pixels.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cases: Vec<Case> =
        serde_json::from_slice(&fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() > 300, "{} cases", cases.len());
    let complaints: Vec<String> = cases.iter().filter_map(|case| complaint(folder.path(), case)).collect();
    assert!(
        complaints.is_empty(),
        "{} of {} cases:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}
