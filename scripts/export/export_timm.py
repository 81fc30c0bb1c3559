"""Exports networks of timm (PyTorch Image Models) to ONNX, with the config.json that says how they want their images.

    scripts/export/timm mobilenetv4_conv_small.e2400_r224_in1k
    scripts/export/timm vit_small_patch14_dinov2.lvd142m --exporter dynamo
    scripts/export/timm hrnet_w18 --weights none --seed 0      seeded weights, for tests

Writes NETWORK/model.onnx (NCHW, any number of images) and NETWORK/config.json, and prints the command that registers the
network with that preprocessing. Pretrained weights come from Hugging Face's hub, through timm.
"""

import argparse
import json
import os
import pathlib
import warnings

import timm
import torch


def build(name, weights, seed):
    """The network in evaluation mode."""
    torch.manual_seed(seed)
    return timm.create_model(name, pretrained=weights == "pretrained", exportable=True).eval()


def export(model, path, exporter):
    """Writes `model` to `path`, complete or not at all, with a dynamic batch."""
    partial = path.with_suffix(".onnx.partial")
    names = {"input_names": ["pixel_values"], "output_names": ["logits"]}
    size = model.pretrained_cfg["input_size"]
    warnings.filterwarnings("ignore", module="torch")
    # Two images: a dimension of one is taken for fixed.
    images = torch.zeros(2, *size)
    if exporter == "legacy":
        axes = {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}
        torch.onnx.export(model, images, partial, dynamic_axes=axes, dynamo=False, **names)
    else:
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(model, (images,), dynamic_shapes=shapes, dynamo=True, verbose=False, **names)
        program.save(partial)
    os.replace(partial, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("network", nargs="+", help="a name of timm.list_models()")
    arguments.add_argument("--weights", choices=["pretrained", "none"], default="pretrained")
    arguments.add_argument("--seed", type=int, default=0, help="of the weights with --weights none")
    arguments.add_argument("--exporter", choices=["legacy", "dynamo"], default="legacy")
    arguments.add_argument("--folder", type=pathlib.Path, default=".", help="where the networks' folders go")
    options = arguments.parse_args()
    for network in options.network:
        if not timm.is_model(network):
            nearest = ", ".join(timm.list_models(f"*{network.split('_')[0]}*")[:8])
            arguments.error(f"timm {timm.__version__} has no network {network}; it has {nearest}")
        model = build(network, options.weights, options.seed)
        folder = options.folder / network
        folder.mkdir(parents=True, exist_ok=True)
        export(model, folder / "model.onnx", options.exporter)
        kept = {key: value for key, value in model.pretrained_cfg.items() if value not in (None, "", ())}
        (folder / "config.json").write_text(json.dumps({"architecture": network, "pretrained_cfg": kept}, indent=1) + "\n")
        print(f"{folder}; register it with `cnncodes models add {folder} --preprocess auto`")


if __name__ == "__main__":
    main()
