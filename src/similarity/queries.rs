//! [`Queries`]: what a user looks for in a features file, by names of its images, other features files and images, and the
//! answers to it.

use std::path::{Path, PathBuf};

use ndarray::ArrayView2;
use serde::Serialize;

use super::{Metric, NeighborSearch, NeighborsError};
use crate::dataset::{Dataset, DatasetError, InputProblem};
use crate::extract::{ExtractError, Extractor};
use crate::feature_spec::SpecMismatch;
use crate::features::{FeatureFile, FeatureFileError};

/// Why something cannot be looked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum QueryError {
    #[error(
        "{} is neither a file nor the name of an image in {file}, whose names are such as {example}", query.display()
    )]
    Unknown { query: PathBuf, file: String, example: String },
    #[error("the network gives {found} features of {layer}, and {file} holds {expected}; extract it again")]
    Width { file: String, layer: String, expected: usize, found: usize },
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    #[error(transparent)]
    Spec(#[from] SpecMismatch),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error(transparent)]
    Neighbors(#[from] NeighborsError),
}

/// What is looked for in one layer of a features file.
pub struct Queries<'f> {
    file: &'f FeatureFile,
    layer: String,
    names: Vec<String>,
    /// For each query, the row of the searched file that it is itself.
    rows: Vec<Option<usize>>,
    /// One query after another, each as wide as the layer.
    features: Vec<f32>,
    /// The images whose features are not computed yet.
    images: Option<Dataset>,
    problems: Vec<InputProblem>,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueryAnswer<'a> {
    /// The name of the image that was looked for.
    pub query: &'a str,
    /// The nearest images, the nearest first.
    pub neighbors: Vec<NearImage<'a>>,
}

/// An image of the searched file that is near a query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearImage<'a> {
    /// Its name.
    pub image: &'a str,
    /// Its class, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'a str>,
    /// Its row in the file.
    pub row: usize,
    /// Its distance by the metric that was asked for.
    pub distance: f64,
}

impl<'f> Queries<'f> {
    /// Finds what each of `named` is: the name of an image in `file`, a features file (`.h5`), an image, or a folder of images.
    /// What is both a name and a file counts as the name. The search is in a layer of `file`, the primary one if none is named.
    /// [`extract`](Self::extract) computes the features of [`images`](Self::images).
    ///
    /// # Errors
    /// `file` has no such layer, something is none of these, or a features file has features of another kind.
    pub fn find(file: &'f FeatureFile, layer: Option<&str>, named: &[PathBuf]) -> Result<Self, QueryError> {
        let layer = file.layer(layer)?.spec.layer.clone();
        let mut queries = Self {
            file,
            layer,
            names: Vec::new(),
            rows: Vec::new(),
            features: Vec::new(),
            images: None,
            problems: Vec::new(),
        };
        let mut images = Vec::new();
        for query in named {
            let name = query.to_str().map(|name| name.replace('\\', "/"));
            let row = name.and_then(|name| file.image_names().iter().position(|image| *image == name));
            if let Some(row) = row {
                queries.add_row(row)?;
            } else if FeatureFile::is_named(query) {
                queries.add_file(query)?;
            } else if query.exists() {
                images.push(query.clone());
            } else {
                return Err(QueryError::Unknown {
                    query: query.clone(),
                    file: file.path().display().to_string(),
                    example: file.image_names().first().map_or("cats/1.jpg", String::as_str).to_owned(),
                });
            }
        }
        if !images.is_empty() {
            let mut images = Dataset::from_paths(&images, false, None)?;
            queries.problems.append(&mut images.problems);
            queries.images = Some(images);
        }
        Ok(queries)
    }

    fn width(&self) -> Result<usize, FeatureFileError> {
        Ok(self.file.layer(Some(&self.layer))?.width().unwrap_or(0))
    }

