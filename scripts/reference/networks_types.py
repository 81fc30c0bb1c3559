"""Compares layers of networks whose weights have other types with ONNX Runtime's on the whole graph. Run it through
scripts/reference/networks.

    python scripts/reference/networks_types.py PROGRAM WORK docs/networks.md [NAME...]

Each network of timm is built and exported as in networks_pytorch.py, and then written in float16, in bfloat16, with 8-bit weights
whose activations are quantised dynamically, and quantised statically with QuantizeLinear and DequantizeLinear. Layers at a
quarter, a half and three quarters of the network and the default one become outputs of the whole graph, which Python's onnxruntime
runs image by image. It does not run bfloat16 on a processor: there the reference is the graph in float32 with weights that were
rounded to bfloat16.
"""

import logging
import warnings

import network_table
import numpy as np
import onnx
import onnxruntime
from network_table import IMAGES, images_of, listed, relative
from networks_pytorch import build, export
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

NETWORKS = ["deit_tiny_patch16_224", "convnextv2_tiny", "repvgg_a0", "ghostnet_100"]
TYPES = ["float16", "bfloat16", "dynamic int8", "static int8 (QDQ)"]


class Images(CalibrationDataReader):
    def __init__(self, name, x):
        self.left = [{name: image[None]} for image in x]

    def get_next(self):
        return self.left.pop() if self.left else None


def rounded(values):
    """The bits of bfloat16 numbers, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def in_bfloat16(path, wide):
    """The network with all its numbers in bfloat16, or (`wide`) in float32 after they were rounded to bfloat16."""
    model = onnx.load(path)
    kind = TensorProto.FLOAT if wide else TensorProto.BFLOAT16

    def convert(tensor):
        if tensor.data_type != TensorProto.FLOAT:
            return
        bits = rounded(numpy_helper.to_array(tensor).astype(np.float32))
        data = (bits.astype(np.uint32) << 16).tobytes() if wide else bits.tobytes()
        tensor.CopyFrom(TensorProto(name=tensor.name, data_type=kind, dims=tensor.dims, raw_data=data))

    for tensor in model.graph.initializer:
        convert(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value":
                convert(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = kind
    del model.graph.value_info[:]
    return model


def typed(path, kind, x, work):
    """The network in another type, and what ONNX Runtime is given in its place: a model and the images."""
    name = onnx.load(path, load_external_data=False).graph.input[0].name
    if kind == "float16":
        model = convert_float_to_float16(onnx.load(path))
        return model, model, x.astype(np.float16)
    if kind == "bfloat16":
        return in_bfloat16(path, wide=False), in_bfloat16(path, wide=True), x
    prepared, target = work / "prepared.onnx", work / "quantised.onnx"
    quant_pre_process(path, prepared)
    if kind == "dynamic int8":
        quantize_dynamic(prepared, target, weight_type=QuantType.QUInt8)
    else:
        quantize_static(prepared, target, Images(name, x), quant_format=QuantFormat.QDQ)
    model = onnx.load(target)
    return model, model, x


def run_whole(model, tensors, x, optimised):
    """The tensors of the whole graph, for the images of `x` one by one, with all optimisations or with basic ones."""
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = onnx.ModelProto.FromString(model.SerializeToString())
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in there)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [session.run(tensors, {session.get_inputs()[0].name: image[None]}) for image in x]
    return [np.concatenate(values).astype(np.float32) for values in zip(*found)]


def compare(program, work, package, name, exporter):
    network, side = build("timm", name)
    plain, path = work / "plain.onnx", work / "net.onnx"
    export(network, side, plain, "legacy")
    images = work / f"images{side}"
    x = (np.stack(images_of(side, images)).astype(np.float32) / np.float32(127.5) - 1).transpose(0, 3, 1, 2)
    model, reference, x = typed(plain, exporter, np.ascontiguousarray(x), work)
    onnx.save(model, path)
    program.run("models", "add", path, "--name", "net", "--preprocess", "tf", "--force", "--size", str(side), "--shorter-side", str(side))
    layers, seconds, form = listed(program)
    inner = [layer for layer in layers if not layer["penultimate"]]
    chosen = [inner[len(inner) * quarter // 4] for quarter in (1, 2, 3)]
    chosen += [layer for layer in layers if layer["penultimate"]]
    ours = program.features(images, [layer["name"] for layer in chosen], "--pool", "none")
    # Beyond its basic optimisations ONNX Runtime leaves out roundings to float16, here and there.
    theirs = run_whole(reference, [layer["tensor"] for layer in chosen], x, optimised=exporter != "float16")
    rows = [(layer["name"], relative(ours[layer["name"]], values)) for layer, values in zip(chosen, theirs)]
    rows[-1] = (f"default: {rows[-1][0]}", rows[-1][1])
    assert len(x) == IMAGES
    return seconds, form, rows


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    networks = [("types", name, kind) for name in NETWORKS for kind in TYPES]
    network_table.run(networks, {"onnxruntime": onnxruntime.__version__}, compare)


if __name__ == "__main__":
    main()
