//! The values are those of transformers and timm, written by scripts/reference/make_preprocess_config_reference.py.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::images::preprocess::{Resize, TensorLayout};
use crate::images::{DecodeOptions, decode};

#[derive(Deserialize)]
struct Case {
    name: String,
    files: BTreeMap<String, String>,
    shape: [u32; 3],
    values: BTreeMap<String, Values>,
}

#[derive(Deserialize)]
struct Values {
    pixels: String,
    at: Vec<(usize, f32)>,
}

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The recipe that `files` beside a network give.
fn found(files: &[(&str, String)]) -> Result<Option<PreprocessConfig>, PreprocessConfigError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    find(&folder.path().join("model.onnx"))
}

fn processor(config: serde_json::Value) -> Result<Preprocess, String> {
    match found(&[("preprocessor_config.json", config.to_string())]) {
        Ok(config) => Ok(config.unwrap().preprocess),
        Err(error) => Err(crate::messages::with_causes(&error)),
    }
}

fn timm(config: serde_json::Value) -> Result<Preprocess, String> {
    match found(&[("config.json", json!({ "pretrained_cfg": config }).to_string())]) {
        Ok(config) => Ok(config.unwrap().preprocess),
        Err(error) => Err(crate::messages::with_causes(&error)),
    }
}

