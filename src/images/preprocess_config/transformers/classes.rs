//! The image processors of transformers: what each does where its file leaves a key out.

use super::SizeSetting;
use crate::images::preprocess::Interpolation;

/// How a processor reads `size`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Resizing {
    /// Height and width: both sides are stretched. One number is both.
    Sides,
    /// Height and width, or the shorter side. One number is the shorter side.
    Either,
    /// The side of the square that is seen: below 384 the shorter side becomes side / crop_pct and the centre is cropped,
    /// from 384 on both sides are stretched.
    ConvNext,
    /// The side of the square that is seen; the shorter side becomes 256/224 of it.
    Levit,
    /// As `Either`, and the shorter side becomes size / crop_pct.
    PoolFormer,
}

/// An image processor.
#[derive(Debug)]
pub(super) struct ProcessorClass {
    /// Its name before `ImageProcessor`.
    pub name: &'static str,
    /// `model_type` of the networks that it is for.
    model_types: &'static [&'static str],
    pub resizing: Resizing,
    pub size: SizeSetting,
    /// Whether it crops the centre by default, and to which side; `None` for those that do not know `do_center_crop`.
    pub crop: Option<(bool, u32)>,
    pub interpolation: Interpolation,
    /// `None` for those that do not normalise.
    pub mean_and_std: Option<([f64; 3], [f64; 3])>,
    /// Whether it knows EfficientNet's `rescale_offset` and `include_top`.
    pub rescales_twice: bool,
    /// Whether it turns RGB to BGR by default.
    pub flips: bool,
    /// Whether it rescales before it resizes.
    pub resizes_floats: bool,
}

const HALF: Option<([f64; 3], [f64; 3])> = Some(([0.5; 3], [0.5; 3]));
const IMAGENET: Option<([f64; 3], [f64; 3])> = Some(([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]));
const CLIP: Option<([f64; 3], [f64; 3])> =
    Some(([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]));

const VIT: ProcessorClass = ProcessorClass {
    name: "ViT",
    model_types: &["vit", "vit_mae", "vit_msn", "swin", "swinv2", "dinat", "nat", "ijepa", "swiftformer"],
    resizing: Resizing::Sides,
    size: SizeSetting::Sides(224, 224),
    crop: None,
    interpolation: Interpolation::Bilinear,
    mean_and_std: HALF,
    rescales_twice: false,
    flips: false,
    resizes_floats: false,
};

const DEIT: ProcessorClass = ProcessorClass {
    name: "DeiT",
    model_types: &["deit"],
    size: SizeSetting::Sides(256, 256),
    crop: Some((true, 224)),
    interpolation: Interpolation::Bicubic,
    ..VIT
};

const CLIP_CLASS: ProcessorClass = ProcessorClass {
    name: "CLIP",
    model_types: &["clip", "clip_vision_model", "aimv2", "aimv2_vision_model", "mlcd", "git", "groupvit"],
    resizing: Resizing::Either,
    size: SizeSetting::ShortestEdge(224),
    mean_and_std: CLIP,
    ..DEIT
};

const MOBILENET_V2: ProcessorClass = ProcessorClass {
    name: "MobileNetV2",
    model_types: &["mobilenet_v2"],
    size: SizeSetting::ShortestEdge(256),
    interpolation: Interpolation::Bilinear,
    mean_and_std: HALF,
    ..CLIP_CLASS
};

static CLASSES: [ProcessorClass; 19] = [
    VIT,
    DEIT,
    CLIP_CLASS,
    MOBILENET_V2,
    ProcessorClass { name: "Beit", model_types: &["beit", "data2vec-vision"], ..DEIT },
    ProcessorClass {
        name: "EfficientFormer",
        model_types: &["efficientformer"],
        size: SizeSetting::Sides(224, 224),
        mean_and_std: IMAGENET,
        ..DEIT
    },
    ProcessorClass {
        name: "Siglip",
        model_types: &["siglip", "siglip_vision_model"],
        interpolation: Interpolation::Bicubic,
        ..VIT
    },
    ProcessorClass { name: "Pvt", model_types: &["pvt", "pvt_v2"], mean_and_std: IMAGENET, ..VIT },
    ProcessorClass {
        name: "Blip",
        model_types: &["blip", "blip-2"],
        size: SizeSetting::Sides(384, 384),
        interpolation: Interpolation::Bicubic,
        mean_and_std: CLIP,
        ..VIT
    },
    ProcessorClass {
        name: "ChineseCLIP",
        model_types: &["chinese_clip"],
        size: SizeSetting::Sides(224, 224),
        resizing: Resizing::Sides,
        ..CLIP_CLASS
    },
    ProcessorClass {
        name: "DINOv3ViT",
        model_types: &["dinov3_vit", "dinov3_convnext"],
        mean_and_std: IMAGENET,
        resizes_floats: true,
        ..VIT
    },
    ProcessorClass {
        name: "Bit",
        model_types: &["bit", "dinov2", "dinov2_with_registers", "focalnet", "hiera"],
        ..CLIP_CLASS
    },
    ProcessorClass { name: "MobileNetV1", model_types: &["mobilenet_v1"], ..MOBILENET_V2 },
    ProcessorClass {
        name: "ConvNext",
        model_types: &["convnext", "convnextv2", "resnet", "regnet", "van", "cvt"],
        resizing: Resizing::ConvNext,
        size: SizeSetting::ShortestEdge(384),
        ..VIT
    },
    ProcessorClass {
        name: "Levit",
        model_types: &["levit"],
        resizing: Resizing::Levit,
        mean_and_std: IMAGENET,
        ..CLIP_CLASS
    },
    ProcessorClass {
        name: "PoolFormer",
        model_types: &["poolformer"],
        resizing: Resizing::PoolFormer,
        mean_and_std: IMAGENET,
        ..CLIP_CLASS
    },
    ProcessorClass {
        name: "EfficientNet",
        model_types: &["efficientnet", "align"],
        size: SizeSetting::Sides(346, 346),
        crop: Some((false, 289)),
        interpolation: Interpolation::Nearest,
        rescales_twice: true,
        ..VIT
    },
    ProcessorClass {
        name: "MobileViT",
        model_types: &["mobilevit", "mobilevitv2"],
        size: SizeSetting::ShortestEdge(224),
        crop: Some((true, 256)),
        mean_and_std: None,
        flips: true,
        ..MOBILENET_V2
    },
    ProcessorClass { name: "ViTHybrid", model_types: &["vit-hybrid", "vit_hybrid"], ..CLIP_CLASS },
];

/// The processor of this name; `FeatureExtractor` is what early versions said, `Fast` and `Pil` say with what it resizes.
pub(super) fn by_name(name: &str) -> Option<&'static ProcessorClass> {
    let name = ["Fast", "Pil"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let name = ["ImageProcessor", "FeatureExtractor"].iter().find_map(|end| name.strip_suffix(end))?;
    CLASSES.iter().find(|class| class.name == name)
}

/// The processor of the networks of this `model_type`.
pub(super) fn by_model_type(model_type: &str) -> Option<&'static ProcessorClass> {
    CLASSES.iter().find(|class| class.model_types.contains(&model_type))
}
