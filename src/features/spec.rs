//! The [`FeatureSpec`] of a layer of a file of codes: the file's texts as one typed record.

use std::error::Error;

use super::{FeatureFile, FeatureFileError};
use crate::feature_spec::FeatureSpec;

impl FeatureFile {
    /// What a layer's codes were made with. `None` is the primary layer.
    ///
    /// # Errors
    /// The file has no such layer, or holds a pooling, precision or preprocessing that this program does not know.
    pub fn spec(&self, layer: Option<&str>) -> Result<FeatureSpec, FeatureFileError> {
        let (header, layer) = (self.header(), self.layer(layer)?);
        let unknown = |object: &'static str| {
            move |error: &dyn Error| FeatureFileError::bad_value(self.path(), object, error.to_string())
        };
        Ok(FeatureSpec {
            model_name: header.model_name.clone(),
            model_sha256: header.model_sha256.clone(),
            layer: layer.name.clone(),
            tensor: layer.tensor.clone(),
            pooling: layer.pooling.parse().map_err(|error| unknown("the layer's pooling")(&error))?,
            preprocess: serde_json::from_str(&header.preprocess_json)
                .map_err(|error| unknown("the attribute preprocess")(&error))?,
            precision: header
                .precision
                .parse()
                .map_err(|error| unknown("the attribute precision")(&error))?,
        })
    }
}
