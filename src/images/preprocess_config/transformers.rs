//! `preprocessor_config.json` of Hugging Face's transformers: the image processors and what each makes of its keys.
//!
//! Source: transformers 4.57 and 5.24, `models/*/image_processing_*.py` and `image_transforms.py`. The order is resize,
//! crop, rescale, normalise. The processors that resize with Pillow (those without `Fast` in version 4, those of the PIL
//! backend in version 5) give the same values as here to the bit; EfficientNet's, which divide in two steps what is divided
//! in one here, within 1e-6.

use serde_json::{Map, Value};

use super::{PreprocessConfig, PreprocessConfigError, UnusedKeys, recipe};
use crate::images::preprocess::{ChannelOrder, CropOffset, Interpolation, PreprocessOverrides};

mod classes;

use classes::{ProcessorClass, Resizing};

/// Keys that say nothing about the pixels of an RGB image, or only how the processor is called.
const OTHER_KEYS: [&str; 15] = [
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_processor_class",
    "_valid_processor_keys",
    "transformers_version",
    "data_format",
    "input_data_format",
    "device",
    "return_tensors",
    "disable_grouping",
    "do_convert_rgb",
    "do_reduce_labels",
    "reduce_labels",
    "default_to_square",
];

/// `size` and `crop_size` in all their forms.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SizeSetting {
    /// Width and height.
    Sides(u32, u32),
    ShortestEdge(u32),
}

/// The recipe of an image processor.
pub(super) fn read(mut keys: UnusedKeys) -> Result<PreprocessConfig, PreprocessConfigError> {
    if let Some(inner) = keys.map.get("pretrained_cfg") {
        let map = Map::from_iter([("pretrained_cfg".to_owned(), inner.clone())]);
        return super::timm::read(UnusedKeys { map, ..keys });
    }
    if keys.map.get("auto_map").is_some_and(|value| !value.is_null()) {
        return Err(keys.error("auto_map", "the network's own Python code prepares its images"));
    }
    let (name, class) = class_of(&keys)?;
    let fast = name.ends_with("Fast");
    let square = keys.take::<bool>("default_to_square")?;
    keys.ignore(&OTHER_KEYS);
    for key in ["do_pad", "use_square_size"] {
        if keys.take::<bool>(key)? == Some(true) {
            return Err(keys.error(key, "it cannot be done here"));
        }
    }
    if !keys.take::<bool>("do_resize")?.unwrap_or(true) {
        let problem = "false leaves images at their own sizes; the network needs one size";
        return Err(keys.error("do_resize", problem));
    }
    let square = square.unwrap_or(matches!(class.resizing, Resizing::Sides));
    let size = take_size(&mut keys, "size", square)?.unwrap_or(class.size);
    let crop = crop(&mut keys, class)?;
    let geometry = geometry(&mut keys, class, size, crop)?;
    let interpolation = match keys.take::<u32>("resample")? {
        None => class.interpolation,
        Some(0) => Interpolation::Nearest,
        Some(1) => Interpolation::Lanczos,
        Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        Some(other) => {
            let names = ["box", "Hamming"];
            let name =
                other.checked_sub(4).and_then(|index| names.get(index as usize)).unwrap_or(&"an unknown");
            return Err(keys.error("resample", format!("{other} is {name} filter, which is not done here")));
        }
    };
    let (divisor, mean, std) = normalisation(&mut keys, class)?;
    let flip = class.flips && keys.take::<bool>("do_flip_channel_order")?.unwrap_or(true);
    let path = keys.finish()?;
    let fields = PreprocessOverrides {
        interpolation: Some(interpolation),
        channel_order: Some(if flip { ChannelOrder::Bgr } else { ChannelOrder::Rgb }),
        divisor: Some(divisor),
        mean: Some(mean),
        std: Some(std),
        crop_offset: Some(CropOffset::Floor),
        ..geometry
    };
    let preprocess = recipe(&path, fields)?;
    let note = if class.resizes_floats {
        Some(
            "this processor resizes numbers instead of 8-bit pixels; its values differ by up to one level of 255",
        )
    } else {
        fast.then_some("a Fast processor resizes with torchvision; on photos some of its pixels differ from Pillow's, which are used here")
    };
    let origin = format!("{name} of transformers");
    Ok(PreprocessConfig { path, origin, preprocess, note: note.map(str::to_owned) })
}

