//! [`TestImages`]: images whose classes are known, as features, and what a head says about them.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis};

use super::features::check_kind;
use crate::dataset::{Dataset, InputProblem, Sample};
use crate::evaluate::{Assessment, LabelledPredictions, Note};
use crate::extract::{ExtractError, Extractor};
use crate::feature_spec::SpecMismatch;
use crate::features::{FeatureFile, FeatureFileError};
use crate::head::{Head, HeadError, answers};
use crate::messages::count;

/// Why a head cannot be measured on some images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestImagesError {
    /// The head knows none of their classes.
    #[error(
        "no image of {source_name} belongs to a class of the head ({classes}); expected a folder with CLASS/*.jpg or a CSV file with the columns path,label"
    )]
    NoKnownClass {
        /// What the user named as the source of the images.
        source_name: String,
        /// The head's classes.
        classes: String,
    },
    /// None of them can be read.
    #[error("none of the images of {source_name} could be read")]
    NothingReadable {
        /// What the user named as the source of the images.
        source_name: String,
        /// The images, and why they cannot be read.
        problems: Vec<InputProblem>,
    },
    /// The features are not of the head's kind.
    #[error(transparent)]
    Spec(#[from] SpecMismatch),
    /// The features file cannot be read.
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    /// The network cannot be run.
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

/// The images of a dataset that are of a head's classes.
pub struct TestSamples<'s> {
    dataset: &'s Dataset,
    samples: Vec<Sample<'s>>,
    labels: Vec<usize>,
    notes: Vec<Note>,
}

impl<'s> TestSamples<'s> {
    /// Finds them.
    ///
    /// # Errors
    /// There are none.
    pub fn of_classes(dataset: &'s Dataset, head: &Head) -> Result<Self, TestImagesError> {
        let labels: Vec<Option<usize>> = dataset.samples.iter().map(|sample| sample.label).collect();
        let known = KnownRows::find(&labels, &dataset.class_names, head, &dataset.source)?;
        let samples = known.rows.iter().map(|&row| dataset.samples.get(row)).collect();
        Ok(Self { dataset, samples, labels: known.labels, notes: known.notes })
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// Extracts their features; `progress` hears how many images are done.
    ///
    /// # Errors
    /// The network fails, or no image can be read.
    pub fn extract(
        self,
        extractor: &mut Extractor,
        progress: impl FnMut(usize),
    ) -> Result<TestImages, TestImagesError> {
        let Self { dataset, samples, labels, notes } = self;
        let batch = extractor.extract_all(samples.iter().copied(), progress)?;
        let mut problems = dataset.problems.clone();
        problems.extend(batch.problems);
        if batch.indices.is_empty() {
            return Err(TestImagesError::NothingReadable { source_name: dataset.source.clone(), problems });
        }
        Ok(TestImages {
            names: batch.indices.iter().map(|&index| samples[index].name.to_owned()).collect(),
            labels: batch.indices.iter().map(|&index| labels[index]).collect(),
            sha256: batch.sha256,
            features: batch.features,
            problems,
            notes,
        })
    }
}

/// Images of a head's classes, as features. All columns have one element an image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TestImages {
    /// Names of the images.
    pub names: Vec<String>,
    /// Their classes, as indices into the head's.
    pub labels: Vec<usize>,
    /// SHA-256 of each image file.
    pub sha256: Vec<String>,
    /// Their features (n x d).
    pub features: Array2<f32>,
    /// The images that could not be read.
    pub problems: Vec<InputProblem>,
    /// What was left out.
    pub notes: Vec<Note>,
}

impl TestImages {
    /// The images of a features file that are of the classes of `head`, which messages call `holder`.
    ///
    /// # Errors
    /// The features are not of the head's kind, or no image is of its classes.
    pub fn from_features(file: &FeatureFile, head: &Head, holder: &str) -> Result<Self, TestImagesError> {
        let wanted = &head.provenance.spec;
        check_kind::<TestImagesError>(file, wanted, holder)?;
        let labels: Vec<Option<usize>> =
            file.labels().iter().map(|&label| usize::try_from(label).ok()).collect();
        let source = file.path().display().to_string();
        let KnownRows { rows, labels, notes } = KnownRows::find(&labels, file.class_names(), head, &source)?;
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        Ok(Self {
            names: text(file.image_names()),
            labels,
            sha256: text(file.sha256()),
            features: file.read_layer(Some(&wanted.layer))?.select(Axis(0), &rows),
            problems: Vec::new(),
            notes,
        })
    }

