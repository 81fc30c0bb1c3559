//! A virtual features file: names, labels and hashes of many features files ("parts") in one, whose layers are HDF5 virtual
//! datasets on the layers of the parts. So the features exist once, and any program that reads HDF5 sees one file.
//!
//! The parts are named by their paths relative to the file, so that the folder with all of them can be moved. They lie beside
//! it or below: readers of this program follow no path that leads elsewhere.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use hdf5_metno::{Dataset, Extents, File, Hyperslab, Selection, SliceOrIndex};
use ndarray17::{ArrayView2, s};

use super::error::{FeatureFileError, cause};
use super::hdf5_objects::{Hdf5Objects, write_strings, write_strings_from};
use super::schema::{self, HASH_BYTES, PassedOverGroup, SkippedImage};
use super::strings::{Sha256Hex, to_sha256};
use super::{FeatureFile, FeatureFileHeader};
use crate::files::{TemporaryFolder, folder_of, sync_folder};

/// A features file without features of its own: what it is written from.
#[derive(Debug, Clone, Copy)]
pub struct VirtualFile<'a> {
    /// What the file says about itself. The parts have these layers, made in the same way, and these classes.
    pub header: &'a FeatureFileHeader,
    /// The features files that hold the rows, in order, each with its number of rows.
    pub parts: &'a [(PathBuf, usize)],
    /// Images that could not be read; those of the parts are not added.
    pub skipped: &'a [SkippedImage],
    /// What was passed over.
    pub passed_over: &'a [PassedOverGroup],
}

