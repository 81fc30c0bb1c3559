//! Pictures that are unlike photos: classes that differ in the size of their grain and in nothing else.
//!
//! An object, a scene or a colour tells nothing here; large patches, colours, light and contrast are drawn from the same
//! distributions for all classes. What tells is a statistic of a few neighbouring pixels, which the early layers of a
//! network measure and its top layers have learned to overlook. Under a microscope, or on a photographed fabric, data
//! sets look like this.

use std::fs;
use std::path::Path;

use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::folder::DemoError;

/// The classes, from the finest grain to the coarsest, and the deviation in pixels of the Gaussian that made the grain
/// from white noise: the correlation of two pixels d apart is `exp(-d² / 4σ²)`.
pub const GRAINS: [(&str, f32); 4] =
    [("grain-1", 0.8), ("grain-2", 0.95), ("grain-3", 1.1), ("grain-4", 1.3)];

/// Draws a square picture of a class, an index into [`GRAINS`], `side` pixels wide. The same numbers give the same
/// picture on every run.
///
/// # Panics
/// There is no such class.
pub fn draw_texture(class: usize, side: u32, seed: u64) -> RgbImage {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ ((class as u64 + 1) << 56));
    let size = side as usize;
    let mut picture = layout(size, &mut rng);
    let grain = grain(size, GRAINS[class].1, &mut rng);
    let contrast = rng.random_range(4.0..16.0_f32);
    let noise = rng.random_range(0.0..2.0_f32);
    for (pixel, grain) in picture.iter_mut().zip(&grain) {
        let change = contrast * grain + noise * normal(&mut rng);
        pixel.iter_mut().for_each(|level| *level += change);
    }
    RgbImage::from_fn(side, side, |x, y| {
        image::Rgb(picture[y as usize * size + x as usize].map(|level| level.round().clamp(0.0, 255.0) as u8))
    })
}

/// Writes `root/CLASS/NNN.png` (JPEG would smooth the grain), `per_class` pictures of every class, `side` pixels wide.
///
/// # Errors
/// [`DemoError`] when a folder or a file cannot be written.
pub fn write_textures(root: &Path, per_class: usize, side: u32, seed: u64) -> Result<(), DemoError> {
    for (class, (name, _)) in GRAINS.iter().enumerate() {
        let folder = root.join(name);
        fs::create_dir_all(&folder).map_err(|source| DemoError::Folder { path: folder.clone(), source })?;
        for number in 1..=per_class as u64 {
            let path = folder.join(format!("{number:03}.png"));
            draw_texture(class, side, seed.wrapping_add(number)).save(&path).map_err(|error| {
                DemoError::Picture { path: path.clone(), source: std::io::Error::other(error) }
            })?;
        }
    }
    Ok(())
}

