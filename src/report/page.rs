//! The page as a file: which photos it holds, its data, and the template filled in.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::photos::small_jpeg;
use super::view::Page;
use super::{Report, Thumbnails};
use crate::explain::ExplainError;
use crate::messages::Cause;
use crate::network::BackboneError;

/// Bytes, in Base64, that the thumbnails and overlays of a report may take: with the plotting library and the names of the photos the
/// file stays below 5 MB.
const MOST_THUMBNAIL_BYTES: usize = 3_600_000;
/// Photos that a report names in its data; the figures count all.
const MOST_PHOTOS: usize = 4000;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Observable Plot; scripts/dev/vendor-plot makes the file.
const PLOT: &str = include_str!("vendor/plot.min.js");

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The template could not be filled in.
    #[error("the report's page could not be filled in; please report this as a bug of cnncodes")]
    Template(#[source] Cause),
    /// The data could not be written as JSON.
    #[error("the report's data could not be written as JSON; please report this as a bug of cnncodes")]
    Data(#[source] Cause),
    /// The network of the head cannot be run.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The answers cannot be explained.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The file cannot be written.
    #[error("cannot write the report {}", path.display())]
    Write {
        /// The report.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The rows whose photos a report holds, most important first, and where each stands.
pub(super) struct ShownPhotos {
    pub rows: Vec<usize>,
    /// How many of them are looked at one by one.
    pub featured: usize,
    place: HashMap<usize, usize>,
}

impl ShownPhotos {
    fn new(report: &Report<'_>, predicted: &[usize], featured: Vec<usize>) -> Self {
        let mut shown = Self { rows: Vec::new(), featured: 0, place: HashMap::new() };
        shown.extend(featured);
        shown.featured = shown.rows.len();
        let wrong = (0..report.labels.len()).filter(|&row| predicted[row] != report.labels[row]);
        shown.extend(wrong.take(MOST_PHOTOS / 4));
        // The map's photos all find place: it has no more than half of `MOST_PHOTOS`, and before them stand fewer.
        shown.extend(report.map.iter().flat_map(|map| map.rows.iter().copied()));
        shown.extend(0..report.labels.len());
        shown
    }

    fn extend(&mut self, rows: impl IntoIterator<Item = usize>) {
        for row in rows {
            if self.rows.len() < MOST_PHOTOS && !self.place.contains_key(&row) {
                self.place.insert(row, self.rows.len());
                self.rows.push(row);
            }
        }
    }

    /// Where the photo of `row` stands among those that the page holds.
    pub fn index(&self, row: usize) -> Option<usize> {
        self.place.get(&row).copied()
    }
}

/// What the page's script works with.
#[derive(Serialize)]
struct PageData<'a> {
    classes: &'a [String],
    photos: Vec<PhotoData<'a>>,
    layers: Option<&'a super::Layers>,
    learning: Option<&'a super::LearningCurve>,
    calibration: Vec<BinData>,
    map: Option<MapData<'a>>,
}

#[derive(Serialize)]
struct PhotoData<'a> {
    name: &'a str,
    label: usize,
    predicted: usize,
    /// Probability of the predicted class.
    claim: f64,
    /// Probability of the given class.
    own: f64,
    link: Option<&'a str>,
    jpeg: Option<&'a str>,
    /// What speaks for the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<&'a str>,
}

#[derive(Serialize)]
struct BinData {
    claim: f64,
    right: f64,
    low: f64,
    high: f64,
    photos: usize,
}

#[derive(Serialize)]
struct MapData<'a> {
    /// Indices into the photos.
    photos: Vec<usize>,
    pca: &'a [[f64; 2]],
    explained: [f64; 2],
    tsne: Option<&'a [[f64; 2]]>,
}

impl Report<'_> {
    /// The page, for a file in `folder`, from where links lead to the photos. `progress` is told how many of how many
    /// thumbnails are made.
    ///
    /// # Errors
    /// The page could not be filled in. Photos that cannot be read are told on the page.
    pub fn html(
        &self,
        folder: &Path,
        date: &jiff::Timestamp,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<String, ReportError> {
        let predicted = self.predicted;
        let shown = ShownPhotos::new(self, predicted, super::view::featured(self, predicted));
        let names: Vec<&str> = shown.rows.iter().map(|&row| self.names[row].as_str()).collect();
        let total = names.len();
        let overlays: HashMap<usize, String> =
            self.pictures().filter_map(|(row, overlay)| Some((row, small_jpeg(overlay)?))).collect();
        let most = MOST_THUMBNAIL_BYTES.saturating_sub(overlays.values().map(String::len).sum());
        let thumbnails = Thumbnails::make(&self.photos, &names, shown.featured, most, |done| {
            progress(done, total);
        });
        let links: Vec<Option<String>> = names.iter().map(|name| self.photos.link(name, folder)).collect();
        let mut page = Page::new(self, predicted, &shown, &links, &thumbnails, date);
        page.style = STYLE;
        page.plot_script = PLOT;
        page.script = SCRIPT;
        page.script_hashes = format!("{} {}", script_hash(PLOT), script_hash(SCRIPT));
        page.data = self.data(predicted, &shown, &links, &thumbnails, &overlays)?;
        page.render().map_err(|error| ReportError::Template(error.into()))
    }

    fn data(
        &self,
        predicted: &[usize],
        shown: &ShownPhotos,
        links: &[Option<String>],
        thumbnails: &Thumbnails,
        overlays: &HashMap<usize, String>,
    ) -> Result<String, ReportError> {
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        let photo = |(index, &row): (usize, &usize)| PhotoData {
            name: &self.names[row],
            label: self.labels[row],
            predicted: predicted[row],
            claim: rounded(self.probabilities[[row, predicted[row]]]),
            own: rounded(self.probabilities[[row, self.labels[row]]]),
            link: links[index].as_deref(),
            jpeg: thumbnails.jpegs[index].as_deref(),
            overlay: overlays.get(&row).map(String::as_str),
        };
        let bin = |bin: &crate::evaluate::ReliabilityBin| {
            let right = super::view::proportion(bin);
            BinData {
                claim: bin.confidence,
                right: right.value,
                low: right.low,
                high: right.high,
                photos: bin.rows,
            }
        };
        let data = PageData {
            classes: self.class_names,
            photos: shown.rows.iter().enumerate().map(photo).collect(),
            layers: self.layers.as_ref(),
            learning: self.learning.as_ref(),
            calibration: self.figures.calibration.bins.iter().map(bin).collect(),
            map: self.map.as_ref().map(|map| MapData {
                photos: map.rows.iter().filter_map(|&row| shown.index(row)).collect(),
                pca: &map.pca,
                explained: map.explained,
                tsne: map.tsne.as_deref(),
            }),
        };
        // Within a script element nothing but `<` can end it or begin a comment.
        Ok(serde_json::to_string(&data)
            .map_err(|error| ReportError::Data(error.into()))?
            .replace('<', "\\u003c"))
    }
}

/// The source expression by which a content security policy allows exactly this script.
fn script_hash(script: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
}
