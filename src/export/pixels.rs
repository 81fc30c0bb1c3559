//! From the pixels of an image of any size to the network's input tensor, in ONNX's own operators: the numbers are those of
//! [`Preprocess::apply`], bit for bit, and so Pillow's.
//!
//! Pillow resizes in 8-bit levels with weights of 22 fractional bits, one side after the other, and rounds to levels in between
//! (`src/images/resample.rs` has the formulas). Here the weights of each output pixel are computed in float64 from the size of
//! the image, and rounded as Pillow rounds them. A pass gathers for each output pixel the lines that it is made of, and weighs
//! them: a weight's three bytes are three rows of a matrix of 8-bit numbers, so that the product ([`MatMulInteger`]) is exact in
//! 32-bit integers. That costs as much as the pixels that a filter reaches; a dense product of float64 weights with the whole
//! image, the obvious way, takes five times as long for photos of 300 x 275 and the eightfold memory.
//!
//! Only the lines that the crop is made of are read. Memory is some three times the image's bytes with the bilinear filter, five
//! with the bicubic one and seven with Lanczos's.
//!
//! [`MatMulInteger`]: https://onnx.ai/onnx/operators/onnx__MatMulInteger.html

mod filter;

use self::filter::{GraphFilter, bicubic, bilinear, lanczos, pass};
use super::builder::{GraphBuilder, GraphDim, graph};
use crate::images::GREY_WEIGHTS;
use crate::images::{ChannelOrder, CropOffset, Interpolation, Preprocess, Resize, TensorLayout};
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::nodes::int;

/// Adds the nodes that make the network's input tensor, a batch of one image in `layout`, of the image in the tensor `image`:
/// uint8, H x W x 3, RGB.
pub(super) fn tensor_of_image(
    b: &mut GraphBuilder,
    image: &str,
    preprocess: &Preprocess,
    layout: TensorLayout,
) -> String {
    let levels = resized(b, image, preprocess);
    normalised(b, &levels, preprocess, layout)
}

/// One side of the image: its pixels, those that it is resized to, where the crop begins and how many it keeps. All but the last
/// are names of whole numbers.
struct ResizedSide {
    source: String,
    resized: String,
    offset: String,
    length: i64,
}

/// The pixels of the crop: uint8, height x width x 3.
fn resized(b: &mut GraphBuilder, image: &str, preprocess: &Preprocess) -> String {
    let [across, down] = sides(b, image, preprocess);
    let (width, height) = (across.length, down.length);
    let filter = match preprocess.interpolation() {
        Interpolation::Nearest => return nearest(b, image, &across, &down),
        Interpolation::Bilinear => GraphFilter { support: 1.0, weigh: bilinear },
        Interpolation::Bicubic => GraphFilter { support: 2.0, weigh: bicubic },
        Interpolation::Lanczos => GraphFilter { support: 3.0, weigh: lanczos },
    };
    let vertical_first = is_vertical_first(b, &across, &down);
    let (of_columns, of_rows) = (filter.weights(b, &across), filter.weights(b, &down));
    let wanted =
        |b: &mut GraphBuilder, end: usize| b.concat(&[&of_rows.reach[end], &of_columns.reach[end]], 0);
    let (from, to, axes) = (wanted(b, 0), wanted(b, 1), b.longs(&[0, 1]));
    let image = b.op("Slice", &[image, &from, &to, &axes]);
    let shape = [GraphDim::Open("rows"), GraphDim::Open("columns"), GraphDim::Fixed(3)];
    let down_first = b.branch("vertical_first", (DataType::Uint8, &shape), |b| {
        let rows = pass(b, &image, &of_rows, height);
        let turned = b.transpose(&rows, &[1, 0, 2]);
        let columns = pass(b, &turned, &of_columns, width);
        b.transpose(&columns, &[1, 0, 2])
    });
    let across_first = b.branch("horizontal_first", (DataType::Uint8, &shape), |b| {
        let turned = b.transpose(&image, &[1, 0, 2]);
        let columns = pass(b, &turned, &of_columns, width);
        let turned = b.transpose(&columns, &[1, 0, 2]);
        pass(b, &turned, &of_rows, height)
    });
    let branches = vec![graph("then_branch", down_first), graph("else_branch", across_first)];
    let levels = b.op_with("If", &[&vertical_first], branches);
    b.reshape(&levels, &[height, width, 3])
}

