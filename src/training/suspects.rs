//! Suspects of a features file: heads that have not seen an image judge it, and the most doubtful images are ranked.

use super::{
    DuplicateSettings, LabelledFeatures, SmallClassPolicy, StreamedLayer, TrainedHead, TrainingError,
    TrainingSet, TrainingStep,
};
use crate::dataset::Duplicates;
use crate::evaluate::{Note, Severity, SuspectEvidence, Suspects};
use crate::features::FeatureFile;
use crate::head::{
    FitSettings, HeadError, HeadKind, Novelty, OutOfFold, StreamedData, fit_head, fit_head_streamed,
};
use crate::memory::MemoryLimit;

/// How suspects are searched for.
#[derive(Debug, Clone)]
pub struct SuspectSettings {
    /// The layer; `None` is the file's first.
    pub layer: Option<String>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u64,
    /// Which images count as duplicates of one another.
    pub duplicates: DuplicateSettings,
    /// What happens to small classes.
    pub small_classes: SmallClassPolicy,
    /// Suspects of each kind that are kept.
    pub most: usize,
    /// Memory for the features; where they take more they are streamed. `None` is half of the machine's.
    pub max_memory: Option<MemoryLimit>,
}

impl Default for SuspectSettings {
    /// The file's first layer, 5 folds, seed 0, 20 suspects of each kind.
    fn default() -> Self {
        Self {
            layer: None,
            folds: 5,
            seed: 0,
            duplicates: DuplicateSettings::default(),
            small_classes: SmallClassPolicy::default(),
            most: 20,
            max_memory: None,
        }
    }
}

/// The suspects of a features file.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundSuspects {
    /// The suspects, ranked.
    pub suspects: Suspects,
    /// What the reader should know: what was left out, and the warnings of the head and of the duplicate search.
    pub notes: Vec<String>,
}

/// Ranks the labelled images of a features file by how doubtful they are: a logistic regression is fitted without each fold
/// and judges its images.
///
/// Features that are larger than the memory they may use stay in their file. The regression then ends at another point within the
/// same distance of the optimum (a relative duality gap of 1e-4), so that probabilities may differ in their third digit, and those of a
/// gross outlier by a hundredth; duplicates and outliers are the same.
///
/// `on_step` hears what begins.
///
/// # Errors
/// [`TrainingError`]: the file, its labels and the settings do not go together.
pub fn find_suspects(
    file: &FeatureFile,
    settings: &SuspectSettings,
    on_step: &mut dyn FnMut(TrainingStep),
) -> Result<FoundSuspects, TrainingError> {
    let SuspectSettings { folds, seed, duplicates, small_classes, .. } = settings;
    duplicates.check(file)?;
    let mut left_out = Vec::new();
    let limit = settings.max_memory.unwrap_or_default();
    let streamed = StreamedLayer::if_too_large(file, settings.layer.as_deref(), limit)?;
    let mut labelled = small_classes.apply(LabelledFeatures::without_features(file)?, &mut left_out)?;
    if streamed.is_none() {
        labelled.read_features(file, settings.layer.as_deref())?;
    }
    on_step(TrainingStep::FindingDuplicates);
    let set = TrainingSet::new(labelled, duplicates, small_classes, *folds, streamed.as_ref())?;
    left_out.extend(set.left_out);
    let fit = FitSettings { folds: *folds, seed: *seed, ..FitSettings::new(HeadKind::Logistic) };
    on_step(TrainingStep::Fitting);
    let (labelled, groups) = (&set.labelled, &set.duplicates.groups);
    // First, so that its memory is free again when the fit takes all that it may.
    let distances = labelled.with_rows(streamed.as_ref(), |source, _| {
        let distances = Novelty::held_out_distances(source, groups, *seed);
        distances.map_err(|error| HeadError::unreadable(error).named(Some(&labelled.names)))
    })?;
    let fitted = match &streamed {
        None => fit_head(&labelled.training_data(groups), &fit)?,
        Some(layer) => {
            let data = StreamedData {
                source: &layer.rows(&labelled.rows)?,
                labels: &labelled.labels,
                class_names: &labelled.class_names,
                groups,
                row_names: &labelled.names,
                max_memory: limit.bytes(),
            };
            fit_head_streamed(&data, &fit)?
        }
    };
    let warnings = fitted.evaluation.notes.iter().chain(&set.notes);
    let warnings = warnings.filter(|note| note.severity == Severity::Warning);
    let text = |note: &Note| note.text.clone();
    let mut notes = set.labelled.notes.clone();
    notes.extend(left_out.iter().chain(warnings).map(text));
    let suspects = rank(labelled, &set.duplicates, &fitted.out_of_fold, &distances, settings.most);
    Ok(FoundSuspects { suspects, notes })
}

