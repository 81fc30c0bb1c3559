//! The demo's pictures as a user would have them: a folder of labelled JPEG files, and one more to classify.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::MODEL;
use super::draw::{DemoClass, draw};
use crate::files::write_atomically;
use crate::images::{PreprocessOverrides, Preset, encode_jpeg};
use crate::network::register::preprocessing_of;
use crate::network::{Graph, Model, ModelError, ModelMetadata, ModelsFolder};

/// JPEG quality of the files, on libjpeg's scale of 0 to 100.
const QUALITY: f32 = 90.0;

/// What `image.jpg`, the picture that no folder of [`write_folder`] holds, shows.
pub const UNSEEN: DemoClass = DemoClass::Sailboat;

/// Why the demo's pictures could not be written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum DemoError {
    /// A folder could not be made.
    #[error("cannot create the folder {path}; name one that you may write to")]
    Folder { path: PathBuf, source: io::Error },
    /// A picture could not be compressed or written.
    #[error("cannot write the picture {path}; make room, or name a folder that you may write to")]
    Picture { path: PathBuf, source: io::Error },
}

/// Writes `root/data/CLASS/NNN.jpg`, `per_class` pictures of every class of [`CLASSES`](super::CLASSES), and
/// `root/image.jpg`, a picture of [`UNSEEN`] that is none of them.
///
/// The seed fixes every picture. Files that have one of these names are replaced; others are left alone.
///
/// # Errors
/// [`DemoError`] when a folder or a file cannot be written.
pub fn write_folder(root: &Path, per_class: usize, seed: u64) -> Result<(), DemoError> {
    for class in DemoClass::ALL {
        let folder = root.join("data").join(class.name());
        fs::create_dir_all(&folder).map_err(|source| DemoError::Folder { path: folder.clone(), source })?;
        for number in 1..=per_class as u64 {
            let picture = draw(class, seed.wrapping_add(number));
            write_jpeg(&folder.join(format!("{number:03}.jpg")), &picture)?;
        }
    }
    write_jpeg(&root.join("image.jpg"), &draw(UNSEEN, seed))
}

/// Writes the demo's network into the models folder and registers it as `demo-vgg`.
///
/// # Errors
/// The folder or the files cannot be written.
pub fn write_model(models: &ModelsFolder) -> Result<Model, ModelError> {
    let path = models.path.join("demo-vgg.onnx");
    fs::create_dir_all(&models.path)
        .map_err(|source| ModelError::MakeFolder { path: models.path.clone(), source })?;
    write_atomically(&path, MODEL).map_err(|source| ModelError::Write { path: path.clone(), source })?;
    let changes = PreprocessOverrides { stretch: Some(true), ..Default::default() };
    let preprocess = preprocessing_of(Preset::Tf, changes, &Graph::open(&path)?)?;
    models.register(&path, ModelMetadata::new("demo-vgg", preprocess))
}

fn write_jpeg(path: &Path, picture: &RgbImage) -> Result<(), DemoError> {
    encode_jpeg(picture, QUALITY)
        .and_then(|bytes| fs::write(path, bytes))
        .map_err(|source| DemoError::Picture { path: path.to_owned(), source })
}