fn sides(b: &mut GraphBuilder, image: &str, preprocess: &Preprocess) -> [ResizedSide; 2] {
    let shape = b.op("Shape", &[image]);
    let [width, height] = [1, 0].map(|dimension| {
        let dimension = b.long(dimension);
        b.gather(&shape, &dimension, 0)
    });
    let (out_width, out_height) = preprocess.size();
    let sources = [(width.clone(), out_width), (height.clone(), out_height)];
    let fixed = |b: &mut GraphBuilder, resized: [u32; 2]| {
        let mut resized = resized.into_iter();
        sources.clone().map(|(source, length)| {
            let resized = resized.next().unwrap_or(length);
            let offset = half(i64::from(resized.saturating_sub(length)), preprocess.crop_offset());
            ResizedSide {
                source,
                resized: b.long(resized.into()),
                offset: b.long(offset),
                length: length.into(),
            }
        })
    };
    match preprocess.resize() {
        Resize::Stretch => fixed(b, [out_width, out_height]),
        Resize::StretchThenCrop(width, height) => fixed(b, [width, height]),
        Resize::ShorterSide(shorter) => {
            let shorter = b.long(shorter.into());
            let short = b.op("Min", &[&width, &height]);
            sources.map(|(source, length)| {
                // torchvision: the longer side becomes int(size * long / short).
                let product = b.op("Mul", &[&source, &shorter]);
                let resized = b.op("Div", &[&product, &short]);
                let length = i64::from(length);
                let kept = b.long(length);
                let margin = b.op("Sub", &[&resized, &kept]);
                let offset = half_of(b, &margin, preprocess.crop_offset());
                ResizedSide { source, resized, offset, length }
            })
        }
    }
}

/// Half of `margin`, as the crop rounds it.
fn half(margin: i64, rounding: CropOffset) -> i64 {
    let half = margin / 2;
    match rounding {
        CropOffset::HalfEven => half + (margin % 2) * (half % 2),
        CropOffset::Floor => half,
    }
}

/// As [`half`], of a number that is known when the graph runs.
fn half_of(b: &mut GraphBuilder, margin: &str, rounding: CropOffset) -> String {
    let two = b.long(2);
    let half = b.op("Div", &[margin, &two]);
    match rounding {
        CropOffset::Floor => half,
        CropOffset::HalfEven => {
            let odd = b.op("Mod", &[margin, &two]);
            let half_is_odd = b.op("Mod", &[&half, &two]);
            let up = b.op("Mul", &[&odd, &half_is_odd]);
            b.op("Add", &[&half, &up])
        }
    }
}

/// Whether Pillow takes the vertical pass first: where the height loses more than twice as many pixels as the width.
fn is_vertical_first(b: &mut GraphBuilder, across: &ResizedSide, down: &ResizedSide) -> String {
    let lost_across = b.op("Sub", &[&across.source, &across.resized]);
    let lost_down = b.op("Sub", &[&down.source, &down.resized]);
    let (zero, two) = (b.long(0), b.long(2));
    let twice = b.op("Mul", &[&lost_across, &two]);
    let shrinks = b.op("Greater", &[&lost_down, &zero]);
    let more = b.op("Greater", &[&lost_down, &twice]);
    b.op("And", &[&shrinks, &more])
}

/// Source pixels in one resized pixel.
fn scale(b: &mut GraphBuilder, side: &ResizedSide) -> String {
    let source = b.cast(&side.source, DataType::Double);
    let resized = b.cast(&side.resized, DataType::Double);
    b.op("Div", &[&source, &resized])
}

