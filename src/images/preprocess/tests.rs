//! The references are Pillow's and numpy's values, written by scripts/reference/make_image_reference.py.

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

fn overridden(
    base: Preset,
    change: impl FnOnce(&mut PreprocessOverrides),
) -> Result<Preprocess, PreprocessError> {
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

fn tensor(recipe: &Preprocess, image: &RgbImage, layout: TensorLayout) -> Vec<f32> {
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
        let found = tensor(&recipe, &fixture(&case.image), TensorLayout::Nhwc);
        let path = tests_folder().join("reference/images").join(&case.expected);
        let expected = image::open(path).unwrap().into_rgb8();
        assert_eq!(expected.dimensions(), recipe.size());
        let different = found.iter().zip(expected.as_raw()).filter(|&(&a, &b)| a != f32::from(b)).count();
        assert_eq!(different, 0, "{} {:?}: of {} values", case.image, case.recipe, found.len());
    }
}

#[test]
fn levels_are_normalised_as_the_frameworks_do_it() {
    let levels = reference().levels;
    assert_eq!(levels.len(), 3);
    for (name, expected) in levels {
        let recipe = preset(name.parse().unwrap());
        // Every pixel of a grey image of one level becomes that level's value, in all three channels.
        for level in 0..=255u8 {
            let image = RgbImage::from_pixel(2, 2, image::Rgb([level; 3]));
            let found = tensor(&recipe, &image, TensorLayout::Nchw);
            let n_pixels = recipe.tensor_len() / 3;
            for channel in 0..3 {
                let value = found[channel * n_pixels];
                assert_eq!(value, expected[channel][usize::from(level)], "{name} {level} {channel}");
            }
        }
    }
}

#[test]
fn channels_and_layouts_are_where_they_belong() {
    let mut image = RgbImage::new(2, 1);
    image.put_pixel(0, 0, image::Rgb([10, 20, 30]));
    image.put_pixel(1, 0, image::Rgb([40, 50, 60]));
    let recipe = |order| {
        let change = |o: &mut PreprocessOverrides| {
            o.size = Some((2, 1));
            o.stretch = Some(true);
            o.channel_order = Some(order);
            o.divisor = Some(10.0);
            o.mean = Some([1.0, 0.0, 0.0]);
            o.std = Some([1.0, 2.0, 1.0]);
        };
        overridden(Preset::Torchvision, change).unwrap()
    };
    let rgb = recipe(ChannelOrder::Rgb);
    assert_eq!(tensor(&rgb, &image, TensorLayout::Nchw), [0.0, 3.0, 1.0, 2.5, 3.0, 6.0]);
    assert_eq!(tensor(&rgb, &image, TensorLayout::Nhwc), [0.0, 1.0, 3.0, 3.0, 2.5, 6.0]);
    let bgr = recipe(ChannelOrder::Bgr);
    assert_eq!(tensor(&bgr, &image, TensorLayout::Nchw), [2.0, 5.0, 1.0, 2.5, 1.0, 4.0]);
    assert_eq!(tensor(&bgr, &image, TensorLayout::Nhwc), [2.0, 1.0, 1.0, 5.0, 2.5, 4.0]);
}

#[test]
fn elongated_images_cost_no_more_than_others() {
    for (width, height) in [(10_000, 1), (1, 10_000), (1 << 20, 1), (1, 1)] {
        let image = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
        for &interpolation in Interpolation::ALL {
            let recipe = overridden(Preset::Tf, |o| o.interpolation = Some(interpolation)).unwrap();
            assert!(tensor(&recipe, &image, TensorLayout::Nchw).iter().all(|&value| value == 1.0));
        }
    }
    let image = RgbImage::new((1 << 20) + 1, 1);
    let recipe = preset(Preset::Torchvision);
    let error = recipe.apply(&image, TensorLayout::Nchw, &mut vec![0.0; recipe.tensor_len()]).unwrap_err();
    assert!(matches!(error, PreprocessError::ImageSize { width: 1_048_577, height: 1 }));
}

#[test]
fn a_buffer_of_another_length_is_refused() {
    let recipe = preset(Preset::Torchvision);
    let error = recipe.apply(&RgbImage::new(9, 9), TensorLayout::Nchw, &mut [0.0; 12]).unwrap_err();
    assert!(matches!(error, PreprocessError::BufferLength { expected: 150_528, found: 12 }));
    let error = recipe.apply(&RgbImage::new(0, 9), TensorLayout::Nchw, &mut vec![0.0; 150_528]).unwrap_err();
    assert!(matches!(error, PreprocessError::ImageSize { width: 0, height: 9 }));
}

