//! The inputs and outputs of the sessions of a cut network, and one run of a session.

use half::f16;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::super::device::Device;
use super::super::graph::proto::{NodeProto, tensor_proto::DataType};
use super::super::inference::is_float;
use super::super::layer::Layer;
use super::super::nodes::cast;
use super::super::pool::Pooling;
use super::super::profile::of_one_image;
use super::super::tap_output::TapOutput;
use super::super::tiles::TilePooling;
use super::{BackboneError, Tap};
use crate::images::TensorLayout;

/// The inputs and outputs of the sessions of a cut network.
#[derive(Debug, Clone)]
pub(super) struct SessionInterface {
    pub(super) network: String,
    pub(super) layout: TensorLayout,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) fixed_batch: Option<usize>,
    /// Whether the graph reads 16-bit floats. The images are rounded here, because the runtime would leave that out.
    pub(super) takes_half: bool,
    pub(super) taps: Vec<Tap>,
    /// The output of a session for each tap.
    pub(super) outputs: Vec<SessionOutput>,
}

/// A session's output for a tap: the tapped tensor, or its map pooled over tiles.
#[derive(Debug, Clone)]
pub(super) struct SessionOutput {
    pub(super) name: String,
    pub(super) tiles: Option<TilePooling>,
    /// Whether the tapped tensor holds 16-bit floats. The runtime has no 16-bit operations on the CPU and computes in 32-bit
    /// floats. It leaves out a rounding to 16 bits that is undone at once, such as the one before the output's conversion.
    is_half: bool,
    /// The nodes that make the output of the tapped tensor.
    pub(super) nodes: Vec<NodeProto>,
}

impl SessionOutput {
    /// The tapped tensor, as 32-bit floats. `index` tells the names of one tap from those of the others.
    pub(super) fn whole(layer: &Layer, element: Option<DataType>, index: usize) -> SessionOutput {
        let nodes = match element {
            Some(element) if element != DataType::Float && is_float(element) => {
                vec![cast(&layer.tensor, &format!("cnncodes/{index}/float"), DataType::Float)]
            }
            _ => Vec::new(),
        };
        let name = nodes.last().and_then(|node: &NodeProto| node.output.first()).unwrap_or(&layer.tensor);
        SessionOutput { name: name.clone(), tiles: None, is_half: element == Some(DataType::Float16), nodes }
    }

    /// This output, pooled over tiles.
    pub(super) fn reduced(self, layer: &Layer, tiles: TilePooling, index: usize) -> SessionOutput {
        let SessionOutput { name: whole, is_half, mut nodes, .. } = self;
        nodes.extend(tiles.nodes(&whole, layer.channels_last, &format!("cnncodes/{index}")));
        let name = nodes.last().and_then(|node| node.output.first());
        SessionOutput { name: name.unwrap_or(&layer.tensor).clone(), tiles: Some(tiles), is_half, nodes }
    }

    /// The output on `device`: providers for devices other than the CPU cannot pad maps on one side only.
    pub(super) fn on(&self, device: Device, whole: &SessionOutput) -> SessionOutput {
        match &self.tiles {
            Some(tiles) if device != Device::Cpu && tiles.overhang() => whole.clone(),
            _ => self.clone(),
        }
    }
}

impl SessionInterface {
    pub(super) fn image_len(&self) -> usize {
        3 * self.height * self.width
    }

    pub(super) fn run(&self, session: &mut Session, images: &[f32]) -> Result<Vec<TapOutput>, BackboneError> {
        assert_eq!(images.len() % self.image_len(), 0, "a batch holds whole images");
        let count = images.len() / self.image_len();
        match self.fixed_batch {
            Some(batch) if batch != count => self.run_in_fixed_batches(session, images, count, batch),
            _ => self.run_once(session, images, count),
        }
    }

