"""Exports a VGG or ResNet of torchvision to ONNX, with its manifest for cnncodes.

    scripts/export/torchvision vgg16 resnet50
    scripts/export/torchvision resnet50 --weights IMAGENET1K_V1 --exporter dynamo
    scripts/export/torchvision vgg16 --weights none --seed 0      seeded weights, for tests
    scripts/export/torchvision vgg16 --weights checkpoint.pth     a state_dict of one's own

Writes models/NAME.onnx (NCHW, any number of images) and models/NAME.toml. The preprocessing is the one that
torchvision documents for the weights: the newer ones of ResNet resize to 232 pixels, not 256.
"""

import argparse
import os
import pathlib
import warnings

import torch
import torchvision

import model_manifest

NETWORKS = [f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")]
NETWORKS += [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
TITLES = {name: name.replace("vgg", "VGG").replace("resnet", "ResNet").replace("_bn", "") for name in NETWORKS}


def build(name, weights, seed):
    """The network in evaluation mode, its preprocessing, and a note where the weights come from."""
    preprocess = dict(model_manifest.TORCHVISION)
    package = f"torchvision {torchvision.__version__}"
    if weights == "none":
        torch.manual_seed(seed)
        model = torchvision.models.get_model(name, weights=None)
        vary_batch_norm(model)
        return model.eval(), preprocess, f"{package} {name}, untrained, seed {seed}"
    path = pathlib.Path(weights)
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        classes = state["fc.weight" if "fc.weight" in state else "classifier.6.weight"].shape[0]
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
        model.load_state_dict(state)
        return model.eval(), preprocess, f"{package} {name}, weights of {path.name}"
    entry = torchvision.models.get_model_weights(name)[weights]
    recipe = entry.transforms()
    (preprocess["shorter_side"],) = recipe.resize_size
    preprocess["size"] = recipe.crop_size * 2
    preprocess["mean"], preprocess["std"] = recipe.mean, recipe.std
    if preprocess != model_manifest.TORCHVISION:
        preprocess["preset"] = "custom"
    return torchvision.models.get_model(name, weights=entry).eval(), preprocess, f"{package} {entry}"


def vary_batch_norm(model):
    """Gives batch normalisation statistics other than 0 and 1, so that an exporter cannot drop it unseen."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)


def export(model, path, exporter, side=224):
    """Writes `model` to `path`, complete or not at all, with a dynamic batch."""
    partial = path.with_suffix(".onnx.partial")
    names = {"input_names": ["input"], "output_names": ["output"]}
    warnings.filterwarnings("ignore", module="torch")
    if exporter == "legacy":
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        torch.onnx.export(model, torch.zeros(1, 3, side, side), partial, dynamic_axes=axes, dynamo=False, **names)
    else:
        # Two images: a dimension of one is taken for fixed.
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(
            model, (torch.zeros(2, 3, side, side),), dynamic_shapes=shapes, dynamo=True, verbose=False, **names
        )
        program.save(partial)
    os.replace(partial, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("network", nargs="+", choices=NETWORKS)
    arguments.add_argument("--weights", default="DEFAULT", help="DEFAULT, another of torchvision's names, none, or a file")
    arguments.add_argument("--seed", type=int, default=0, help="of the weights with --weights none")
    arguments.add_argument("--exporter", choices=["legacy", "dynamo"], default="legacy")
    arguments.add_argument("--name", help="of the model; the network's own when left out")
    arguments.add_argument("--models", type=pathlib.Path, default="models", help="the folder to write to")
    options = arguments.parse_args()
    if options.name and len(options.network) > 1:
        arguments.error("--name goes with one network")
    options.models.mkdir(parents=True, exist_ok=True)
    for network in options.network:
        model, preprocess, note = build(network, options.weights, options.seed)
        path = options.models / f"{options.name or network}.onnx"
        export(model, path, options.exporter)
        architecture = TITLES[network]
        if architecture in ("ResNet50", "ResNet101", "ResNet152"):
            architecture += ", stride in the 3x3 convolutions (v1.5)"
        note = f"{note}; torch {torch.__version__}, {options.exporter} exporter"
        print(model_manifest.write(path, architecture, "nchw", preprocess, note))


if __name__ == "__main__":
    main()
