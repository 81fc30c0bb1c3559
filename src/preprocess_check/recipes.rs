//! The recipes that networks are trained with.

use crate::images::{
    ChannelOrder, Interpolation, Preprocess, PreprocessError, PreprocessOverrides, all_alike,
};

/// Levels as they are.
pub(super) const LEVELS: PreprocessOverrides = PreprocessOverrides {
    size: None,
    stretch: None,
    shorter_side: None,
    stretched: None,
    crop_offset: None,
    interpolation: None,
    channel_order: Some(ChannelOrder::Rgb),
    divisor: Some(1.0),
    mean: Some([0.0; 3]),
    std: Some([1.0; 3]),
    exif_orientation: None,
    dct_scaling: None,
};

/// Divisor, mean and deviation of red, green and blue.
const NORMALISATIONS: [(f64, [f64; 3], [f64; 3]); 6] = [
    // ImageNet's mean and deviation: torchvision, most of timm.
    (255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    // -1 to 1: TensorFlow's Inception and MobileNet, Google's ViT.
    (127.5, [1.0; 3], [1.0; 3]),
    // 0 to 1.
    (255.0, [0.0; 3], [1.0; 3]),
    // Levels: a graph that normalises itself.
    (1.0, [0.0; 3], [1.0; 3]),
    // Caffe's means: Keras's VGG and ResNet.
    (1.0, [123.68, 116.779, 103.939], [1.0; 3]),
    // CLIP's.
    (255.0, [0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]),
];

/// Recipes whose values differ by less of their range than this are one.
const ALIKE: f64 = 0.02;

/// `start`, if it is to be among them, and the plausible colours with its crop and filter. What is as good as equal to `start`
/// is left out then.
pub(super) fn colours(start: &Preprocess, is_chosen: bool) -> Result<Vec<Preprocess>, PreprocessError> {
    let mut recipes: Vec<Preprocess> = is_chosen.then(|| start.clone()).into_iter().collect();
    let orders: &[ChannelOrder] = match start.channel_order() {
        ChannelOrder::Grey => &[ChannelOrder::Grey],
        ChannelOrder::Rgb | ChannelOrder::Bgr => &[ChannelOrder::Rgb, ChannelOrder::Bgr],
    };
    for &order in orders {
        for (divisor, mean, std) in NORMALISATIONS {
            if order == ChannelOrder::Grey && !(all_alike(mean) && all_alike(std)) {
                continue;
            }
            let turned = |mut values: [f64; 3]| {
                if order == ChannelOrder::Bgr {
                    values.reverse();
                }
                Some(values)
            };
            let recipe = start.with(&PreprocessOverrides {
                channel_order: Some(order),
                divisor: Some(divisor),
                mean: turned(mean),
                std: turned(std),
                ..PreprocessOverrides::default()
            })?;
            let recipe = recipe.named();
            if recipes.iter().all(|known| !is_alike(known, &recipe)) {
                recipes.push(recipe);
            }
        }
    }
    Ok(recipes)
}

/// Whether two recipes of one crop and filter make the same of every colour, but for a small part of its range.
fn is_alike(a: &Preprocess, b: &Preprocess) -> bool {
    let close = |((scale_a, offset_a), (scale_b, offset_b)): ((f64, f64), (f64, f64))| {
        let range = 255.0 * scale_a.abs().min(scale_b.abs());
        let near = |x: f64, y: f64| (x - y).abs() <= ALIKE * range;
        near(offset_a, offset_b) && near(255.0 * scale_a + offset_a, 255.0 * scale_b + offset_b)
    };
    a.channel_order() == b.channel_order()
        && a.scale_and_offset().into_iter().zip(b.scale_and_offset()).all(close)
}

/// What to change for each crop and filter; the first leaves `start` as it is.
pub(super) fn geometries(start: &Preprocess) -> Result<Vec<PreprocessOverrides>, PreprocessError> {
    let (width, height) = start.size();
    let longest = width.max(height);
    let shorter_side = |side: u32| PreprocessOverrides { shorter_side: Some(side), ..Default::default() };
    let crops = [
        // 224 of 256, as torchvision and most others have it.
        shorter_side((f64::from(longest) * 256.0 / 224.0).round() as u32),
        shorter_side(longest),
        PreprocessOverrides { stretch: Some(true), ..Default::default() },
    ];
    let mut all = vec![PreprocessOverrides::default()];
    let mut known = vec![start.clone()];
    for crop in crops {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Nearest] {
            let change = PreprocessOverrides { interpolation: Some(interpolation), ..crop.clone() };
            let recipe = start.with(&change)?;
            if known.contains(&recipe) {
                continue;
            }
            known.push(recipe);
            all.push(change);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{Preset, Resize};

    fn preset(preset: Preset) -> Preprocess {
        Preprocess::preset(preset).unwrap()
    }

    #[test]
    fn the_chosen_recipe_stands_for_those_that_are_as_good_as_equal() {
        let lite = preset(Preset::Torchvision).with(&PreprocessOverrides {
            divisor: Some(128.0),
            mean: Some([127.0 / 128.0; 3]),
            std: Some([1.0; 3]),
            ..PreprocessOverrides::default()
        });
        let lite = lite.unwrap();
        let recipes = colours(&lite, true).unwrap();
        assert_eq!(recipes.len(), 12);
        assert_eq!(recipes[0], lite);
        assert!(!recipes.contains(&preset(Preset::Tf)));
        let recipes = colours(&lite, false).unwrap();
        assert!(recipes.contains(&preset(Preset::Tf)) && !recipes.contains(&lite));
        // Means move with their channels.
        let caffe = preset(Preset::KerasCaffe);
        let recipes = colours(&caffe, true).unwrap();
        assert_eq!(recipes.iter().filter(|recipe| **recipe == caffe).count(), 1);
        assert_eq!(recipes.len(), 12);
    }

    #[test]
    fn the_crops_and_filters_are_those_of_the_start_and_eight_others() {
        let start = preset(Preset::Torchvision);
        let all: Vec<Preprocess> =
            geometries(&start).unwrap().iter().map(|change| start.with(change).unwrap()).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(all[0], start);
        let resizes: Vec<Resize> = all.iter().step_by(3).map(Preprocess::resize).collect();
        assert_eq!(resizes, [Resize::ShorterSide(256), Resize::ShorterSide(224), Resize::Stretch]);
    }
}
