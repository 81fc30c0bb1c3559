//! The file of a sealed graph. ONNX's messages end at 2 GB; the weights of a larger network go to a second file beside it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use super::ExportedModel;
use super::error::ExportError;
use super::metadata;
use crate::files::{temporary_beside, write_atomically};
use crate::network::graph::proto::tensor_proto::DataLocation;
use crate::network::graph::proto::{ModelProto, StringStringEntryProto, ValueInfoProto};
use crate::network::graph::read_model;

/// Bytes of the largest file whose weights lie inside of it: protobuf's limit, less what its reader may add.
const LARGEST: usize = (2 << 30) - (1 << 20);
/// Smaller weights stay in the graph's file.
const SMALLEST_OUTSIDE: usize = 1024;
/// Weights begin at multiples of this, so that they can be mapped into memory.
const ALIGNMENT: usize = 4096;

impl ExportedModel {
    /// Writes the graph to `path`, complete or not at all, and its weights to `path` with `.data` appended if they are `outside`
    /// or too large for one file. Gives the sizes of the files. An earlier export is replaced, no other file.
    ///
    /// # Errors
    /// A file cannot be written, or another one has its name.
    pub fn save(self, path: &Path, outside: bool) -> Result<Vec<(PathBuf, u64)>, ExportError> {
        let failed = |path: &Path, source| ExportError::Write { path: path.to_owned(), source };
        let mut model = self.model;
        let mut written = Vec::new();
        let replaces = is_export(path);
        let is_free = |path: &Path| match path.exists() && !replaces {
            true => Err(ExportError::OtherFile { path: path.to_owned() }),
            false => Ok(()),
        };
        is_free(path)?;
        if outside || model.encoded_len() > LARGEST {
            let mut beside = OsString::from(path);
            beside.push(".data");
            let beside = PathBuf::from(beside);
            is_free(&beside)?;
            let bytes = move_weights(&mut model, &beside).map_err(|source| failed(&beside, source))?;
            written.push((beside, bytes));
        }
        let bytes = model.encode_to_vec();
        write_atomically(path, &bytes).map_err(|source| failed(path, source))?;
        written.insert(0, (path.to_owned(), bytes.len() as u64));
        Ok(written)
    }

    /// Nodes of the graph.
    pub fn nodes(&self) -> usize {
        self.model.graph.as_ref().map_or(0, |graph| graph.node.len())
    }

    /// The version of ONNX's own operators.
    pub fn opset(&self) -> i64 {
        let own = self.model.opset_import.iter().find(|opset| matches!(opset.domain(), "" | "ai.onnx"));
        own.map_or(1, |opset| opset.version())
    }

    /// Names of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.model.graph.iter().flat_map(|graph| &graph.output).map(ValueInfoProto::name)
    }

    /// Domains of operators other than ONNX's own, which not every runtime has.
    pub fn other_domains(&self) -> impl Iterator<Item = &str> {
        let domains = self.model.opset_import.iter().map(|opset| opset.domain());
        domains.filter(|domain| !matches!(*domain, "" | "ai.onnx"))
    }
}

/// Whether the file at `path` is an exported classifier, whole or not.
fn is_export(path: &Path) -> bool {
    read_model(path)
        .is_ok_and(|model| model.metadata_props.iter().any(|entry| entry.key() == metadata::VERSION))
}

/// Writes the large weights of `model` to `path`, and makes it refer to them. Gives the bytes written.
fn move_weights(model: &mut ModelProto, path: &Path) -> std::io::Result<u64> {
    let mut file = temporary_beside(path)?;
    let mut offset = 0;
    let location = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry =
        |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        // The head's own constants are read back from the graph's file.
        let is_network = !super::SCOPES
            .iter()
            .any(|scope| tensor.name().strip_prefix(scope).is_some_and(|rest| rest.starts_with('/')));
        let is_large = tensor.raw_data.as_ref().is_some_and(|values| values.len() >= SMALLEST_OUTSIDE);
        let Some(values) = tensor.raw_data.take_if(|_| is_network && is_large) else { continue };
        let start = usize::next_multiple_of(offset, ALIGNMENT);
        file.write_all(&vec![0; start - offset])?;
        file.write_all(&values)?;
        tensor.data_location = Some(DataLocation::External.into());
        tensor.external_data = vec![
            entry("location", location.clone()),
            entry("offset", start.to_string()),
            entry("length", values.len().to_string()),
        ];
        offset = start + values.len();
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(offset as u64)
}