    fn run_once(
        &self,
        session: &mut Session,
        images: &[f32],
        count: usize,
    ) -> Result<Vec<TapOutput>, BackboneError> {
        let shape = self.input_shape(count);
        let failed = |source: ort::Error| BackboneError::Run {
            network: self.network.clone(),
            images: count,
            source: source.into(),
        };
        let rounded = self.takes_half.then(|| rounded_to_half(images));
        let images = rounded.as_deref().unwrap_or(images);
        let input = TensorRef::from_array_view((shape, images)).map_err(failed)?;
        let mut outputs = session.run(ort::inputs![input]).map_err(failed)?;
        let mut all = Vec::with_capacity(self.taps.len());
        for (index, (tap, output)) in self.taps.iter().zip(&self.outputs).enumerate() {
            let not_returned = || self.not_features(tap, "the runtime did not return it".to_owned());
            let value = outputs.get(&output.name).ok_or_else(not_returned)?;
            let (shape, numbers) = value.try_extract_tensor::<f32>().map_err(failed)?;
            let width = match &output.tiles {
                Some(tiles) => tiles.width(),
                None => tap.activations.shape.iter().product(),
            };
            if numbers.len() != count * width {
                let reason = format!("{count} images gave the shape {shape:?}, not {count} rows of {width}");
                return Err(self.not_features(tap, reason));
            }
            if let Some(tiles) = &output.tiles {
                let mut pooled = Vec::new();
                tiles.finish(numbers, &mut pooled);
                all.push(pooled.into());
                continue;
            }
            let rounded = output.is_half.then(|| rounded_to_half(numbers));
            let numbers = rounded.as_deref().unwrap_or(numbers);
            let reordered = match (tap.layer.gives_channels_last(), &tap.activations.shape[..]) {
                (true, &[channels, height, width]) => Some(channels_first(numbers, channels, height * width)),
                _ => None,
            };
            let is_wanted_again = || self.outputs[index + 1..].iter().any(|other| other.name == output.name);
            all.push(match (tap.pooling, reordered) {
                (Pooling::None | Pooling::Flatten, Some(reordered)) => reordered.into(),
                (Pooling::None | Pooling::Flatten, None) if output.is_half || is_wanted_again() => {
                    numbers.to_vec().into()
                }
                (Pooling::None | Pooling::Flatten, None) => {
                    let value = outputs.remove(&output.name).ok_or_else(not_returned)?;
                    TapOutput::of_runtime(value.downcast().map_err(failed)?)
                }
                (pooling, reordered) => {
                    let mut pooled = Vec::new();
                    tap.activations.pool(pooling, reordered.as_deref().unwrap_or(numbers), &mut pooled);
                    pooled.into()
                }
            });
        }
        Ok(all)
    }

    /// Runs `count` images through a graph that takes exactly `batch` at a time.
    fn run_in_fixed_batches(
        &self,
        session: &mut Session,
        images: &[f32],
        count: usize,
        batch: usize,
    ) -> Result<Vec<TapOutput>, BackboneError> {
        let len = self.image_len();
        let widths: Vec<usize> = self.taps.iter().map(Tap::width).collect();
        let mut features: Vec<Vec<f32>> =
            widths.iter().map(|width| Vec::with_capacity(count * width)).collect();
        for chunk in images.chunks(batch * len) {
            let real = chunk.len() / len;
            let mut padded = Vec::new();
            let chunk = if real == batch {
                chunk
            } else {
                padded.extend_from_slice(chunk);
                padded.resize(batch * len, 0.0);
                &padded
            };
            let runs = self.run_once(session, chunk, batch)?;
            for ((features, width), rows) in features.iter_mut().zip(&widths).zip(runs) {
                features.extend_from_slice(&rows[..real * width]);
            }
        }
        Ok(features.into_iter().map(TapOutput::from).collect())
    }

    fn input_shape(&self, count: usize) -> [usize; 4] {
        match self.layout {
            TensorLayout::Nchw => [count, 3, self.height, self.width],
            TensorLayout::Nhwc => [count, self.height, self.width, 3],
        }
    }

    /// Learns what shape one image's activations have at each tap: from the runtime, where it could infer it, or else from
    /// running one black image.
    pub(super) fn learn_shapes(&self, session: &mut Session) -> Result<Vec<Vec<usize>>, BackboneError> {
        let count = self.fixed_batch.unwrap_or(1);
        let inferred: Option<Vec<Vec<usize>>> =
            self.outputs.iter().map(|output| inferred_shape(session, &output.name, count)).collect();
        let shapes = match inferred {
            Some(shapes) => shapes,
            None => self.dims_of_a_run(session, count)?.into_iter().collect::<Result<_, _>>()?,
        };
        let of_tap = |(tap, dims): (&Tap, Vec<usize>)| {
            of_one_image(&dims, count, &tap.layer).ok_or_else(|| {
                self.not_features(tap, format!("its shape {dims:?} does not have one row an image"))
            })
        };
        self.taps.iter().zip(shapes).map(of_tap).collect()
    }

