//! What an exported file says about itself, as the `metadata_props` of ONNX: for people and programs that use it, and for
//! [`sealed`](super::sealed), which reads the head back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::error::ExportError;
use crate::head::{Calibration, Convergence, FitSettings, Head, HeadProvenance, Kernel, NoveltyLimits};
use crate::network::Layer;
use crate::network::graph::proto::StringStringEntryProto;

/// The keys.
pub(super) const VERSION: &str = "cnncodes_classifier";
pub(super) const CLASS_NAMES: &str = "class_names";
pub(super) const FEATURE_SPEC: &str = "feature_spec";
pub(super) const EVALUATION: &str = "evaluation";
pub(super) const ACCURACY: &str = "accuracy";
pub(super) const PROGRAM: &str = "program";
pub(super) const LICENCE: &str = "network_licence";
pub(super) const NETWORK: &str = "network";
pub(super) const HEAD: &str = "head";

/// The form that is written and read.
pub(super) const FORM: &str = "1";

/// Where in the graph the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct NetworkEntry {
    /// Images that its input must hold, if their number is fixed.
    pub batch: Option<usize>,
    /// Whether the input has its channels last.
    pub channels_last: bool,
    /// The tapped layer; its tensor is named as in this graph.
    pub layer: Layer,
}

/// What of a head is not in the graph's constants.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeadEntry {
    pub settings: FitSettings,
    pub l2_normalize: bool,
    pub pca: Option<PcaEntry>,
    pub kernel: Option<Kernel>,
    pub calibration: Calibration,
    pub convergence: Convergence,
    pub conformal: Option<ConformalEntry>,
    pub novelty: Option<NoveltyLimits>,
    pub provenance: HeadProvenance,
    /// Base64 of the fingerprints as little-endian 64-bit numbers.
    pub trained_on: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PcaEntry {
    pub variances: Vec<f64>,
    pub total_variance: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConformalEntry {
    pub rows: usize,
    /// Base64 of the scores as little-endian 32-bit floats.
    pub scores: String,
}

/// The entries of `head` with its network.
pub(super) fn entries(
    head: &Head,
    network: &NetworkEntry,
    licence: Option<&str>,
) -> Result<Vec<StringStringEntryProto>, ExportError> {
    let model = &head.model;
    let about_head = HeadEntry {
        settings: model.settings.clone(),
        l2_normalize: model.preparation.l2_normalize(),
        pca: model.preparation.pca().map(|pca| PcaEntry {
            variances: pca.variances().to_vec(),
            total_variance: pca.total_variance(),
        }),
        kernel: model.kernel.as_ref().map(|map| map.kernel()),
        calibration: model.calibration.clone(),
        convergence: model.convergence.clone(),
        conformal: model.conformal.as_ref().map(|conformal| ConformalEntry {
            rows: conformal.rows(),
            scores: base64(conformal.scores().iter().flat_map(|score| score.to_le_bytes())),
        }),
        novelty: model.novelty.as_ref().map(|novelty| novelty.limits().clone()),
        provenance: head.provenance.clone(),
        trained_on: base64(head.trained_on.iter().flat_map(|image| image.to_le_bytes())),
    };
    let accuracy = &head.evaluation.accuracy;
    let in_words = format!(
        "{:.1} % ({} of {}) in cross-validation, 95 % interval {:.1} % to {:.1} %",
        100.0 * accuracy.value,
        accuracy.successes,
        accuracy.trials,
        100.0 * accuracy.low,
        100.0 * accuracy.high
    );
    let mut entries = vec![
        entry(VERSION, FORM.to_owned()),
        entry(CLASS_NAMES, json(&model.class_names)?),
        entry(FEATURE_SPEC, json(&head.provenance.spec)?),
        entry(ACCURACY, in_words),
        entry(EVALUATION, json(&head.evaluation)?),
        entry(PROGRAM, concat!("cnncodes ", env!("CARGO_PKG_VERSION")).to_owned()),
        entry(NETWORK, json(network)?),
        entry(HEAD, json(&about_head)?),
    ];
    entries.extend(licence.map(|licence| entry(LICENCE, licence.to_owned())));
    Ok(entries)
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) }
}

fn json(value: &impl Serialize) -> Result<String, ExportError> {
    serde_json::to_string(value).map_err(|source| ExportError::Json { source: source.into() })
}

fn base64(bytes: impl Iterator<Item = u8>) -> String {
    BASE64.encode(bytes.collect::<Vec<u8>>())
}

/// The numbers of `N` bytes each in a text of base64; none if it is no such text.
pub(super) fn numbers<const N: usize, T>(text: &str, number: fn([u8; N]) -> T) -> Option<Vec<T>> {
    let bytes = BASE64.decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| numbers.iter().map(|&bytes| number(bytes)).collect())
}
