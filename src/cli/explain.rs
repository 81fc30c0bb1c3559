//! `classify --explain`: its options, and how they open the head's network.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::ProgressBar;

use super::apply;
use super::compute_args::{ComputeArgs, warn_of_fallback};
use super::show;
use crate::classifier::HeadNetwork;
use crate::explain::{ExplainSettings, Explainer, ExplainingClassifier, OcclusionSettings};
use crate::head::Head;

/// What is to be explained, and how.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Write a picture of each image into this folder that shows which parts support its class
    #[arg(long, value_name = "DIR")]
    explain: Option<PathBuf>,
    /// Classes to explain, separated by commas [default: the most probable one]
    #[arg(long, value_name = "CLASS", value_delimiter = ',', requires = "explain")]
    explain_class: Vec<String>,
    /// Side of the patch that covers parts of the image, in pixels of the network's input [default: a fifth of the
    /// input's shorter side]
    #[arg(long, value_name = "PIXELS", requires = "explain", value_parser = clap::value_parser!(u16).range(1..))]
    occlusion_size: Option<u16>,
    /// Distance that the patch moves each time [default: a third of its side]
    #[arg(long, value_name = "PIXELS", requires = "explain", value_parser = clap::value_parser!(u16).range(1..))]
    occlusion_stride: Option<u16>,
}

impl ExplainArgs {
    /// Whether anything is to be explained.
    pub fn is_wanted(&self) -> bool {
        self.explain.is_some()
    }

    /// Opens the network for explaining, which must be wanted.
    pub fn open<'h>(
        &self,
        head: &'h Head,
        head_path: &Path,
        network: HeadNetwork,
        compute: &ComputeArgs,
        max_pixels: u64,
    ) -> anyhow::Result<ExplainingClassifier<'h>> {
        let folder = self.explain.as_ref().context("no folder for explanations was named")?;
        let known = &head.model.class_names;
        let position = |name: &String| {
            known.iter().position(|class| class == name).with_context(|| {
                format!("{} has no class {name:?}; it knows {}", head_path.display(), known.join(", "))
            })
        };
        let classes = self.explain_class.iter().map(position).collect::<anyhow::Result<Vec<_>>>()?;
        if folder.exists() && !folder.is_dir() {
            bail!("{} is not a folder; name a folder for the pictures: --explain DIR", folder.display());
        }
        let (spec, holder) = (&head.provenance.spec, apply::head_at(head_path));
        let (graph, layer) = network.open(spec).with_context(|| holder.clone())?;
        let settings = ExplainSettings {
            session: apply::session_settings(spec, &holder, compute),
            occlusion: OcclusionSettings {
                size: self.occlusion_size.map(usize::from),
                stride: self.occlusion_stride.map(usize::from),
            },
        };
        let explainer = Explainer::open(&graph, &layer, head, &spec.preprocess, &settings)?;
        warn_of_fallback(explainer.backbone());
        let explaining = ExplainingClassifier::new(head, explainer, folder.clone(), classes, max_pixels)?;
        if let Some(why_not) = explaining.why_no_similar_images() {
            show::warning(&format!(
                "the most similar training images are not listed, because the features that the head was fitted to \
                 are not available: {why_not}"
            ));
        }
        Ok(explaining)
    }
}

/// Shows how far the explanation of an image is; for activation maps there is nothing to show.
pub fn progress() -> impl FnMut(usize, usize) {
    let mut shown: Option<ProgressBar> = None;
    move |done, total| {
        let bar = shown.get_or_insert_with(|| show::progress_of("explaining", "covered images"));
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
            shown = None;
        }
    }
}
