#!/usr/bin/env python3
"""An exported classifier in ONNX Runtime for Python, beside the answers of the program and Pillow's pixels.

    check_export.py GRAPH ANSWERS.json [--threads N]

ANSWERS.json is the output of `cnncodes classify --format json` for images that Pillow reads. ONNX's checker and shape inference look at
the graph first. Prints JSON: how many images there were, for how many the class, the input tensor (bit for bit), `unknown` and the
prediction set were the same, and the largest differences of a probability and of the distance.
"""

import argparse
import json
import sys

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def tensor_of(image: Image.Image, recipe: dict) -> np.ndarray:
    """H x W x 3 in float32, as torchvision, Keras or transformers make it."""
    width, height = recipe["size"]
    if recipe["resize"] == "shorter-side":
        short, side = min(image.size), recipe["shorter_side"]
        size = (side * image.width // short, side * image.height // short)
    else:
        size = tuple(recipe.get("stretched") or (width, height))
    image = image.resize(size, FILTERS[recipe["interpolation"]])
    margins = [size[0] - width, size[1] - height]
    if recipe.get("crop_offset") == "floor":
        left, top = (margin // 2 for margin in margins)
    else:
        left, top = (int(round(margin / 2)) for margin in margins)
    levels = np.asarray(image.crop((left, top, left + width, top + height)))
    if recipe["channel_order"] == "bgr":
        levels = levels[:, :, ::-1]
    float32 = lambda name: np.array(recipe[name], dtype=np.float32)
    return (levels.astype(np.float32) / float32("divisor") - float32("mean")) / float32("std")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("graph")
    parser.add_argument("answers")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    onnx.checker.check_model(arguments.graph, full_check=True)
    model = onnx.load(arguments.graph)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    types = [value.type.tensor_type for value in inferred.graph.output]
    outputs = [output.name for output in model.graph.output]
    entries = {entry.key: entry.value for entry in model.metadata_props}
    names = json.loads(entries["class_names"])
    recipe = json.loads(json.loads(entries["feature_spec"])["preprocess_json"])
    channels_last = json.loads(entries["network"])["channels_last"]
    pixels = model.graph.input[0].name == "image"
    if pixels:
        model.graph.output.append(onnx.helper.make_tensor_value_info("tensor", onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.log_severity_level = 2
    providers = ["CPUExecutionProvider"]
    # The file itself, wherever its weights are, and then with the tensor as an output.
    onnxruntime.InferenceSession(arguments.graph, options, providers=providers)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    found = {
        "images": 0,
        "class": 0,
        "tensor": 0,
        "unknown": 0,
        "set": 0,
        "probability": 0.0,
        "distance": 0.0,
        "outputs": outputs,
        "opset": {opset.domain: opset.version for opset in model.opset_import},
        "ranks": [len(kind.shape.dim) for kind in types],
        "entries": sorted(entries),
    }
    with open(arguments.answers, encoding="utf-8") as file:
        answers = json.load(file)
    for answer in answers:
        image = Image.open(answer["image"])
        image = (ImageOps.exif_transpose(image) if recipe["exif_orientation"] else image).convert("RGB")
        expected = tensor_of(image, recipe)[None]
        expected = expected if channels_last else expected.transpose(0, 3, 1, 2)
        feed = {"image": np.asarray(image)} if pixels else {"tensor": np.ascontiguousarray(expected)}
        result = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed)))
        found["images"] += 1
        same = np.ascontiguousarray(expected).tobytes() == result.get("tensor", feed.get("tensor")).tobytes()
        found["tensor"] += bool(same)
        probabilities = {entry["class"]: entry["probability"] for entry in answer["classes"]}
        label = result["label"][0]
        label = names[label] if isinstance(label, np.integer) else label
        found["class"] += label == answer["classes"][0]["class"]
        differences = [abs(float(p) - probabilities[name]) for name, p in zip(names, result["probabilities"][0])]
        found["probability"] = max(found["probability"], *differences)
        if "distance" in result:
            found["distance"] = max(found["distance"], abs(float(result["distance"][0]) - answer["distance"]))
            found["unknown"] += bool(result["unknown"][0]) == answer["unknown"]
        if "prediction_set" in result:
            chosen = {name for name, member in zip(names, result["prediction_set"][0]) if member}
            found["set"] += chosen == set(answer["set"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
