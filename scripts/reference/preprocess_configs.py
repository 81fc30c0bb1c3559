"""Preprocessing as networks of the Hugging Face hub and of timm have it in their files, and what transformers and timm make of it.

Imported by make_preprocess_config_reference.py and check_preprocess_configs.py.
"""

import json

import numpy as np
import transformers
from timm.data import create_transform, resolve_data_config

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
RESCALED = {"do_rescale": True, "rescale_factor": 0.00392156862745098}


def hub(kind, resample, size, *more, **keys):
    fields = {"image_processor_type": f"{kind}ImageProcessor", "resample": resample, "size": size}
    for part in more:
        fields |= part
    return fields | {"do_resize": True, "do_normalize": True} | keys


def square(side):
    return {"height": side, "width": side}


# Files of the hub by the network that they belong to, in new and in early forms.
TRANSFORMERS = {
    "vit": hub("ViT", 2, square(224), HALF, RESCALED),
    "vit_of_early_versions": {"do_normalize": True, "do_resize": True, **HALF, "size": 224, "_model_type": "vit"},
    "swin": hub("ViT", 3, 224, IMAGENET, feature_extractor_type="ViTFeatureExtractor"),
    "deit": hub("DeiT", 3, square(256), IMAGENET, RESCALED, do_center_crop=True, crop_size=square(224)),
    "beit": hub("Beit", 2, 224, HALF, do_center_crop=False, crop_size=224),
    "bit": hub("Bit", 2, {"shortest_edge": 448}, HALF, RESCALED, do_center_crop=True, crop_size=square(448), do_convert_rgb=True),
    "dinov2": hub("Bit", 3, {"shortest_edge": 256}, IMAGENET, RESCALED, do_center_crop=True, crop_size=square(224), do_convert_rgb=True),
    "clip": hub("CLIP", 3, 224, CLIP, do_center_crop=True, crop_size=224),
    "clip_odd": hub("CLIP", 1, {"shortest_edge": 251}, CLIP, RESCALED, do_center_crop=True, crop_size={"height": 200, "width": 224}),
    "siglip": hub("Siglip", 3, square(224), HALF, RESCALED, processor_class="SiglipProcessor"),
    "convnext_224": hub("ConvNext", 3, {"shortest_edge": 224}, IMAGENET, RESCALED, crop_pct=None),
    "convnext_384": hub("ConvNext", 3, {"shortest_edge": 384}, IMAGENET, RESCALED, crop_pct=0.875),
    "resnet": hub("ConvNext", 3, 224, IMAGENET, crop_pct=0.875),
    "efficientnet": hub(
        "EfficientNet", 0, square(224), RESCALED, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.47853944, 0.4732864, 0.47434163], include_top=True, rescale_offset=False, do_center_crop=False,
        crop_size=square(289),
    ),
    "align": hub(
        "EfficientNet", 2, square(346), HALF, do_rescale=True, rescale_factor=0.00784313725490196, rescale_offset=True,
        include_top=False, do_center_crop=True, crop_size=square(289),
    ),
    "mobilenet_v2": hub("MobileNetV2", 2, {"shortest_edge": 256}, HALF, RESCALED, do_center_crop=True, crop_size=square(224)),
    "mobilevit": {
        "feature_extractor_type": "MobileViTFeatureExtractor", "resample": 2, "size": 288, "do_resize": True,
        "do_center_crop": True, "crop_size": 256, "do_flip_channel_order": True,
    },
    "levit": hub("Levit", 3, {"shortest_edge": 224}, IMAGENET, RESCALED, do_center_crop=True, crop_size=square(224)),
    "poolformer": hub("PoolFormer", 3, {"shortest_edge": 224}, IMAGENET, RESCALED, crop_pct=0.95, do_center_crop=True, crop_size=square(224)),
    "nothing_normalised": hub("ViT", 0, square(96), do_normalize=False, do_rescale=False),
}

TIMM = {
    "timm_vit_augreg": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5] * 3, "std": [0.5] * 3},
    "timm_resnet50_a1": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "test_input_size": [3, 288, 288], "test_crop_pct": 1.0},
    "timm_siglip": {"input_size": [3, 256, 256], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3},
    "timm_tall": {"input_size": [3, 288, 160], "interpolation": "bilinear", "crop_pct": 0.95, "crop_mode": "squash", "mean": [0.0] * 3, "std": [1.0] * 3},
    "timm_defaults": {"architecture": "efficientnet_b0", "num_classes": 1000},
}


def slow_class(config):
    name = config.get("image_processor_type") or config.get("feature_extractor_type") or "ViTImageProcessor"
    return getattr(transformers, name.replace("FeatureExtractor", "ImageProcessor"))


def processor(name, fast=False, pixels=False):
    """A function from an RGB picture of Pillow to the float32 tensor, or to its 8-bit pixels; channels first."""
    if name in TIMM:
        transform = create_transform(**resolve_data_config(pretrained_cfg=TIMM[name]), is_training=False)
        if pixels:
            resize_and_crop = type(transform)(transform.transforms[:-2])
            return lambda image: np.asarray(resize_and_crop(image)).transpose(2, 0, 1)
        return lambda image: transform(image).numpy()
    config = {key: value for key, value in TRANSFORMERS[name].items() if not key.startswith("_")}
    kind = slow_class(config)
    if fast:
        kind = getattr(transformers, kind.__name__ + "Fast")
    if pixels:
        config |= {"do_rescale": False, "do_normalize": False}
        if "include_top" in config:
            config["include_top"] = False
    made = kind.from_dict(config)
    kind_of_array = "pt" if fast else "np"
    return lambda image: np.asarray(made(image, return_tensors=kind_of_array)["pixel_values"][0])


def files(name):
    """The files that lie beside the network, as text by name."""
    if name in TIMM:
        return {"config.json": json.dumps({"architecture": "a_net", "pretrained_cfg": TIMM[name]})}
    config = {key: value for key, value in TRANSFORMERS[name].items() if not key.startswith("_")}
    model = {"model_type": TRANSFORMERS[name].get("_model_type", "other")}
    return {"preprocessor_config.json": json.dumps(config), "config.json": json.dumps(model)}