/// Writes a virtual features file. `output` appears, or is replaced, when it is complete; `progress` hears how many rows are
/// done.
///
/// # Errors
/// [`FeatureFileError::Part`] for a part that cannot be read, or that is of other layers, classes or rows;
/// [`FeatureFileError::BadHeader`] for a part that does not lie in the output's folder or below, or an image name that occurs
/// twice; and if the output cannot be written.
pub fn write_virtual(
    output: &Path,
    file: &VirtualFile<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<(), FeatureFileError> {
    file.header.validate().map_err(bad(output))?;
    let folder = folder_of(output);
    let create =
        |source: std::io::Error| FeatureFileError::Create { path: output.to_owned(), source: source.into() };
    let sources = file.parts.iter().map(|(part, rows)| Ok((relative(part, folder)?, *rows)));
    let sources = sources.collect::<Result<Vec<_>, String>>().map_err(bad(output))?;
    let unfinished = TemporaryFolder::beside(output).map_err(create)?;
    let path = unfinished.path().join("virtual.h5");
    write(&path, output, file, &sources, progress)?;
    fs::File::open(&path).and_then(|file| file.sync_all()).map_err(create)?;
    fs::rename(&path, output).map_err(create)?;
    sync_folder(folder).map_err(create)
}

fn bad(output: &Path) -> impl FnOnce(String) -> FeatureFileError {
    move |why| FeatureFileError::BadHeader { path: output.to_owned(), why }
}

/// The path of a part as the file in `folder` names it.
fn relative(part: &Path, folder: &Path) -> Result<String, String> {
    let refused = |why: &str| format!("the part {} {why}", part.display());
    let whole =
        |path: &Path| path.canonicalize().map_err(|error| refused(&format!("cannot be found ({error})")));
    // The last component may be a link: what it is called counts.
    let name = part.file_name().ok_or_else(|| refused("has no name"))?;
    let below = whole(folder_of(part))?.join(name);
    let below = below.strip_prefix(whole(folder)?).map_err(|_| {
        refused("does not lie in the folder of the virtual file, or below; write the virtual file beside the parts' folder")
    })?;
    let mut named = Vec::new();
    for component in below.components() {
        let Component::Normal(component) = component else { return Err(refused("has an odd path")) };
        named.push(component.to_str().ok_or_else(|| refused("has a name that is not UTF-8"))?);
    }
    Ok(named.join("/"))
}

/// A name as mappings have it: `%` begins a placeholder there.
fn escaped(name: &str) -> String {
    name.replace('%', "%%")
}

fn write(
    path: &Path,
    output: &Path,
    virtual_file: &VirtualFile<'_>,
    sources: &[(String, usize)],
    progress: &mut dyn FnMut(usize),
) -> Result<(), FeatureFileError> {
    let VirtualFile { header, parts, skipped, passed_over } = *virtual_file;
    let mut written = 0;
    let failed = |rows: usize| {
        let (path, rows) = (output.to_owned(), rows as u64);
        move |error: hdf5_metno::Error| FeatureFileError::Write { path, rows, source: cause(error) }
    };
    let rows = sources.iter().map(|(_, rows)| rows).sum::<usize>();
    let file = File::create(path).map_err(failed(0))?;
    let layer = |path: &str, width: usize| new_virtual(&file, path, (rows, width), sources);
    Hdf5Objects::create_with(&file, header, rows, layer).map_err(failed(0))?;
    let objects = Hdf5Objects::open(&file).map_err(failed(0))?;
    let mut names = HashSet::with_capacity(rows);
    for (part, expected) in parts {
        let read = read_part(part, *expected, header, output)?;
        if let Some(name) = read.image_names().iter().find(|name| !names.insert((*name).clone())) {
            return Err(bad(output)(format!(
                "the image {name:?} occurs twice, the second time in {}",
                part.display()
            )));
        }
        write_columns(&objects, written, &read).map_err(failed(written))?;
        written += expected;
        progress(written);
    }
    let finish = || {
        objects.resize_errors(skipped.len())?;
        write_strings(&objects.error_names, skipped.iter().map(|image| image.name.as_str()))?;
        write_strings(&objects.error_reasons, skipped.iter().map(|image| image.reason.as_str()))?;
        objects.write_passed_over(passed_over)?;
        objects.rows.write_scalar(&(rows as i64))?;
        objects.error_rows.write_scalar(&(skipped.len() as i64))?;
        objects.complete.write_scalar(&1_u8)
    };
    finish().map_err(failed(written))?;
    drop(objects);
    file.close().map_err(failed(written))
}

/// A layer whose rows are those of the parts, one after the other.
fn new_virtual(
    file: &File,
    path: &str,
    (rows, width): (usize, usize),
    sources: &[(String, usize)],
) -> hdf5_metno::Result<Dataset> {
    let mut builder = file.new_dataset_builder().obj_track_times(false);
    let dataset = escaped(path);
    let extents = |rows: usize| -> Extents { (rows, width).into() };
    let mut start = 0;
    for (source, count) in sources.iter().filter(|(_, count)| *count > 0) {
        let from = (extents(*count), Selection::All);
        let to = (extents(rows), whole_rows(start, *count, width));
        builder = builder.virtual_map(escaped(source), &dataset, from.0, from.1, to.0, to.1);
        start += count;
    }
    builder.empty::<f32>().shape((rows, width)).create(path)
}

/// A box of whole rows.
fn whole_rows(start: usize, count: usize, width: usize) -> Selection {
    let slice = |start, count| SliceOrIndex::SliceCount { start, step: count, count: 1, block: count };
    Hyperslab::new(vec![slice(start, count), slice(0, width)]).into()
}

/// A part that has the layers, the classes and as many rows as it should.
fn read_part(
    path: &Path,
    rows: usize,
    header: &FeatureFileHeader,
    output: &Path,
) -> Result<FeatureFile, FeatureFileError> {
    let refused = |why: String| FeatureFileError::Part {
        path: output.to_owned(),
        part: path.to_owned(),
        why,
        source: None,
    };
    let part = FeatureFile::open(path).map_err(|error| FeatureFileError::Part {
        path: output.to_owned(),
        part: path.to_owned(),
        why: "it cannot be read".to_owned(),
        source: Some(error.into()),
    })?;
    match header.row_difference(part.header()) {
        Some(what) => Err(refused(format!("it differs from the other parts in {what}"))),
        None if part.rows() != rows => Err(refused(format!("it has {} rows and not {rows}", part.rows()))),
        None => Ok(part),
    }
}

fn write_columns(objects: &Hdf5Objects, start: usize, part: &FeatureFile) -> hdf5_metno::Result<()> {
    let rows = start..start + part.rows();
    if rows.is_empty() {
        return Ok(());
    }
    write_strings_from(start, &objects.names, part.image_names().iter().map(String::as_str))?;
    objects.labels.write_slice(part.labels(), rows.clone())?;
    let sha256: Option<Vec<Sha256Hex>> = part.sha256().iter().map(|text| to_sha256(text)).collect();
    objects.sha256.write_slice(&sha256.ok_or("a SHA-256 is none")?, rows.clone())?;
    if let Some(dataset) = &objects.hashes {
        let hashes = (0..part.rows()).flat_map(|row| part.perceptual_hash(row).unwrap_or([0; HASH_BYTES]));
        let hashes: Vec<u8> = hashes.collect();
        let hashes = ArrayView2::from_shape((rows.len(), schema::HASH_BYTES), &hashes)?;
        dataset.write_slice(hashes, s![rows, ..])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
