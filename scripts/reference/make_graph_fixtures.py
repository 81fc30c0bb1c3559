"""Makes the tiny ONNX graphs of tests/fixtures/graphs and the activations that ONNX Runtime's Python gives on them.

    python scripts/reference/make_graph_fixtures.py

The graphs have the topology of VGG16, VGG11 and ResNet50, with a few channels each, in the styles that exporters
have: folded or unfolded batch normalisation, NHWC input with transposes, MatMul + Add or Gemm, weights that also
stand as graph inputs, external weights, a fixed batch of 1. Reference activations are sums and single values of
every layer for one seeded image, in tests/reference/graphs.json.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "tests" / "fixtures" / "graphs"
REFERENCE = ROOT / "tests" / "reference" / "graphs.json"
SIDE = 32


class Builder:
    """Collects nodes and seeded weights; `style` is how an exporter writes things."""

    def __init__(self, seed, *, nhwc=False, batch_norm=False, matmul=False, batch="N"):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []
        self.nhwc, self.batch_norm, self.matmul, self.batch = nhwc, batch_norm, matmul, batch
        self.counter = 0

    def name(self, kind):
        self.counter += 1
        return f"{kind}_{self.counter}"

    def weight(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind, inputs, **attributes):
        name = self.name(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [f"t_{name}"], name=name, **attributes))
        return f"t_{name}"

    def normal(self, *shape):
        fan_in = int(np.prod(shape[1:]))
        return self.random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)

    def conv(self, x, channels_in, channels_out, kernel=3, stride=1, relu=True):
        inputs = [x, self.weight(self.normal(channels_out, channels_in, kernel, kernel))]
        if not self.batch_norm:
            inputs.append(self.weight(self.random.normal(0, 0.1, channels_out).astype(np.float32)))
        pad = kernel // 2
        x = self.node("Conv", inputs, kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2)
        if self.batch_norm:
            uniform = lambda low, high: self.weight(self.random.uniform(low, high, channels_out).astype(np.float32))
            x = self.node("BatchNormalization", [x, uniform(0.8, 1.2), uniform(-0.1, 0.1), uniform(-0.1, 0.1), uniform(0.8, 1.2)])
        return self.node("Relu", [x]) if relu else x

    def dense(self, x, inputs, outputs, relu=True):
        weights = self.normal(outputs, inputs)
        bias = self.random.normal(0, 0.1, outputs).astype(np.float32)
        if self.matmul:
            x = self.node("MatMul", [x, self.weight(np.ascontiguousarray(weights.T))])
            x = self.node("Add", [x, self.weight(bias)])
        else:
            x = self.node("Gemm", [x, self.weight(weights), self.weight(bias)], transB=1)
        return self.node("Relu", [x]) if relu else x

    def start(self):
        return self.node("Transpose", ["image"], perm=[0, 3, 1, 2]) if self.nhwc else "image"

    def model(self, output, *, weights_as_inputs=False):
        shape = [self.batch, SIDE, SIDE, 3] if self.nhwc else [self.batch, 3, SIDE, SIDE]
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
        if weights_as_inputs:
            inputs += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in self.weights]
        graph = helper.make_graph(
            self.nodes, "fixture", inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, [self.batch, 5])], self.weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 3 if weights_as_inputs else 8
        return model


def vgg(blocks, **style):
    """Layers by canonical name, and the model."""
    b = Builder(sum(blocks), **{key: value for key, value in style.items() if key != "weights_as_inputs"})
    layers, x, channels = {}, b.start(), 3
    for index, count in enumerate(blocks, 1):
        for position in range(1, count + 1):
            x = layers[f"conv{index}_{position}"] = b.conv(x, channels, 4)
            channels = 4
        x = layers[f"pool{index}"] = b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    if b.nhwc:
        x = b.node("Transpose", [x], perm=[0, 2, 3, 1])
        x = b.node("Reshape", [x, b.weight(np.array([-1, 4], np.int64))])
    else:
        x = b.node("Flatten", [x])
    x = layers["fc6"] = b.dense(x, 4, 8)
    if not b.nhwc:
        x = b.node("Dropout", [x])
    x = layers["fc7"] = b.dense(x, 8, 8)
    x = layers["fc8"] = b.dense(x, 8, 5, relu=False)
    x = layers["prob"] = b.node("Softmax", [x], axis=-1)
    return layers, b.model(x, weights_as_inputs=style.get("weights_as_inputs", False))


def resnet50(stride_first, **style):
    b = Builder(50, **style)
    layers = {}
    x = layers["conv1"] = b.conv(b.start(), 3, 2, kernel=7, stride=2)
    x = layers["pool1"] = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 2
    for stage, count in enumerate([3, 4, 6, 3]):
        width = 2 * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            first, second = (stride, 1) if stride_first else (1, stride)
            y = b.conv(x, channels, width, kernel=1, stride=first)
            y = b.conv(y, width, width, kernel=3, stride=second)
            y = b.conv(y, width, 4 * width, kernel=1, relu=False)
            if block == 0:
                x = b.conv(x, channels, 4 * width, kernel=1, stride=stride, relu=False)
            channels = 4 * width
            x = b.node("Relu", [b.node("Add", [y, x])])
            layers[f"res{stage + 2}{'abcdef'[block]}"] = x
    if b.nhwc:
        x = layers["pool5"] = b.node("ReduceMean", [x], axes=[2, 3], keepdims=0)
    else:
        x = layers["pool5"] = b.node("GlobalAveragePool", [x])
        x = b.node("Flatten", [x])
    x = layers["fc1000"] = b.dense(x, channels, 5, relu=False)
    return layers, b.model(x)


def image(seed):
    return np.random.default_rng(seed).normal(0, 1, (2, 3, SIDE, SIDE)).astype(np.float32)


def reference(model, layers, nhwc, batch, folder):
    """Every layer's values for two images, by Python's ONNX Runtime on the uncut graph."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.ir_version = max(probe.ir_version, 4)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in layers.values())
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = image(7)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if nhwc else x
    runs = [x] if batch == "N" else [x[:1], x[1:]]
    results = [session.run(None, {"image": part}) for part in runs]
    out = {}
    for position, name in enumerate(layers):
        values = np.concatenate([result[position] for result in results]).reshape(2, -1).astype(np.float64)
        out[name] = {
            "tensor": layers[name],
            "width": values.shape[1],
            "sums": values.sum(axis=1).tolist(),
            "squares": (values**2).sum(axis=1).tolist(),
            "last": values[:, -1].tolist(),
        }
    return out