    /// A row of the searched file.
    fn add_row(&mut self, row: usize) -> Result<(), QueryError> {
        let mut features = vec![0.0; self.width()?];
        self.file.read_rows(Some(&self.layer), row..row + 1, &mut features)?;
        self.names.push(self.file.image_names()[row].clone());
        self.rows.push(Some(row));
        self.features.append(&mut features);
        Ok(())
    }

    /// Every row of another features file; those of the searched file itself are rows of it.
    fn add_file(&mut self, path: &Path) -> Result<(), QueryError> {
        let (layer, other) = (Some(self.layer.as_str()), FeatureFile::open(path)?);
        let holder = self.file.path().display().to_string();
        self.file.spec(layer)?.check(&holder, other.spec(layer)?, path)?;
        let features = other.read_layer(layer)?;
        let (expected, found) = (self.width()?, features.ncols());
        if found != expected {
            return Err(NeighborsError::Width { file: holder, expected, found }.into());
        }
        let is_same_file = path.canonicalize().ok() == self.file.path().canonicalize().ok();
        self.names.extend_from_slice(other.image_names());
        self.rows.extend((0..other.rows()).map(|row| is_same_file.then_some(row)));
        self.features.extend(features);
        Ok(())
    }

    /// The images whose features [`extract`](Self::extract) has to compute, if there are any.
    pub fn images(&self) -> Option<&Dataset> {
        self.images.as_ref()
    }

    /// Computes the features of the images. `extractor` makes features of the searched file's spec; `progress` is told how many
    /// images are dealt with.
    ///
    /// # Errors
    /// The network fails, or gives another number of features than the file holds. Images that cannot be read become
    /// [`problems`](Self::problems).
    pub fn extract(
        &mut self,
        extractor: &mut Extractor,
        progress: impl FnMut(usize),
    ) -> Result<(), QueryError> {
        let (expected, found) = (self.width()?, extractor.width());
        if found != expected {
            let (file, layer) = (self.file.path().display().to_string(), self.layer.clone());
            return Err(QueryError::Width { file, layer, expected, found });
        }
        let Some(images) = self.images.take() else { return Ok(()) };
        let batch = extractor.extract_all(images.samples.iter(), progress)?;
        self.names.extend(batch.indices.iter().map(|&index| images.samples.get(index).name.to_owned()));
        self.rows.extend(batch.indices.iter().map(|_| None));
        self.problems.extend(batch.problems);
        self.features.extend(batch.features);
        Ok(())
    }

    /// Number of queries whose features are known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Images that cannot be looked for, and why.
    pub fn problems(&self) -> &[InputProblem] {
        &self.problems
    }

    /// The `k` nearest images to each query, of which a row of the searched file is not its own neighbour. `progress` is told
    /// how many rows are compared, by several threads.
    ///
    /// # Errors
    /// The file cannot be read, or a feature is not finite.
    pub fn nearest(
        &self,
        k: usize,
        metric: Metric,
        progress: impl Fn(usize) + Sync,
    ) -> Result<Vec<QueryAnswer<'_>>, QueryError> {
        let expected = self.width()?;
        let wrong_width = |_| NeighborsError::Width {
            file: self.file.path().display().to_string(),
            expected,
            found: self.features.len() / self.len().max(1),
        };
        let queries = ArrayView2::from_shape((self.len(), expected), &self.features).map_err(wrong_width)?;
        let left_out = |query: usize, row| self.rows[query] == Some(row);
        let search = NeighborSearch { queries, k, metric, left_out: &left_out };
        let found = search.run(self.file, Some(&self.layer), progress)?;
        let near = |neighbor: super::Neighbor| NearImage {
            image: &self.file.image_names()[neighbor.row],
            class: usize::try_from(self.file.labels()[neighbor.row])
                .ok()
                .map(|label| self.file.class_names()[label].as_str()),
            row: neighbor.row,
            distance: neighbor.distance,
        };
        let answers = self.names.iter().zip(found).map(|(query, neighbors)| QueryAnswer {
            query,
            neighbors: neighbors.into_iter().map(near).collect(),
        });
        Ok(answers.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature_spec::FeatureSpec;
    use crate::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};
    use crate::images::{Preprocess, Preset};
    use crate::network::{Pooling, Precision};

