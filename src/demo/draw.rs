//! One picture of the demo: a subject somewhere on a background that tells nothing of its class.
//!
//! Colours, light, size, place, turn, clutter and noise come from the seed alone, and from the same distributions for
//! all four classes: only the shape tells them apart.

use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tiny_skia::{Color, PathBuilder, Transform};

use super::canvas::{Canvas, hsv};
use super::subjects;

/// Width of a demo picture in pixels.
pub const WIDTH: u32 = 160;
/// Height of a demo picture in pixels.
pub const HEIGHT: u32 = 120;

/// The names of the demo's classes, sorted, in the order of [`DemoClass::ALL`].
pub const CLASSES: [&str; 4] = ["fish", "flower", "house", "sailboat"];

/// What a demo picture shows. None of these is among the classes that the demo's network was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoClass {
    /// A fish.
    Fish,
    /// A flower.
    Flower,
    /// A house.
    House,
    /// A sailboat.
    Sailboat,
}

impl DemoClass {
    /// Every class, in the order of [`CLASSES`].
    pub const ALL: [DemoClass; 4] =
        [DemoClass::Fish, DemoClass::Flower, DemoClass::House, DemoClass::Sailboat];

    /// The class's name, which is also the name of its folder.
    pub fn name(self) -> &'static str {
        CLASSES[self as usize]
    }
}

/// Draws a picture of the class, [`WIDTH`] x [`HEIGHT`] pixels.
///
/// The same class and seed give the same picture on every run.
///
/// ```
/// use cnncodes::demo::{DemoClass, draw};
///
/// let fish = draw(DemoClass::Fish, 1);
/// assert_eq!(fish.dimensions(), (160, 120));
/// assert_eq!(fish, draw(DemoClass::Fish, 1));
/// ```
pub fn draw(class: DemoClass, seed: u64) -> RgbImage {
    // Different streams for different classes: the same seed does not give all four the same background.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ ((class as u64 + 1) << 56));
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let background = paint_background(&mut canvas, &mut rng);
    let colours = distinct_colours(&mut rng, &background);
    canvas.place(placement(&mut rng));
    match class {
        DemoClass::Fish => subjects::fish(&mut canvas, &colours, &mut rng),
        DemoClass::Flower => subjects::flower(&mut canvas, &colours, &mut rng),
        DemoClass::House => subjects::house(&mut canvas, &colours, &mut rng),
        DemoClass::Sailboat => subjects::sailboat(&mut canvas, &colours, &mut rng),
    }
    let mut picture = canvas.into_rgb();
    add_noise(&mut picture, &mut rng);
    picture
}

/// A sky, in two of three pictures ground with a curved edge, and up to seven small things that mean nothing.
/// Returns the two main colours.
fn paint_background(canvas: &mut Canvas, rng: &mut impl Rng) -> [Color; 2] {
    let (width, height) = (WIDTH as f32, HEIGHT as f32);
    let sky = hsv(rng.random(), rng.random_range(0.1..0.6), rng.random_range(0.45..0.98));
    let ground = hsv(rng.random(), rng.random_range(0.2..0.7), rng.random_range(0.25..0.85));
    let contrast = rng.random_range(0.0..0.3);
    canvas.backdrop(|outline| rectangle(outline, 0.0, 0.0, width, height), sky, contrast);
    if rng.random_bool(0.67) {
        let (left, right) = (rng.random_range(0.5..0.9) * height, rng.random_range(0.5..0.9) * height);
        let bulge = rng.random_range(-0.25..0.25) * height;
        canvas.backdrop(
            |outline| {
                outline.move_to(0.0, left);
                outline.quad_to(width / 2.0, (left + right) / 2.0 + bulge, width, right);
                outline.line_to(width, height);
                outline.line_to(0.0, height);
                outline.close();
            },
            ground,
            contrast / 2.0,
        );
    }
    for _ in 0..rng.random_range(0..8) {
        paint_clutter(canvas, rng);
    }
    [sky, ground]
}