def main():
    GRAPHS.mkdir(parents=True, exist_ok=True)
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    cases = {
        "vgg16": (vgg, [2, 2, 3, 3, 3], {}),
        "vgg16_bn": (vgg, [2, 2, 3, 3, 3], {"batch_norm": True}),
        "vgg16_nhwc": (vgg, [2, 2, 3, 3, 3], {"nhwc": True, "matmul": True}),
        "vgg11_weights_as_inputs": (vgg, [1, 1, 2, 2, 2], {"weights_as_inputs": True}),
        "vgg11_batch1": (vgg, [1, 1, 2, 2, 2], {"batch": 1}),
        "vgg11_external": (vgg, [1, 1, 2, 2, 2], {}),
        "resnet50_v1": (resnet50, True, {"batch_norm": True}),
        "resnet50_v15": (resnet50, False, {}),
        "resnet50_nhwc": (resnet50, True, {"nhwc": True, "matmul": True}),
    }
    values = {}
    for name, (build, form, style) in cases.items():
        layers, model = build(form, **style)
        path = GRAPHS / f"{name}.onnx"
        values[name] = reference(model, layers, style.get("nhwc", False), style.get("batch", "N"), GRAPHS)
        if name.endswith("external"):
            weights = path.with_suffix(".weights")
            weights.unlink(missing_ok=True)
            onnx.save(model, path, save_as_external_data=True, location=weights.name, size_threshold=0)
        else:
            onnx.save(model, path)
        onnx.checker.check_model(str(path))
    # The seeded input, so that the tests need no copy of NumPy's generator.
    (GRAPHS / "images.f32").write_bytes(image(7).tobytes())
    REFERENCE.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