impl TrainedHead {
    /// The most doubtful of the images that the head was fitted to, at most `most` of each kind. Their features must be in memory.
    pub fn suspects(&self, most: usize) -> Suspects {
        let Self { head, labelled, duplicates, out_of_fold } = self;
        let (source, seed) = (labelled.features.view(), head.model.settings.seed);
        let distances = Novelty::held_out_distances(&source, &duplicates.groups, seed)
            .expect("features in memory can be read, and a head was fitted to them");
        rank(labelled, duplicates, out_of_fold, &distances, most)
    }
}

fn rank(
    labelled: &LabelledFeatures,
    duplicates: &Duplicates,
    out_of_fold: &OutOfFold,
    distances: &[f64],
    most: usize,
) -> Suspects {
    let evidence = SuspectEvidence {
        class_names: &labelled.class_names,
        names: &labelled.names,
        labels: &labelled.labels,
        probabilities: out_of_fold.probabilities.view(),
        predicted: &out_of_fold.answers(),
        distances,
        duplicates,
    };
    Suspects::rank(&evidence, most)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use tempfile::TempDir;

    use super::*;
    use crate::feature_spec::FeatureSpec;
    use crate::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};

    const WIDTH: usize = 1500;

    /// Features of two classes without perceptual hashes: the last 10 rows are nearly rows 0 to 9, row 7 has the wrong label, and
    /// row 100 is like no other.
    fn written(folder: &TempDir) -> PathBuf {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
        let mut features: Vec<Vec<f32>> = Vec::new();
        for row in 0..600_usize {
            let copied = row.checked_sub(590).map(|of| features[of].clone());
            let mut noise = |size: f32| rng.random_range(-size..size);
            features.push(match copied {
                Some(original) => original.into_iter().map(|x| x + noise(0.01)).collect(),
                None if row == 100 => (0..WIDTH).map(|j| 20.0 * noise(1.0) * (j % 5) as f32).collect(),
                None => (0..WIDTH).map(|j| 1.0 + noise(1.0) + 0.3 * ((j + row) % 2) as f32).collect(),
            });
        }
        let output = folder.path().join("features.h5");
        let header = FeatureFileHeader {
            program_version: String::new(),
            source: String::new(),
            runtime: String::new(),
            device: String::new(),
            class_names: ["a", "b"].map(String::from).to_vec(),
            layers: vec![StoredLayer { spec: FeatureSpec::foreign(), shape: vec![WIDTH] }],
        };
        let options = WriteOptions { overwrite: false, expected_rows: 600 };
        let mut writer = FeatureWriter::create(&output, &header, options).unwrap();
        for (row, features) in features.iter().enumerate() {
            let label = if row == 7 { 0 } else { (row % 2) as i64 };
            let (name, sha256) = (format!("{row:03}.jpg"), format!("{row:064x}"));
            let features = &features[..];
            let row = FeatureRow {
                name: &name,
                label,
                sha256: &sha256,
                perceptual_hash: None,
                features: &[features],
            };
            writer.append(&[row], &[]).unwrap();
        }
        writer.finish().unwrap();
        output
    }

    #[test]
    fn suspects_of_features_that_stay_in_their_file_are_those_of_features_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = FeatureFile::open(&written(&folder)).unwrap();
        let found = |limit: &str| {
            let max_memory = Some(limit.parse().unwrap());
            let settings = SuspectSettings { most: 600, max_memory, ..SuspectSettings::default() };
            find_suspects(&file, &settings, &mut |_| ()).unwrap()
        };
        let (in_memory, streamed) = (found("1GiB"), found("8.9MB"));
        assert_eq!(in_memory.suspects.labels[0].image, "007.jpg");
        assert_eq!(in_memory.suspects.outliers[0].image, "100.jpg");
        assert_eq!(in_memory.suspects.copies.len(), 1, "row 7 is nearly row 597, of another label");
        // Duplicates and distances bit for bit; probabilities as near as two fits to the same gap are.
        assert_eq!(streamed.suspects.outliers, in_memory.suspects.outliers);
        assert_eq!(streamed.suspects.copies, in_memory.suspects.copies);
        assert_eq!(streamed.notes, in_memory.notes);
        assert_eq!(streamed.suspects.labels[0].image, "007.jpg");
        for suspect in &streamed.suspects.labels {
            let other = in_memory.suspects.labels.iter().find(|other| other.image == suspect.image).unwrap();
            let difference = (suspect.probability - other.probability).abs();
            assert!(difference < 0.01, "{}: {} {}", suspect.image, suspect.probability, other.probability);
        }
        let settings =
            SuspectSettings { max_memory: Some("1MB".parse().unwrap()), ..SuspectSettings::default() };
        let refused = find_suspects(&file, &settings, &mut |_| ()).unwrap_err().to_string();
        assert!(refused.contains("MiB of memory are needed, and the bound is 0 MiB"), "{refused}");
    }
}
