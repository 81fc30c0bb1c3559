//! Features as safetensors: arrays as tensors, and texts, which are no tensors, in its metadata.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. The crate `safetensors` checks the header, above all its
//! offsets; it reads and writes files as a whole, so the values themselves pass in blocks here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::ConvertError;
use super::columns::{ColumnNames, FEATURES, IMAGE_NAMES, LABELS, PERCEPTUAL_HASH, SHA256, vector_of};
use super::feature_table::{FeatureTable, FoundTable, HEADER_KEY, TableHeader};
use super::hashes::{hash_of_bytes, hash_to_bytes, sha256_of_bytes, sha256_to_bytes};
use super::labels::TableLabels;
use super::npy::{DType, NpyHeader, NpyRows, read_integers, write_values};

/// Readers refuse headers above this.
const MAX_HEADER: u64 = 100_000_000;

/// Finds the features and what belongs to their rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames) -> Result<FoundTable, ConvertError> {
    let names_only = ColumnNames { name: wanted.name.clone(), ..ColumnNames::default() };
    names_only.refuse(path, "a safetensors file holds no texts; --names FILE names the rows")?;
    let mut file = File::open(path).map_err(ConvertError::read(path))?;
    let stored = file.metadata().map_err(ConvertError::read(path))?.len();
    let mut length = [0; 8];
    let cut = || ConvertError::cut(path, "its header ends too early");
    file.read_exact(&mut length).map_err(cut())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > stored {
        return Err(ConvertError::damaged(path, "it is not a whole safetensors file"));
    }
    // At most 100 MB, and no more than the file has.
    let mut json = vec![0; length as usize];
    file.read_exact(&mut json).map_err(cut())?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| {
        let what = "its header does not describe its tensors".to_owned();
        ConvertError::Damaged { path: path.to_owned(), what, source: Some(error.into()) }
    })?;
    let start = 8 + length;
    if start.checked_add(metadata.data_len() as u64) != Some(stored) {
        return Err(ConvertError::damaged(path, "its tensors and its size do not agree"));
    }
    let tensors: BTreeMap<String, &TensorInfo> = metadata.tensors().into_iter().collect();
    let names: Vec<String> = tensors.keys().cloned().collect();
    let is_candidate = |info: &TensorInfo| info.shape.len() > 1 && info.dtype != Dtype::U8;
    let candidates: Vec<usize> = (0..names.len()).filter(|&at| is_candidate(tensors[&names[at]])).collect();
    let Some(features) = vector_of(&candidates, &names, wanted, path)? else {
        let what = "tensor of features, that is of numbers of rows x values".to_owned();
        return Err(ConvertError::Missing { path: path.to_owned(), what, present: names });
    };
    let name = &names[features];
    let header = header_of(tensors[name], start, name, path)?;
    header.check_features(path, &format!("the tensor {name}"))?;
    let rows = header.shape[0];
    let text = |key: &str| metadata.metadata().as_ref().and_then(|texts| texts.get(key));
    let described: Option<TableHeader> = text(HEADER_KEY).and_then(|json| serde_json::from_str(json).ok());
    let image_names: Option<Vec<String>> = text(IMAGE_NAMES).and_then(|json| serde_json::from_str(json).ok());
    if let Some(list) = image_names.as_ref().filter(|list| list.len() != rows) {
        let why = format!("it names {} rows, and {name} has {rows}", list.len());
        return Err(ConvertError::unusable(path, why));
    }
    let mut integers = |name: &str, shape: &[usize]| -> Result<Option<Vec<i64>>, ConvertError> {
        let Some(info) = tensors.get(name).filter(|info| info.shape == shape) else { return Ok(None) };
        let header = header_of(info, start, name, path)?;
        if !header.dtype.is_integer() {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(header.length)).map_err(ConvertError::read(path))?;
        read_integers(&mut file, &header, path, name).map(Some)
    };
    let label_tensor = wanted.label.as_deref().unwrap_or(LABELS);
    let labels = integers(label_tensor, &[rows])?;
    if labels.is_none() && wanted.label.is_some() {
        let what = format!("tensor {label_tensor:?} with a whole number for each row");
        return Err(ConvertError::Missing { path: path.to_owned(), what, present: names });
    }
    let bytes = |numbers: Vec<i64>| -> Vec<u8> { numbers.into_iter().map(|number| number as u8).collect() };
    let sha256 = integers(SHA256, &[rows, 32])?.map(bytes);
    let hashes = integers(PERCEPTUAL_HASH, &[rows, 32])?.map(bytes);
    let mut notes: Vec<String> = header.dtype.note().into_iter().collect();
    if described.is_none() {
        notes.push(format!("features: {name}; tensors in the file: {}", names.join(", ")));
    }
    Ok(FoundTable {
        path: path.to_owned(),
        header: described,
        rows,
        shape: header.shape[1..].to_vec(),
        names: image_names,
        labels: labels.map_or(TableLabels::Unsaid, TableLabels::Numbers),
        sha256: sha256.map(|bytes| bytes.as_chunks().0.iter().map(sha256_of_bytes).collect()),
        hashes: hashes.map(|bytes| bytes.as_chunks().0.iter().map(hash_of_bytes).collect()),
        notes,
        values: Box::new(NpyRows { file, header, path: path.to_owned() }),
    })
}