/// A bubble, a pebble, a cloudlet or a tuft, anywhere.
fn paint_clutter(canvas: &mut Canvas, rng: &mut impl Rng) {
    let (x, y) = (rng.random_range(0.0..WIDTH as f32), rng.random_range(0.0..HEIGHT as f32));
    let size = rng.random_range(2.0..7.0);
    let colour = hsv(rng.random(), rng.random_range(0.0..0.6), rng.random_range(0.4..1.0));
    canvas.place(Transform::from_row(size, 0.0, 0.0, size, x, y));
    match rng.random_range(0..4) {
        0 => canvas.line(|outline| outline.push_circle(0.0, 0.0, 0.8), 0.25, colour),
        1 => canvas.ellipse(0.0, 0.0, 0.8, 0.5, colour),
        2 => {
            for (dx, dy, radius) in [(-1.0, 0.1, 0.6), (0.0, -0.2, 0.8), (1.0, 0.1, 0.65)] {
                canvas.ellipse(dx, dy, radius * 1.2, radius * 0.8, colour);
            }
        }
        _ => canvas.polygon(&[(-0.8, 0.7), (-0.5, -0.8), (0.0, 0.1), (0.4, -1.0), (0.8, 0.7)], colour),
    }
    canvas.place(Transform::identity());
}

fn rectangle(outline: &mut PathBuilder, left: f32, top: f32, right: f32, bottom: f32) {
    outline.move_to(left, top);
    outline.line_to(right, top);
    outline.line_to(right, bottom);
    outline.line_to(left, bottom);
    outline.close();
}

/// Four colours for the parts of a subject that stand off from the background and from each other.
fn distinct_colours(rng: &mut impl Rng, background: &[Color; 2]) -> [Color; 4] {
    let mut taken = background.to_vec();
    while taken.len() < background.len() + 4 {
        // A distance that shrinks with every try is met in the end.
        let mut required = 0.42;
        taken.push(loop {
            let colour = hsv(rng.random(), rng.random_range(0.35..0.95), rng.random_range(0.3..1.0));
            if taken.iter().all(|&other| distance(colour, other) > required) {
                break colour;
            }
            required *= 0.97;
        });
    }
    [taken[2], taken[3], taken[4], taken[5]]
}

/// Euclidean distance in RGB, each channel 0 to 1.
fn distance(a: Color, b: Color) -> f32 {
    let square = |difference: f32| difference * difference;
    (square(a.red() - b.red()) + square(a.green() - b.green()) + square(a.blue() - b.blue())).sqrt()
}

/// Where the subject's square from -1 to 1 comes to lie: a fifth to two fifths of the picture's height in half-width,
/// mirrored in half of the pictures, turned by up to 20 degrees, slightly out of proportion, wholly in view.
fn placement(rng: &mut impl Rng) -> Transform {
    let half = HEIGHT as f32 * rng.random_range(0.24..0.44);
    let (free_x, free_y) = (WIDTH as f32 / 2.0 - half, HEIGHT as f32 / 2.0 - half);
    let x = WIDTH as f32 / 2.0 + free_x * rng.random_range(-0.9..0.9);
    let y = HEIGHT as f32 / 2.0 + free_y * rng.random_range(-0.9..0.9);
    let mirrored = if rng.random_bool(0.5) { -1.0 } else { 1.0 };
    let (wide, high) = (half * rng.random_range(0.85..1.1), half * rng.random_range(0.85..1.1));
    Transform::from_row(wide * mirrored, 0.0, 0.0, high, x, y)
        .pre_concat(Transform::from_rotate(rng.random_range(-20.0..20.0)))
}

/// Adds noise of one standard deviation for the whole picture, 0 to 9 levels; the sum of four uniform numbers serves
/// as a normal one.
fn add_noise(picture: &mut RgbImage, rng: &mut impl Rng) {
    let deviation = rng.random_range(0.0..9.0_f32);
    for level in picture.iter_mut() {
        // Four uniform numbers on -1..1 have a standard deviation of sqrt(4/3).
        let sum: f32 = (0..4).map(|_| rng.random_range(-1.0..1.0_f32)).sum();
        let noisy = f32::from(*level) + deviation * sum / (4.0_f32 / 3.0).sqrt();
        *level = noisy.round().clamp(0.0, 255.0) as u8;
    }
}
