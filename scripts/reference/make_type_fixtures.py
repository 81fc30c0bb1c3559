"""Makes small graphs of other types, and graphs that lie, in tests/fixtures/graphs/types, and ONNX Runtime's activations on them.

    python scripts/reference/make_type_fixtures.py

One network of two convolutions and a dense layer, with an input and weights in float16 or bfloat16, with bytes as input,
quantised in three ways, with a constant `If`, an input besides the image, a reshape for one image, batch normalisation and
dropout in training mode, a layer called penultimate, and weights that overflow. References are made on the whole graph, image by
image, with the tapped tensor as one more output, in tests/reference/types.json; those of bfloat16, which ONNX Runtime cannot
run, on the same graph in float32 with weights that were rounded to bfloat16. The Python needs onnx and onnxruntime.
"""

import json
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "tests" / "fixtures" / "graphs" / "types"
REFERENCE = ROOT / "tests" / "reference" / "types.json"
SIDE, IMAGES = 16, 2


def image():
    index = np.arange(IMAGES * 3 * SIDE * SIDE).reshape(IMAGES, 3, SIDE, SIDE)
    return (index * 7919 % 256).astype(np.float32)


def weights():
    random = np.random.default_rng(0)
    normal = lambda *shape: random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)  # noqa: E731
    return {"w1": normal(8, 3, 3, 3) / 128, "b1": random.normal(0, 0.1, 8).astype(np.float32), "w2": normal(8, 8, 3, 3),
            "b2": random.normal(0, 0.1, 8).astype(np.float32), "w3": normal(8, 5), "b3": np.zeros(5, np.float32)}  # fmt: skip


def base():
    node = helper.make_node
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], name="conv1", **pads),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], name="conv2", **pads),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("GlobalAveragePool", ["r2"], ["g"], name="pool2"),
        node("Flatten", ["g"], ["f"], name="flatten"),
        node("Gemm", ["f", "w3", "b3"], ["scores"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(values, name) for name, values in weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def find(model, name):
    (node,) = [node for node in model.graph.node if node.name == name]
    return node


def insert(model, before, *nodes):
    at = list(model.graph.node).index(find(model, before))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*kept[:at], *nodes, *kept[at:]])


def in_float16(model):
    for index, tensor in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(tensor).astype(np.float16)
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def float16_inside():
    model = in_float16(base())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    insert(model, "conv1", helper.make_node("Cast", ["image"], ["narrow"], name="narrow", to=TensorProto.FLOAT16))
    find(model, "conv1").input[0] = "narrow"
    return model