    /// Writes a features file with two features and, except for the last image, a class for each image.
    fn write(path: &Path, layer: &str, rows: &[(&str, [f32; 2])]) {
        let spec = FeatureSpec {
            model_name: "tiny".into(),
            model_sha256: "ab".repeat(32),
            layer: layer.into(),
            tensor: layer.into(),
            pooling: Pooling::None,
            preprocess: Preprocess::preset(Preset::Torchvision).unwrap(),
            precision: Precision::Fp32,
        };
        let header = FeatureFileHeader {
            program_version: "0.1.0".into(),
            source: "data".into(),
            runtime: "onnxruntime".into(),
            device: "cpu".into(),
            class_names: vec!["cat".into(), "dog".into()],
            layers: vec![StoredLayer { spec, shape: vec![2] }],
        };
        let options = WriteOptions { overwrite: false, expected_rows: rows.len() };
        let mut writer = FeatureWriter::create(path, &header, options).unwrap();
        for (index, (name, features)) in rows.iter().enumerate() {
            let label = if index + 1 == rows.len() { -1 } else { index as i64 % 2 };
            let sha256 = format!("{index:064x}");
            let row =
                FeatureRow { name, label, sha256: &sha256, perceptual_hash: None, features: &[features] };
            writer.append(&[row], &[]).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn queries_are_rows_by_name_and_the_rows_of_files_and_no_row_is_its_own_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let [searched, other, of_another_layer] =
            ["searched.h5", "other.h5", "fc6.h5"].map(|name| folder.path().join(name));
        let rows = [("cats/1.jpg", [0.0, 1.0]), ("dogs/1.jpg", [3.0, 4.0]), ("what.jpg", [0.0, 2.5])];
        write(&searched, "fc7", &rows);
        write(&other, "fc7", &[("new.jpg", [3.0, 5.0])]);
        write(&of_another_layer, "fc6", &[("new.jpg", [3.0, 5.0])]);
        let file = FeatureFile::open(&searched).unwrap();

        let queries = Queries::find(&file, None, &["what.jpg".into(), other]).unwrap();
        assert!(queries.images().is_none() && queries.problems().is_empty());
        let answers = queries.nearest(2, Metric::Euclidean, |_| ()).unwrap();
        let near = |image, class, row, distance| NearImage { image, class, row, distance };
        assert_eq!(
            answers,
            [
                QueryAnswer {
                    query: "what.jpg",
                    neighbors: vec![
                        near("cats/1.jpg", Some("cat"), 0, 1.5),
                        near("dogs/1.jpg", Some("dog"), 1, 11.25_f64.sqrt()),
                    ],
                },
                QueryAnswer {
                    query: "new.jpg",
                    neighbors: vec![
                        near("dogs/1.jpg", Some("dog"), 1, 1.0),
                        near("what.jpg", None, 2, 15.25_f64.sqrt()),
                    ],
                },
            ]
        );

        let all = Queries::find(&file, Some("fc7"), std::slice::from_ref(&searched)).unwrap();
        let nearest = all.nearest(1, Metric::Euclidean, |_| ()).unwrap();
        let rows: Vec<usize> = nearest.iter().map(|answer| answer.neighbors[0].row).collect();
        assert_eq!((all.len(), rows), (3, vec![2, 2, 0]));

        let refusal =
            |query: &Path| Queries::find(&file, None, &[query.to_owned()]).err().unwrap().to_string();
        let said = refusal(Path::new("cow.jpg"));
        let expected = format!(
            "cow.jpg is neither a file nor the name of an image in {}, whose names are such as cats/1.jpg",
            searched.display()
        );
        assert_eq!(said, expected);
        assert!(refusal(&of_another_layer).contains("fc7"), "{}", refusal(&of_another_layer));
    }
}
