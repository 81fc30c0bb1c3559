"""Makes tiny ONNX graphs whose inputs leave dimensions open or normalise their image, and what onnxruntime makes of them.

    python scripts/reference/make_input_fixtures.py

Writes tests/fixtures/graphs/input_*.onnx and tests/reference/inputs.json: the output of each graph for the first of the two
seeded images of tests/fixtures/graphs/images.f32 (see make_graph_fixtures.py), turned to N x H x W x 3 where the graph wants it.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "tests" / "fixtures" / "graphs"
REFERENCE = ROOT / "tests" / "reference" / "inputs.json"
SIDE = 32


class Builder:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.last = [], [], None

    def weight(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, inputs, **attributes):
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"t_{name}"], name=name, **attributes))
        return f"t_{name}"

    def normal(self, *shape):
        return self.random.normal(0, 0.3, shape).astype(np.float32)

    def patches(self, x, weights=None, channels=3):
        """A convolution of patches, as a vision transformer begins with one, and a classifier on its mean."""
        weights = weights or self.weight(self.normal(4, channels, 8, 8))
        x = self.node("Conv", [x, weights], kernel_shape=[8, 8], strides=[8, 8])
        x = self.node("GlobalAveragePool", [self.node("Relu", [x])])
        return self.dense(self.node("Flatten", [x]), 4)

    def dense(self, x, inputs):
        return self.node("Gemm", [x, self.weight(self.normal(5, inputs)), self.weight(self.normal(5))], transB=1)

    def model(self, name, shape, output):
        image = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 5])
        graph = helper.make_graph(self.nodes, "fixture", [image], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


OPEN = ["batch_size", "num_channels", "height", "width"]


def pixel_values():
    """As Hugging Face's optimum exports."""
    b = Builder(1)
    return b.model("pixel_values", OPEN, b.patches("pixel_values"))


def channels_last():
    """As Keras with its own normalisation: x / 127.5 - 1."""
    b = Builder(2)
    x = b.node("Div", ["image", b.weight(np.float32(127.5))])
    x = b.node("Sub", [x, b.weight(np.float32(1))])
    return b.model("image", ["n", "h", "w", "c"], b.patches(b.node("Transpose", [x], perm=[0, 3, 1, 2])))


def mean_and_deviation():
    """x / 255, then ImageNet's mean and deviation, and weights by way of a Constant and an Identity."""
    b = Builder(3)
    x = b.node("Cast", ["x"], to=TensorProto.FLOAT)
    x = b.node("Mul", [x, b.weight(np.float32(1 / 255))])
    x = b.node("Sub", [x, b.weight(np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))])
    x = b.node("Div", [x, b.weight(np.float32([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))])
    constant = b.node("Constant", [], value=numpy_helper.from_array(b.normal(4, 3, 8, 8)))
    return b.model("x", OPEN, b.patches(x, b.node("Identity", [constant])))


def means(name):
    """No convolution: the mean of each of the second dimension's channels, and a dense layer."""
    b = Builder(4)
    return b.model(name, OPEN, b.dense(b.node("ReduceMean", [name], axes=[2, 3], keepdims=0), 3))


def four_channels():
    b = Builder(5)
    return b.model("image", OPEN, b.patches("image", channels=4))


def main():
    image = np.frombuffer((GRAPHS / "images.f32").read_bytes(), np.float32).reshape(2, 3, SIDE, SIDE)[:1]
    graphs = {
        "pixel_values": pixel_values(),
        "channels_last": channels_last(),
        "mean_and_deviation": mean_and_deviation(),
        "by_name": means("pixel_values"),
        "unsaid": means("image"),
        "four_channels": four_channels(),
    }
    outputs = {}
    for name, model in graphs.items():
        onnx.checker.check_model(model)
        onnx.save(model, GRAPHS / f"input_{name}.onnx")
        if name == "four_channels":
            continue
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        x = image.transpose(0, 2, 3, 1) if name == "channels_last" else image
        values = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})[0]
        outputs[name] = [float(str(value)) for value in values[0]]
    REFERENCE.write_text(json.dumps(outputs, indent=1) + "\n")


if __name__ == "__main__":
    main()