#[test]
fn tensors_are_those_of_transformers_and_timm() {
    let text = fs::read_to_string(tests_folder().join("reference/preprocess_configs.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 25);
    for Case { name, files, shape: [_, height, width], values } in cases {
        let files: Vec<(&str, String)> = files.iter().map(|(file, text)| (&**file, text.clone())).collect();
        let recipe = found(&files).unwrap().unwrap().preprocess;
        assert_eq!(recipe.size(), (width, height), "{name}");
        let levels = PreprocessOverrides {
            divisor: Some(1.0),
            mean: Some([0.0; 3]),
            std: Some([1.0; 3]),
            ..PreprocessOverrides::default()
        };
        let levels = recipe.with(&levels).unwrap();
        for (image, Values { pixels, at }) in values {
            let bytes = fs::read(tests_folder().join("fixtures/images").join(&image)).unwrap();
            let picture = decode(&bytes, &DecodeOptions::default()).unwrap();
            let tensor = |recipe: &Preprocess| {
                let mut out = vec![f32::NAN; recipe.tensor_len()];
                recipe.apply(&picture, TensorLayout::Nchw, &mut out).unwrap();
                out
            };
            let seen: Vec<u8> = tensor(&levels).iter().map(|&level| level as u8).collect();
            assert_eq!(
                format!("{:x}", Sha256::digest(&seen)),
                pixels,
                "{name} {image}: {}",
                recipe.describe()
            );
            let tensor = tensor(&recipe);
            for (place, value) in at {
                // EfficientNet's processor divides twice, this program once by the product.
                let tolerance =
                    if name == "efficientnet" || name == "align" { 1e-6 * value.abs() } else { 0.0 };
                assert!(
                    (tensor[place] - value).abs() <= tolerance,
                    "{name} {image} {} {value}",
                    tensor[place]
                );
            }
        }
    }
}

#[test]
fn a_file_is_found_beside_the_network_or_in_the_folder_above() {
    let folder = tempfile::tempdir().unwrap();
    let network = folder.path().join("onnx/model.onnx");
    fs::create_dir(folder.path().join("onnx")).unwrap();
    assert_eq!(find(&network).unwrap(), None);
    // A config.json of transformers says nothing about pixels.
    fs::write(folder.path().join("config.json"), r#"{"model_type": "vit", "image_size": 224}"#).unwrap();
    assert_eq!(find(&network).unwrap(), None);
    let config = |size: u32| json!({ "image_processor_type": "ViTImageProcessor", "size": size }).to_string();
    fs::write(folder.path().join("preprocessor_config.json"), config(64)).unwrap();
    let above = find(&network).unwrap().unwrap();
    assert_eq!(above.path, folder.path().join("preprocessor_config.json"));
    assert_eq!((above.preprocess.size(), &*above.origin), ((64, 64), "ViTImageProcessor of transformers"));
    fs::write(folder.path().join("onnx/preprocessor_config.json"), config(32)).unwrap();
    assert_eq!(find(&network).unwrap().unwrap().preprocess.size(), (32, 32));
    // Version 5 of transformers may write all processors into one file.
    let nested = json!({ "processor_class": "CLIPProcessor", "image_processor": { "image_processor_type": "CLIPImageProcessor" } });
    let clip = found(&[("processor_config.json", nested.to_string())]).unwrap().unwrap();
    assert_eq!(clip.preprocess.resize(), Resize::ShorterSide(224));
}

#[test]
fn what_equals_a_preset_is_that_preset() {
    let recipe = timm(json!({ "interpolation": "bilinear", "crop_pct": 0.875 })).unwrap();
    assert_eq!(recipe, Preprocess::preset(Preset::Torchvision).unwrap());
    assert_eq!(recipe.preset_name(), Preset::Torchvision);
}

#[test]
fn processors_of_early_files_are_told_by_the_networks_own_config() {
    let early = json!({ "size": 224, "do_resize": true }).to_string();
    let file = |model_type: &str| {
        let config = json!({ "model_type": model_type }).to_string();
        found(&[("preprocessor_config.json", early.clone()), ("config.json", config)])
    };
    assert_eq!(file("swin").unwrap().unwrap().origin, "ViTImageProcessor of transformers");
    assert_eq!(file("resnet").unwrap().unwrap().preprocess.resize(), Resize::ShorterSide(256));
    let error = file("a_new_one").unwrap_err().to_string();
    assert!(error.contains("it names no image_processor_type"), "{error}");
}

#[test]
fn keys_that_are_not_known_or_cannot_be_done_are_refused_by_name() {
    let vit = |key: &str, value: serde_json::Value| {
        let mut config =
            json!({ "image_processor_type": "ViTImageProcessor", "size": { "height": 8, "width": 8 } });
        config[key] = value;
        processor(config).unwrap_err()
    };
    let clip = |key: &str, value: serde_json::Value| {
        let mut config = json!({ "image_processor_type": "CLIPImageProcessor" });
        config[key] = value;
        processor(config).unwrap_err()
    };
    for (error, expected) in [
        (
            vit("do_sharpen", json!(true)),
            "preprocessor_config.json: do_sharpen: true is of an unknown meaning",
        ),
        (
            vit("image_processor_type", json!("Siglip2ImageProcessor")),
            "Siglip2ImageProcessor is not an image processor that is known",
        ),
        (vit("do_resize", json!(false)), "do_resize: false leaves images at their own sizes"),
        (vit("do_center_crop", json!(true)), "ViTImageProcessor crops in some versions of transformers only"),
        (vit("do_pad", json!(true)), "do_pad: it cannot be done here"),
        (vit("crop_pct", json!(0.9)), "crop_pct: 0.9 is of an unknown meaning"),
        (vit("auto_map", json!({ "AutoImageProcessor": "its.Own" })), "own Python code"),
        (vit("resample", json!(4)), "resample: 4 is box filter"),
        (vit("resample", json!("cubic")), "resample: \"cubic\" is not understood"),
        (vit("size", json!({ "shortest_edge": 8 })), "shortest_edge is not for ViTImageProcessor"),
        (vit("size", json!({ "longest_edge": 8 })), "gives every image its own size"),
        (vit("size", json!({ "shortest_edge": 8, "longest_edge": 9 })), "gives every image its own size"),
        (vit("size", json!(-3)), "size: -3 is not a size"),
        (
            vit("image_mean", json!([0.5, 0.5])),
            "image_mean: [0.5,0.5] is not one number for each of 3 channels",
        ),
        (vit("rescale_factor", json!(0)), "rescale_factor: 0 is no positive number"),
        (clip("do_center_crop", json!(false)), "shortest_edge without a crop gives every image its own size"),
        (clip("crop_size", json!(300)), "shorter side 224 is out of range for a crop of 300 x 300"),
    ] {
        assert!(
            error.contains(expected) && error.contains("--preprocess torchvision"),
            "{error} has no {expected}"
        );
    }
    let border = timm(json!({ "crop_mode": "border" })).unwrap_err();
    assert!(border.contains("crop_mode: \"border\" puts a coloured border"), "{border}");
    assert!(timm(json!({ "input_size": [1, 28, 28] })).unwrap_err().contains("1 channels"));
    assert!(timm(json!({ "input_size": [3, 64, 32] })).unwrap_err().contains("a crop of 32 x 64"));
    assert!(timm(json!({ "interpolation": "random" })).unwrap_err().contains("none of the filters"));
    assert!(timm(json!({ "a_key": 1 })).unwrap_err().contains("a_key: 1 is of an unknown meaning"));
    assert!(found(&[("config.json", "{".to_owned())]).unwrap_err().to_string().contains("not valid JSON"));
    // Null means that a key is not set.
    let unset = json!({ "image_processor_type": "ViTImageProcessorFast", "size": 8, "do_center_crop": null, "novelty": null });
    assert_eq!(processor(unset).unwrap().size(), (8, 8));
}

#[test]
fn files_with_any_value_under_any_key_are_read_or_refused() {
    let text = fs::read_to_string(tests_folder().join("reference/preprocess_configs.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1e300),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!([0, 1e-300, -1e300]),
        json!({ "height": 0, "width": u32::MAX }),
        json!({ "shortest_edge": u32::MAX }),
    ];
    let (mut read, mut refused) = (0, 0);
    for case in cases {
        for (name, text) in
            case.files.iter().filter(|(name, _)| case.files.len() == 1 || *name != "config.json")
        {
            let whole: Value = serde_json::from_str(text).unwrap();
            let inner = whole.get("pretrained_cfg").unwrap_or(&whole);
            for key in inner.as_object().unwrap().keys() {
                for value in &odd {
                    let mut changed = whole.clone();
                    match changed.get_mut("pretrained_cfg") {
                        Some(inner) => inner[key] = value.clone(),
                        None => changed[key] = value.clone(),
                    }
                    let path = folder.path().join(name);
                    fs::write(&path, changed.to_string()).unwrap();
                    match super::read(&path) {
                        Ok(_) => read += 1,
                        Err(error) => {
                            refused += 1;
                            assert!(error.to_string().contains(name), "{error}");
                        }
                    }
                }
            }
        }
    }
    assert!(read > 100 && refused > 300, "{read} {refused}");
}
