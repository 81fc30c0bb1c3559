//! The features that a head was fitted to, and the training images that are most similar to others.

use std::path::Path;

use ndarray::ArrayView2;

use crate::features::FeatureFile;
use crate::head::Head;
use crate::messages::with_causes;
use crate::similarity::{Metric, Neighbor, NeighborSearch, NeighborsError};

/// A training image that is like the photo.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct SimilarImage {
    /// Its name.
    pub image: String,
    /// Its class, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// 1 - cosine of the features.
    pub distance: f64,
}

/// The features file that a head was fitted to.
pub(crate) struct TrainingFeatures {
    file: FeatureFile,
    layer: String,
}

impl TrainingFeatures {
    /// The file that `head` was fitted to, if it is still there and still the same; otherwise why not.
    pub(crate) fn of(head: &Head) -> Result<Self, String> {
        let made = &head.provenance;
        let path = Path::new(&made.features_file);
        let file = FeatureFile::open(path).map_err(|error| with_causes(&error))?;
        let same = file.rows() == made.features_rows
            && file.spec(Some(&made.spec.layer)).is_ok_and(|spec| spec.difference(&made.spec).is_none());
        if same {
            Ok(Self { file, layer: made.spec.layer.clone() })
        } else {
            Err(format!("{} has changed since then", path.display()))
        }
    }

    /// The file.
    #[cfg(feature = "serve")]
    pub(crate) fn file(&self) -> &FeatureFile {
        &self.file
    }

    /// The `k` images whose features are nearest to each row of `features` (n x d), which are those of images with these SHA-256;
    /// an image is not named for itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn nearest(
        &self,
        features: ArrayView2<'_, f32>,
        sha256: &[String],
        k: usize,
    ) -> Result<Vec<Vec<SimilarImage>>, NeighborsError> {
        let Self { file, layer } = self;
        let itself = |query: usize, row: usize| file.sha256()[row] == sha256[query];
        let search =
            NeighborSearch { queries: features.view(), k, metric: Metric::Cosine, left_out: &itself };
        let found = search.run(file, Some(layer), |_| {})?;
        let similar = |neighbor: &Neighbor| SimilarImage {
            image: file.image_names()[neighbor.row].clone(),
            class: usize::try_from(file.labels()[neighbor.row])
                .ok()
                .map(|label| file.class_names()[label].clone()),
            distance: neighbor.distance,
        };
        Ok(found.iter().map(|near| near.iter().map(similar).collect()).collect())
    }
}
