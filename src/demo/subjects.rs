//! The four subjects of the demo's pictures, each drawn within the square from -1 to 1, y down, in four colours.

use rand::Rng;
use tiny_skia::{Color, PathBuilder};

use super::canvas::{Canvas, mix};

const DARK: f32 = 0.75;

/// A fish that looks to the right: body, tail and fins, an eye, up to three bands.
pub(super) fn fish(canvas: &mut Canvas, colours: &[Color; 4], rng: &mut impl Rng) {
    let [body, fins, bands, _] = *colours;
    let depth = rng.random_range(0.38..0.6);
    canvas.polygon(&[(-0.5, 0.0), (-1.0, -0.5), (-0.86, 0.0), (-1.0, 0.5)], fins);
    canvas.shape(
        |fin| {
            fin.move_to(-0.35, -depth * 0.6);
            fin.quad_to(-0.2, -depth - 0.35, 0.4, -depth * 0.65);
            fin.close();
        },
        fins,
    );
    canvas.polygon(&[(-0.1, depth * 0.7), (-0.35, depth + 0.22), (0.2, depth * 0.7)], fins);
    canvas.shape(
        |outline| {
            outline.move_to(-0.7, 0.0);
            outline.cubic_to(-0.3, -depth * 1.3, 0.55, -depth * 1.4, 0.98, 0.02);
            outline.cubic_to(0.55, depth * 1.4, -0.3, depth * 1.3, -0.7, 0.0);
            outline.close();
        },
        body,
    );
    let stripes = rng.random_range(0..4);
    for stripe in 0..stripes {
        let x = -0.3 + 0.26 * stripe as f32;
        let reach = depth * (0.62 + 0.13 * stripe as f32);
        canvas.line(|band| arc(band, (x, -reach), (x + 0.14, 0.0), (x, reach)), 0.1, bands);
    }
    canvas.shape(
        |fin| {
            fin.move_to(0.22, 0.08);
            fin.quad_to(-0.12, 0.1, -0.14, 0.36);
            fin.quad_to(0.14, 0.36, 0.22, 0.08);
        },
        fins,
    );
    canvas.ellipse(0.62, -0.12, 0.12, 0.12, Color::WHITE);
    canvas.ellipse(0.64, -0.12, 0.06, 0.06, Color::BLACK);
    canvas.line(
        |mouth| arc(mouth, (0.94, 0.1), (0.86, 0.17), (0.76, 0.16)),
        0.05,
        mix(body, Color::BLACK, DARK),
    );
}

/// A flower: a bent stem with one or two leaves, five to nine petals, a seeded heart.
pub(super) fn flower(canvas: &mut Canvas, colours: &[Color; 4], rng: &mut impl Rng) {
    let [petals, heart, green, _] = *colours;
    let bend = rng.random_range(-0.25..0.25);
    let y = -0.38;
    canvas.line(|stem| arc(stem, (0.0, y), (bend, 0.4), (0.0, 1.0)), 0.1, green);
    for side in if rng.random_bool(0.6) { &[-1.0, 1.0][..] } else { &[1.0][..] } {
        let root = rng.random_range(0.5..0.8);
        canvas.shape(
            |leaf| {
                leaf.move_to(bend * 0.4, root);
                leaf.quad_to(side * 0.15, root - 0.4, side * 0.62, root - 0.32);
                leaf.quad_to(side * 0.5, root + 0.05, bend * 0.4, root);
            },
            green,
        );
    }
    let count = rng.random_range(5..10);
    let (length, width) = (rng.random_range(0.26..0.32), 0.9 / count as f32 + rng.random_range(0.02..0.06));
    let start = rng.random_range(0.0..360.0);
    for petal in 0..count {
        // Neighbours in two shades, so that petals that touch can be told apart.
        let shade = if petal % 2 == 0 { petals } else { mix(petals, Color::WHITE, 0.22) };
        canvas.turned(start + petal as f32 * 360.0 / count as f32, 0.0, y, |canvas| {
            canvas.ellipse(0.0, y - length, width, length, shade);
        });
    }
    let radius = rng.random_range(0.16..0.24);
    canvas.ellipse(0.0, y, radius, radius, heart);
    let seed = mix(heart, Color::BLACK, DARK / 2.0);
    for angle in [0.3_f32, 1.6, 2.9, 4.1, 5.3] {
        canvas.ellipse(radius * 0.55 * angle.cos(), y + radius * 0.55 * angle.sin(), 0.03, 0.03, seed);
    }
}

