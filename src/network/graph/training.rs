//! Operations that make features depend on chance or on the other images of a batch.

use std::collections::HashSet;

use super::super::topology::int;
use super::proto::{NodeProto, tensor_proto::DataType};
use super::{Graph, GraphError};

/// Operations whose result is drawn.
const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"];

impl Graph {
    /// Why layers above some node are refused: it is in training mode. `None` for a network in evaluation mode.
    pub fn training_mode(&self) -> Option<GraphError> {
        self.refuse_training(&vec![true; self.nodes().len()]).err()
    }

    /// Makes sure that none of the `needed` nodes, index as in [`nodes`](Self::nodes), is in training mode.
    ///
    /// # Errors
    /// Batch normalisation uses the statistics of the batch, dropout drops, or an operation draws random numbers.
    pub(super) fn refuse_training(&self, needed: &[bool]) -> Result<(), GraphError> {
        let kept = self.nodes().iter().zip(needed).filter_map(|(node, &needed)| needed.then_some(node));
        for node in kept {
            let on = match node.op_type() {
                "BatchNormalization"
                    if self.uses_statistics_of_batch(node) && self.normalises_images(node) =>
                {
                    "the other images of the batch"
                }
                "Dropout" if self.drops(node) => "chance",
                operator if RANDOM.contains(&operator) => "chance",
                _ => continue,
            };
            let output = node.output.first().map_or("", String::as_str);
            return Err(GraphError::Training {
                path: self.path().to_path_buf(),
                node: if node.name().is_empty() { output } else { node.name() }.to_owned(),
                operator: node.op_type().to_owned(),
                on,
            });
        }
        Ok(())
    }

    /// Up to opset 13, batch normalisation in training mode is known by its other outputs, the new statistics.
    fn uses_statistics_of_batch(&self, node: &NodeProto) -> bool {
        int(node, "training_mode") == Some(1)
            || self.opset() < 14 && node.output.iter().skip(1).any(|output| !output.is_empty())
    }

    /// Whether what is normalised depends on the images. Networks with standardised weights normalise these in the same way.
    fn normalises_images(&self, node: &NodeProto) -> bool {
        let image = &self.input().name;
        let names = HashSet::from([image.clone()]);
        node.input.first().is_some_and(|input| input == image || self.reads(input, &names))
    }

    fn drops(&self, node: &NodeProto) -> bool {
        let constant = |at: usize| node.input.get(at).and_then(|name| self.constant(name));
        let trains = constant(2).is_some_and(|mode| {
            mode.data_type() == i32::from(DataType::Bool)
                && mode
                    .raw_data
                    .as_ref()
                    .map_or(mode.int32_data.first() == Some(&1), |bytes| bytes[..] == [1])
        });
        let never =
            constant(1).is_some_and(|ratio| self.floats(ratio.name()).is_some_and(|ratio| ratio == [0.0]));
        trains && !never
    }
}
