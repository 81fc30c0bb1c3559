//! The network in a folder, as Hugging Face's hub and optimum lay it out: `model.onnx` beside its JSON files, or in `onnx/`.

use std::path::{Path, PathBuf};

use super::ModelError;

/// What optimum calls the network, whatever other versions of it lie beside.
const USUAL: &str = "model.onnx";

/// The ONNX file that `path` names: itself, or the one in the folder.
///
/// # Errors
/// The folder cannot be listed, or holds no ONNX file, or several and none of the usual name.
pub fn network_at(path: &Path) -> Result<PathBuf, ModelError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    for folder in [path.to_path_buf(), path.join("onnx")] {
        if !folder.is_dir() {
            continue;
        }
        let mut files = onnx_files(&folder)?;
        match files.len() {
            0 => {}
            1 => return Ok(files.remove(0)),
            _ => {
                let usual = folder.join(USUAL);
                return match files.contains(&usual) {
                    true => Ok(usual),
                    false => Err(ModelError::SeveralNetworks { path: folder, files }),
                };
            }
        }
    }
    Err(ModelError::NoNetwork { path: path.to_path_buf() })
}

fn onnx_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let error = |source| ModelError::ReadNetworkFolder { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "onnx") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_network_of_a_folder_is_the_only_one_or_the_one_of_the_usual_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let touch = |name: &str| fs::write(root.join(name), "").unwrap();
        let reason = || network_at(root).unwrap_err().to_string();
        assert!(reason().contains("holds no ONNX file, and neither does"), "{}", reason());
        fs::create_dir(root.join("onnx")).unwrap();
        touch("onnx/model_int8.onnx");
        assert_eq!(network_at(root).unwrap(), root.join("onnx/model_int8.onnx"));
        touch("onnx/model_fp16.onnx");
        assert!(reason().contains("several networks (model_fp16.onnx, model_int8.onnx)"), "{}", reason());
        touch("onnx/model.onnx");
        assert_eq!(network_at(root).unwrap(), root.join("onnx/model.onnx"));
        touch("a.onnx");
        assert_eq!(network_at(root).unwrap(), root.join("a.onnx"));
        assert_eq!(network_at(&root.join("b.onnx")).unwrap(), root.join("b.onnx"));
    }
}
