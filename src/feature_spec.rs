//! [`FeatureSpec`]: everything that decides the value of a feature, in one typed record.
//!
//! Features files and heads record it, and features of different specs never mix. Two specs are compared, and their first
//! difference is put into words, in one place: [`FeatureSpec::difference`].

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::images::Preprocess;
use crate::network::{
    Catalogue, Graph, Layer, Model, ModelError, ModelsFolder, NoSuchLayer, Pooling, Precision,
};

/// What the layer of features of another program is called.
const FOREIGN_LAYER: &str = "features";

/// Everything that decides the value of a feature beside the image itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Name of the network's manifest. It decides no value and is not compared.
    pub model_name: String,
    /// SHA-256 of the network's file, in hexadecimal; empty if [another program](FeatureSpec::is_foreign) computed the features.
    pub model_sha256: String,
    /// Canonical name of the tapped layer.
    pub layer: String,
    /// The ONNX tensor behind it.
    pub tensor: String,
    /// How the layer's activations become features.
    pub pooling: Pooling,
    /// From an image's pixels to the network's input. Files hold it as a text of JSON.
    #[serde(rename = "preprocess_json", with = "json_text")]
    pub preprocess: Preprocess,
    /// What the network computes in. Heads of early versions do not say, and those were fp32.
    #[serde(default)]
    pub precision: Precision,
}

/// The first property in which features of two specs are not comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDifference {
    /// The property, such as `the layer`.
    pub what: &'static str,
    /// Its value in the spec that was compared.
    pub here: String,
    /// Its value in the other one.
    pub there: String,
}

impl fmt::Display for SpecDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} here and {} there", self.what, self.here, self.there)
    }
}

/// Features in a file cannot be compared with others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} and {holder} do not match: {difference}; extract again with what {holder} was made with", file.display()
)]
pub struct SpecMismatch {
    /// The features file.
    pub file: PathBuf,
    /// What has the other features, such as `the head models/pets.head.h5`.
    pub holder: String,
    /// The first difference.
    pub difference: SpecDifference,
}

/// Why the network of a spec cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The models folder has a network of that name with other weights.
    #[error(
        "it was made with the network {name} of SHA-256 {sha256}, but {name} in {folder} is another network \
         (SHA-256 {found}); make it again, or restore the right network"
    )]
    Differs {
        /// Name of the manifest.
        name: String,
        /// What the spec wants.
        sha256: String,
        /// The models folder.
        folder: String,
        /// What the manifest says.
        found: String,
    },
    /// The models folder does not have it.
    #[error(
        "it needs the network {name} (SHA-256 {sha256}), which is not in {folder}; add it with `cnncodes models add FILE`"
    )]
    Missing {
        /// Name of the manifest that it had.
        name: String,
        /// What the spec wants.
        sha256: String,
        /// The models folder.
        folder: String,
    },
    /// Another program computed the features.
    #[error(
        "its features come from another program (cnncodes convert), so no network is known that could read images; convert \
         the images' features from the same program and use `cnncodes classify --features FILE`"
    )]
    Foreign,
    /// The models folder or the network cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network lacks the layer.
    #[error(transparent)]
    Layer(#[from] NoSuchLayer),
}

impl FeatureSpec {
    /// The spec of a layer of `model`, by any of the layer's names, with the preprocessing of its manifest, in fp32.
    ///
    /// # Errors
    /// The network cannot be opened, or has no such layer.
    pub fn new(model: &Model, layer: &str, pooling: Pooling) -> Result<Self, NetworkError> {
        let graph = model.open()?;
        let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
        let layer = catalogue.find(&model.name, layer)?;
        Ok(Self::of_layer(model, layer, pooling))
    }

    /// As [`new`](Self::new), of a layer that was found already.
    pub fn of_layer(model: &Model, layer: &Layer, pooling: Pooling) -> Self {
        Self {
            model_name: model.name.clone(),
            model_sha256: model.manifest.sha256.clone(),
            layer: layer.name.clone(),
            tensor: layer.tensor.clone(),
            pooling,
            preprocess: model.manifest.preprocess.clone(),
            precision: Precision::Fp32,
        }
    }

