//! The folder of a run's overlays: one PNG for each image and class.

use std::collections::HashSet;
use std::path::PathBuf;

use super::{ClassExplanation, ExplainError, Explanation, overlay, write_png};
use crate::dataset::{Sample, SampleContent};
use crate::files::safe_name;
use crate::images::{DecodeOptions, Preprocess, decode};

/// Draws explanations over their photos, as `IMAGE-CLASS.png` in a folder.
pub(super) struct OverlayFolder {
    folder: PathBuf,
    preprocess: Preprocess,
    decode: DecodeOptions,
    written: HashSet<PathBuf>,
}

impl OverlayFolder {
    /// Creates the folder if it does not exist. Photos of more than `max_pixels` are refused.
    pub(super) fn create(
        folder: PathBuf,
        preprocess: &Preprocess,
        max_pixels: u64,
    ) -> Result<Self, ExplainError> {
        std::fs::create_dir_all(&folder)
            .map_err(|source| ExplainError::Folder { folder: folder.clone(), source })?;
        Ok(Self {
            folder,
            preprocess: preprocess.clone(),
            decode: DecodeOptions::for_preprocess(preprocess, max_pixels),
            written: HashSet::new(),
        })
    }

    /// Writes the overlays of one photo.
    pub(super) fn draw(
        &mut self,
        sample: &Sample<'_>,
        explanations: &[Explanation],
        class_names: &[String],
    ) -> Result<Vec<ClassExplanation>, ExplainError> {
        let name = || sample.name.to_owned();
        let photo = match sample.read().map_err(|source| ExplainError::Read { image: name(), source })? {
            SampleContent::Pixels { image, .. } => image.into_owned(),
            SampleContent::Encoded(bytes) => decode(&bytes, &self.decode)
                .map_err(|source| ExplainError::Decode { image: name(), source })?,
        };
        let window = self.preprocess.window(photo.width(), photo.height());
        let mut drawn = Vec::with_capacity(explanations.len());
        for explanation in explanations {
            let class = &class_names[explanation.class];
            let path = self.free_path(sample.name, class);
            let texts = [
                ("Title", format!("{}: {class}, score {:.4}", sample.name, explanation.score)),
                ("Description", format!("What supports {class}, by {}", explanation.method)),
                ("Software", format!("cnncodes {}", env!("CARGO_PKG_VERSION"))),
            ];
            write_png(&path, &overlay(&photo, window, &explanation.map), &texts)
                .map_err(|source| ExplainError::Write { path: path.clone(), source })?;
            drawn.push(ClassExplanation {
                class: class.clone(),
                score: explanation.score,
                method: explanation.method,
                bias: explanation.bias,
                overlay: path.display().to_string(),
            });
        }
        Ok(drawn)
    }

    /// `IMAGE-CLASS.png`, with a number if this run has written that already.
    fn free_path(&mut self, image: &str, class: &str) -> PathBuf {
        let image = image.rsplit_once('.').map_or(image, |(stem, _)| stem);
        let name = format!("{}-{}", safe_name(image.trim_start_matches(['.', '/'])), safe_name(class));
        let numbered = |number: usize| match number {
            1 => self.folder.join(format!("{name}.png")),
            _ => self.folder.join(format!("{name}-{number}.png")),
        };
        let path = (1..).map(numbered).find(|path| !self.written.contains(path)).unwrap_or_default();
        self.written.insert(path.clone());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Preset;

    #[test]
    fn overlays_of_one_name_are_numbered_and_names_suit_file_systems() {
        let folder = tempfile::tempdir().unwrap();
        let preprocess = Preprocess::preset(Preset::Torchvision).unwrap();
        let mut overlays = OverlayFolder::create(folder.path().join("deep/er"), &preprocess, 100).unwrap();
        let mut name = |image, class| {
            let path = overlays.free_path(image, class);
            path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("./dogs/a b.jpg", "Hund/Köter"), "deep/er/dogs_a_b-Hund_Köter.png");
        assert_eq!(name("dogs/a b.png", "Hund/Köter"), "deep/er/dogs_a_b-Hund_Köter-2.png");
        assert_eq!(name("dogs/a b.png", "cat"), "deep/er/dogs_a_b-cat.png");
    }
}
