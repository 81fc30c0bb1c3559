//! timm's `pretrained_cfg`, as `timm.data.resolve_data_config` and `create_transform` read it.
//!
//! Source: timm 1.0, `timm/data/config.py` and `transforms_imagenet_eval` in `timm/data/transforms_factory.py`. timm
//! resizes with Pillow and crops as torchvision does, so its values are the same here to the bit.

use serde_json::{Map, Value};

use super::{PreprocessConfig, PreprocessConfigError, UnusedKeys, recipe};
use crate::images::preprocess::{ChannelOrder, Interpolation, PreprocessOverrides};

/// Keys that say nothing about the pixels of an evaluation: the others of `timm.models.PretrainedCfg`, and what stands
/// beside them in files of early versions.
const OTHER_KEYS: [&str; 30] = [
    "url",
    "file",
    "state_dict",
    "hf_hub_id",
    "hf_hub_filename",
    "source",
    "architecture",
    "tag",
    "custom_load",
    "test_input_size",
    "min_input_size",
    "fixed_input_size",
    "test_crop_pct",
    "num_classes",
    "num_features",
    "global_pool",
    "label_offset",
    "label_names",
    "label_descriptions",
    "pool_size",
    "test_pool_size",
    "first_conv",
    "classifier",
    "license",
    "description",
    "origin_url",
    "paper_name",
    "paper_ids",
    "notes",
    "model_args",
];

/// The recipe of a file with `pretrained_cfg`, or with its keys at the top as early versions wrote them.
pub(super) fn read(mut keys: UnusedKeys) -> Result<PreprocessConfig, PreprocessConfigError> {
    // What stands beside `pretrained_cfg` are the network's own settings.
    if let Some(inner) = keys.take::<Map<String, Value>>("pretrained_cfg")? {
        keys.map = inner;
    }
    keys.ignore(&OTHER_KEYS);
    let (width, height) = match keys.take::<(u32, u32, u32)>("input_size")? {
        Some((3, height, width)) => (width, height),
        Some((channels, ..)) => {
            return Err(keys.error("input_size", format!("{channels} channels; colour images have 3")));
        }
        None => (224, 224),
    };
    let interpolation = match keys.take::<String>("interpolation")?.as_deref() {
        None | Some("" | "bicubic") => Interpolation::Bicubic,
        Some("bilinear") => Interpolation::Bilinear,
        Some("nearest") => Interpolation::Nearest,
        Some("lanczos") => Interpolation::Lanczos,
        Some(other) => {
            let problem = format!("{other:?} is none of the filters nearest, bilinear, bicubic and lanczos");
            return Err(keys.error("interpolation", problem));
        }
    };
    let crop_pct = keys.take::<f64>("crop_pct")?.filter(|&part| part != 0.0).unwrap_or(0.875);
    if !(crop_pct > 0.0 && crop_pct <= 1.0) {
        return Err(keys.error("crop_pct", format!("{crop_pct} is not between 0 and 1")));
    }
    // A side beyond u32 saturates, and is refused as out of range.
    let before_crop = |side: u32| (f64::from(side) / crop_pct).floor() as u32;
    let (across, down) = (before_crop(width), before_crop(height));
    let mut fields = PreprocessOverrides {
        size: Some((width, height)),
        interpolation: Some(interpolation),
        channel_order: Some(ChannelOrder::Rgb),
        divisor: Some(255.0),
        ..PreprocessOverrides::default()
    };
    match keys.take::<String>("crop_mode")?.as_deref() {
        None | Some("" | "center") if across == down => fields.shorter_side = Some(across),
        None | Some("" | "center") => {
            let problem = format!("a crop of {width} x {height} that keeps the aspect cannot be done here");
            return Err(keys.error("input_size", problem));
        }
        Some("squash") => fields.stretched = Some((across, down)),
        Some("border") => {
            let problem = "\"border\" puts a coloured border around the picture, which cannot be done here";
            return Err(keys.error("crop_mode", problem));
        }
        Some(other) => return Err(keys.error("crop_mode", format!("{other:?} is of an unknown meaning"))),
    }
    fields.mean = Some(keys.take_channels("mean")?.unwrap_or([0.485, 0.456, 0.406]));
    fields.std = Some(keys.take_channels("std")?.unwrap_or([0.229, 0.224, 0.225]));
    let path = keys.finish()?;
    let preprocess = recipe(&path, fields)?;
    Ok(PreprocessConfig { path, origin: "pretrained_cfg of timm".to_owned(), preprocess, note: None })
}