/// Colour that varies slowly over the picture, with up to nine ellipses of other colours.
fn layout(size: usize, rng: &mut impl Rng) -> Vec<[f32; 3]> {
    let mut picture = vec![[0.0; 3]; size * size];
    for channel in 0..3 {
        let (level, range) = (rng.random_range(60.0..190.0_f32), rng.random_range(5.0..25.0_f32));
        let slow = slow_field(size, rng);
        picture.iter_mut().zip(slow).for_each(|(pixel, slow)| pixel[channel] = level + range * slow);
    }
    for _ in 0..rng.random_range(3..10) {
        let extent = size as f32;
        let (x, y) = (rng.random_range(0.0..extent), rng.random_range(0.0..extent));
        let (a, b) = (rng.random_range(0.04..0.35) * extent, rng.random_range(0.04..0.35) * extent);
        let (sin, cos) = rng.random_range(0.0..std::f32::consts::PI).sin_cos();
        let colour: [f32; 3] = std::array::from_fn(|_| rng.random_range(40.0..210.0));
        for (at, pixel) in picture.iter_mut().enumerate() {
            let (dx, dy) = ((at % size) as f32 - x, (at / size) as f32 - y);
            let (along, across) = ((dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b);
            if along * along + across * across < 1.0 {
                pixel.iter_mut().zip(colour).for_each(|(level, colour)| *level = 0.3 * *level + 0.7 * colour);
            }
        }
    }
    picture
}

/// Values of about -2 to 2 that change over a quarter of the picture: bilinear between 5 x 5 random ones.
fn slow_field(size: usize, rng: &mut impl Rng) -> Vec<f32> {
    const CELLS: usize = 4;
    let corners: [[f32; CELLS + 1]; CELLS + 1] =
        std::array::from_fn(|_| std::array::from_fn(|_| normal(rng)));
    let place = |at: usize| {
        let position = at as f32 / size as f32 * CELLS as f32;
        (position as usize, position.fract())
    };
    (0..size * size)
        .map(|at| {
            let ((row, down), (column, right)) = (place(at / size), place(at % size));
            let between = |values: &[f32]| values[column] * (1.0 - right) + values[column + 1] * right;
            between(&corners[row]) * (1.0 - down) + between(&corners[row + 1]) * down
        })
        .collect()
}

/// White noise smoothed by a Gaussian of deviation `sigma` pixels, the picture's edges joined; mean 0, deviation 1.
fn grain(size: usize, sigma: f32, rng: &mut impl Rng) -> Vec<f32> {
    let reach = (4.0 * sigma).ceil() as usize;
    let weights: Vec<f32> = (0..=reach).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
    let mut field: Vec<f32> = (0..size * size).map(|_| normal(rng)).collect();
    // Each pass smooths along rows and turns the field over its diagonal.
    for _ in 0..2 {
        let mut turned = vec![0.0; field.len()];
        for row in 0..size {
            let values = &field[row * size..][..size];
            for column in 0..size {
                let mut sum = weights[0] * values[column];
                for (d, weight) in weights.iter().enumerate().skip(1) {
                    sum += weight * (values[(column + d) % size] + values[(column + d * size - d) % size]);
                }
                turned[column * size + row] = sum;
            }
        }
        field = turned;
    }
    let count = field.len() as f32;
    let mean = field.iter().sum::<f32>() / count;
    let deviation = (field.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count).sqrt();
    field.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
    field
}

/// A number of mean 0 and deviation 1; the sum of four uniform ones serves as a normal one.
fn normal(rng: &mut impl Rng) -> f32 {
    // Four uniform numbers on -1..1 have a standard deviation of sqrt(4/3).
    (0..4).map(|_| rng.random_range(-1.0..1.0_f32)).sum::<f32>() / (4.0_f32 / 3.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grain_has_the_correlation_that_its_deviation_says() {
        let size = 256;
        for (_, sigma) in GRAINS {
            let field = grain(size, sigma, &mut Xoshiro256PlusPlus::seed_from_u64(7));
            for distance in [1, 2] {
                let along: f32 = (0..size * size)
                    .map(|at| field[at] * field[at / size * size + (at % size + distance) % size])
                    .sum::<f32>()
                    / (size * size) as f32;
                let expected = (-((distance * distance) as f32) / (4.0 * sigma * sigma)).exp();
                assert!((along - expected).abs() < 0.03, "{sigma} at {distance}: {along}, not {expected}");
            }
        }
    }

    #[test]
    fn the_seed_and_the_class_decide_the_picture() {
        assert_eq!(draw_texture(1, 32, 5), draw_texture(1, 32, 5));
        assert_ne!(draw_texture(1, 32, 5), draw_texture(1, 32, 6));
        assert_ne!(draw_texture(1, 32, 5), draw_texture(2, 32, 5));
        assert_eq!(draw_texture(3, 32, 5).dimensions(), (32, 32));
    }

    #[test]
    fn colour_and_contrast_say_nothing_about_the_class() {
        // Mean level and deviation, averaged over pictures, are alike in the finest and the coarsest class.
        let figures = |class: usize| -> (f64, f64) {
            let pictures: Vec<(f64, f64)> = (0..60)
                .map(|seed| {
                    let levels: Vec<f64> =
                        draw_texture(class, 48, seed).iter().map(|&x| f64::from(x)).collect();
                    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
                    let square = levels.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / levels.len() as f64;
                    (mean, square.sqrt())
                })
                .collect();
            let average = |of: fn(&(f64, f64)) -> f64| pictures.iter().map(of).sum::<f64>() / 60.0;
            (average(|p| p.0), average(|p| p.1))
        };
        let ((mean, deviation), (coarse_mean, coarse_deviation)) = (figures(0), figures(3));
        assert!((mean - coarse_mean).abs() < 12.0, "{mean} and {coarse_mean}");
        assert!((deviation - coarse_deviation).abs() < 6.0, "{deviation} and {coarse_deviation}");
    }
}
