//! Every layer against plain sums in float64, for every kind of registers that this processor has.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::*;

/// All threads of the machine, or one.
struct TestThreads(usize);

impl Parallel for TestThreads {
    fn threads(&self) -> usize {
        self.0
    }

    fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.0 == 1 {
            (0..count).for_each(task);
        } else {
            (0..count).into_par_iter().for_each(task);
        }
    }
}

/// A convolution, and maps to convolve.
struct Case {
    images: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
    size: [usize; 2],
    window: Window,
    activation: Activation,
    with_residual: bool,
}

/// Numbers as activations are: about half of them 0.
fn maps(random: &mut impl Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0_f32).max(0.0)).collect()
}

fn numbers(random: &mut impl Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

impl Case {
    fn output_size(&self) -> [usize; 2] {
        self.window.output(self.size[0], self.size[1]).unwrap()
    }

    /// Plain sums in float64, before the activation.
    fn sums(&self, input: &[f32], filters: &[f32], bias: &[f32], residual: Option<&[f32]>) -> Vec<f64> {
        let [h, w] = self.size;
        let [oh, ow] = self.output_size();
        let [kh, kw] = self.window.kernel;
        let [top, left, ..] = self.window.pads;
        let (of_group, outputs_of_group) = (self.inputs / self.groups, self.outputs / self.groups);
        let mut out = Vec::new();
        for image in 0..self.images {
            for output in 0..self.outputs {
                for y in 0..oh {
                    for x in 0..ow {
                        let mut sum = f64::from(bias[output]);
                        for c in 0..of_group {
                            let input_channel = output / outputs_of_group * of_group + c;
                            for ky in 0..kh {
                                for kx in 0..kw {
                                    let iy = (y * self.window.stride + ky).wrapping_sub(top);
                                    let ix = (x * self.window.stride + kx).wrapping_sub(left);
                                    if iy < h && ix < w {
                                        let at = ((image * self.inputs + input_channel) * h + iy) * w + ix;
                                        let weight = filters[((output * of_group + c) * kh + ky) * kw + kx];
                                        sum += f64::from(input[at]) * f64::from(weight);
                                    }
                                }
                            }
                        }
                        if let Some(residual) = residual {
                            sum += f64::from(residual[out.len()]);
                        }
                        out.push(sum);
                    }
                }
            }
        }
        out
    }

    /// The largest error of `conv` as a share of the largest sum.
    fn error(
        &self,
        isa: SimdIsa,
        planes: bool,
        threads: usize,
        conv: impl Fn(&[f32], &[f32]) -> Conv,
    ) -> f64 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let [h, w] = self.size;
        let [oh, ow] = self.output_size();
        let [kh, kw] = self.window.kernel;
        let input = maps(&mut random, self.images * self.inputs * h * w);
        let filters = numbers(&mut random, self.outputs * (self.inputs / self.groups) * kh * kw);
        let bias = numbers(&mut random, self.outputs);
        let residual = self.with_residual.then(|| numbers(&mut random, self.images * self.outputs * oh * ow));
        let op = LayerOp::Conv(conv(&filters, &bias));
        let scratch = Scratch::default();
        let parallel = TestThreads(threads);
        let run = |op: &LayerOp, input: LayerInput<'_>, second: Option<LayerInput<'_>>| {
            let shape = op.output(input.1).unwrap();
            // Anything that was in this memory before.
            let mut out = vec![f32::NAN; shape.iter().product()];
            op.run(input, second, &mut out, &scratch, &parallel).unwrap();
            (out, shape)
        };
        let packed = |numbers: &[f32], channels: usize, [h, w]: [usize; 2]| {
            run(&LayerOp::Pack { isa, channels }, (numbers, &[self.images, channels, h, w]), None)
        };
        let residual_blocked = residual.as_deref().map(|numbers| packed(numbers, self.outputs, [oh, ow]));
        let second = residual_blocked.as_ref().map(|(numbers, shape)| (&numbers[..], &shape[..]));
        let (blocked, shape) = if planes {
            run(&op, (&input, &[self.images, self.inputs, h, w]), second)
        } else {
            let (input, shape) = packed(&input, self.inputs, self.size);
            run(&op, (&input, &shape), second)
        };
        let (got, shape) = run(&LayerOp::Unpack { isa, channels: self.outputs }, (&blocked, &shape), None);
        assert_eq!(shape, [self.images, self.outputs, oh, ow]);
        let sums = self.sums(&input, &filters, &bias, residual.as_deref());
        let largest = sums.iter().fold(0.0, |most: f64, sum| most.max(sum.abs()));
        let [least, most] = [self.activation.least, self.activation.most].map(f64::from);
        let errors =
            got.iter().zip(&sums).map(|(&got, sum)| (f64::from(got) - sum.max(least).min(most)).abs());
        errors.fold(0.0, |most: f64, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
            / largest
    }

    fn check_direct(&self, planes: bool, limit: f64) {
        for isa in SimdIsa::all() {
            for threads in [1, 3] {
                let error = self.error(isa, planes, threads, |filters, bias| {
                    Conv::Direct(Direct::new(isa, filters, bias, self.window, planes, self.activation))
                });
                assert!(error < limit, "{} lanes, {:?}: {error:e}", isa.lanes(), self.window);
            }
        }
    }

    fn check_winograd(&self, limit: f64) {
        for isa in SimdIsa::all() {
            for threads in [1, 3] {
                let error = self.error(isa, false, threads, |filters, bias| {
                    Conv::Winograd(Winograd::new(isa, filters, bias, self.window, self.activation))
                });
                assert!(error < limit, "{} lanes, {:?}: {error:e}", isa.lanes(), self.size);
            }
        }
    }
}

const SAME: Window = Window { kernel: [3, 3], stride: 1, pads: [1; 4] };
const POINT: Window = Window { kernel: [1, 1], stride: 1, pads: [0; 4] };

/// Three images of 20 channels, to 24 with ReLU.
const CASE: Case = Case {
    images: 3,
    inputs: 20,
    outputs: 24,
    groups: 1,
    size: [13, 10],
    window: SAME,
    activation: Activation::RELU,
    with_residual: false,
};

#[test]
fn winograd_is_as_exact_as_plain_sums_in_float32() {
    // Of 128 channels, plain sums in float32 err by 9e-7 of the largest; ±1 and ±2 as points would by 7e-6.
    Case { images: 1, inputs: 128, outputs: 64, size: [14, 11], ..CASE }.check_winograd(1.5e-6);
}

#[test]
fn winograd_takes_every_size_and_padding() {
    for size in [[3, 3], [4, 4], [5, 8], [7, 7], [13, 10], [33, 17]] {
        Case { size, ..CASE }.check_winograd(2e-6);
    }
    for pads in [[0; 4], [1, 0, 0, 1], [2; 4], [0, 2, 1, 0]] {
        Case { window: Window { pads, ..SAME }, activation: Activation::NONE, ..CASE }.check_winograd(2e-6);
    }
    // One output in all, of a map that is smaller than a tile.
    Case { size: [1, 1], ..CASE }.check_winograd(2e-6);
}

#[test]
fn outputs_are_divided_among_threads_where_tiles_are_few() {
    for isa in SimdIsa::all() {
        let (inputs, outputs) = (20, 11 * isa.lanes() - 1);
        let filters: Vec<f32> = (0..inputs * outputs * 9).map(|at| (at as f32 * 0.7).sin()).collect();
        let bias: Vec<f32> = (0..outputs).map(|at| at as f32 / 10.0).collect();
        let conv = Winograd::new(isa, &filters, &bias, SAME, Activation::RELU);
        // Of 6 panels, the last of them narrow: all to each thread, one or two to each, and one.
        assert_eq!([1, 4, 50].map(|threads| conv.split(4, threads).panels), [6, 2, 1]);
        // Where there are many, threads take their own.
        assert_eq!(conv.split(10_000, 4).panels, 6);
        let op = LayerOp::Conv(Conv::Winograd(conv));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let shape = [1, isa.blocks(inputs), 7, 7, isa.lanes()];
        let input = maps(&mut random, shape.iter().product());
        let by_one = run(&op, (&input, &shape), None);
        for threads in [2, 4, 50] {
            let mut out = vec![f32::NAN; by_one.len()];
            op.run((&input, &shape), None, &mut out, &Scratch::default(), &TestThreads(threads)).unwrap();
            assert_eq!(out, by_one, "{threads} threads");
        }
    }
    // With and without residuals, against plain sums.
    for with_residual in [true, false] {
        let case = Case { inputs: 40, outputs: 180, size: [7, 7], images: 1, with_residual, ..CASE };
        for isa in SimdIsa::all() {
            let error = case.error(isa, false, 8, |filters, bias| {
                Conv::Winograd(Winograd::new(isa, filters, bias, SAME, case.activation))
            });
            assert!(error < 2e-6, "{} lanes: {error:e}", isa.lanes());
        }
    }
}

#[test]
fn winograd_fills_panels_and_blocks_that_channels_do_not() {
    for (inputs, outputs) in [(1, 1), (16, 48), (33, 17), (40, 100)] {
        Case { inputs, outputs, with_residual: true, ..CASE }.check_winograd(2e-6);
    }
}

#[test]
fn plain_sums_of_every_window_and_stride() {
    let windows = [
        POINT,
        Window { stride: 2, ..POINT },
        Window { stride: 3, ..POINT },
        Window { stride: 2, ..SAME },
        Window { kernel: [5, 5], stride: 1, pads: [2; 4] },
        Window { kernel: [1, 7], stride: 1, pads: [0, 3, 0, 3] },
        Window { kernel: [3, 3], stride: 2, pads: [0, 0, 1, 1] },
        Window { kernel: [4, 3], stride: 3, pads: [0; 4] },
    ];
    for window in windows {
        Case { window, with_residual: true, ..CASE }.check_direct(false, 1e-6);
        Case { window, activation: Activation { least: -0.5, most: 1.0 }, ..CASE }.check_direct(false, 1e-6);
    }
    Case { window: POINT, images: 2, inputs: 300, outputs: 70, size: [29, 31], ..CASE }
        .check_direct(false, 1e-6);
}

#[test]
fn an_image_is_read_in_planes() {
    for (inputs, kernel, stride, pads) in [
        (3, [7, 7], 2, [3; 4]),
        (3, [3, 3], 1, [1; 4]),
        (3, [3, 3], 2, [0, 0, 1, 1]),
        (1, [5, 5], 1, [2; 4]),
        (4, [11, 11], 4, [2; 4]),
    ] {
        let window = Window { kernel, stride, pads };
        Case { inputs, size: [37, 30], window, ..CASE }.check_direct(true, 1e-6);
    }
}

#[test]
fn single_channels_with_filters_of_their_own() {
    for (kernel, stride, pads) in
        [([3, 3], 1, [1; 4]), ([3, 3], 2, [0, 0, 1, 1]), ([5, 5], 1, [2; 4]), ([3, 3], 2, [1; 4])]
    {
        let window = Window { kernel, stride, pads };
        let case = Case {
            inputs: 24,
            outputs: 24,
            groups: 24,
            window,
            activation: Activation { least: 0.0, most: 6.0 },
            with_residual: true,
            ..CASE
        };
        for isa in SimdIsa::all() {
            let error = case.error(isa, false, 2, |filters, bias| {
                Conv::Depthwise(Depthwise::new(isa, filters, bias, window, case.activation))
            });
            assert!(error < 1e-6, "{} lanes, {window:?}: {error:e}", isa.lanes());
        }
    }
}

/// Two images of one block of channels, 3 x 4 pixels: lane l of pixel p of image i holds 100 i + 10 p + l, times the sign.
fn blocked_maps(lanes: usize, sign: f32) -> (Vec<f32>, [usize; 5]) {
    let value = |index: usize| {
        let (image, pixel, lane) = (index / (12 * lanes), index / lanes % 12, index % lanes);
        sign * (100 * image + 10 * pixel + lane) as f32
    };
    ((0..2 * 12 * lanes).map(value).collect(), [2, 1, 3, 4, lanes])
}

fn run(op: &LayerOp, input: LayerInput<'_>, second: Option<LayerInput<'_>>) -> Vec<f32> {
    let mut out = vec![f32::NAN; op.output(input.1).unwrap().iter().product()];
    op.run(input, second, &mut out, &Scratch::default(), &TestThreads(2)).unwrap();
    out
}

#[test]
fn pooling_takes_the_largest_and_never_padding() {
    for isa in SimdIsa::all() {
        let lanes = isa.lanes();
        let pool = LayerOp::MaxPool(MaxPool::new(isa, Window { kernel: [3, 3], stride: 2, pads: [1; 4] }));
        let largest = |pixels: [usize; 4], sign: f32| -> Vec<f32> {
            let value = |index: usize| {
                let (image, pixel, lane) = (index / (4 * lanes), index / lanes % 4, index % lanes);
                sign * (100 * image + 10 * pixels[pixel] + lane) as f32
            };
            (0..2 * 4 * lanes).map(value).collect()
        };
        let (maps, shape) = blocked_maps(lanes, 1.0);
        assert_eq!(run(&pool, (&maps, &shape), None), largest([5, 7, 9, 11], 1.0));
        let (maps, shape) = blocked_maps(lanes, -1.0);
        assert_eq!(run(&pool, (&maps, &shape), None), largest([0, 1, 4, 5], -1.0));
    }
}

#[test]
fn means_and_sums() {
    for isa in SimdIsa::all() {
        let lanes = isa.lanes();
        let (maps, shape) = blocked_maps(lanes, 1.0);
        let mean = LayerOp::GlobalAverage { isa, channels: 3 };
        assert_eq!(run(&mean, (&maps, &shape), None), [55.0, 56.0, 57.0, 155.0, 156.0, 157.0]);
        let (negative, _) = blocked_maps(lanes, -2.0);
        let sum = LayerOp::Sum { activation: Activation { least: -13.0, most: 0.0 } };
        let expected: Vec<f32> = maps.iter().map(|&value| (-value).max(-13.0)).collect();
        assert_eq!(run(&sum, (&maps, &shape), Some((&negative, &shape))), expected);
    }
}

#[test]
fn nan_goes_through_every_layer() {
    let isa = SimdIsa::all()[0];
    let window = Window { kernel: [3, 3], stride: 2, pads: [1; 4] };
    let input = vec![f32::NAN; 16 * isa.lanes()];
    let shape = [1, 1, 4, 4, isa.lanes()];
    let (filters, bias) = (vec![1.0; 9], [0.0]);
    let ops = [
        LayerOp::Conv(Conv::Winograd(Winograd::new(isa, &filters, &bias, SAME, Activation::RELU))),
        LayerOp::Conv(Conv::Direct(Direct::new(isa, &filters, &bias, window, false, Activation::RELU))),
        LayerOp::Conv(Conv::Depthwise(Depthwise::new(isa, &filters, &bias, window, Activation::RELU))),
        LayerOp::MaxPool(MaxPool::new(isa, window)),
        LayerOp::GlobalAverage { isa, channels: 1 },
    ];
    for op in ops {
        assert!(run(&op, (&input, &shape), None)[0].is_nan(), "{op:?}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let isa = SimdIsa::all()[0];
    let lanes = isa.lanes();
    let conv = LayerOp::Conv(Conv::Winograd(Winograd::new(isa, &[0.0; 18], &[0.0], SAME, Activation::NONE)));
    assert_eq!(conv.output(&[5, 1, 6, 7, lanes]), Ok(vec![5, 1, 6, 7, lanes]));
    for shape in [&[5, 2, 6, 7, lanes][..], &[5, 1, 6, 7, lanes + 1], &[5, 2, 6, 7]] {
        let error = conv.output(shape).unwrap_err().to_string();
        assert!(error.contains(&format!("{shape:?} do not fit a convolution")), "{error}");
    }
    let small = Window { kernel: [3, 3], stride: 1, pads: [0; 4] };
    assert!(LayerOp::MaxPool(MaxPool::new(isa, small)).output(&[1, 1, 2, 9, lanes]).is_err());
    let numbers = vec![0.0; 2 * lanes];
    let sum = LayerOp::Sum { activation: Activation::NONE };
    let mut out = vec![0.0; lanes];
    let inputs = ((&numbers[..lanes], &[1, 1, 1, 1, lanes][..]), (&numbers[..], &[1, 1, 1, 2, lanes][..]));
    let result = sum.run(inputs.0, Some(inputs.1), &mut out, &Scratch::default(), &TestThreads(1));
    assert_eq!(result, Err(LayerError::Shape { layer: "sum", shape: vec![1, 1, 1, 2, lanes] }));
}

#[test]
fn a_chain_is_its_layers_one_after_another() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    for isa in SimdIsa::all() {
        let mut conv = |channels: usize| {
            let (filters, bias) =
                (numbers(&mut random, channels * channels * 9), numbers(&mut random, channels));
            LayerOp::Conv(Conv::Winograd(Winograd::new(isa, &filters, &bias, SAME, Activation::RELU)))
        };
        let [a, pool, b] =
            [conv(20), LayerOp::MaxPool(MaxPool::new(isa, Window { stride: 2, ..SAME })), conv(20)];
        let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
        let shape = [3, isa.blocks(20), 13, 9, isa.lanes()];
        let small = [3, shape[1], 7, 5, shape[4]];
        let input = maps(&mut random, shape.iter().product());
        let added = maps(&mut random, small.iter().product());
        let between = run(&pool, (&run(&a, (&input, &shape), None), &shape), None);
        let expected = run(&b, (&between, &small), Some((&added, &small)));
        let chain = LayerOp::Chain(vec![a, pool, b]);
        assert_eq!(chain.output(&shape).unwrap(), small);
        assert_eq!(run(&chain, (&input, &shape), Some((&added, &small))), expected);
    }
}
