//! Cuts a graph at the tapped layers.
//!
//! ONNX Runtime returns graph outputs only, and runs every node that leads to a declared output. So a graph is edited before it
//! is loaded: the tapped tensors become the outputs, and every node, initializer and input that leads to none of them is
//! dropped. An early layer then costs an early layer's time and memory. Layers of this program may replace some of the
//! remaining nodes ([`super::super::fusion`]).

use std::collections::HashSet;
use std::path::PathBuf;

use prost::Message;

use super::super::fusion::fuse;
use super::super::nodes::{cast, first_of_axis, one_more_on_axis};
use super::super::operator;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use super::{Graph, GraphError, entry, names_read_by};
use crate::files::folder_of;
use crate::images::TensorLayout;
use cnncodes_convolution::{LayerOp, SimdIsa};

/// A graph cut at some tensors, ready to be loaded.
#[derive(Debug)]
pub struct TruncatedGraph {
    /// The serialised ONNX model, its large weights left in the network's file.
    pub bytes: Vec<u8>,
    /// The folder that relative paths of external weights start from.
    pub weights_folder: PathBuf,
    /// Number of its nodes.
    pub nodes: usize,
    /// Whether it takes the maximum of a map that another node has padded.
    pub pads_maxima: bool,
    /// The layers of [`cnncodes_convolution`] that its nodes run.
    pub ops: Vec<LayerOp>,
}

impl Graph {
    /// The graph cut at `taps`: they become the outputs, in this order, and nothing stays that leads to none of
    /// them. A tensor named twice becomes one output. Large weights stay in the file, which the cut graph refers
    /// to: call [`check_unchanged`](Self::check_unchanged) once it is loaded.
    ///
    /// # Errors
    /// A tensor does not exist, or none of them depends on the image.
    pub fn truncate(&self, taps: &[&str]) -> Result<TruncatedGraph, GraphError> {
        self.truncate_and_append(&taps.iter().map(|&tap| (tap, &[][..])).collect::<Vec<_>>(), None)
    }

    /// As [`truncate`](Self::truncate), for images of a `size`, width and height, on this processor: with layers of
    /// [`cnncodes_convolution`] where these are faster.
    ///
    /// # Errors
    /// As for [`truncate`](Self::truncate).
    pub fn truncate_for_processor(
        &self,
        taps: &[&str],
        size: (u32, u32),
    ) -> Result<TruncatedGraph, GraphError> {
        let taps: Vec<(&str, &[NodeProto])> = taps.iter().map(|&tap| (tap, &[][..])).collect();
        self.truncate_and_append(&taps, SimdIsa::detect().map(|isa| (size, isa)))
    }

    /// As [`truncate`](Self::truncate), with nodes that follow a tap, if there are any. The first of them reads the tapped
    /// tensor, and the output of the last replaces it as an output of the graph.
    ///
    /// If the `size` of the images (width, height) and the processor's instruction set are given, layers of
    /// [`cnncodes_convolution`] replace nodes if that is faster.
    ///
    /// # Errors
    /// As for [`truncate`](Self::truncate).
    pub(in super::super) fn truncate_and_append(
        &self,
        taps: &[(&str, &[NodeProto])],
        layers: Option<((u32, u32), SimdIsa)>,
    ) -> Result<TruncatedGraph, GraphError> {
        let by_reference = self.weights_by_reference();
        let (model, ops) = self.cut(taps, layers, by_reference)?;
        let kept = model.graph.as_ref().map_or(&[][..], |graph| &graph.node);
        let (nodes, pads_maxima) = (kept.len(), pads_maxima(kept));
        let weights_folder = match self.file.folder() {
            Some(folder) if by_reference => folder.to_path_buf(),
            _ => folder_of(&self.path).to_path_buf(),
        };
        Ok(TruncatedGraph { bytes: model.encode_to_vec(), weights_folder, nodes, pads_maxima, ops })
    }

