"""Makes tiny vision transformers with seeded weights in tests/fixtures/graphs/transformers, and PyTorch's activations on them.

    python scripts/reference/make_transformer_fixtures.py

The Python is that of scripts/reference/networks (scripts/export/requirements-networks.txt). The networks are timm's and
transformers' own classes with a few channels, written by PyTorch's two exporters. References come from forward hooks: sums,
squares and an ordered sum for every block, its class token and the mean of its patches, in tests/reference/transformers.json.
The image is made by a formula, so that the tests need no generator.
"""

import contextlib
import io
import json
import logging
import pathlib
import warnings

import numpy as np
import timm.models as timm
import torch
import transformers
from image_tower import ImageTower

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "tests" / "fixtures" / "graphs" / "transformers"
REFERENCE = ROOT / "tests" / "reference" / "transformers.json"
SIDE = 32


def vit(**options):
    form = {"img_size": SIDE, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "num_classes": 5}
    return timm.VisionTransformer(**(form | options))


def distilled():
    return timm.VisionTransformerDistilled(
        img_size=SIDE, patch_size=8, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2, num_classes=5
    )


def swin():
    return timm.SwinTransformer(
        img_size=SIDE, patch_size=4, embed_dim=4, depths=(2, 1), num_heads=(1, 2), window_size=4, mlp_ratio=2, num_classes=5
    )


def small(**more):
    return {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": SIDE, "patch_size": 8} | more  # fmt: skip


def clip():
    config = transformers.CLIPVisionConfig(**small(projection_dim=8))
    return ImageTower(transformers.CLIPVisionModelWithProjection(config), ["image_embeds", "last_hidden_state"])


def siglip():
    config = transformers.SiglipVisionConfig(**small())
    return ImageTower(transformers.SiglipVisionModel(config), ["last_hidden_state", "pooler_output"])


# Name: the network, the exporter, its opset, tokens before the patches, whether there is a class token, what the head reads.
CASES = {
    "vit": (lambda: vit(), "legacy", 17, 1, True, "cls"),
    "vit_opset14": (lambda: vit(), "legacy", 14, 1, True, "cls"),
    "vit_mean": (lambda: vit(class_token=False, global_pool="avg"), "dynamo", 18, 0, False, "mean"),
    "dinov2_reg4": (lambda: vit(reg_tokens=4, init_values=0.5, num_classes=0), "dynamo", 18, 5, True, "cls"),
    "dinov2": (lambda: vit(init_values=0.5, num_classes=0), "legacy", 17, 1, True, "cls"),
    "deit_distilled": (distilled, "legacy", 17, 2, True, "cls"),
    "siglip_map": (lambda: vit(class_token=False, global_pool="map", num_classes=0), "legacy", 17, 0, False, "mean"),
    "clip": (clip, "dynamo", 18, 1, True, "cls"),
    "siglip": (siglip, "legacy", 17, 0, False, "mean"),
    "swin": (swin, "legacy", 17, None, False, "none"),
}


def image():
    index = np.arange(3 * SIDE * SIDE).reshape(3, SIDE, SIDE)
    channel, row, column = index // SIDE**2, index // SIDE % SIDE, index % SIDE
    return (((channel * 89 + row * 31 + column * 17) % 256) / 64 - 2).astype(np.float32)[None]


def blocks(model):
    """The modules of the blocks, in order."""
    names = []
    for name, module in model.named_modules():
        if type(module).__name__ in ("Block", "SwinTransformerBlock", "CLIPEncoderLayer", "SiglipEncoderLayer"):
            names.append(name)
    return names


def summary(values):
    values = values.astype(np.float64).ravel()
    return {
        "width": values.size,
        "sum": values.sum(),
        "squares": (values**2).sum(),
        "ordered": float((values * (np.arange(values.size) % 97)).sum() / 97),
    }


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)
    GRAPHS.mkdir(parents=True, exist_ok=True)
    references = {}
    for name, (make, exporter, opset, prefix, class_token, default) in CASES.items():
        torch.manual_seed(0)
        model = make().eval()
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if weight.ndim == 1:
                    weight.add_(0.1 * torch.randn_like(weight))
                else:
                    weight.copy_(torch.randn_like(weight) / np.sqrt(weight[0].numel() if weight.shape[0] > 1 else 2))
        x = torch.from_numpy(image())
        path = GRAPHS / f"{name}.onnx"
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            two = torch.cat([x, x])
            if exporter == "legacy":
                axes = {"image": {0: "batch"}}
                torch.onnx.export(
                    model, two, path, input_names=["image"], dynamic_axes=axes, dynamo=False, opset_version=opset
                )
            else:
                shapes = ({0: torch.export.Dim("batch")},)
                program = torch.onnx.export(model, (two,), dynamic_shapes=shapes, dynamo=True, verbose=False)
                for value in [*program.model.graph, *program.model.graph.all_nodes()]:
                    value.metadata_props.clear()
                    value.doc_string = None
                program.save(path)
        found, hooks = {}, []
        for at, module in enumerate(blocks(model)):
            def keep(module, inputs, output, at=at):
                output = output[0] if isinstance(output, tuple) else output
                found[f"block{at}"] = output.detach().numpy()

            hooks.append(model.get_submodule(module).register_forward_hook(keep))
        with torch.no_grad():
            outputs = model(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        layers = {}
        for layer, values in found.items():
            if prefix is None:
                layers[layer] = {"none": summary(values.transpose(0, 3, 1, 2))}
                continue
            layers[layer] = {"none": summary(values), "mean": summary(values[:, prefix:].mean(1))}
            if class_token:
                layers[layer]["cls"] = summary(values[:, 0])
        references[name] = {
            "prefix": prefix,
            "class_token": class_token,
            "default": default,
            "outputs": [summary(output.numpy()) for output in outputs],
            "layers": layers,
        }
    REFERENCE.write_text(json.dumps(references, indent=1) + "\n")


if __name__ == "__main__":
    main()
