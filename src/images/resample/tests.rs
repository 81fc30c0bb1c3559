use image::{DynamicImage, Rgb, RgbImage};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

const ORIENTATIONS: [Orientation; 8] = [
    Orientation::NoTransforms,
    Orientation::FlipHorizontal,
    Orientation::Rotate180,
    Orientation::FlipVertical,
    Orientation::Rotate90FlipH,
    Orientation::Rotate90,
    Orientation::Rotate270FlipH,
    Orientation::Rotate270,
];

fn noise(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    // Extreme levels overshoot with the filters that have negative weights.
    RgbImage::from_fn(width, height, |_, _| {
        Rgb(std::array::from_fn(|_| if rng.random() { rng.random() } else { 255 * rng.random_range(0..=1) }))
    })
}

/// The resized image of `stored`, upright.
fn resampled(
    instructions: Instructions,
    stored: &RgbImage,
    orientation: Orientation,
    geometry: CropGeometry,
    interpolation: Interpolation,
) -> RgbImage {
    let source = StoredImage::whole(stored.dimensions(), orientation);
    let mut resampler = Resampler::with(instructions, source, stored.dimensions(), geometry, interpolation);
    let columns = resampler.columns();
    let mut out = RgbImage::from_pixel(geometry.size.0, geometry.size.1, Rgb([77; 3]));
    for index in resampler.rows() {
        // No padding: the row ends where its columns do.
        let row = &stored.as_raw()[3 * index * stored.width() as usize..][3 * columns.start..3 * columns.end];
        resampler.push(index, row, |line| {
            for (place, &pixel) in (0..).zip(line.pixels.as_chunks::<3>().0) {
                let index = line.index as u32;
                let (x, y) = if line.is_column { (index, place) } else { (place, index) };
                out.put_pixel(x, y, Rgb(pixel));
            }
        });
    }
    out
}

fn interpolations() -> impl Strategy<Value = Interpolation> {
    prop::sample::select(Interpolation::ALL)
}

fn geometries(width: u32, height: u32) -> impl Strategy<Value = CropGeometry> {
    (1..width, 1..height).prop_flat_map(|size| {
        let (width, height) = size;
        let longest = width.max(height);
        let resize = prop_oneof![
            Just(Resize::Stretch),
            (longest..longest + 40).prop_map(Resize::ShorterSide),
            (width..width + 40, height..height + 40).prop_map(|(x, y)| Resize::StretchThenCrop(x, y)),
        ];
        (resize, prop::sample::select(CropOffset::ALL)).prop_map(move |(resize, crop_offset)| CropGeometry {
            size,
            resize,
            crop_offset,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_fast_loops_give_the_levels_of_the_plain_ones(
        geometry in geometries(80, 60),
        (width, height) in (1..300_u32, 1..200_u32),
        interpolation in interpolations(),
        seed: u64,
    ) {
        let image = noise(width, height, seed);
        let with = |instructions| {
            resampled(instructions, &image, Orientation::NoTransforms, geometry, interpolation)
        };
        for &instructions in Instructions::ALL {
            prop_assert!(!instructions.are_there() || with(instructions) == with(Instructions::Portable));
        }
    }

    #[test]
    fn turning_on_the_way_is_turning_before(
        geometry in geometries(40, 40),
        (width, height) in (1..120_u32, 1..120_u32),
        interpolation in interpolations(),
        orientation in prop::sample::select(&ORIENTATIONS[..]),
        seed: u64,
    ) {
        let stored = noise(width, height, seed);
        let mut upright = DynamicImage::ImageRgb8(stored.clone());
        upright.apply_orientation(orientation);
        let before = resampled(
            Instructions::best(), &upright.into_rgb8(), Orientation::NoTransforms, geometry, interpolation,
        );
        let on_the_way = resampled(Instructions::best(), &stored, orientation, geometry, interpolation);
        prop_assert!(on_the_way == before);
    }
}

#[test]
fn the_fast_loops_are_tested_where_there_are_any() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        assert_ne!(Instructions::best(), Instructions::Portable);
        assert!(Instructions::best().are_there());
        return;
    }
    assert_eq!(Instructions::best(), Instructions::Portable);
}

#[test]
fn a_reduced_photo_keeps_its_place() {
    // A ramp over 803 columns, and its reduction to an eighth: 101 columns, the last of which stands for three.
    let ramp = |width: u32, step: f64, centre: f64| {
        RgbImage::from_fn(width, 40, |x, _| Rgb([((f64::from(x) + centre) * step).round() as u8; 3]))
    };
    let whole = ramp(803, 0.3, 0.0);
    let reduced = ramp(101, 2.4, 0.4375);
    let geometry =
        CropGeometry { size: (30, 10), resize: Resize::Stretch, crop_offset: CropOffset::HalfEven };
    let expected =
        resampled(Instructions::best(), &whole, Orientation::NoTransforms, geometry, Interpolation::Bilinear);
    let source =
        StoredImage { size: (101, 40), extent: (803.0 / 8.0, 40.0), orientation: Orientation::NoTransforms };
    let mut resampler = Resampler::new(source, (803, 40), geometry, Interpolation::Bilinear);
    let mut lines = 0;
    for index in resampler.rows() {
        resampler.push(index, &reduced.as_raw()[3 * 101 * index..][..3 * 101], |line| {
            lines += 1;
            let row = expected.rows().nth(line.index).unwrap();
            for (pixel, expected) in line.pixels.as_chunks::<3>().0.iter().zip(row) {
                assert!(pixel[0].abs_diff(expected.0[0]) <= 1, "{pixel:?} for {expected:?}");
            }
        });
    }
    assert_eq!(lines, 10);
}
