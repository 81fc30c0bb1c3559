//! What several tests need: fixtures, the program, drawn pictures, and the shared photos where there are any.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use cnncodes::demo;
use cnncodes::feature_spec::FeatureSpec;
use cnncodes::images::{Preprocess, Preset};
use cnncodes::network::{Pooling, Precision};

/// A file of the repository's `tests` folder.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The program, to be run in `folder`.
pub fn cnncodes(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("cnncodes").unwrap();
    command.current_dir(folder);
    command
}

/// The folder of photos and networks that `CNNCODES_ASSETS` names; says so loudly where it is not set.
pub fn assets(test: &str) -> Option<PathBuf> {
    match std::env::var_os("CNNCODES_ASSETS") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            eprintln!("SKIPPED: {test}: CNNCODES_ASSETS does not name a folder of photos and networks");
            None
        }
    }
}

/// A folder with `data/CLASS/*.jpg`, `image.jpg` and the embedded network with its manifest in `models/`.
pub fn workspace(per_class: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    demo::write_folder(folder.path(), per_class, 0).unwrap();
    add_demo_network(folder.path());
    folder
}

/// Puts the embedded network into `folder/models`.
pub fn add_demo_network(folder: &Path) {
    std::fs::create_dir_all(folder.join("models")).unwrap();
    std::fs::write(folder.join("models/demo-vgg.onnx"), demo::MODEL).unwrap();
    cnncodes(folder)
        .args(["models", "add", "models/demo-vgg.onnx", "--preprocess", "tf", "--stretch"])
        .assert()
        .success();
}

/// CRC-32 as PNG has it, so that a changed header is not merely a damaged one.
pub fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Runs a Python program in `folder`; `false` where there is no Python to run.
pub fn python(test: &str, folder: &Path, program: &str) -> bool {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: {test}: CNNCODES_PYTHON names no Python with h5py and Pillow");
        return false;
    };
    let run = Command::new(python).arg("-c").arg(program).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    true
}

/// What decides the features of a layer of a network that is nowhere.
pub fn spec(layer: &str, tensor: &str, pooling: Pooling) -> FeatureSpec {
    FeatureSpec {
        model_name: "tiny".into(),
        model_sha256: "ab".repeat(32),
        layer: layer.into(),
        tensor: tensor.into(),
        pooling,
        preprocess: Preprocess::preset(Preset::Tf).unwrap(),
        precision: Precision::Fp32,
    }
}