/// The pixel under the centre of each output pixel. Pillow steps from centre to centre by addition, whose rounding decides ties,
/// and so does a cumulative sum.
fn nearest(b: &mut GraphBuilder, image: &str, across: &ResizedSide, down: &ResizedSide) -> String {
    let [columns, rows] = [across, down].map(|side| {
        let scale = scale(b, side);
        let half = b.double(0.5);
        let first = b.op("Mul", &[&scale, &half]);
        let first = b.unsqueeze(&first, &[0]);
        let steps_after = b.long(side.length - 1);
        let steps = b.op("Add", &[&side.offset, &steps_after]);
        let steps = b.unsqueeze(&steps, &[0]);
        let steps = b.op("Expand", &[&scale, &steps]);
        let steps = b.concat(&[&first, &steps], 0);
        let axis = b.long(0);
        let centres = b.op("CumSum", &[&steps, &axis]);
        let from = b.unsqueeze(&side.offset, &[0]);
        let (length, axes) = (b.longs(&[side.length]), b.longs(&[0]));
        let to = b.op("Add", &[&from, &length]);
        let centres = b.op("Slice", &[&centres, &from, &to, &axes]);
        let pixels = b.cast(&centres, DataType::Int64);
        let one = b.long(1);
        let last = b.op("Sub", &[&side.source, &one]);
        b.op("Min", &[&pixels, &last])
    });
    let rows = b.gather(image, &rows, 0);
    let levels = b.gather(&rows, &columns, 1);
    b.reshape(&levels, &[down.length, across.length, 3])
}

/// `(level / divisor - mean) / std` in float32, in this order, as [`Preprocess::apply`] computes it.
fn normalised(b: &mut GraphBuilder, levels: &str, preprocess: &Preprocess, layout: TensorLayout) -> String {
    let (width, height) = preprocess.size();
    let (width, height) = (i64::from(width), i64::from(height));
    let (levels, dims, shape, axis) = match layout {
        TensorLayout::Nchw => (b.transpose(levels, &[2, 0, 1]), [3, 1, 1], [1, 3, height, width], 0),
        TensorLayout::Nhwc => (levels.to_owned(), [1, 1, 3], [1, height, width, 3], 2),
    };
    let levels = match preprocess.channel_order() {
        ChannelOrder::Rgb => levels,
        ChannelOrder::Bgr => {
            let order = b.longs(&[2, 1, 0]);
            b.op_with("Gather", &[&levels, &order], vec![int("axis", axis)])
        }
        ChannelOrder::Grey => grey(b, &levels, axis),
    };
    let mut values = b.cast(&levels, DataType::Float);
    let (divisor, mean, std) = preprocess.normalisation();
    if divisor != 1.0 {
        let divisor = b.float(divisor as f32);
        values = b.op("Div", &[&values, &divisor]);
    }
    if mean != [0.0; 3] {
        let mean = b.floats(&dims, &mean.map(|mean| mean as f32));
        values = b.op("Sub", &[&values, &mean]);
    }
    if std != [1.0; 3] {
        let std = b.floats(&dims, &std.map(|std| std as f32));
        values = b.op("Div", &[&values, &std]);
    }
    b.reshape(&values, &shape)
}