    /// As [`learn_shapes`](Self::learn_shapes), always by a run; `None` for taps that cannot be features.
    pub(super) fn shapes_of_run(
        &self,
        session: &mut Session,
    ) -> Result<Vec<Option<Vec<usize>>>, BackboneError> {
        let count = self.fixed_batch.unwrap_or(1);
        let of_tap =
            |(tap, dims): (&Tap, Result<Vec<usize>, _>)| of_one_image(&dims.ok()?, count, &tap.layer);
        Ok(self.taps.iter().zip(self.dims_of_a_run(session, count)?).map(of_tap).collect())
    }

    fn not_features(&self, tap: &Tap, reason: String) -> BackboneError {
        BackboneError::NotFeatures { network: self.network.clone(), layer: tap.layer.name.clone(), reason }
    }

    /// The shapes that the taps have when `count` black images are run, each known or the reason why it is no features.
    fn dims_of_a_run(
        &self,
        session: &mut Session,
        count: usize,
    ) -> Result<Vec<Result<Vec<usize>, BackboneError>>, BackboneError> {
        let image = vec![0.0_f32; count * self.image_len()];
        let shape = self.input_shape(count);
        let failed = |source: ort::Error| BackboneError::Run {
            network: self.network.clone(),
            images: count,
            source: source.into(),
        };
        let input = TensorRef::from_array_view((shape, image.as_slice())).map_err(failed)?;
        let outputs = session.run(ort::inputs![input]).map_err(failed)?;
        let shape_of = |(tap, output): (&Tap, &SessionOutput)| {
            let value = outputs
                .get(&output.name)
                .ok_or_else(|| self.not_features(tap, "the runtime did not return it".to_owned()))?;
            let (shape, _) = value.try_extract_tensor::<f32>().map_err(|_| {
                self.not_features(tap, format!("it holds {}, not 32-bit floats", value.dtype()))
            })?;
            Ok(shape.iter().map(|&dim| dim.max(0) as usize).collect())
        };
        Ok(self.taps.iter().zip(&self.outputs).map(shape_of).collect())
    }
}

/// The shape that the runtime inferred for an output of `session` when `count` images are run. None where it does not know
/// all of it, or where the first dimension is not the one of the images.
fn inferred_shape(session: &Session, tensor: &str, count: usize) -> Option<Vec<usize>> {
    let tensor_type = |outlet: &Outlet| match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, dimension_symbols } => {
            Some((shape.to_vec(), dimension_symbols.first().cloned().unwrap_or_default()))
        }
        _ => None,
    };
    let (_, batch_symbol) = tensor_type(session.inputs().first()?)?;
    let output = session.outputs().iter().find(|output| output.name() == tensor)?;
    let (mut shape, symbol) = tensor_type(output)?;
    let first = shape.first_mut()?;
    if *first < 0 && !symbol.is_empty() && symbol == batch_symbol {
        *first = i64::try_from(count).ok()?;
    }
    shape.into_iter().map(|dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect()
}

/// The values rounded to 16-bit floats.
fn rounded_to_half(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().map(|&number| f16::from_f32(number).to_f32()).collect()
}

/// Rewrites rows of (pixels, channels) as (channels, pixels).
fn channels_first(rows: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    for (source, target) in rows.chunks(channels * pixels).zip(out.chunks_mut(channels * pixels)) {
        for (pixel, values) in source.chunks(channels).enumerate() {
            for (channel, &value) in values.iter().enumerate() {
                target[channel * pixels + pixel] = value;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::channels_first;

    #[test]
    fn channels_move_to_the_front_of_every_row() {
        // Two rows of two pixels with three channels.
        let rows = [1., 2., 3., 4., 5., 6., 11., 12., 13., 14., 15., 16.];
        assert_eq!(channels_first(&rows, 3, 2), [1., 4., 2., 5., 3., 6., 11., 14., 12., 15., 13., 16.]);
    }
}
