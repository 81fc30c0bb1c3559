//! A few strokes of the brush over `tiny-skia`: what the demo's pictures are painted with.
//!
//! Subjects are drawn in their own coordinates, a square from -1 to 1 with y pointing down; the canvas's placement
//! carries them into pixels.

use image::RgbImage;
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder, Pixmap,
    Point, Rect, SpreadMode, Stroke, Transform,
};

/// A picture in the making.
pub(super) struct Canvas {
    pixmap: Pixmap,
    placement: Transform,
}

impl Canvas {
    /// A black canvas of a fixed size in pixels, with pixel coordinates.
    pub(super) fn new(width: u32, height: u32) -> Canvas {
        let pixmap = Pixmap::new(width, height).expect("the demo's pictures have a size, and a small one");
        Canvas { pixmap, placement: Transform::identity() }
    }

    /// Draws what follows in coordinates that `placement` carries into pixels.
    pub(super) fn place(&mut self, placement: Transform) {
        self.placement = placement;
    }

    /// Draws what `brush` draws, turned clockwise about a point by an angle in degrees.
    pub(super) fn turned(&mut self, degrees: f32, x: f32, y: f32, brush: impl FnOnce(&mut Canvas)) {
        let before = self.placement;
        self.placement = before.pre_concat(Transform::from_rotate_at(degrees, x, y));
        brush(self);
        self.placement = before;
    }

    /// Fills a closed outline with a colour, lit from above: lighter at y = -1, darker at y = 1.
    pub(super) fn shape(&mut self, outline: impl FnOnce(&mut PathBuilder), colour: Color) {
        self.fill(path(outline), shaded(colour, 0.12, -1.0, 1.0));
    }

    /// Fills a polygon, lit from above.
    pub(super) fn polygon(&mut self, corners: &[(f32, f32)], colour: Color) {
        self.shape(
            |outline| {
                for (at, &(x, y)) in corners.iter().enumerate() {
                    if at == 0 { outline.move_to(x, y) } else { outline.line_to(x, y) }
                }
                outline.close();
            },
            colour,
        );
    }

    /// Fills an upright ellipse, lit from above.
    pub(super) fn ellipse(&mut self, x: f32, y: f32, rx: f32, ry: f32, colour: Color) {
        self.shape(|outline| outline.extend_oval(x, y, rx, ry), colour);
    }

    /// Draws a line with round ends, `width` thick.
    pub(super) fn line(&mut self, route: impl FnOnce(&mut PathBuilder), width: f32, colour: Color) {
        let Some(path) = path(route) else { return };
        let stroke =
            Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        let mut paint = Paint::default();
        paint.set_color(colour);
        self.pixmap.stroke_path(&path, &paint, &stroke, self.placement, None);
    }

    /// Fills an outline in pixels with a vertical gradient between the colour's lighter and darker shade.
    pub(super) fn backdrop(&mut self, outline: impl FnOnce(&mut PathBuilder), colour: Color, contrast: f32) {
        let bottom = self.pixmap.height() as f32;
        self.fill(path(outline), shaded(colour, contrast, 0.0, bottom));
    }

    fn fill(&mut self, path: Option<Path>, paint: Paint) {
        if let Some(path) = path {
            self.pixmap.fill_path(&path, &paint, FillRule::Winding, self.placement, None);
        }
    }

    /// The picture as RGB levels, alpha dropped: the canvas is opaque wherever a backdrop was painted.
    pub(super) fn into_rgb(self) -> RgbImage {
        let (width, height) = (self.pixmap.width(), self.pixmap.height());
        RgbImage::from_fn(width, height, |x, y| {
            let pixel = self.pixmap.pixels()[(y * width + x) as usize];
            image::Rgb([pixel.red(), pixel.green(), pixel.blue()])
        })
    }
}

/// An oval by centre and radii, as the subjects speak of it.
pub(super) trait ExtendOval {
    fn extend_oval(&mut self, x: f32, y: f32, rx: f32, ry: f32);
}

impl ExtendOval for PathBuilder {
    fn extend_oval(&mut self, x: f32, y: f32, rx: f32, ry: f32) {
        if let Some(bounds) = Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry) {
            self.push_oval(bounds);
        }
    }
}

/// None for an outline without extent, which leaves no mark.
fn path(outline: impl FnOnce(&mut PathBuilder)) -> Option<Path> {
    let mut builder = PathBuilder::new();
    outline(&mut builder);
    builder.finish()
}

fn shaded(colour: Color, contrast: f32, top: f32, bottom: f32) -> Paint<'static> {
    let stops = vec![
        GradientStop::new(0.0, mix(colour, Color::WHITE, contrast)),
        GradientStop::new(1.0, mix(colour, Color::BLACK, contrast)),
    ];
    let (start, end) = (Point::from_xy(0.0, top), Point::from_xy(0.0, bottom));
    let gradient = LinearGradient::new(start, end, stops, SpreadMode::Pad, Transform::identity())
        .expect("two stops, and ends that differ");
    Paint { shader: gradient, anti_alias: true, ..Paint::default() }
}

/// The colour, moved towards `other` by a share from 0 to 1; its own alpha stays.
pub(super) fn mix(colour: Color, other: Color, share: f32) -> Color {
    let between = |a: f32, b: f32| (a + (b - a) * share).clamp(0.0, 1.0);
    Color::from_rgba(
        between(colour.red(), other.red()),
        between(colour.green(), other.green()),
        between(colour.blue(), other.blue()),
        colour.alpha(),
    )
    .expect("every component is clamped to 0..1")
}

/// An opaque colour from hue (turns), saturation and value, each 0 to 1.
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Color {
    let component = |offset: f32| {
        let sector = (offset + hue.rem_euclid(1.0) * 6.0) % 6.0;
        (value * (1.0 - saturation * sector.min(4.0 - sector).clamp(0.0, 1.0))).clamp(0.0, 1.0)
    };
    Color::from_rgba(component(5.0), component(3.0), component(1.0), 1.0)
        .expect("every component is clamped to 0..1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsv_gives_the_primaries_and_greys() {
        let levels = |c: Color| {
            let c = c.to_color_u8();
            [c.red(), c.green(), c.blue()]
        };
        // Python: [round(255 * v) for v in colorsys.hsv_to_rgb(...)]
        assert_eq!(levels(hsv(0.0, 1.0, 1.0)), [255, 0, 0]);
        assert_eq!(levels(hsv(1.0 / 3.0, 1.0, 1.0)), [0, 255, 0]);
        assert_eq!(levels(hsv(0.6, 0.5, 0.8)), [102, 143, 204]);
        assert_eq!(levels(hsv(0.9, 0.0, 0.5)), [128, 128, 128]);
    }
}
