//! Layers and heads side by side: what a sweep found, as a report shows it.

use serde::Serialize;

use crate::evaluate::Proportion;
use crate::network::Pooling;
use crate::sweep::{SweepResult, kind_name};

/// How every kind of head does on every layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layers {
    /// Folds of the cross-validation.
    pub folds: usize,
    /// What the sweep advises: each finding, and what it rests on.
    pub advice: Vec<(String, Vec<String>)>,
    /// The commands to run next, each with what it does.
    pub next: Vec<(String, String)>,
    /// Networks in order, the earliest layer first.
    pub candidates: Vec<LayerAndHead>,
}

/// A kind of head on the features of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerAndHead {
    /// Layer and pooling; the network as well where there are several.
    pub layer: String,
    /// The kind of head.
    pub head: &'static str,
    /// C, where the head has one.
    pub c: Option<f64>,
    /// Share of held-out images that were classified rightly.
    pub accuracy: Proportion,
    /// Number of features of an image.
    #[serde(rename = "codes")]
    pub width: usize,
    /// Multiply-adds up to and with the layer, as a share of the whole network's.
    pub cost: f64,
    /// Milliseconds that the network cut at the layer takes for an image, where that was measured.
    pub milliseconds: Option<f64>,
    /// Whether this is the best.
    pub best: bool,
}

impl From<&SweepResult> for Layers {
    fn from(result: &SweepResult) -> Self {
        let candidates = result.candidates.iter().enumerate().map(|(at, candidate)| {
            let features = &candidate.features;
            let mut layer = features.layer.clone();
            if features.pooling != Pooling::None {
                layer.push_str(&format!(" ({})", features.pooling));
            }
            if result.networks.len() > 1 {
                layer.push_str(&format!(", {}", result.networks[features.network].name));
            }
            LayerAndHead {
                layer,
                head: kind_name(candidate.kind),
                c: candidate.c,
                accuracy: candidate.accuracy,
                width: features.width,
                cost: features.share,
                milliseconds: features.milliseconds,
                best: at == result.advice.best,
            }
        });
        let command = |arguments: &[String]| {
            shell_words::join(std::iter::once("cnncodes").chain(arguments.iter().map(String::as_str)))
        };
        Self {
            folds: result.folds,
            advice: findings(&result.advice_text()),
            next: result.next.iter().map(|step| (step.what.clone(), command(&step.arguments))).collect(),
            candidates: candidates.collect(),
        }
    }
}

/// The lines of the advice, indented ones below the finding that they belong to.
fn findings(text: &str) -> Vec<(String, Vec<String>)> {
    let mut findings: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let told = line.trim().to_owned();
        match findings.last_mut() {
            Some((_, reasons)) if line.starts_with(' ') => reasons.push(told),
            _ => findings.push((told, Vec::new())),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::findings;

    #[test]
    fn indented_lines_belong_to_the_finding_above() {
        let found = findings("Your images: small\n  few\n  alike\n\nBest: fc7\n");
        assert_eq!(found[0], ("Your images: small".to_owned(), vec!["few".to_owned(), "alike".to_owned()]));
        assert_eq!(found[1..], [("Best: fc7".to_owned(), Vec::new())]);
    }
}