/// A house: walls, a gable or hipped roof, a door, two windows, mostly a chimney.
pub(super) fn house(canvas: &mut Canvas, colours: &[Color; 4], rng: &mut impl Rng) {
    let [walls, roof, door, glass] = *colours;
    let (half, eaves) = (rng.random_range(0.62..0.85), rng.random_range(-0.25..0.05));
    let ridge = if rng.random_bool(0.6) { 0.0 } else { half * 0.5 };
    if rng.random_bool(0.75) {
        let x = half * 0.45;
        canvas.polygon(&[(x, -0.95), (x + 0.2, -0.95), (x + 0.2, eaves), (x, eaves)], mix(roof, walls, 0.5));
    }
    canvas.polygon(&[(-half, eaves - 0.02), (half, eaves - 0.02), (half, 0.95), (-half, 0.95)], walls);
    let overhang = half + 0.13;
    canvas.polygon(&[(-overhang, eaves), (-ridge, -0.9), (ridge, -0.9), (overhang, eaves)], roof);
    let frame = mix(walls, Color::WHITE, 0.7);
    let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let windows = if rng.random_bool(0.5) {
        canvas.polygon(&[(-0.14, 0.4), (0.14, 0.4), (0.14, 0.95), (-0.14, 0.95)], door);
        canvas.ellipse(0.08, 0.68, 0.03, 0.03, frame);
        [-half * 0.6, half * 0.6]
    } else {
        let x = -side * half * 0.58;
        canvas.polygon(&[(x - 0.15, 0.38), (x + 0.15, 0.38), (x + 0.15, 0.95), (x - 0.15, 0.95)], door);
        canvas.ellipse(x + 0.09, 0.68, 0.03, 0.03, frame);
        [0.0, side * half * 0.62]
    };
    let (size, y) = (rng.random_range(0.13..0.18), 0.38);
    for x in windows {
        let pane = [(x - size, y - size), (x + size, y - size), (x + size, y + size), (x - size, y + size)];
        canvas.polygon(&pane, glass);
        canvas.line(
            |bars| {
                bars.move_to(x, y - size);
                bars.line_to(x, y + size);
                bars.move_to(x - size, y);
                bars.line_to(x + size, y);
                bars.move_to(pane[0].0, pane[0].1);
                for corner in &pane[1..] {
                    bars.line_to(corner.0, corner.1);
                }
                bars.close();
            },
            0.05,
            frame,
        );
    }
}

/// A sailboat: a hull with a stripe, a mast with a pennant, a mainsail and mostly a jib.
pub(super) fn sailboat(canvas: &mut Canvas, colours: &[Color; 4], rng: &mut impl Rng) {
    let [hull, sail, jib, pennant] = *colours;
    let (mast, deck) = (rng.random_range(-0.15..0.15), 0.5);
    let top = rng.random_range(-0.95..-0.75);
    canvas.line(
        |pole| {
            pole.move_to(mast, top - 0.02);
            pole.line_to(mast, deck);
        },
        0.06,
        mix(hull, Color::BLACK, DARK),
    );
    canvas.polygon(&[(mast, top), (mast - 0.3, top + 0.08), (mast, top + 0.18)], pennant);
    let belly = rng.random_range(0.05..0.3);
    canvas.shape(
        |outline| {
            outline.move_to(mast + 0.05, top + 0.12);
            outline.quad_to(mast + 0.4 + belly, -0.1, mast + 0.75, deck - 0.14);
            outline.line_to(mast + 0.05, deck - 0.14);
            outline.close();
        },
        sail,
    );
    if rng.random_bool(0.75) {
        canvas.shape(
            |outline| {
                outline.move_to(mast - 0.05, top + 0.3);
                outline.line_to(mast - 0.05, deck - 0.12);
                outline.line_to(-0.8, deck - 0.08);
                outline.quad_to(mast - 0.3 - belly / 2.0, 0.0, mast - 0.05, top + 0.3);
            },
            jib,
        );
    }
    let keel = rng.random_range(0.85..0.98);
    canvas.shape(
        |outline| {
            outline.move_to(-0.98, deck - 0.06);
            outline.line_to(0.92, deck);
            outline.quad_to(0.8, keel, 0.55, keel);
            outline.line_to(-0.5, keel);
            outline.quad_to(-0.8, keel, -0.98, deck - 0.06);
        },
        hull,
    );
    canvas.line(
        |stripe| {
            stripe.move_to(-0.8, deck + 0.1);
            stripe.line_to(0.8, deck + 0.12);
        },
        0.06,
        mix(hull, Color::WHITE, 0.7),
    );
}

fn arc(route: &mut PathBuilder, from: (f32, f32), by: (f32, f32), to: (f32, f32)) {
    route.move_to(from.0, from.1);
    route.quad_to(by.0, by.1, to.0, to.1);
}
