//! [`SealedClassifier`]: an exported file as a head with its network.
//!
//! The program does not run the whole graph. It reads the head back from the graph's constants and metadata, and takes the
//! network's part out of the middle. So an exported file is a head as any other: the same code decodes, preprocesses, extracts and
//! answers, in batches, on every device, with explanations and reports, and its answers are those of the head that was exported,
//! bit for bit. A second way of classifying could drift from the first. That the graph as a whole computes the same is what the tests
//! check with ONNX Runtime for Python.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2};
use serde::de::DeserializeOwned;

use super::INPUT;
use super::answer::NOVELTY_FEATURES;
use super::builder::{GraphDim, value_info};
use super::error::SealedError;
use super::head::{BIAS, COMPONENTS, MEAN, MEAN_REST, SCALE, SUPPORT_VECTORS, VARIES, WEIGHTS};
use super::metadata::{self, ConformalEntry, HeadEntry, NetworkEntry, PcaEntry};
use crate::head::{Conformal, Head, HeadModel, KernelMap, Novelty, Pca, Preparation, Standardizer};
use crate::images::TensorLayout;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::graph::proto::{ModelProto, TensorProto};
use crate::network::graph::read_model;
use crate::network::{Graph, GraphError, Layer};

/// An exported classifier that was read back.
#[derive(Debug)]
pub struct SealedClassifier {
    /// The head.
    pub head: Head,
    path: PathBuf,
    network: NetworkEntry,
}

impl SealedClassifier {
    /// Reads the file at `path`, believing nothing.
    ///
    /// # Errors
    /// It is no file that [`export`](super::export) made, or is damaged.
    pub fn open(path: &Path) -> Result<Self, SealedError> {
        let owned = || path.to_owned();
        let model = read_model(path).map_err(|source| match source {
            GraphError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                SealedError::Missing(owned())
            }
            source => SealedError::NotOnnx { path: owned(), source },
        })?;
        let file = SealedReader { model: &model, path };
        match file.entry(metadata::VERSION) {
            None => return Err(SealedError::OtherGraph(owned())),
            Some(metadata::FORM) => {}
            Some(found) => {
                let found = found.to_owned();
                return Err(SealedError::Newer { path: owned(), found, known: metadata::FORM });
            }
        }
        let about: HeadEntry = file.json(metadata::HEAD)?;
        let network: NetworkEntry = file.json(metadata::NETWORK)?;
        let evaluation = file.json(metadata::EVALUATION)?;
        let model = file.head_model(&about)?;
        let numbers = metadata::numbers(&about.trained_on, u64::from_le_bytes);
        let mut trained_on = numbers.ok_or_else(|| file.entry_fault(metadata::HEAD))?;
        trained_on.sort_unstable();
        let head = Head { model, provenance: about.provenance, evaluation, trained_on };
        match head.fault() {
            Some(fault) => Err(file.unsound(&fault)),
            None => Ok(Self { head, path: owned(), network }),
        }
    }

    /// The network inside of the file, and the layer that the head's features are of.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn network(&self) -> Result<(Graph, Layer), GraphError> {
        let NetworkEntry { batch, channels_last, layer } = &self.network;
        let (width, height) = self.head.provenance.spec.preprocess.size();
        let [width, height, channels] = [width as usize, height as usize, 3].map(GraphDim::Fixed);
        let images = batch.map_or(GraphDim::Open("images"), GraphDim::Fixed);
        let (layout, dims) = match channels_last {
            false => (TensorLayout::Nchw, [images, channels, height, width]),
            true => (TensorLayout::Nhwc, [images, height, width, channels]),
        };
        let input = value_info(INPUT, DataType::Float, &dims);
        Ok((Graph::open_part(&self.path, input, layout, &layer.tensor)?, layer.clone()))
    }
}

/// A graph that claims to be an exported classifier.
struct SealedReader<'a> {
    model: &'a ModelProto,
    path: &'a Path,
}