/// The processor's name as it stands in the file, and what it does. Early files do not name it; then the network's
/// `config.json` beside them says what network it is.
fn class_of(keys: &UnusedKeys) -> Result<(String, &'static ProcessorClass), PreprocessConfigError> {
    let text = |key: &str| keys.map.get(key).and_then(Value::as_str).map(str::to_owned);
    for key in ["image_processor_type", "feature_extractor_type"] {
        if let Some(name) = text(key) {
            let class = classes::by_name(&name).ok_or_else(|| {
                keys.error(key, format!("{name} is not an image processor that is known here"))
            })?;
            return Ok((name, class));
        }
    }
    let config = keys.path.with_file_name("config.json");
    let model_type = std::fs::read_to_string(config)
        .ok()
        .and_then(|text| serde_json::from_str::<Map<String, Value>>(&text).ok())
        .and_then(|map| map.get("model_type")?.as_str().map(str::to_owned));
    let class = model_type.as_deref().and_then(classes::by_model_type);
    class.map(|class| (format!("{}ImageProcessor", class.name), class)).ok_or_else(|| {
        let problem =
            "it names no image_processor_type, and no config.json beside it says which network it is for";
        PreprocessConfigError::Unknown { path: keys.path.clone(), problem: problem.to_owned() }
    })
}

/// `crop_size`, where the processor crops.
fn crop(keys: &mut UnusedKeys, class: &ProcessorClass) -> Result<Option<(u32, u32)>, PreprocessConfigError> {
    let asked = keys.take::<bool>("do_center_crop")?;
    let size = take_size(keys, "crop_size", true)?;
    let Some((default, side)) = class.crop else {
        return match asked {
            Some(true) => {
                let problem =
                    format!("{}ImageProcessor crops in some versions of transformers only", class.name);
                Err(keys.error("do_center_crop", problem))
            }
            _ => Ok(None),
        };
    };
    if !asked.unwrap_or(default) {
        return Ok(None);
    }
    match size {
        None => Ok(Some((side, side))),
        Some(SizeSetting::Sides(width, height)) => Ok(Some((width, height))),
        Some(SizeSetting::ShortestEdge(_)) => Err(keys.error("crop_size", "a crop has a height and a width")),
    }
}

/// What resizing and cropping there is, as the fields of a recipe.
fn geometry(
    keys: &mut UnusedKeys,
    class: &ProcessorClass,
    size: SizeSetting,
    crop: Option<(u32, u32)>,
) -> Result<PreprocessOverrides, PreprocessConfigError> {
    let part = match class.resizing {
        Resizing::ConvNext => Some(keys.take::<f64>("crop_pct")?.unwrap_or(224.0 / 256.0)),
        // Only a null switches it off.
        Resizing::PoolFormer if keys.map.contains_key("crop_pct") => keys.take::<f64>("crop_pct")?,
        Resizing::PoolFormer => Some(0.9),
        Resizing::Sides | Resizing::Either | Resizing::Levit => None,
    };
    if part.is_some_and(|part| !(part > 0.0 && part <= 1.0)) {
        return Err(keys.error("crop_pct", "it is not between 0 and 1"));
    }
    // Python's int(); a side beyond u32 saturates, and is refused as out of range.
    let before_crop = |side: u32, part: f64| (f64::from(side) / part) as u32;
    let unsized_network = || {
        let problem =
            "shortest_edge without a crop gives every image its own size; the network needs one size";
        keys.error("size", problem)
    };
    let shorter_side = |side: u32, crop: (u32, u32)| PreprocessOverrides {
        size: Some(crop),
        shorter_side: Some(side),
        ..PreprocessOverrides::default()
    };
    let stretched = |sides: (u32, u32), crop: Option<(u32, u32)>| PreprocessOverrides {
        size: Some(crop.unwrap_or(sides)),
        stretched: Some(sides),
        ..PreprocessOverrides::default()
    };
    match (class.resizing, size) {
        (Resizing::Sides, SizeSetting::ShortestEdge(_)) => {
            let problem = format!(
                "shortest_edge is not for {}ImageProcessor, which wants height and width",
                class.name
            );
            Err(keys.error("size", problem))
        }
        (Resizing::ConvNext, SizeSetting::Sides(..)) => {
            Err(keys.error("size", "ConvNextImageProcessor wants shortest_edge"))
        }
        (Resizing::ConvNext, SizeSetting::ShortestEdge(side)) => Ok(match part {
            Some(part) if side < 384 => shorter_side(before_crop(side, part), (side, side)),
            _ => stretched((side, side), None),
        }),
        (Resizing::PoolFormer, size) if part.is_some() => {
            let part = part.unwrap_or(1.0);
            let side = match size {
                SizeSetting::ShortestEdge(side) => side,
                SizeSetting::Sides(width, height) if width == height => width,
                SizeSetting::Sides(width, height) => {
                    let sides = (before_crop(width, part), before_crop(height, part));
                    return Ok(stretched(sides, crop));
                }
            };
            Ok(shorter_side(before_crop(side, part), crop.ok_or_else(unsized_network)?))
        }
        (Resizing::Levit, SizeSetting::ShortestEdge(side)) => {
            let side = (256.0 / 224.0 * f64::from(side)) as u32;
            Ok(shorter_side(side, crop.ok_or_else(unsized_network)?))
        }
        (_, SizeSetting::ShortestEdge(side)) => Ok(shorter_side(side, crop.ok_or_else(unsized_network)?)),
        (_, SizeSetting::Sides(width, height)) => Ok(stretched((width, height), crop)),
    }
}