/// The grey level three times: `(19595 R + 38470 G + 7471 B + 32768) >> 16`, which float64 holds exactly.
fn grey(b: &mut GraphBuilder, levels: &str, axis: i64) -> String {
    let levels = b.cast(levels, DataType::Double);
    let mut weighted = b.double(32768.0);
    for (channel, weight) in GREY_WEIGHTS.into_iter().enumerate() {
        let (index, weight) = (b.longs(&[channel as i64]), b.double(weight.into()));
        let one = b.op_with("Gather", &[&levels, &index], vec![int("axis", axis)]);
        let product = b.op("Mul", &[&one, &weight]);
        weighted = b.op("Add", &[&weighted, &product]);
    }
    let share = b.double(1.0 / 65536.0);
    let level = b.op("Mul", &[&weighted, &share]);
    let level = b.op("Floor", &[&level]);
    b.op_with("Concat", &[&level, &level, &level], vec![int("axis", axis)])
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::export::builder::value_info;
    use crate::images::{PreprocessOverrides, Preset};
    use crate::network::graph::proto::{GraphProto, ModelProto, OperatorSetIdProto};
    use crate::network::testing::run_on_image;

    fn model(recipe: &Preprocess, layout: TensorLayout, opset: i64) -> ModelProto {
        let mut b = GraphBuilder::new(opset);
        b.enter("pixels");
        let tensor = tensor_of_image(&mut b, "image", recipe, layout);
        let dims = [GraphDim::Open("height"), GraphDim::Open("width"), GraphDim::Fixed(3)];
        let graph = GraphProto {
            name: Some("pixels".to_owned()),
            input: vec![value_info("image", DataType::Uint8, &dims)],
            output: vec![value_info(&tensor, DataType::Float, &[1, 0, 0, 0].map(|_| GraphDim::Open("any")))],
            node: b.nodes,
            initializer: b.initializers,
            ..Default::default()
        };
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
            graph: Some(graph),
            ..Default::default()
        }
    }

    /// The recipe's own tensor and the graph's, for noise of each size: width, height.
    fn assert_equal(recipe: &Preprocess, layout: TensorLayout, opset: i64, sizes: &[(u32, u32)]) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let model = model(recipe, layout, opset);
        for &(width, height) in sizes {
            let pixels: Vec<u8> = (0..3 * width * height).map(|_| rng.random()).collect();
            let found = run_on_image(&model, [height as usize, width as usize], &pixels);
            let mut expected = vec![0.0; recipe.tensor_len()];
            let image = RgbImage::from_raw(width, height, pixels).unwrap();
            recipe.apply(&image, layout, &mut expected).unwrap();
            let differing = expected.iter().zip(&found).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!((differing, found.len()), (0, expected.len()), "{width} x {height}: {recipe:?}");
        }
    }

    fn recipes() -> Vec<Preprocess> {
        let torchvision = Preprocess::preset(Preset::Torchvision).unwrap();
        let small = PreprocessOverrides { size: Some((37, 29)), ..Default::default() };
        let mut recipes = Vec::new();
        for &interpolation in Interpolation::ALL {
            for resize in [
                PreprocessOverrides { shorter_side: Some(42), ..Default::default() },
                PreprocessOverrides { stretch: Some(true), ..Default::default() },
                PreprocessOverrides {
                    stretched: Some((50, 44)),
                    crop_offset: Some(CropOffset::Floor),
                    channel_order: Some(ChannelOrder::Bgr),
                    ..Default::default()
                },
                PreprocessOverrides {
                    shorter_side: Some(43),
                    crop_offset: Some(CropOffset::Floor),
                    ..Default::default()
                },
            ] {
                let resize = PreprocessOverrides { interpolation: Some(interpolation), ..resize };
                recipes.push(torchvision.with(&small).unwrap().with(&resize).unwrap());
            }
        }
        let grey = PreprocessOverrides { channel_order: Some(ChannelOrder::Grey), ..small };
        recipes.push(Preprocess::preset(Preset::Tf).unwrap().with(&grey).unwrap());
        recipes
    }

    #[test]
    fn the_tensor_is_the_programs_own_for_every_recipe_and_shape() {
        // Wide, high, more than twice as high, kept as it is, smaller than the tensor, a line, a pixel.
        let sizes =
            [(97, 131), (131, 97), (42, 42), (37, 29), (33, 170), (40, 95), (17, 23), (90, 1), (1, 1)];
        for recipe in recipes() {
            for layout in [TensorLayout::Nchw, TensorLayout::Nhwc] {
                assert_equal(&recipe, layout, 17, &sizes);
            }
        }
    }

    #[test]
    fn the_weights_of_many_sizes_round_as_the_programs_do() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let sizes: Vec<(u32, u32)> =
            (0..40).map(|_| (rng.random_range(1..700), rng.random_range(1..500))).collect();
        for recipe in recipes() {
            assert_equal(&recipe, TensorLayout::Nchw, 18, &sizes);
        }
    }

    #[test]
    fn halves_round_as_the_crop_does() {
        let halves = |rounding| [0, 1, 2, 3, 5, 7, 8].map(|margin| half(margin, rounding));
        assert_eq!(halves(CropOffset::HalfEven), [0, 0, 1, 2, 2, 4, 4]);
        assert_eq!(halves(CropOffset::Floor), [0, 0, 1, 1, 2, 3, 4]);
    }
}
