"""Makes tests/fixtures/graphs/maps{,_nhwc}.onnx, networks of one convolution and its ReLU, and what NumPy's float64 gives
for their maps under each pooling: tests/reference/tiles.json.

    python scripts/reference/make_tiles_reference.py

The maps have 40 x 36 places, which neither the tiles that maps are reduced by nor a grid of three divides.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES, CHANNELS, HEIGHT, WIDTH = 2, 5, 40, 36


def graph(weights, bias, nhwc):
    shape = ["N", HEIGHT, WIDTH, 3] if nhwc else ["N", 3, HEIGHT, WIDTH]
    conv_input, relu_output = ("image_chw", "map_chw") if nhwc else ("image", "map")
    nodes = [
        helper.make_node("Conv", [conv_input, "weights", "bias"], ["conv"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["conv"], [relu_output]),
    ]
    if nhwc:
        nodes.insert(0, helper.make_node("Transpose", ["image"], ["image_chw"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["map_chw"], ["map"], perm=[0, 2, 3, 1]))
    initializers = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    output = helper.make_tensor_value_info("map", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "maps", [image], [output], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def grid(maps, k):
    """PyTorch's adaptive average pooling."""
    _, _, height, width = maps.shape
    cells = lambda length: [(i * length // k, -(-(i + 1) * length // k)) for i in range(k)]
    rows = [
        np.stack([maps[:, :, top:bottom, left:right].mean((2, 3)) for left, right in cells(width)], -1)
        for top, bottom in cells(height)
    ]
    return np.stack(rows, -2)


def main():
    random = np.random.default_rng(0)
    weights = random.normal(0, 1, (CHANNELS, 3, 1, 1)).astype(np.float32)
    bias = random.normal(0, 0.2, CHANNELS).astype(np.float32)
    for nhwc in (False, True):
        name = "maps_nhwc.onnx" if nhwc else "maps.onnx"
        onnx.save(graph(weights, bias, nhwc), ROOT / "tests" / "fixtures" / "graphs" / name)
    # As the test computes it: no file of pixels is needed.
    index = np.arange(IMAGES * 3 * HEIGHT * WIDTH)
    images = (index * 7919 % 1009 / 1009 * 2 - 1).astype(np.float32).reshape(IMAGES, 3, HEIGHT, WIDTH)
    maps = np.einsum("oc,nchw->nohw", weights[:, :, 0, 0].astype(np.float64), images.astype(np.float64))
    maps = np.maximum(maps + bias.astype(np.float64)[:, None, None], 0)
    pooled = {
        "avg": maps.mean((2, 3)),
        "max": maps.max((2, 3)),
        "gem": (np.maximum(maps, 1e-6) ** 3).mean((2, 3)) ** (1 / 3),
        "1x1": grid(maps, 1),
        "2x2": grid(maps, 2),
        "3x3": grid(maps, 3),
        "4x4": grid(maps, 4),
    }
    pooled = {name: [float(f"{value:.9g}") for value in values.reshape(-1)] for name, values in pooled.items()}
    reference = {"images": IMAGES, "size": [WIDTH, HEIGHT], "pooled": pooled}
    (ROOT / "tests" / "reference" / "tiles.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
