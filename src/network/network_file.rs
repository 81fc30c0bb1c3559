//! A network's file: mapped into memory, hashed, and referred to instead of copied.
//!
//! Weights are most of a network. A cut graph that carries them exists three times before it runs: as bytes for the runtime, as
//! the runtime's parsed message, and as its tensors. If a cut graph names the place of the weights in the original file, the
//! runtime maps them from there: VGG16 at fc7 then takes 1.7 times its weights' memory instead of 3.8 times, is ready in half
//! the time, and runs as fast.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::Mmap;

use super::graph::proto::{StringStringEntryProto, TensorProto, tensor_proto::DataLocation};
use crate::files::Stamp;

/// Smaller tensors stay in the graph, because the runtime reads shapes and axes while it loads the graph.
const SMALLEST_REFERENCE: usize = 1024;

/// A file that is open and mapped.
pub(super) struct NetworkFile {
    file: File,
    map: Bytes,
    stamp: Stamp,
    /// Its folder and its name for the runtime, without symbolic links, because the runtime does not follow them out of the
    /// folder. `None` if one of them is not UTF-8.
    place: Option<(PathBuf, String)>,
}

impl NetworkFile {
    /// Opens and maps `path`.
    ///
    /// # Errors
    /// It cannot be read, or is a folder.
    pub(super) fn open(path: &Path) -> io::Result<NetworkFile> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let map = if metadata.len() == 0 {
            Bytes::new()
        } else {
            // SAFETY: the mapping is read-only and lives as long as the bytes. Another process that truncates a
            // network while it is in use breaks it under any reader; replacing it by a rename does not.
            Bytes::from_owner(unsafe { Mmap::map(&file) }?)
        };
        let path = path.canonicalize()?;
        let place = || Some((path.parent()?.to_path_buf(), path.file_name()?.to_str()?.to_owned()));
        let place = place().filter(|(folder, _)| folder.to_str().is_some());
        Ok(NetworkFile { file, map, stamp: Stamp::of(&metadata), place })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> Bytes {
        self.map.clone()
    }

    /// A reader from the file's beginning. Reading leaves fewer pages in this process's memory than the mapping.
    pub(super) fn reader(&self) -> io::Result<impl io::Read> {
        let mut file = &self.file;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }

    /// The folder that references start from, where references can be made.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.place.as_ref().map(|(folder, _)| folder.as_path())
    }

    /// `tensor` without its values, which are said to lie in this file; a copy where it is small, or has no
    /// values in this file.
    pub(super) fn refer(&self, tensor: &TensorProto) -> TensorProto {
        let values = tensor.raw_data.as_ref().filter(|values| values.len() >= SMALLEST_REFERENCE);
        let (Some((_, name)), Some(values)) = (&self.place, values) else { return tensor.clone() };
        let Some(offset) = (values.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize) else {
            return tensor.clone();
        };
        if offset + values.len() > self.map.len() {
            return tensor.clone();
        }
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        TensorProto {
            dims: tensor.dims.clone(),
            data_type: tensor.data_type,
            name: tensor.name.clone(),
            data_location: Some(DataLocation::External.into()),
            external_data: vec![
                entry("location", name.clone()),
                entry("offset", offset.to_string()),
                entry("length", values.len().to_string()),
            ],
            ..Default::default()
        }
    }

    /// Whether the file that now lies in this place is still the one that was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        let now = || std::fs::metadata(self.place.as_ref().map(|(folder, name)| folder.join(name))?).ok();
        now().is_some_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }
}
