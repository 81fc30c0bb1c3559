//! The references are Pillow's and numpy's values, written by scripts/make_image_reference.py.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::images::{DecodeOptions, decode};

#[derive(Deserialize)]
struct Reference {
    resized: Vec<Case>,
    levels: BTreeMap<String, [Vec<f32>; 3]>,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    recipe: serde_json::Map<String, serde_json::Value>,
    expected: String,
}

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn reference() -> Reference {
    serde_json::from_str(&fs::read_to_string(tests_folder().join("reference/images.json")).unwrap()).unwrap()
}

fn fixture(name: &str) -> RgbImage {
    let bytes = fs::read(tests_folder().join("fixtures/images").join(name)).unwrap();
    decode(&bytes, &DecodeOptions::default()).unwrap()
}

fn preset(preset: Preset) -> Preprocess {
    Preprocess::preset(preset).unwrap()
}

fn overridden(base: Preset, change: impl FnOnce(&mut PreprocessOverrides)) -> Result<Preprocess, PreprocessError> {
    let mut overrides = PreprocessOverrides::default();
    change(&mut overrides);
    preset(base).with(&overrides)
}

/// The recipe that leaves 8-bit levels as they are.
fn levels_as_they_are(case: &Case) -> Preprocess {
    let mut fields = case.recipe.clone();
    let rest = serde_json::json!({
        "preset": "custom", "channel_order": "rgb", "divisor": 1, "mean": [0, 0, 0], "std": [1, 1, 1],
        "exif_orientation": true,
    });
    fields.extend(rest.as_object().unwrap().clone());
    serde_json::from_value(fields.into()).unwrap()
}

fn tensor(recipe: &Preprocess, image: &RgbImage, layout: Layout) -> Vec<f32> {
    let mut out = vec![f32::NAN; recipe.tensor_len()];
    recipe.apply(image, layout, &mut out).unwrap();
    out
}

#[test]
fn resized_pixels_are_pillows() {
    let cases = reference().resized;
    assert!(cases.len() > 20);
    for case in cases {
        let recipe = levels_as_they_are(&case);
        let found = tensor(&recipe, &fixture(&case.image), Layout::Nhwc);
        let path = tests_folder().join("reference/images").join(&case.expected);
        let expected = image::open(path).unwrap().into_rgb8();
        assert_eq!(expected.dimensions(), recipe.size());
        let far = |limit: f32| {
            found.iter().zip(expected.as_raw()).filter(|&(a, &b)| (a - f32::from(b)).abs() > limit).count()
        };
        let what = format!("{} {:?}", case.image, case.recipe);
        if recipe.interpolation() == Interpolation::Nearest {
            assert_eq!(far(0.0), 0, "{what}");
        } else {
            assert_eq!(far(1.0), 0, "{what}: {} of {} values differ", far(0.0), found.len());
        }
    }
}