    /// The spec of features that another program computed: no network, layer or preprocessing is known. All such features
    /// count as comparable; only the user knows.
    pub fn foreign() -> Self {
        Self {
            model_name: String::new(),
            model_sha256: String::new(),
            layer: FOREIGN_LAYER.to_owned(),
            tensor: String::new(),
            pooling: Pooling::None,
            preprocess: Preprocess::torchvision(),
            precision: Precision::Fp32,
        }
    }

    /// Whether another program computed the features. Name, preprocessing and precision then mean nothing.
    pub fn is_foreign(&self) -> bool {
        self.model_sha256.is_empty()
    }

    /// The network's name, or that another program computed the features.
    pub fn network_name(&self) -> &str {
        if self.is_foreign() { "another program" } else { &self.model_name }
    }

    /// The first difference that keeps features of `self` from being compared with features of `other`; `None` where they
    /// are features of one kind.
    pub fn difference(&self, other: &Self) -> Option<SpecDifference> {
        if let Some(difference) = self.network_difference(other) {
            return Some(difference);
        }
        let differs = |what, here: String, there: String| Some(SpecDifference { what, here, there });
        if self.tensor != other.tensor {
            return differs("the layer", self.layer.clone(), other.layer.clone());
        }
        if self.pooling != other.pooling {
            return differs("the pooling", self.pooling.to_string(), other.pooling.to_string());
        }
        None
    }

    /// As [`difference`](Self::difference), of what all layers of one extraction share: the network, the preprocessing and
    /// the precision.
    pub fn network_difference(&self, other: &Self) -> Option<SpecDifference> {
        let differs = |what, here: String, there: String| Some(SpecDifference { what, here, there });
        if self.is_foreign() != other.is_foreign() {
            let (here, there) = (self.network_name().to_owned(), other.network_name().to_owned());
            return differs("the source of the features", here, there);
        }
        if !self.model_sha256.eq_ignore_ascii_case(&other.model_sha256) {
            return differs("the network's SHA-256", self.model_sha256.clone(), other.model_sha256.clone());
        }
        if self.preprocess != other.preprocess {
            return differs("the preprocessing", self.preprocess.describe(), other.preprocess.describe());
        }
        if self.precision != other.precision {
            return differs("the precision", self.precision.to_string(), other.precision.to_string());
        }
        None
    }

    /// Makes sure that features of `found`, in the features file `file`, can be compared with features of this spec, which
    /// `holder` has.
    ///
    /// # Errors
    /// They differ in a property that decides values.
    pub fn check(&self, holder: &str, found: &Self, file: &Path) -> Result<(), SpecMismatch> {
        let mismatch =
            |difference| SpecMismatch { file: file.to_owned(), holder: holder.to_owned(), difference };
        found.difference(self).map_or(Ok(()), |difference| Err(mismatch(difference)))
    }

    /// The network in the models folder, and its layer. Manifests are searched by the network's hash.
    ///
    /// # Errors
    /// The folder lacks the network, the file is not the one that its manifest describes, or it lacks the layer.
    pub fn network(&self, models: &ModelsFolder) -> Result<(Graph, Layer), NetworkError> {
        self.network_of(&self.model(models)?)
    }

    /// The network that a manifest describes, and the layer.
    ///
    /// # Errors
    /// The file is not the one that the manifest describes, or it lacks the layer.
    pub fn network_of(&self, model: &Model) -> Result<(Graph, Layer), NetworkError> {
        let graph = model.open()?;
        let layer = Catalogue::of(&graph, &model.manifest.aliases).find(&model.name, &self.tensor)?.clone();
        Ok((graph, layer))
    }

    /// The manifest of the network in the models folder, which is searched by the network's hash.
    ///
    /// # Errors
    /// The folder lacks the network, or no network is known.
    pub fn model(&self, models: &ModelsFolder) -> Result<Model, NetworkError> {
        if self.is_foreign() {
            return Err(NetworkError::Foreign);
        }
        let mut readable: Vec<Model> = models.manifests()?.into_iter().filter_map(Result::ok).collect();
        // Of several manifests for one network, the one of the recorded name first.
        readable.sort_by_key(|model| model.name != self.model_name);
        let is_this = |model: &&Model| model.manifest.sha256.eq_ignore_ascii_case(&self.model_sha256);
        if let Some(model) = readable.iter().find(is_this) {
            return Ok(model.clone());
        }
        let (name, sha256) = (self.model_name.clone(), self.model_sha256.clone());
        let folder = models.path.display().to_string();
        Err(match readable.into_iter().find(|model| model.name == self.model_name) {
            Some(model) => NetworkError::Differs { name, sha256, folder, found: model.manifest.sha256 },
            None => NetworkError::Missing { name, sha256, folder },
        })
    }
}

