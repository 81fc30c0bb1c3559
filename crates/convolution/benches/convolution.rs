//! The speed of each layer on one core: `cargo bench -p cnncodes-convolution`.
//!
//! Throughput is in multiply-adds of the plain sums, whichever way they are computed: two of them a FLOP of the usual tables, and
//! more of them than a processor has are what Winograd's filtering saves. Whole networks are measured beside other programs by
//! `scripts/bench/extract`.

use std::time::Duration;

use cnncodes_convolution::{
    Activation, Conv, Depthwise, Direct, LayerOp, Parallel, Scratch, SimdIsa, Window, Winograd,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Images a run.
const IMAGES: usize = 2;

struct OneThread;

impl Parallel for OneThread {
    fn threads(&self) -> usize {
        1
    }

    fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// Numbers between -0.5 and 0.5.
fn numbers(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Runs of a convolution of `channels` to `outputs` channels on maps of `side` x `side`, with so many taps a filter.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    [channels, outputs, side, taps]: [usize; 4],
    make: impl Fn(SimdIsa, &[f32], &[f32]) -> Conv,
) {
    let Some(isa) = SimdIsa::detect() else { return };
    let conv = make(isa, &numbers(outputs * taps), &numbers(outputs));
    let op = LayerOp::Conv(conv);
    let shape = [IMAGES, isa.blocks(channels), side, side, isa.lanes()];
    let of_output = op.output(&shape).expect("the maps fit the layer");
    let input = numbers(shape.iter().product());
    let mut output = vec![0.0; of_output.iter().product()];
    let scratch = Scratch::default();
    let multiplies = IMAGES * outputs * taps * of_output[2] * of_output[3];
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(multiplies as u64));
    group.bench_function(
        BenchmarkId::from_parameter(format!("{channels} to {outputs}, {side} x {side}")),
        |bencher| {
            bencher.iter(|| op.run((&input, &shape), None, &mut output, &scratch, &OneThread));
        },
    );
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    let same = Window { kernel: [3, 3], stride: 1, pads: [1; 4] };
    let point = Window { kernel: [1, 1], stride: 1, pads: [0; 4] };
    for [channels, outputs, side] in
        [[64, 64, 224], [128, 128, 112], [256, 256, 56], [512, 512, 28], [256, 256, 14]]
    {
        let sizes = [channels, outputs, side, channels * 9];
        measure(criterion, "3x3 by Winograd's filtering", sizes, |isa, filters, bias| {
            Conv::Winograd(Winograd::new(isa, filters, bias, same, Activation::RELU))
        });
        measure(criterion, "3x3 by plain sums", sizes, |isa, filters, bias| {
            Conv::Direct(Direct::new(isa, filters, bias, same, false, Activation::RELU))
        });
    }
    for [channels, outputs, side] in [[64, 256, 56], [512, 128, 28], [2048, 512, 7]] {
        measure(criterion, "1x1", [channels, outputs, side, channels], |isa, filters, bias| {
            Conv::Direct(Direct::new(isa, filters, bias, point, false, Activation::RELU))
        });
    }
    measure(criterion, "depthwise 3x3", [96, 96, 112, 9], |isa, filters, bias| {
        Conv::Depthwise(Depthwise::new(isa, filters, bias, same, Activation::RELU))
    });
}

criterion_group! {
    name = convolution;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(1));
    targets = layers
}
criterion_main!(convolution);
