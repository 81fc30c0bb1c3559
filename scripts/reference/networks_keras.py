"""Compares layers of networks of keras.applications with Keras's own activations. Run it through scripts/reference/networks.

    python scripts/reference/networks_keras.py PROGRAM WORK docs/networks.md [NAME...]

Each network has seeded weights, and its batch normalisation the statistics of a batch of noise, so that activations stay of order
one. tf2onnx exports it. The images have the network's own size, and the values that it wants: 0 to 255 where it scales them
itself, else -1 to 1. Sub-models give Keras's activations: of sums, concatenations, products and activations at a quarter, a half
and three quarters of the network, compared with the layer of the same shape that is nearest. The default layer is compared
with the global average that Keras's own top reads.
"""

import logging
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import network_table  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402
from network_table import images_of, listed, nearest_layer, relative  # noqa: E402

NETWORKS = ["EfficientNetB0", "InceptionV3", "Xception", "NASNetMobile", "DenseNet121", "ConvNeXtTiny", "MobileNet"]
# These scale and normalise bytes themselves.
TAKES_BYTES = ("EfficientNetB0", "ConvNeXtTiny")
SEEN_IN_GRAPHS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.Add, keras.layers.Concatenate, keras.layers.Multiply)


def use_operators_that_tf2onnx_knows():
    """ConvNeXt's depthwise convolutions are compiled functions in Keras 3, and its GELU takes Erfc: tf2onnx has neither."""
    from keras.src.backend.tensorflow import nn

    grouped = nn.conv

    def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
        channels = inputs.shape[-1]
        if kernel.shape[-2] != 1 or kernel.shape[-1] != channels or channels == 1:
            return grouped(inputs, kernel, strides, padding, data_format, dilation_rate)
        kernel = tf.transpose(kernel, [0, 1, 3, 2])
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, 1, 1, 1], padding.upper())

    nn.conv = conv
    nn.gelu = lambda x, approximate=True: 0.5 * x * (1 + tf.math.erf(x / np.float32(np.sqrt(2))))


def build(name):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    if norms:
        side = model.input_shape[1]
        for norm in norms:
            norm.momentum = 0.0
        noise = np.random.default_rng(0).normal(0, 1, (4, side, side, 3)).astype(np.float32)
        model(127.5 * (noise + 1) if name in TAKES_BYTES else noise, training=True)
    for layer in model.layers:
        # tf2onnx makes inputs without a value of tensors that a function captures.
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is not None:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    for weight in model.weights:
        if weight.name == "gamma" and weight.path.split("/")[-2].endswith("layer_scale"):
            weight.assign(np.random.default_rng(0).uniform(0.5, 1, weight.shape))
    return model


def compare(program, work, package, name, exporter):
    model = build(name)
    side = model.input_shape[1]
    path = work / "net.onnx"
    signature = [tf.TensorSpec((None, side, side, 3), tf.float32, name="input")]
    graph, _ = tf2onnx.convert.from_function(
        tf.function(lambda image: model(image, training=False)), input_signature=signature, opset=17
    )
    onnx.save(graph, path)
    images = work / f"images{side}"
    x = np.stack(images_of(side, images)).astype(np.float32)
    settings = ["--size", str(side), "--shorter-side", str(side)]
    if name in TAKES_BYTES:
        settings += ["--divisor", "1", "--mean", "0,0,0"]
    else:
        x = x / np.float32(127.5) - 1
    program.run("models", "add", path, "--name", "net", "--preprocess", "tf", "--force", *settings)
    layers, seconds, form = listed(program)
    places = [layer for layer in model.layers if isinstance(layer, SEEN_IN_GRAPHS) and len(layer.output.shape) == 4]
    places = [layer for layer in places if layer.output.shape[1] > 1]
    chosen = [places[len(places) * quarter // 4] for quarter in (1, 2, 3)]
    average = next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.GlobalAveragePooling2D))
    after = model.layers[model.layers.index(average) + 1 :]
    # ConvNeXt normalises the average before its dense layer.
    top = next((layer for layer in after if isinstance(layer, keras.layers.LayerNormalization)), average)
    wanted = keras.Model(model.input, [layer.output for layer in [*chosen, top]])(x, training=False)
    wanted = [np.asarray(values) for values in wanted]
    rows = [
        (layer.name, nearest_layer(program, images, layers, values, quarter))
        for quarter, (layer, values) in enumerate(zip(chosen, wanted), 1)
    ]
    ((default, ours),) = program.features(images, []).items()
    rows.append((f"default: {default}", relative(ours, wanted[-1])))
    return seconds, form, rows


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    use_operators_that_tf2onnx_knows()
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "tf2onnx": tf2onnx.__version__}
    network_table.run([("keras", name, "tf2onnx") for name in NETWORKS], versions, compare)


if __name__ == "__main__":
    main()
