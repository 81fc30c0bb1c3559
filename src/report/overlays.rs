//! What supports the answers that a report doubts, laid over their photos.

use std::collections::HashMap;

use image::RgbImage;

use super::{Report, ReportError, ReportStep};
use crate::explain::{ExplainMethod, ExplainSettings, Explainer, OcclusionSettings, overlay};
use crate::head::Head;
use crate::images::{DEFAULT_MAX_PIXELS, DecodeOptions, decode};
use crate::network::ModelsFolder;
use crate::network::profile::Profile;

/// Multiply-adds that all occlusions together may take: about half a minute on two cores, which is 4 photos for VGG16 and
/// 15 for ResNet50 at 224 x 224.
const MOST_MULTIPLY_ADDS: u64 = 6_500_000_000_000;
/// Photos that are explained by occlusion whatever it takes.
const FEWEST_OCCLUDED: usize = 3;
/// The patch moves by this part of its side: fewer runs of the network than `classify --explain` takes, for many photos.
const STRIDE_PART: usize = 2;

/// What supports the answers for some images.
#[derive(Debug, Clone)]
pub struct Overlays {
    /// How it was found.
    pub method: ExplainMethod,
    /// Laid over the image ([`crate::explain::overlay`]), by row.
    pub pictures: HashMap<usize, RgbImage>,
    /// Images for which it would have taken too long.
    pub left_out: usize,
}

impl Overlays {
    /// Overlays for the mistakes and the least probable labels, in the order of the page. `None` if the models folder lacks
    /// the network.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn draw(
        report: &Report<'_>,
        head: &Head,
        models: &ModelsFolder,
        progress: &mut dyn FnMut(ReportStep, usize, usize),
    ) -> Result<Option<Self>, ReportError> {
        let spec = &head.provenance.spec;
        let Ok((graph, layer)) = spec.network(models) else { return Ok(None) };
        let preprocess = &spec.preprocess;
        let options = DecodeOptions::for_preprocess(preprocess, DEFAULT_MAX_PIXELS);
        let (width, height) = preprocess.size();
        let input = (width as usize, height as usize);
        let (side, _) = OcclusionSettings::default().resolve(input);
        let occlusion = OcclusionSettings { stride: Some((side / STRIDE_PART).max(1)), ..Default::default() };
        let settings = ExplainSettings { occlusion, ..ExplainSettings::default() };
        let mut explainer = Explainer::open(&graph, &layer, head, preprocess, &settings)?;
        let (rows, answers) = (report.doubtful(), report.predicted);
        let mut overlays =
            Self { method: ExplainMethod::ActivationMap, pictures: HashMap::new(), left_out: 0 };
        let mut affordable = None;
        for (done, &row) in rows.iter().enumerate() {
            progress(ReportStep::Explanations, done, rows.len());
            // Photos that cannot be read are told on the page, with their thumbnails.
            let Ok(bytes) = std::fs::read(report.photos.path(&report.names[row])) else { continue };
            let Ok(photo) = decode(&bytes, &options) else { continue };
            let pass = explainer.run_on(&photo)?;
            overlays.method = pass.method();
            if pass.method() == ExplainMethod::Occlusion {
                let most = match affordable {
                    Some(most) => most,
                    None => {
                        let profile =
                            Profile::measure(&graph, std::slice::from_ref(&layer), preprocess.size())?;
                        let a_photo = profile.below(&layer) * occlusion.runs(input) as u64;
                        *affordable
                            .insert(FEWEST_OCCLUDED.max((MOST_MULTIPLY_ADDS / a_photo.max(1)) as usize))
                    }
                };
                if overlays.pictures.len() >= most {
                    overlays.left_out = rows.len() - done;
                    break;
                }
            }
            let window = preprocess.window(photo.width(), photo.height());
            for explanation in explainer.explain(&pass, &[answers[row]], &mut |_, _| ())? {
                overlays.pictures.insert(row, overlay(&photo, window, &explanation.map));
            }
        }
        Ok(Some(overlays))
    }
}
