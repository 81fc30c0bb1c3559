//! `classify --explain`: pictures of what an answer rests on, and the training images that are most like the photo.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ndarray::Array2;

use super::apply;
use super::compute_args::{ComputeArgs, warn_of_fallback};
use super::show;
use crate::classifier::{Answer, AnswerOptions};
use crate::dataset::{Content, Problem, Sample};
use crate::explain::{
    ExplainSettings, Explainer, Explanation, ForwardPass, Method, OcclusionSettings, overlay, write_png,
};
use crate::extract::{FeatureBatch, ImageReader, Readers};
use crate::features::FeatureFile;
use crate::head::Head;
use crate::images::{DecodeOptions, Preprocess, decode};
use crate::network::ModelsFolder;
use crate::similarity::{Metric, Neighbor, Search};

/// Training images that are named for each photo.
const NEAREST: usize = 3;

/// Photos whose nearest training images are searched in one pass over the training codes.
const SEARCHED_TOGETHER: usize = 8;

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

/// Why an image gets its score for a class.
#[derive(Debug, serde::Serialize)]
pub struct ClassExplanation {
    pub class: String,
    /// The head's score, before it is made a probability.
    pub score: f64,
    pub method: Method,
    /// What of the score belongs to no place; absent for occlusion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// The picture.
    pub overlay: PathBuf,
}

/// A training image that is like the photo.
#[derive(Debug, serde::Serialize)]
pub struct SimilarImage {
    pub image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// 1 - cosine of the codes.
    pub distance: f64,
}

/// What there is to say about one image beside its classes.
#[derive(Debug, Default)]
pub struct ImageExplanation {
    pub classes: Vec<ClassExplanation>,
    /// Nearest first; none where the codes that the head was fitted to are not at hand.
    pub nearest: Vec<SimilarImage>,
}

/// A head that explains its answers.
pub struct ExplainingClassifier<'h> {
    head: &'h Head,
    explainer: Explainer<'h>,
    preprocess: Preprocess,
    decode: DecodeOptions,
    reader: ImageReader,
    folder: PathBuf,
    /// Those that were named, as indices; the most probable where none was.
    classes: Vec<usize>,
    /// The codes that the head was fitted to.
    training: Option<FeatureFile>,
    written: HashSet<PathBuf>,
}

impl ExplainArgs {
    /// Whether anything is to be explained.
    pub fn is_wanted(&self) -> bool {
        self.explain.is_some()
    }

    /// Opens the network for explaining, where that was asked for.
    pub fn open<'h>(
        &self,
        head: &'h Head,
        head_path: &Path,
        models: &ModelsFolder,
        compute: &ComputeArgs,
        max_pixels: u64,
    ) -> anyhow::Result<Option<ExplainingClassifier<'h>>> {
        let Some(folder) = &self.explain else { return Ok(None) };
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
        let preprocess = spec.preprocess.clone();
        let (graph, layer) = spec.network(models).with_context(|| holder.clone())?;
        let settings = ExplainSettings {
            session: apply::session_settings(spec, &holder, compute),
            occlusion: OcclusionSettings {
                size: self.occlusion_size.map(usize::from),
                stride: self.occlusion_stride.map(usize::from),
            },
        };
        let explainer = Explainer::open(&graph, &layer, head, &preprocess, &settings)?;
        warn_of_fallback(explainer.backbone());
        let reader = ImageReader::new(&preprocess, explainer.backbone().layout(), max_pixels);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        Ok(Some(ExplainingClassifier {
            head,
            explainer,
            decode: DecodeOptions::for_preprocess(&preprocess, max_pixels),
            reader,
            preprocess,
            folder: folder.clone(),
            classes,
            training: training_codes(head),
            written: HashSet::new(),
        }))
    }
}

/// The file of codes that the head was fitted to, where it is still there and still the same.
fn training_codes(head: &Head) -> Option<FeatureFile> {
    let made = &head.provenance;
    let path = Path::new(&made.codes_file);
    let why_not = match FeatureFile::open(path) {
        Err(error) => crate::messages::with_causes(&error),
        Ok(file) => {
            let same = file.rows() == made.codes_rows
                && file.spec(Some(&made.spec.layer)).is_ok_and(|spec| spec.difference(&made.spec).is_none());
            if same {
                return Some(file);
            }
            format!("{} has changed since then", path.display())
        }
    };
    show::warning(&format!(
        "the most similar training images are not listed, because the features that the head was fitted to \
         are not available: {why_not}"
    ));
    None
}

