"""Writes the manifest of a network, as `cnncodes models add` does: models/NAME.toml beside models/NAME.onnx."""

import hashlib
import json
import os
import pathlib

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

TORCHVISION = {
    "preset": "torchvision",
    "size": [224, 224],
    "resize": "shorter-side",
    "shorter_side": 256,
    "interpolation": "bilinear",
    "channel_order": "rgb",
    "divisor": 255.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "exif_orientation": True,
}
KERAS_CAFFE = {
    "preset": "keras-caffe",
    "size": [224, 224],
    "resize": "stretch",
    "interpolation": "nearest",
    "channel_order": "bgr",
    "divisor": 1.0,
    "mean": [103.939, 116.779, 123.68],
    "std": [1.0, 1.0, 1.0],
    "exif_orientation": True,
}


def sha256(network):
    """SHA-256 of the graph's file followed by its files of external weights in order of name."""
    model = onnx.load(network, load_external_data=False)
    weights = {ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)}
    digest = hashlib.sha256()
    for path in [network, *(network.parent / name for name in sorted(weights))]:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write(network, architecture, layout, preprocess, note):
    """Writes the manifest of the ONNX file `network` beside it and gives its path."""
    network = pathlib.Path(network)
    (image,) = onnx.load(network, load_external_data=False).graph.input
    lines = ["format = 1", *pairs(file=network.name, sha256=sha256(network), architecture=architecture, note=note)]
    lines += ["", "[input]", *pairs(name=image.name, layout=layout)]
    lines += ["", "[preprocess]", *pairs(**preprocess)]
    manifest = network.with_suffix(".toml")
    partial = manifest.with_suffix(".toml.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, manifest)
    return manifest


def pairs(**values):
    # What JSON writes of strings, numbers, booleans and lists of them is TOML as well.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
