//! Finds the image input of a graph: its name, layout, channels, size and type.

use std::collections::HashMap;
use std::path::Path;

use super::proto::tensor_proto::DataType;
use super::proto::{self, GraphProto, ValueInfoProto};
use super::{GraphError, input_layout};
use crate::images::TensorLayout;

/// The image input of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphInput {
    /// Name of the input tensor.
    pub name: String,
    /// What it holds. Images are given as 32-bit floats and converted in the graph.
    pub element: proto::tensor_proto::DataType,
    /// Where the channels stand.
    pub layout: TensorLayout,
    /// The number of images a run must hold, where the graph fixes it.
    pub batch: Option<usize>,
    /// Height and width, where the graph fixes them.
    pub height: Option<usize>,
    /// Pixels in a row, where the graph fixes it.
    pub width: Option<usize>,
    /// Channels that the graph reads: 1, 3 or 4. Images always have three; a graph of one channel reads the first, and one of four
    /// reads an opaque alpha channel besides.
    pub channels: usize,
}

/// What an image input may hold: numbers that 32-bit floats can be converted to.
const IMAGE_ELEMENTS: [DataType; 8] = [
    DataType::Float,
    DataType::Float16,
    DataType::Bfloat16,
    DataType::Double,
    DataType::Uint8,
    DataType::Uint16,
    DataType::Int32,
    DataType::Int64,
];

/// Names that exporters give to an image of N x 3 x H x W and to nothing else.
const NCHW_NAMES: [&str; 1] = ["pixel_values"];

/// Finds the one input that is an image; `stated` is its layout where the graph does not say it.
pub(super) fn image_input(
    graph: &GraphProto,
    initializers: &HashMap<String, usize>,
    path: &Path,
    stated: Option<TensorLayout>,
) -> Result<GraphInput, GraphError> {
    let unsupported = |reason: String| GraphError::Unsupported { path: path.to_path_buf(), reason };
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !initializers.contains_key(input.name())).collect();
    let images: Vec<&ValueInfoProto> = match &inputs[..] {
        [_] => inputs.clone(),
        several => several.iter().copied().filter(|input| may_be_image(input)).collect(),
    };
    let [input] = images[..] else {
        let names: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
        return Err(unsupported(format!(
            "a network with one image input is wanted; this graph has {} inputs ({})",
            names.len(),
            names.join(", ")
        )));
    };
    let name = input.name();
    let Some(tensor) = tensor_type(input) else {
        return Err(unsupported(format!("the input {name:?} is not a tensor")));
    };
    let element = DataType::try_from(tensor.elem_type()).unwrap_or(DataType::Undefined);
    if !IMAGE_ELEMENTS.contains(&element) {
        return Err(unsupported(format!(
            "the input {name:?} is {}; export the network with an input of floating-point numbers or of bytes (uint8)",
            element.as_str_name()
        )));
    }
    let dims: Vec<Option<usize>> = match &tensor.shape {
        Some(shape) => shape.dim.iter().map(fixed_dim).collect(),
        None => return Err(unsupported(format!("the input {name:?} has no shape"))),
    };
    let [batch, a, b, c] = dims[..] else {
        return Err(unsupported(format!(
            "the input {name:?} has {} dimensions; an image batch has 4 (N x 3 x H x W or N x H x W x 3)",
            dims.len()
        )));
    };
    let no_colours = || {
        unsupported(format!(
            "the input {name:?} has no dimension of 3 colour channels, 4 with alpha or one grey channel (its shape is {})",
            show_dims(&dims)
        ))
    };
    let convolved = input_layout::by_first_convolution(graph, name);
    let convolved_channels = convolved.and_then(|convolved| convolved.channels);
    let layout = match (a == Some(3), c == Some(3)) {
        (true, false) => TensorLayout::Nchw,
        (false, true) => TensorLayout::Nhwc,
        (both, _) => {
            if let Some(channels) = convolved_channels.filter(|channels| ![1, 3, 4].contains(channels)) {
                return Err(unsupported(format!(
                    "its first convolution reads {channels} channels; a network for colour images reads 3, one for grey \
                     images 1, one for images with an alpha channel 4"
                )));
            }
            let by_name = NCHW_NAMES.contains(&name).then_some(TensorLayout::Nchw);
            let known = convolved.map(|convolved| convolved.layout).or(by_name).or(stated);
            let is_count = |dim: Option<usize>| dim == Some(1) || dim == Some(4);
            let by_count = match (is_count(a), is_count(c)) {
                (true, false) => Some(TensorLayout::Nchw),
                (false, true) => Some(TensorLayout::Nhwc),
                _ => None,
            };
            match known.or(both.then_some(TensorLayout::Nchw)).or(by_count) {
                Some(layout) => layout,
                None if a.is_some() && c.is_some() => return Err(no_colours()),
                None => {
                    return Err(unsupported(format!(
                        "the graph does not say where the channels of its input {name:?} are (its shape is {}); \
                         say it with `cnncodes models add FILE --layout nchw` (N x 3 x H x W) or `--layout nhwc` \
                         (N x H x W x 3)",
                        show_dims(&dims)
                    )));
                }
            }
        }
    };
    let (channels, height, width) = match layout {
        TensorLayout::Nchw => (a, b, c),
        TensorLayout::Nhwc => (c, a, b),
    };
    let channels = match channels.or(convolved_channels) {
        None | Some(3) => 3,
        Some(channels @ (1 | 4)) => channels,
        Some(_) => return Err(no_colours()),
    };
    Ok(GraphInput { name: name.to_owned(), element, layout, batch, height, width, channels })
}

pub(super) fn tensor_type(input: &ValueInfoProto) -> Option<&proto::type_proto::Tensor> {
    match input.r#type.as_ref()?.value.as_ref()? {
        proto::type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

/// Whether an input may be a batch of images: four dimensions, of which not three or more are one, as those of a constant are
/// that is to be spread over an image.
fn may_be_image(input: &ValueInfoProto) -> bool {
    let shape = tensor_type(input).and_then(|tensor| tensor.shape.as_ref());
    shape.is_some_and(|shape| {
        shape.dim.len() == 4 && shape.dim.iter().filter(|dim| fixed_dim(dim) == Some(1)).count() < 3
    })
}

pub(super) fn fixed_dim(dim: &proto::tensor_shape_proto::Dimension) -> Option<usize> {
    match dim.value {
        Some(proto::tensor_shape_proto::dimension::Value::DimValue(value)) if value > 0 => {
            usize::try_from(value).ok()
        }
        _ => None,
    }
}

fn show_dims(dims: &[Option<usize>]) -> String {
    dims.iter()
        .map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()))
        .collect::<Vec<_>>()
        .join(" x ")
}