impl ExplainingClassifier<'_> {
    /// Classifies images and explains the answers: `take` gets each image that could be read, in order, and each image that
    /// could not with the reason.
    pub fn classify_each<'s>(
        &mut self,
        samples: impl Iterator<Item = Sample<'s>>,
        options: AnswerOptions,
        mut take: impl FnMut(Result<(&Sample<'s>, Answer, ImageExplanation), Problem>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let samples: Vec<Sample<'s>> = samples.collect();
        for samples in samples.chunks(SEARCHED_TOGETHER) {
            let (batch, passes) = self.extract_batch(samples)?;
            let answers = match passes.is_empty() {
                true => Vec::new(),
                false => self.head.answers(batch.features.view(), options)?,
            };
            let top: Vec<usize> = answers.iter().map(Answer::top).collect();
            let explanations = self.explain(samples, &batch, &passes, &top)?;
            for ((&index, answer), explanation) in batch.indices.iter().zip(answers).zip(explanations) {
                take(Ok((&samples[index], answer, explanation)))?;
            }
            batch.problems.into_iter().try_for_each(|problem| take(Err(problem)))?;
        }
        Ok(())
    }

    /// The features of the samples that can be read, and the forward passes that gave them.
    fn extract_batch(&mut self, samples: &[Sample<'_>]) -> anyhow::Result<(FeatureBatch, Vec<ForwardPass>)> {
        let mut images = Vec::new();
        let read = self.reader.read_batch(samples, &mut images, Readers::Pool, false);
        let mut passes = Vec::new();
        for image in images.chunks(self.reader.len()) {
            passes.push(self.explainer.run(image.to_vec())?);
        }
        let features: Vec<f32> = passes.iter().flat_map(ForwardPass::codes).copied().collect();
        let mut batch = FeatureBatch {
            indices: read.positions(),
            sha256: read.sha256(),
            problems: read.into_problems(),
            ..FeatureBatch::default()
        };
        let columns = features.len() / passes.len().max(1);
        batch.features = Array2::from_shape_vec((passes.len(), columns), features)?;
        Ok((batch, passes))
    }

    /// Explains the images of `batch`, whose most probable classes are `top`; one explanation a row.
    fn explain(
        &mut self,
        samples: &[Sample<'_>],
        batch: &FeatureBatch,
        passes: &[ForwardPass],
        top: &[usize],
    ) -> anyhow::Result<Vec<ImageExplanation>> {
        let mut explanations: Vec<ImageExplanation> = Vec::with_capacity(passes.len());
        for (row, pass) in passes.iter().enumerate() {
            let classes = if self.classes.is_empty() { vec![top[row]] } else { self.classes.clone() };
            let bar = show::progress_of("explaining", "covered images");
            let explained = self.explainer.explain(pass, &classes, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
            bar.finish_and_clear();
            let classes = self.draw(&samples[batch.indices[row]], &explained?)?;
            explanations.push(ImageExplanation { classes, nearest: Vec::new() });
        }
        for (explanation, nearest) in explanations.iter_mut().zip(self.nearest(batch)?) {
            explanation.nearest = nearest;
        }
        Ok(explanations)
    }

    /// Writes the pictures of one image.
    fn draw(
        &mut self,
        sample: &Sample<'_>,
        explained: &[Explanation],
    ) -> anyhow::Result<Vec<ClassExplanation>> {
        let content = sample.read().with_context(|| format!("cannot read {}", sample.name))?;
        let photo = match content {
            Content::Pixels { image, .. } => image,
            Content::Encoded(bytes) => {
                decode(&bytes, &self.decode).with_context(|| sample.name.to_owned())?
            }
        };
        let window = self.preprocess.window(photo.width(), photo.height());
        let mut drawn = Vec::new();
        for explanation in explained {
            let class = &self.head.model.class_names[explanation.class];
            let path = self.free_path(sample.name, class);
            let texts = [
                ("Title", format!("{}: {class}, score {:.4}", sample.name, explanation.score)),
                ("Description", format!("What supports {class}, by {}", explanation.method)),
                ("Software", format!("cnncodes {}", env!("CARGO_PKG_VERSION"))),
            ];
            write_png(&path, &overlay(&photo, window, &explanation.map), &texts)
                .with_context(|| format!("cannot write {}", path.display()))?;
            drawn.push(ClassExplanation {
                class: class.clone(),
                score: explanation.score,
                method: explanation.method,
                bias: explanation.bias,
                overlay: path,
            });
        }
        Ok(drawn)
    }

    /// `DIR/IMAGE-CLASS.png`, with what file systems dislike replaced, and a number where that was written already.
    fn free_path(&mut self, image: &str, class: &str) -> PathBuf {
        let safe = |text: &str| -> String {
            let kept = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
            text.chars().map(|c| if kept(c) { c } else { '_' }).collect()
        };
        let image = image.rsplit_once('.').map_or(image, |(stem, _)| stem);
        let name = format!("{}-{}", safe(image.trim_start_matches(['.', '/'])), safe(class));
        let numbered = |number: usize| match number {
            1 => self.folder.join(format!("{name}.png")),
            _ => self.folder.join(format!("{name}-{number}.png")),
        };
        let path = (1..).map(numbered).find(|path| !self.written.contains(path)).unwrap_or_default();
        self.written.insert(path.clone());
        path
    }

    /// The training images whose codes are nearest, for each row of `batch`; the photo itself is left out.
    fn nearest(&self, batch: &FeatureBatch) -> anyhow::Result<Vec<Vec<SimilarImage>>> {
        let Some(file) = self.training.as_ref().filter(|_| !batch.indices.is_empty()) else {
            return Ok(Vec::new());
        };
        let itself = |query: usize, row: usize| file.sha256()[row] == batch.sha256[query];
        let search =
            Search { queries: batch.features.view(), k: NEAREST, metric: Metric::Cosine, left_out: &itself };
        let found = search.run(file, Some(&self.head.provenance.spec.layer), |_| {})?;
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