/// A tensor as an array of the file.
fn header_of(info: &TensorInfo, start: u64, name: &str, path: &Path) -> Result<NpyHeader, ConvertError> {
    let dtype = match info.dtype {
        Dtype::F16 => DType::little(b'f', 2),
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::little(b'f', 8),
        Dtype::I8 => DType::little(b'i', 1),
        Dtype::I16 => DType::little(b'i', 2),
        Dtype::I32 => DType::little(b'i', 4),
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::little(b'u', 2),
        Dtype::U32 => DType::little(b'u', 4),
        Dtype::U64 => DType::little(b'u', 8),
        other => {
            let why = format!("the tensor {name} holds {other:?}, which is not read; save it as float32");
            return Err(ConvertError::unusable(path, why));
        }
    };
    let length = start + info.data_offsets.0 as u64;
    Ok(NpyHeader { dtype, fortran: false, shape: info.shape.clone(), length })
}

/// Writes a table.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let (rows, width) = (table.rows.count(), table.width());
    // Wide values first, so that all are aligned, as the library itself orders them.
    let mut tensors = vec![(LABELS, Dtype::I64, vec![rows]), (FEATURES, Dtype::F32, vec![rows, width])];
    if table.rows.sha256.is_some() {
        tensors.extend([PERCEPTUAL_HASH, SHA256].map(|name| (name, Dtype::U8, vec![rows, 32])));
    }
    let mut end = 0;
    let tensors = tensors.into_iter().map(|(name, dtype, shape)| {
        let begin = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    });
    let failed = || ConvertError::write::<serde_json::Error>(path);
    let names = serde_json::to_string(&table.rows.names).map_err(failed())?;
    let texts = [(HEADER_KEY.to_owned(), table.header_json()), (IMAGE_NAMES.to_owned(), names)];
    let metadata = Metadata::new(Some(texts.into_iter().collect()), tensors.collect());
    let metadata = metadata.map_err(ConvertError::write(path))?;
    let mut json = serde_json::to_vec(&metadata).map_err(failed())?;
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() as u64 > MAX_HEADER {
        let why = format!(
            "the names of its {rows} rows take more than 100 MB, which safetensors does not allow; convert to .npz"
        );
        return Err(ConvertError::unusable(path, why));
    }
    let io = || ConvertError::write::<std::io::Error>(path);
    let mut out = BufWriter::with_capacity(1 << 18, File::create(path).map_err(io())?);
    out.write_all(&(json.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&json)).map_err(io())?;
    table.rows.labels.iter().try_for_each(|label| out.write_all(&label.to_le_bytes())).map_err(io())?;
    table.each_block(&mut |block| write_values(&mut out, block.values).map_err(io()))?;
    if let Some(sha256) = &table.rows.sha256 {
        table.rows.hashes.iter().try_for_each(|hash| out.write_all(&hash_to_bytes(*hash))).map_err(io())?;
        sha256.iter().try_for_each(|hash| out.write_all(&sha256_to_bytes(hash))).map_err(io())?;
    }
    out.flush().map_err(io())
}