#[test]
fn recipes_read_well_as_toml_and_come_back() {
    let recipe = preset(Preset::Torchvision);
    let expected = r#"preset = "torchvision"
size = [224, 224]
resize = "shorter-side"
shorter_side = 256
interpolation = "bilinear"
channel_order = "rgb"
divisor = 255.0
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
exif_orientation = true
"#;
    assert_eq!(toml::to_string(&recipe).unwrap(), expected);
    for choice in [Preset::Torchvision, Preset::KerasCaffe, Preset::Tf] {
        let recipe = preset(choice);
        assert_eq!(toml::from_str::<Preprocess>(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
        assert_eq!(
            serde_json::from_str::<Preprocess>(&serde_json::to_string(&recipe).unwrap()).unwrap(),
            recipe
        );
        assert_eq!(toml::from_str::<Preprocess>(&format!("preset = \"{choice}\"")).unwrap(), recipe);
    }
}

#[test]
fn crops_of_stretched_pictures_and_floored_offsets_are_said_only_where_there_are_any() {
    let recipe = overridden(Preset::Torchvision, |o| {
        o.size = Some((32, 30));
        o.stretched = Some((40, 35));
        o.crop_offset = Some(CropOffset::Floor);
    });
    let recipe = recipe.unwrap();
    let text = toml::to_string(&recipe).unwrap();
    assert!(text.contains("resize = \"stretch\"\nstretched = [40, 35]\ncrop_offset = \"floor\"\n"), "{text}");
    assert_eq!(toml::from_str::<Preprocess>(&text).unwrap(), recipe);
    assert!(
        recipe.describe().starts_with(
            "custom: stretch to 40 x 35 (bilinear), centre crop 32 x 30 (offset rounded down), RGB"
        ),
        "{}",
        recipe.describe()
    );
    // The part that is seen: 5 columns are cut off, the first two on the left.
    assert_eq!(recipe.window(400, 350), [40.0, 20.0, 320.0, 300.0]);
    let odd = recipe.with(&PreprocessOverrides {
        size: Some((33, 30)),
        stretched: Some((40, 35)),
        ..Default::default()
    });
    assert_eq!(odd.unwrap().window(400, 350), [30.0, 20.0, 330.0, 300.0]);
    // Half to even: 7 columns are 3.5 on the left, which becomes 4.
    let even = overridden(Preset::Torchvision, |o| (o.size, o.stretched) = (Some((33, 30)), Some((40, 35))));
    assert_eq!(even.unwrap().window(400, 350), [40.0, 20.0, 330.0, 300.0]);
    // Without a crop there is no offset, and nothing to say about it.
    let whole = recipe.with(&PreprocessOverrides {
        size: Some((40, 35)),
        stretched: Some((40, 35)),
        ..Default::default()
    });
    let whole = whole.unwrap();
    assert_eq!((whole.resize(), whole.crop_offset()), (Resize::Stretch, CropOffset::HalfEven));
    assert!(!toml::to_string(&whole).unwrap().contains("stretched"));
    // Another size keeps the ratio.
    let smaller = recipe.with(&PreprocessOverrides { size: Some((16, 15)), ..Default::default() }).unwrap();
    assert_eq!(smaller.resize(), Resize::StretchThenCrop(20, 18));
    let error = overridden(Preset::Tf, |o| o.stretched = Some((224, 200))).unwrap_err().to_string();
    assert!(
        error.starts_with("an image stretched to 224 x 200 is out of range for a crop of 224 x 224"),
        "{error}"
    );
}

#[test]
fn a_preset_with_changes_is_custom_and_comes_back_as_such() {
    let recipe: Preprocess = toml::from_str("preset = \"torchvision\"\nsize = [299, 299]").unwrap();
    assert_eq!(recipe.preset_name(), Preset::Custom);
    assert_eq!(recipe.resize(), Resize::ShorterSide(342), "256 / 224 of 299");
    assert_eq!(toml::from_str::<Preprocess>(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);

    let unturned = overridden(Preset::Tf, |o| o.exif_orientation = Some(false)).unwrap();
    assert_eq!(unturned.preset_name(), Preset::Tf);
    assert!(!unturned.exif_orientation());
}

#[test]
fn a_changed_preset_may_be_another_one_by_name() {
    let changed = overridden(Preset::Torchvision, |o| {
        (o.divisor, o.mean, o.std) = (Some(127.5), Some([1.0; 3]), Some([1.0; 3]));
        o.exif_orientation = Some(false);
    });
    let changed = changed.unwrap();
    assert_eq!(changed.preset_name(), Preset::Custom);
    let named = changed.named();
    assert_eq!((named.preset_name(), named.exif_orientation()), (Preset::Tf, false));
    let other = overridden(Preset::Tf, |o| o.divisor = Some(127.0)).unwrap().named();
    assert_eq!(other.preset_name(), Preset::Custom);
}

#[test]
fn overrides_change_what_they_name() {
    let crop = overridden(Preset::KerasCaffe, |o| o.stretch = Some(false)).unwrap();
    assert_eq!(crop.resize(), Resize::ShorterSide(256));
    let crop = overridden(Preset::KerasCaffe, |o| o.shorter_side = Some(300)).unwrap();
    assert_eq!(crop.resize(), Resize::ShorterSide(300));
    let stretch = overridden(Preset::Torchvision, |o| o.stretch = Some(true)).unwrap();
    assert_eq!(stretch.resize(), Resize::Stretch);
    let bgr = overridden(Preset::Torchvision, |o| o.channel_order = Some(ChannelOrder::Bgr)).unwrap();
    assert_eq!((bgr.mean, bgr.std), ([0.406, 0.456, 0.485], [0.225, 0.224, 0.229]));
}

#[test]
fn recipes_that_cannot_work_are_refused() {
    let reason = |change: fn(&mut PreprocessOverrides)| {
        overridden(Preset::Torchvision, change).unwrap_err().to_string()
    };
    assert!(reason(|o| o.size = Some((0, 224))).starts_with("input size 0 x 224"));
    assert!(reason(|o| o.size = Some((224, 9000))).starts_with("input size 224 x 9000"));
    assert!(
        reason(|o| o.shorter_side = Some(223)).starts_with("shorter side 223 is out of range for a crop")
    );
    assert!(reason(|o| o.shorter_side = Some(u32::MAX)).starts_with("shorter side 4294967295"));
    assert!(
        reason(|o| o.std = Some([1.0, 0.0, 1.0])).starts_with("std 0: must be a finite number other than 0")
    );
    assert!(reason(|o| o.divisor = Some(0.0)).starts_with("divisor 0"));
    assert!(reason(|o| o.divisor = Some(1e60)).starts_with("divisor 1"));
    assert!(reason(|o| o.mean = Some([f64::NAN, 0.0, 0.0])).starts_with("mean NaN: must be a finite number"));
    let both = reason(|o| (o.stretch, o.shorter_side) = (Some(true), Some(256)));
    assert!(both.starts_with("a shorter side and stretching exclude each other"));
}

#[test]
fn files_with_unknown_or_missing_fields_are_refused() {
    let reason = |text: &str| toml::from_str::<Preprocess>(text).unwrap_err().to_string();
    assert!(reason("preset = \"torchvision\"\nsizes = [224, 224]").contains("unknown field `sizes`"));
    assert!(reason("preset = \"pytorch\"").contains("unknown variant `pytorch`"));
    assert!(reason("size = [224, 224]").contains("missing field `preset`"));
    assert!(reason("preset = \"custom\"\nsize = [8, 8]").contains("preset \"custom\" needs resize"));
    assert!(reason("preset = \"custom\"\nresize = \"stretch\"").contains("needs size"));
}

#[test]
fn choices_are_parsed_by_their_names() {
    assert_eq!("keras-caffe".parse(), Ok(Preset::KerasCaffe));
    assert_eq!(TensorLayout::Nhwc.to_string(), "nhwc");
    let error = "cubic".parse::<Interpolation>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown interpolation \"cubic\"; choose one of: nearest, bilinear, bicubic, lanczos"
    );
}

#[test]
fn descriptions_say_it_in_one_line() {
    assert_eq!(
        preset(Preset::Torchvision).describe(),
        "torchvision: shorter side to 256 (bilinear), centre crop 224 x 224, RGB, / 255, \
         - mean 0.485 0.456 0.406, / std 0.229 0.224 0.225, EXIF orientation applied"
    );
    assert_eq!(
        preset(Preset::KerasCaffe).describe(),
        "keras-caffe: stretch to 224 x 224 (nearest), BGR, - mean 103.939 116.779 123.68, EXIF orientation applied"
    );
}