/// A value as a text that holds its JSON, as files have had the preprocessing from the first version on.
mod json_text {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value).map_err(S::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{PreprocessOverrides, Preset};

    fn spec() -> FeatureSpec {
        FeatureSpec {
            model_name: "vgg16".to_owned(),
            model_sha256: "ab".repeat(32),
            layer: "fc7".to_owned(),
            tensor: "relu7".to_owned(),
            pooling: Pooling::None,
            preprocess: Preprocess::preset(Preset::Torchvision).unwrap(),
            precision: Precision::Fp32,
        }
    }

    #[test]
    fn names_and_the_case_of_hashes_are_no_difference() {
        let other = FeatureSpec {
            model_name: "copy-of-vgg16".to_owned(),
            model_sha256: "AB".repeat(32),
            layer: "fc2".to_owned(),
            ..spec()
        };
        assert_eq!(spec().difference(&other), None);
    }

    #[test]
    fn every_property_that_decides_a_value_is_a_difference() {
        let size = Some((299, 299));
        let larger = spec().preprocess.with(&PreprocessOverrides { size, ..Default::default() }).unwrap();
        for (other, expected) in [
            (FeatureSpec { model_sha256: "cd".repeat(32), ..spec() }, "the network's SHA-256 is abab"),
            (
                FeatureSpec { tensor: "relu6".to_owned(), layer: "fc6".to_owned(), ..spec() },
                "the layer is fc7 here and fc6 there",
            ),
            (
                FeatureSpec { preprocess: larger, ..spec() },
                "the preprocessing is torchvision: shorter side to 256",
            ),
            (FeatureSpec { pooling: Pooling::Grid(2), ..spec() }, "the pooling is none here and 2x2 there"),
            (
                FeatureSpec { precision: Precision::Bf16, ..spec() },
                "the precision is fp32 here and bf16 there",
            ),
        ] {
            let difference = spec().difference(&other).unwrap().to_string();
            assert!(difference.starts_with(expected), "{difference}");
            let mismatch =
                other.check("the head a.head.h5", &spec(), Path::new("b.h5")).unwrap_err().to_string();
            assert_eq!(
                mismatch,
                format!(
                    "b.h5 and the head a.head.h5 do not match: {difference}; extract again with what the head a.head.h5 was made with"
                )
            );
        }
    }

    #[test]
    fn features_of_another_program_have_no_network_and_differ_from_those_of_one() {
        let foreign = FeatureSpec::foreign();
        assert!(foreign.is_foreign() && !spec().is_foreign());
        assert_eq!(foreign.difference(&FeatureSpec::foreign()), None);
        let difference = foreign.difference(&spec()).unwrap().to_string();
        assert_eq!(difference, "the source of the features is another program here and vgg16 there");
        let models = ModelsFolder { path: PathBuf::from("nowhere") };
        let error = foreign.network(&models).unwrap_err();
        assert!(
            matches!(error, NetworkError::Foreign) && error.to_string().contains("classify --features"),
            "{error}"
        );
        let text = serde_json::to_string(&foreign).unwrap();
        assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), foreign);
    }

    #[test]
    fn a_spec_comes_back_from_json() {
        let pooled = FeatureSpec { pooling: Pooling::Gem, precision: Precision::Tf32, ..spec() };
        let text = serde_json::to_string(&pooled).unwrap();
        assert!(
            text.contains(r#""pooling":"gem","preprocess_json":"{\"preset\":\"torchvision\","#),
            "{text}"
        );
        assert!(text.contains(r#""precision":"tf32""#), "{text}");
        assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), pooled);
        let without_precision = text.replace(r#","precision":"tf32""#, "");
        assert_eq!(
            serde_json::from_str::<FeatureSpec>(&without_precision).unwrap(),
            FeatureSpec { precision: Precision::Fp32, ..pooled }
        );
    }
}