    /// What `head` says about them, with prediction sets of this coverage, between 0 and 1.
    ///
    /// # Errors
    /// The head does not fit the features, or they are not finite.
    pub fn judge<'a>(&'a self, head: &'a Head, coverage: f64) -> Result<TestPredictions<'a>, HeadError> {
        let model = &head.model;
        let scores = model.scores(self.features.view())?;
        let probabilities = model.calibration.probabilities(scores.view());
        let unknown = model.novelty.as_ref().map(|novelty| {
            let distances = novelty.distances(self.features.view());
            distances.into_iter().map(|distance| novelty.is_unknown(distance)).collect()
        });
        let covered = model.conformal.as_ref().map(|conformal| {
            let rows = probabilities.rows().into_iter().zip(&self.labels);
            rows.map(|(row, label)| conformal.set(&row.to_vec(), coverage).contains(label)).collect()
        });
        Ok(TestPredictions {
            images: self,
            head,
            predicted: answers(probabilities.view(), scores.view()),
            probabilities,
            unknown,
            covered,
            coverage,
            trained_on: self.sha256.iter().map(|hash| head.was_trained_on(hash)).collect(),
        })
    }
}

/// What a head says about test images.
pub struct TestPredictions<'a> {
    images: &'a TestImages,
    head: &'a Head,
    probabilities: Array2<f64>,
    predicted: Vec<usize>,
    unknown: Option<Vec<bool>>,
    covered: Option<Vec<bool>>,
    coverage: f64,
    trained_on: Vec<bool>,
}

impl TestPredictions<'_> {
    /// All of it, one element an image.
    pub fn judged(&self) -> LabelledPredictions<'_> {
        LabelledPredictions {
            class_names: &self.head.model.class_names,
            names: &self.images.names,
            labels: &self.images.labels,
            probabilities: self.probabilities.view(),
            predicted: &self.predicted,
            unknown: self.unknown.as_deref(),
            covered: self.covered.as_deref().map(|covered| (self.coverage, covered)),
            trained_on: &self.trained_on,
        }
    }

    /// How good it is; `most_mistakes` of the wrong answers are kept.
    pub fn assess(&self, most_mistakes: usize) -> Assessment {
        let mut assessment = Assessment::new(&self.judged(), most_mistakes);
        assessment.notes.extend(self.images.notes.iter().cloned());
        if self.head.trained_on.is_empty() {
            assessment.notes.push(Note::info("the head does not record which images it was fitted to"));
        }
        assessment
    }
}

/// The rows of labelled images that are of a head's classes.
struct KnownRows {
    rows: Vec<usize>,
    /// Their classes, as indices into the head's.
    labels: Vec<usize>,
    /// What was left out.
    notes: Vec<Note>,
}

impl KnownRows {
    fn find(
        labels: &[Option<usize>],
        class_names: &[String],
        head: &Head,
        source: &str,
    ) -> Result<Self, TestImagesError> {
        let known = &head.model.class_names;
        let position = |name: &String| known.iter().position(|class| class == name);
        let renumbered: Vec<Option<usize>> = class_names.iter().map(position).collect();
        let (mut rows, mut renamed, mut unlabelled) = (Vec::new(), Vec::new(), 0);
        let mut strangers: BTreeMap<&str, usize> = BTreeMap::new();
        for (row, label) in labels.iter().enumerate() {
            match label.map(|label| (label, renumbered[label])) {
                None => unlabelled += 1,
                Some((label, None)) => *strangers.entry(class_names[label].as_str()).or_default() += 1,
                Some((_, Some(class))) => {
                    rows.push(row);
                    renamed.push(class);
                }
            }
        }
        if rows.is_empty() {
            let (source_name, classes) = (source.to_owned(), known.join(", "));
            return Err(TestImagesError::NoKnownClass { source_name, classes });
        }
        let mut notes = Vec::new();
        if unlabelled > 0 {
            notes.push(Note::info(format!("left out {} without a label", count(unlabelled, "image"))));
        }
        for (class, images) in strangers {
            let images = count(images, "image");
            notes.push(Note::warning(format!("left out {images} of {class:?}: the head has no such class")));
        }
        Ok(Self { rows, labels: renamed, notes })
    }
}