def rounded(values):
    """To bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def in_bfloat16():
    model = base()
    for index, (name, values) in enumerate(weights().items()):
        tensor = TensorProto(name=name, data_type=TensorProto.BFLOAT16, dims=values.shape)
        tensor.raw_data = rounded(values).tobytes()
        model.graph.initializer[index].CopyFrom(tensor)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    return model


def of_rounded_weights():
    model = base()
    for index, (name, values) in enumerate(weights().items()):
        wide = (rounded(values).astype(np.uint32) << 16).view(np.float32)
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(wide, name))
    return model


def bytes_last():
    model = base()
    value = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    model.graph.input[0].CopyFrom(value)
    scale = numpy_helper.from_array(np.float32(1), "scale")
    model.graph.initializer.append(scale)
    insert(
        model,
        "conv1",
        helper.make_node("Cast", ["image"], ["wide"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["scaled"], name="rescaling"),
        helper.make_node("Transpose", ["scaled"], ["first"], name="transpose", perm=[0, 3, 1, 2]),
    )
    find(model, "conv1").input[0] = "first"
    return model


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = [{"image": image()[:1]}, {"image": image()[1:]}]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantised(how):
    with tempfile.TemporaryDirectory() as folder:
        plain, target = pathlib.Path(folder) / "plain.onnx", pathlib.Path(folder) / "quantised.onnx"
        onnx.save(base(), plain)
        if how == "dynamic":
            quantize_dynamic(plain, target, weight_type=QuantType.QUInt8)
        else:
            quantize_static(plain, target, Images(), quant_format=how)
        return onnx.load(target)


def constant_if():
    model = base()
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)  # noqa: E731
    branch = lambda name, kind: helper.make_graph(  # noqa: E731
        [helper.make_node(kind, ["c2"], [f"{name}_out"], name=name)], name, [], [value(f"{name}_out")]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    node = find(model, "relu2")
    node.CopyFrom(
        helper.make_node(
            "If", ["always"], ["r2"], name="relu2", then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg")
        )
    )
    return model


def other_input(default):
    model = base()
    model.graph.input.append(helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1, 8, 1, 1]))
    insert(model, "pool2", helper.make_node("Mul", ["r2", "strength"], ["m2"], name="scaling"))
    find(model, "pool2").input[0] = "m2"
    if default:
        model.graph.initializer.append(numpy_helper.from_array(np.full((1, 8, 1, 1), 2, np.float32), "strength"))
    return model


def for_one_image():
    model = base()
    shape = numpy_helper.from_array(np.array([1, 8], np.int64), "shape")
    model.graph.initializer.append(shape)
    find(model, "flatten").CopyFrom(helper.make_node("Reshape", ["g", "shape"], ["f"], name="flatten"))
    return model


def training_norm():
    model = base()
    for name, value in (("scale", 1), ("shift", 0), ("mean", 0), ("var", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.full(8, value, np.float32), name))
    inputs = ["c2", "scale", "shift", "mean", "var"]
    norm = helper.make_node("BatchNormalization", inputs, ["n2", "new_mean", "new_var"], name="norm2", training_mode=1)
    insert(model, "relu2", norm)
    find(model, "relu2").input[0] = "n2"
    return model


def standardised_weights():
    """Weights that a batch normalisation in training mode standardises, as PyTorch networks with StdConv2d have them."""
    model = base()
    for name, values in {
        "flat": np.array([1, 8, 27], np.int64),
        "whole": np.array([8, 3, 3, 3], np.int64),
        "gain": np.full(8, 0.004, np.float32),
        "shift": np.zeros(8, np.float32),
        "mean": np.zeros(8, np.float32),
        "var": np.ones(8, np.float32),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    norm = ["w1_flat", "gain", "shift", "mean", "var"]
    insert(
        model,
        "conv1",
        helper.make_node("Reshape", ["w1", "flat"], ["w1_flat"], name="flatten_weights"),
        helper.make_node("BatchNormalization", norm, ["w1_norm", "m1", "v1"], name="standardise", training_mode=1),
        helper.make_node("Reshape", ["w1_norm", "whole"], ["w1_standard"], name="unflatten_weights"),
    )
    find(model, "conv1").input[1] = "w1_standard"
    return model


def padded_maximum():
    """Zeros around a map of which the maximum is taken: ONNX Runtime 1.24 loses them when it optimises."""
    model = base()
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads"))
    model.graph.initializer.append(numpy_helper.from_array(np.full((8, 1, 1), 4, np.float32), "four"))
    below = helper.make_node("Sub", ["c1", "four"], ["below"], name="below")
    insert(model, "pool1", below, helper.make_node("Pad", ["below", "pads"], ["padded"], name="pad"))
    find(model, "pool1").CopyFrom(
        helper.make_node("MaxPool", ["padded"], ["p1"], name="pool1", kernel_shape=[3, 3], strides=[2, 2])
    )
    return model


def training_dropout():
    model = base()
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ratio"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "mode"))
    insert(model, "dense", helper.make_node("Dropout", ["f", "ratio", "mode"], ["d"], name="dropout"))
    find(model, "dense").input[0] = "d"
    return model


def own_penultimate():
    model = base()
    find(model, "pool1").output[0] = "penultimate"
    find(model, "conv2").input[0] = "penultimate"
    find(model, "relu1").output[0] = "-r1"
    find(model, "pool1").input[0] = "-r1"
    return model


def overflowing():
    """Images whose first pixel is bright give infinities."""
    model = base()
    limit = numpy_helper.from_array(np.float32(3e38), "limit")
    model.graph.initializer.append(limit)
    insert(model, "dense", helper.make_node("Mul", ["f", "limit"], ["large"], name="large"))
    find(model, "dense").input[0] = "large"
    return model


# Name: the graph, the tensors that are compared, and the graph that the reference is made on, if another.
CASES = {
    "float16": (in_float16(base()), ["r1", "r2", "f"], None),
    "float16_inside": (float16_inside(), ["r1", "r2", "f"], None),
    "bfloat16": (in_bfloat16(), ["r1", "r2", "f"], of_rounded_weights()),
    "bytes_last": (bytes_last(), ["r1", "f"], None),
    "qdq": (quantised(QuantFormat.QDQ), None, None),
    "qoperator": (quantised(QuantFormat.QOperator), None, None),
    "dynamic": (quantised("dynamic"), None, None),
    "constant_if": (constant_if(), ["r2", "f"], None),
    "other_input_default": (other_input(True), ["r2", "m2", "f"], None),
    "other_input": (other_input(False), ["r1"], None),
    "for_one_image": (for_one_image(), ["r2", "f"], None),
    "padded_maximum": (padded_maximum(), ["p1", "f"], None),
    "standardised_weights": (standardised_weights(), ["r1", "f"], None),
    "own_penultimate": (own_penultimate(), ["penultimate", "f"], None),
}
LYING = {"training_norm": training_norm(), "training_dropout": training_dropout(), "overflowing": overflowing()}


def floats(model, tensors):
    """Which of the tensors hold floats, with the activations of each image by itself, on the whole graph."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    had = {output.name for output in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in had)
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=["Pad_Fusion"]
    )
    first, *others = session.get_inputs()
    kinds = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    runs = []
    for index in range(IMAGES):
        x = image()[index : index + 1].astype(kinds.get(first.type, np.float32))
        feed = {first.name: x.transpose(0, 2, 3, 1) if first.shape[3] == 3 else x}
        feed |= {other.name: np.ones(other.shape, np.float32) for other in others}
        runs.append(session.run(tensors, feed))
    return {
        tensor: np.concatenate([run[at] for run in runs]).reshape(IMAGES, -1).astype(np.float64)
        for at, tensor in enumerate(tensors)
        if runs[0][at].dtype in (np.float32, np.float16) and runs[0][at].ndim > 1
    }


def main():
    GRAPHS.mkdir(parents=True, exist_ok=True)
    references = {}
    for name, (model, tensors, judge) in CASES.items():
        onnx.save(model, GRAPHS / f"{name}.onnx")
        if tensors is None:
            constant = {tensor.name for tensor in model.graph.initializer}
            tensors = [
                node.output[0]
                for node in model.graph.node
                if any(source not in constant for source in node.input) and node.op_type != "DynamicQuantizeLinear"
            ]
        references[name] = {}
        for tensor, values in floats(judge or model, tensors).items():
            if values.shape[1] == 1:
                continue
            ordered = (values * (np.arange(values.shape[1]) % 97)).sum(1) / 97
            references[name][tensor] = {
                "width": values.shape[1],
                "largest": float(np.abs(values).max()),
                "sums": values.sum(1).tolist(),
                "ordered": ordered.tolist(),
            }
    for name, model in LYING.items():
        onnx.save(model, GRAPHS / f"{name}.onnx")
    REFERENCE.write_text(json.dumps(references, indent=1) + "\n")


if __name__ == "__main__":
    main()
