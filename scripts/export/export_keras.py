"""Exports a VGG or ResNet of keras.applications to ONNX through tf2onnx, with its manifest for cnncodes.

    scripts/export/keras vgg16 resnet50
    scripts/export/keras vgg16 --weights none --seed 0           seeded weights, for tests
    scripts/export/keras vgg16 --weights mine.weights.h5         weights of one's own

Writes models/NAME.onnx (NHWC, as Keras has it, any number of images) and models/NAME.toml, with the
preprocessing of keras.applications for these networks: stretched to 224 x 224, BGR, mean of ImageNet subtracted.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402

import model_manifest  # noqa: E402

NETWORKS = {name.lower(): name for name in ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")}
OPSET = 17


def build(name, weights, seed):
    """The network, and a note where the weights come from."""
    make = getattr(keras.applications, NETWORKS[name])
    note = f"keras {keras.__version__} {NETWORKS[name]}"
    if weights == "none":
        keras.utils.set_random_seed(seed)
        model = make(weights=None)
        vary(model, seed)
        return model, f"{note}, untrained, seed {seed}"
    if weights == "DEFAULT":
        return make(weights="imagenet"), f"{note}, ImageNet weights"
    path = pathlib.Path(weights)
    model = make(weights=None)
    model.load_weights(path)
    return model, f"{note}, weights of {path.name}"


def vary(model, seed):
    """Gives biases and batch normalisation's statistics other values than 0 and 1, so that an exporter cannot
    drop them unseen."""
    random = np.random.default_rng(seed)
    ranges = {"gamma": (0.8, 1.2), "moving_variance": (0.8, 1.2), "beta": (-0.1, 0.1), "moving_mean": (-0.1, 0.1)}
    ranges["bias"] = ranges["beta"]
    for weight in model.weights:
        if weight.name in ranges:
            weight.assign(random.uniform(*ranges[weight.name], weight.shape).astype(np.float32))


def export(model, path, opset=OPSET):
    """Writes `model` to `path`, complete or not at all, with a dynamic batch.

    tf2onnx copies every constant dozens of times: VGG16 whole took it more than 24 GB of memory. So the dense
    layers' kernels, nine tenths of VGG16, are inputs while it works, and become constants afterwards.
    """
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    rest = [weight.value for weight in model.non_trainable_variables]

    def call(image, *dense):
        given = dict(zip((kernel.path for kernel in kernels), dense))
        weights = [given.get(weight.path, weight.value) for weight in model.trainable_variables]
        output, _ = model.stateless_call(weights, rest, image, training=False)
        return {model.output_names[0]: output}

    spec = lambda shape, name: tf.TensorSpec(shape, tf.float32, name=name)  # noqa: E731
    signature = [spec((None, *model.input_shape[1:]), "input")]
    signature += [spec(kernel.shape, f"kernel_{index}") for index, kernel in enumerate(kernels)]
    proto, _ = tf2onnx.convert.from_function(tf.function(call), input_signature=signature, opset=opset)
    graph = proto.graph
    inputs = {value.name: value for value in graph.input}
    for index, kernel in enumerate(kernels):
        name = f"kernel_{index}"
        graph.input.remove(inputs[name])
        graph.initializer.append(onnx.numpy_helper.from_array(kernel.numpy(), name))
    partial = path.with_suffix(".onnx.partial")
    onnx.save(proto, partial)
    os.replace(partial, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("network", nargs="+", choices=NETWORKS)
    arguments.add_argument("--weights", default="DEFAULT", help="DEFAULT (ImageNet), none, or a file")
    arguments.add_argument("--seed", type=int, default=0, help="of the weights with --weights none")
    arguments.add_argument("--name", help="of the model; the network's own when left out")
    arguments.add_argument("--models", type=pathlib.Path, default="models", help="the folder to write to")
    options = arguments.parse_args()
    if options.name and len(options.network) > 1:
        arguments.error("--name goes with one network")
    options.models.mkdir(parents=True, exist_ok=True)
    for network in options.network:
        model, note = build(network, options.weights, options.seed)
        path = options.models / f"{options.name or network}.onnx"
        export(model, path)
        architecture = NETWORKS[network]
        if architecture.startswith("ResNet"):
            architecture += ", stride in the 1x1 convolutions"
        note = f"{note}; tensorflow {tf.__version__}, tf2onnx {tf2onnx.__version__}"
        print(model_manifest.write(path, architecture, "nhwc", model_manifest.KERAS_CAFFE, note))


if __name__ == "__main__":
    main()
