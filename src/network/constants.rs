//! Reads the numbers of a graph's constant tensors, wherever the exporter put them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::graph::proto::{TensorProto, tensor_proto::DataType};
use super::graph::{Graph, entry};
use super::topology::attribute;
use crate::files::folder_of;

impl Graph {
    /// The constant tensor `name`: an initializer, the output of a `Constant` node, or one of these behind `Identity`.
    pub(super) fn constant<'a>(&'a self, name: &'a str) -> Option<&'a TensorProto> {
        let name = self.origin(name);
        self.initializer(name).or_else(|| {
            let node = self.producer(name).filter(|node| node.op_type() == "Constant")?;
            attribute(node, "value")?.t.as_ref()
        })
    }

    /// The tensor that `Identity` passes on as `name`, or `name` itself.
    pub(super) fn origin<'a>(&'a self, mut name: &'a str) -> &'a str {
        // No chain of identities is longer than there are nodes, unless it is a circle.
        for _ in self.nodes() {
            let passed = self.producer(name).filter(|node| node.op_type() == "Identity");
            match passed.and_then(|node| node.input.first()) {
                Some(input) => name = input,
                None => break,
            }
        }
        name
    }

    /// The shape of the constant tensor `name`.
    pub fn constant_shape(&self, name: &str) -> Option<Vec<usize>> {
        shape(self.constant(name)?)
    }

    /// The numbers of the constant tensor `name`; `None` if it is not constant, does not hold 32-bit floats, or cannot be read.
    pub(super) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.constant(name).filter(|tensor| tensor.data_type() == i32::from(DataType::Float))?;
        let count = shape(tensor)?.into_iter().try_fold(1_usize, usize::checked_mul)?;
        let numbers = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let floats = match (&tensor.raw_data, &tensor.float_data[..]) {
            (Some(bytes), []) => numbers(bytes),
            (None, []) => numbers(&self.external(tensor, count.checked_mul(size_of::<f32>())?)?),
            (_, floats) => floats.to_vec(),
        };
        (floats.len() == count).then_some(floats)
    }

    /// The bytes of `tensor` in the file beside the graph; `None` if the file does not hold them.
    pub(super) fn external_values(&self, tensor: &TensorProto) -> Option<Vec<u8>> {
        let len = match entry(&tensor.external_data, "length") {
            Some(len) => len.parse().ok()?,
            None => {
                let count = shape(tensor)?.into_iter().try_fold(1_usize, usize::checked_mul)?;
                count.checked_mul(bytes_of(DataType::try_from(tensor.data_type()).ok()?)?)?
            }
        };
        self.external(tensor, len)
    }

    /// `len` bytes from the file beside the graph that `tensor` names.
    pub(super) fn external(&self, tensor: &TensorProto, len: usize) -> Option<Vec<u8>> {
        let location = entry(&tensor.external_data, "location")?;
        let offset = entry(&tensor.external_data, "offset").map_or(Some(0), |offset| offset.parse().ok())?;
        let mut file = File::open(folder_of(self.path()).join(location)).ok()?;
        // Check the length first, so that no memory is reserved for bytes that the file does not have.
        let there = file.metadata().ok()?.len().checked_sub(offset)?;
        if there < len as u64 {
            return None;
        }
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Bytes of a number of the types that weights are of.
fn bytes_of(element: DataType) -> Option<usize> {
    Some(match element {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        _ => return None,
    })
}

/// The shape of a constant tensor.
pub(super) fn shape(tensor: &TensorProto) -> Option<Vec<usize>> {
    tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}