    /// The graph cut at `tap`, as a message that holds its weights and can become part of a larger graph. Weights in the
    /// graph's own file are not copied. The input takes 32-bit floats, whatever type the graph computes in.
    ///
    /// # Errors
    /// As for [`truncate`](Self::truncate), and if weights beside the graph cannot be read.
    pub(crate) fn truncated_model(&self, tap: &str) -> Result<ModelProto, GraphError> {
        let (mut model, _) = self.cut(&[(tap, &[])], None, false)?;
        let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for tensor in tensors.filter(|tensor| tensor.data_location() == DataLocation::External) {
            let values = self.external_values(tensor).ok_or_else(|| GraphError::ExternalWeights {
                path: self.path.clone(),
                weights: entry(&tensor.external_data, "location").unwrap_or_default().into(),
                source: std::io::Error::other(format!("it does not hold the weights {:?}", tensor.name())),
            })?;
            tensor.raw_data = Some(values.into());
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        Ok(model)
    }

    /// The graph cut at `taps`, with the layers of [`cnncodes_convolution`] that its nodes run.
    fn cut(
        &self,
        taps: &[(&str, &[NodeProto])],
        layers: Option<((u32, u32), SimdIsa)>,
        by_reference: bool,
    ) -> Result<(ModelProto, Vec<LayerOp>), GraphError> {
        for (tap, _) in taps {
            if !self.producer.contains_key(*tap) {
                return Err(GraphError::NoTensor { path: self.path.clone(), tensor: (*tap).to_owned() });
            }
        }
        let needed = self.ancestors(taps.iter().map(|(tap, _)| *tap));
        self.refuse_training(&needed)?;
        let mut outputs: Vec<&str> = Vec::new();
        for (tap, appended) in taps {
            let last = appended.last().and_then(|last| last.output.first());
            let output = last.map_or(*tap, String::as_str);
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        let source = self.graph();
        let kept = needed.iter().zip(&source.node).filter_map(|(&keep, node)| keep.then_some(node));
        let mut node: Vec<NodeProto> =
            kept.chain(taps.iter().flat_map(|(_, appended)| *appended)).cloned().collect();
        let fused = layers.and_then(|(size, isa)| fuse(self, &node, &outputs, size, isa));
        let mut opset_import = self.model.opset_import.clone();
        let mut ops = Vec::new();
        if let Some(fused) = fused {
            node = fused.nodes;
            ops = fused.ops;
            opset_import
                .push(OperatorSetIdProto { domain: Some(operator::DOMAIN.to_owned()), version: Some(1) });
        }
        let mut used = Vec::new();
        node.iter().for_each(|node| names_read_by(node, &mut used));
        let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
        if !used.contains(self.input.name.as_str()) {
            return Err(GraphError::Detached { path: self.path.clone() });
        }
        self.refuse_other_inputs(&used)?;
        let input = source.input.iter().find(|input| input.name() == self.input.name).cloned();
        let input = input.map(|input| self.take_images(input, &mut node));
        let graph = GraphProto {
            name: source.name.clone(),
            node,
            initializer: source
                .initializer
                .iter()
                .filter(|tensor| used.contains(tensor.name()))
                .map(|tensor| if by_reference { self.file.refer(tensor) } else { tensor.clone() })
                .collect(),
            sparse_initializer: source
                .sparse_initializer
                .iter()
                .filter(|tensor| tensor.values.as_ref().is_some_and(|values| used.contains(values.name())))
                .cloned()
                .collect(),
            // In IR version 3 weights are inputs as well. A caller could override them, so the runtime would not fold them:
            // only the image stays an input.
            input: input.into_iter().collect(),
            // The runtime infers the type of an output; a name is all it needs.
            output: outputs
                .into_iter()
                .map(|output| ValueInfoProto { name: Some(output.to_owned()), ..Default::default() })
                .collect(),
            quantization_annotation: source.quantization_annotation.clone(),
            ..Default::default()
        };
        let model = ModelProto {
            ir_version: Some(self.model.ir_version().max(4)),
            opset_import,
            producer_name: self.model.producer_name.clone(),
            functions: self.model.functions.clone(),
            graph: Some(graph),
            ..Default::default()
        };
        Ok((model, ops))
    }

    /// Refuses a cut graph that reads an input besides the image.
    fn refuse_other_inputs(&self, used: &HashSet<String>) -> Result<(), GraphError> {
        let others = self.graph().input.iter().map(ValueInfoProto::name);
        let open = |name: &&str| {
            *name != self.input.name && used.contains(*name) && self.initializer(name).is_none()
        };
        match others.into_iter().find(open) {
            Some(input) => Err(GraphError::OtherInput { path: self.path.clone(), input: input.to_owned() }),
            None => Ok(()),
        }
    }

    /// The image input as three channels of 32-bit floats. If the graph reads another type, one channel or four, added nodes
    /// make the tensor that it reads.
    fn take_images(&self, mut input: ValueInfoProto, nodes: &mut Vec<NodeProto>) -> ValueInfoProto {
        let has_three = self.input.channels == 3;
        if self.input.element == DataType::Float && has_three {
            return input;
        }
        let name = format!("cnncodes/{}", self.input.name);
        let mut first = vec![];
        let mut tensor = name.clone();
        if !has_three {
            let made = match self.input.element {
                DataType::Float => self.input.name.clone(),
                _ => format!("{name}/channels"),
            };
            let axis = if self.input.layout == TensorLayout::Nchw { 1 } else { 3 };
            match self.input.channels {
                1 => first.extend(first_of_axis(&tensor, &made, axis)),
                _ => first.extend(one_more_on_axis(&tensor, &made, axis, self.alpha)),
            }
            tensor = made;
        }
        if self.input.element != DataType::Float {
            first.push(cast(&tensor, &self.input.name, self.input.element));
        }
        nodes.splice(0..0, first);
        if let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.elem_type = Some(DataType::Float.into());
            if let (false, Some(shape)) = (has_three, tensor.shape.as_mut()) {
                let channels = if self.input.layout == TensorLayout::Nchw { 1 } else { 3 };
                shape.dim[channels].value = Some(tensor_shape_proto::dimension::Value::DimValue(3));
            }
        }
        ValueInfoProto { name: Some(name), ..input }
    }
}

/// Whether a maximum is taken of a map that another node has padded.
fn pads_maxima(nodes: &[NodeProto]) -> bool {
    let is = |node: &NodeProto, operator: &str| node.op_type() == operator;
    let padded: HashSet<&String> =
        nodes.iter().filter(|node| is(node, "Pad")).flat_map(|node| &node.output).collect();
    nodes
        .iter()
        .any(|node| is(node, "MaxPool") && node.input.first().is_some_and(|input| padded.contains(input)))
}