impl SealedReader<'_> {
    fn entry(&self, key: &str) -> Option<&str> {
        let entry = self.model.metadata_props.iter().find(|entry| entry.key() == key)?;
        Some(entry.value())
    }

    fn json<T: DeserializeOwned>(&self, entry: &'static str) -> Result<T, SealedError> {
        let text = self.entry(entry).ok_or_else(|| self.entry_fault(entry))?;
        serde_json::from_str(text).map_err(|source| SealedError::Entry {
            path: self.path.to_owned(),
            entry,
            source: Some(source.into()),
        })
    }

    fn entry_fault(&self, entry: &'static str) -> SealedError {
        SealedError::Entry { path: self.path.to_owned(), entry, source: None }
    }

    fn unsound(&self, fault: &str) -> SealedError {
        SealedError::Unsound { path: self.path.to_owned(), fault: fault.to_owned() }
    }

    fn head_model(&self, about: &HeadEntry) -> Result<HeadModel, SealedError> {
        let class_names: Vec<String> = self.json(metadata::CLASS_NAMES)?;
        let weights = self.turned(WEIGHTS, f32::from_le_bytes)?;
        let kernel = match about.kernel {
            None => None,
            Some(kernel) => {
                let map = KernelMap::from_parts(kernel, self.turned(SUPPORT_VECTORS, f32::from_le_bytes)?);
                Some(map.ok_or_else(|| self.unsound("its kernel holds values that cannot be"))?)
            }
        };
        let inputs = kernel.as_ref().map_or(weights.ncols(), |kernel| kernel.vectors().ncols());
        if kernel.as_ref().is_some_and(|kernel| kernel.vectors().nrows() != weights.ncols()) {
            return Err(self.unsound("its support vectors and weights are not of the same number"));
        }
        let bias = self.reals(BIAS)?.unwrap_or_default();
        if bias.len() != weights.nrows() {
            return Err(self.unsound("its bias and weights are of different numbers of classes"));
        }
        let preparation = self.preparation(about, inputs)?;
        let novelty = match &about.novelty {
            None => None,
            Some(limits) => {
                let features = self.matrix(NOVELTY_FEATURES, i8::from_le_bytes)?;
                if features.ncols() != preparation.columns() {
                    return Err(self.unsound("its training features and weights have different widths"));
                }
                let novelty = Novelty::from_parts(features, limits.clone());
                Some(
                    novelty
                        .ok_or_else(|| self.unsound("its training features hold values that cannot be"))?,
                )
            }
        };
        let conformal = match &about.conformal {
            None => None,
            Some(ConformalEntry { rows, scores }) => {
                let scores = metadata::numbers(scores, f32::from_le_bytes);
                let conformal = scores.and_then(|scores| Conformal::from_parts(scores, *rows));
                Some(
                    conformal
                        .ok_or_else(|| self.unsound("its prediction sets hold values that cannot be"))?,
                )
            }
        };
        Ok(HeadModel {
            class_names,
            settings: about.settings.clone(),
            preparation,
            kernel,
            weights,
            bias: Array1::from(bias),
            calibration: about.calibration.clone(),
            convergence: about.convergence.clone(),
            conformal,
            novelty,
        })
    }

    fn preparation(&self, about: &HeadEntry, prepared: usize) -> Result<Preparation, SealedError> {
        let pca = match &about.pca {
            None => None,
            Some(PcaEntry { variances, total_variance }) => {
                let components = self.turned(COMPONENTS, f32::from_le_bytes)?;
                let pca = Pca::from_parts(components, variances.clone(), *total_variance);
                Some(pca.ok_or_else(|| self.unsound("its principal components hold values that cannot be"))?)
            }
        };
        if pca.as_ref().is_some_and(|pca| pca.components().nrows() != prepared) {
            return Err(self.unsound("its components and weights are not of the same number"));
        }
        let columns = pca.as_ref().map_or(prepared, |pca| pca.components().ncols());
        let mut mean = self.reals(MEAN)?.unwrap_or_else(|| vec![0.0; columns]);
        if let Some(rest) = self.reals(MEAN_REST)? {
            mean.iter_mut().zip(rest).for_each(|(mean, rest)| *mean += rest);
        }
        let scale = self.reals(SCALE)?.unwrap_or_else(|| vec![1.0; columns]);
        let constant = match self.find(VARIES) {
            None => vec![false; columns],
            Some(varies) => self.values(varies, DataType::Bool, |[byte]: [u8; 1]| byte == 0)?,
        };
        let standardizer = Some((mean, scale, constant))
            .filter(|(mean, _, _)| mean.len() == columns)
            .and_then(|(mean, scale, constant)| Standardizer::from_parts(mean, scale, constant));
        let standardizer =
            standardizer.ok_or_else(|| self.unsound("its mean or scale hold values that cannot be"))?;
        Preparation::from_parts(about.l2_normalize, standardizer, pca)
            .ok_or_else(|| self.unsound("its components are of another number of features"))
    }

    fn find(&self, name: &str) -> Option<&TensorProto> {
        let graph = self.model.graph.as_ref()?;
        graph.initializer.iter().find(|tensor| tensor.name() == name)
    }

    /// The numbers of a list of float64, or of float32.
    fn reals(&self, name: &str) -> Result<Option<Vec<f64>>, SealedError> {
        let Some(tensor) = self.find(name) else { return Ok(None) };
        if tensor.data_type() == i32::from(DataType::Double) {
            return self.values(tensor, DataType::Double, f64::from_le_bytes).map(Some);
        }
        self.values(tensor, DataType::Float, |bytes| f64::from(f32::from_le_bytes(bytes))).map(Some)
    }

    /// A matrix whose columns are stored as rows.
    fn turned<const N: usize, T: Clone>(
        &self,
        name: &str,
        number: fn([u8; N]) -> T,
    ) -> Result<Array2<T>, SealedError> {
        Ok(self.matrix(name, number)?.t().as_standard_layout().into_owned())
    }

    /// A matrix as it is stored.
    fn matrix<const N: usize, T: Clone>(
        &self,
        name: &str,
        number: fn([u8; N]) -> T,
    ) -> Result<Array2<T>, SealedError> {
        let missing = || self.unsound(&format!("it lacks the constant {name:?}"));
        let tensor = self.find(name).ok_or_else(missing)?;
        let element = if N == 1 { DataType::Int8 } else { DataType::Float };
        let values = self.values(tensor, element, number)?;
        let [rows, columns] = tensor.dims[..] else { return Err(missing()) };
        let shape = (usize::try_from(rows).unwrap_or(0), usize::try_from(columns).unwrap_or(0));
        Array2::from_shape_vec(shape, values).map_err(|_| missing())
    }

    fn values<const N: usize, T>(
        &self,
        tensor: &TensorProto,
        element: DataType,
        number: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, SealedError> {
        let bytes = tensor.raw_data.as_ref().filter(|_| tensor.data_type() == i32::from(element));
        let (numbers, rest) = bytes.map(|bytes| bytes.as_chunks::<N>()).unwrap_or_default();
        if numbers.is_empty() || !rest.is_empty() {
            return Err(self.unsound(&format!("its constant {:?} has another type", tensor.name())));
        }
        Ok(numbers.iter().map(|&bytes| number(bytes)).collect())
    }
}
