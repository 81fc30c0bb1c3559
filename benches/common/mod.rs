//! What benchmarks that write files of features share.

use cnncodes::feature_spec::FeatureSpec;
use cnncodes::images::{Preprocess, Preset};
use cnncodes::network::{Pooling, Precision};

/// What decides the features of a layer of a network that is nowhere.
pub fn spec(layer: &str) -> FeatureSpec {
    FeatureSpec {
        model_name: "none".to_owned(),
        model_sha256: "0".repeat(64),
        layer: layer.to_owned(),
        tensor: layer.to_owned(),
        pooling: Pooling::None,
        preprocess: Preprocess::preset(Preset::Tf).expect("tf is a preset of its own"),
        precision: Precision::Fp32,
    }
}