/// Rescaling and normalisation as divisor, mean and deviation.
fn normalisation(
    keys: &mut UnusedKeys,
    class: &ProcessorClass,
) -> Result<(f64, [f64; 3], [f64; 3]), PreprocessConfigError> {
    let rescales = keys.take::<bool>("do_rescale")?.unwrap_or(true);
    let factor = keys.take::<f64>("rescale_factor")?.unwrap_or(1.0 / 255.0);
    let offset = class.rescales_twice && keys.take::<bool>("rescale_offset")?.unwrap_or(false);
    let again = class.rescales_twice && keys.take::<bool>("include_top")?.unwrap_or(true);
    let normalises = match class.mean_and_std {
        Some(_) => keys.take::<bool>("do_normalize")?.unwrap_or(true),
        None => false,
    };
    let (default_mean, default_std) = class.mean_and_std.unwrap_or(([0.0; 3], [1.0; 3]));
    let (mut mean, mut std) = ([0.0; 3], [1.0; 3]);
    if class.mean_and_std.is_some() {
        let given = (keys.take_channels("image_mean")?, keys.take_channels("image_std")?);
        let deviation = given.1.unwrap_or(default_std);
        if normalises {
            (mean, std) = (given.0.unwrap_or(default_mean), deviation);
        }
        if again {
            // EfficientNet's second step divides by the deviation once more.
            std = std::array::from_fn(|channel| std[channel] * deviation[channel]);
        }
    }
    if !rescales {
        return Ok((1.0, mean, std));
    }
    if !(factor.is_finite() && factor > 0.0) {
        return Err(keys.error("rescale_factor", format!("{factor} is no positive number")));
    }
    if offset {
        mean = mean.map(|mean| mean + 1.0);
    }
    // 1/255 as a decimal fraction is meant as 1/255.
    let (divisor, halves) = (1.0 / factor, (2.0 / factor).round() / 2.0);
    let divisor = if (divisor - halves).abs() < 1e-9 * divisor { halves } else { divisor };
    Ok((divisor, mean, std))
}

/// The size under `key`; `square` says what a single number means.
fn take_size(
    keys: &mut UnusedKeys,
    key: &str,
    square: bool,
) -> Result<Option<SizeSetting>, PreprocessConfigError> {
    let Some(value) = keys.take::<Value>(key)? else { return Ok(None) };
    let side = |value: &Value| value.as_u64().and_then(|side| u32::try_from(side).ok());
    let size = match &value {
        Value::Number(_) if square => side(&value).map(|side| SizeSetting::Sides(side, side)),
        Value::Number(_) => side(&value).map(SizeSetting::ShortestEdge),
        Value::Array(sides) => match &sides[..] {
            [height, width] => {
                side(width).zip(side(height)).map(|(width, height)| SizeSetting::Sides(width, height))
            }
            _ => None,
        },
        Value::Object(map) => {
            let set: Vec<(&str, &Value)> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (&**key, value))
                .collect();
            match set[..] {
                [("height", height), ("width", width)] | [("width", width), ("height", height)] => {
                    side(width).zip(side(height)).map(|(width, height)| SizeSetting::Sides(width, height))
                }
                [("shortest_edge", edge)] => side(edge).map(SizeSetting::ShortestEdge),
                _ if map.contains_key("longest_edge") || map.contains_key("max_height") => {
                    let problem =
                        format!("{value} gives every image its own size; the network needs one size");
                    return Err(keys.error(key, problem));
                }
                _ => None,
            }
        }
        _ => None,
    };
    match size {
        Some(size) => Ok(Some(size)),
        None => Err(keys.error(key, format!("{value} is not a size that is understood here"))),
    }
}
