"""Compares layers of many networks with PyTorch's own activations. Run it through scripts/reference/networks.

    python scripts/reference/networks_pytorch.py PROGRAM WORK docs/networks.md [NAME...]

Each network is built with seeded weights, whose batch normalisation gets the statistics of a batch of noise so that
activations stay of order one, and exported by one of PyTorch's two exporters. The images have the network's own size, so
that both sides start from the same input. Forward hooks give the framework's activations: of the blocks that
`layers` names, at a quarter, a half and three quarters of the network; where it names none, of containers of modules at these
places, with the layer of the same shape that is nearest. The default layer is compared with the input of the last dense layer, with the
pooled output, or with the class token or the mean of the patches.
"""

import contextlib
import io
import logging
import warnings

import network_table
import numpy as np
import timm
import torch
import torchvision
import transformers
from image_tower import ImageTower
from network_table import IMAGES, images_of, listed, nearest_layer, relative

NETWORKS = [
    ("torchvision", "vit_b_16", "dynamo"),
    ("torchvision", "swin_t", "legacy"),
    ("torchvision", "swin_v2_t", "legacy"),
    ("torchvision", "maxvit_t", "legacy"),
    ("torchvision", "inception_v3", "legacy"),
    ("torchvision", "googlenet", "legacy"),
    ("timm", "deit_tiny_patch16_224", "legacy"),
    ("timm", "deit_tiny_distilled_patch16_224", "legacy"),
    ("timm", "vit_small_patch14_dinov2", "legacy"),
    ("timm", "vit_small_patch14_reg4_dinov2", "dynamo"),
    ("timm", "vit_base_patch16_siglip_224", "legacy"),
    ("timm", "vit_tiny_r_s16_p8_224", "legacy"),
    ("timm", "swin_tiny_patch4_window7_224", "dynamo"),
    ("timm", "eva02_tiny_patch14_224", "dynamo"),
    ("timm", "convnextv2_tiny", "legacy"),
    ("timm", "efficientvit_b0", "legacy"),
    ("timm", "mobileone_s0", "legacy"),
    ("timm", "repvgg_a0", "legacy"),
    ("timm", "hrnet_w18", "legacy"),
    ("timm", "resnetv2_50x1_bit", "legacy"),
    ("timm", "dm_nfnet_f0", "legacy"),
    ("timm", "xception41", "legacy"),
    ("timm", "ghostnet_100", "legacy"),
    ("transformers", "ViT", "legacy"),
    ("transformers", "DINOv2 with registers", "dynamo"),
    ("transformers", "CLIP", "legacy"),
    ("transformers", "SigLIP", "dynamo"),
]


def of_transformers(name):
    small = {"num_hidden_layers": 6, "hidden_size": 192, "num_attention_heads": 3, "image_size": 224}
    both = ["last_hidden_state", "pooler_output"]
    if name == "ViT":
        config = transformers.ViTConfig(intermediate_size=768, **small)
        return ImageTower(transformers.ViTForImageClassification(config), ["logits"])
    if name == "CLIP":
        config = transformers.CLIPVisionConfig(intermediate_size=768, patch_size=32, **small)
        return ImageTower(transformers.CLIPVisionModelWithProjection(config), ["image_embeds", "last_hidden_state"])
    if name == "SigLIP":
        config = transformers.SiglipVisionConfig(intermediate_size=768, **small)
        return ImageTower(transformers.SiglipVisionModel(config), both)
    config = transformers.Dinov2WithRegistersConfig(patch_size=14, **small)
    return ImageTower(transformers.Dinov2WithRegistersModel(config), both)


def build(package, name):
    """The network in evaluation mode, and the side of its images."""
    torch.manual_seed(0)
    side = {"inception_v3": 299, "swin_v2_t": 256}.get(name, 224)
    if package == "torchvision":
        more = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
        model = torchvision.models.get_model(name, weights=None, **more)
    elif package == "timm":
        model = timm.create_model(name, pretrained=False, **({"img_size": 224} if "dinov2" in name else {}))
        side = 224 if "dinov2" in name else model.pretrained_cfg["input_size"][-1]
    else:
        model = of_transformers(name)
    for key, weight in model.named_parameters():
        last = key.rsplit(".", 1)[-1]
        if last in ("gamma", "lambda1", "skipinit_gain") or "layer_scale" in key:
            torch.nn.init.uniform_(weight, 0.5, 1.0)
        elif any(word in last for word in ("cls", "class", "pos", "reg", "dist")) and weight.shape[:1] == (1,):
            torch.nn.init.normal_(weight, std=0.5)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        model.train()
        with torch.no_grad():
            model(torch.randn(4, 3, side, side))
    return model.eval(), side


def export(model, side, path, exporter):
    torch.backends.mha.set_fastpath_enabled(False)
    x = torch.zeros(2, 3, side, side)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        if exporter == "legacy":
            axes = {"pixel_values": {0: "batch"}}
            torch.onnx.export(
                model, x, path, input_names=["pixel_values"], dynamic_axes=axes, dynamo=False, opset_version=17
            )
        else:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(model, (x,), dynamic_shapes=shapes, dynamo=True, verbose=False).save(path)


def hooked(model, names, x):
    """The first output of each named module, and the inputs of every linear layer, for `x`."""
    modules, found = dict(model.named_modules()), {}

    def keep(name):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", output)
            if name not in found and isinstance(output, torch.Tensor):
                found[name] = output.detach().clone().numpy()

        return hook

    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        outputs = model(x)
    for hook in hooks:
        hook.remove()
    return found, outputs


def compare(program, work, package, name, exporter):
    model, side = build(package, name)
    path = work / "net.onnx"
    export(model, side, path, exporter)
    pixels = images_of(side, work / f"images{side}")
    x = (np.stack(pixels).astype(np.float32) / np.float32(127.5) - 1).transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(x))
    images = work / f"images{side}"
    size = ["--size", str(side), "--shorter-side", str(side)]
    program.run("models", "add", path, "--name", "net", "--preprocess", "tf", "--force", *size)
    layers, seconds, form = listed(program)
    modules = dict(model.named_modules())
    named = []
    for layer in layers:
        aliases = [alias for alias in layer["aliases"] if alias in modules]
        aliases += [key for alias in layer["aliases"] for key in modules if key.endswith("." + alias)]
        # Newer versions of transformers leave the encoder out of the name.
        number = layer["name"].removeprefix("block")
        aliases += [key for key in modules if key.endswith((f".layers.{number}", f".layer.{number}"))]
        if layer["name"].startswith("block") and aliases:
            named.append((layer["name"], aliases[0]))
    rows = []
    if named:
        chosen = [named[len(named) * quarter // 4] for quarter in (1, 2, 3)]
        ours = program.features(images, [layer for layer, _ in chosen], "--pool", "none")
        theirs, outputs = hooked(model, [module for _, module in chosen], x)
        rows = [(layer, relative(ours[layer], theirs[module])) for layer, module in chosen]
    else:
        # Containers that give maps: what is inside of one may not exist in the graph.
        inner = [key for key, module in modules.items() if key and len(list(module.children())) > 1]
        every, outputs = hooked(model, inner, x)
        places = [key for key, value in every.items() if value.ndim == 4 and len(value) == IMAGES and value[0, 0].size > 1]
        for quarter in (1, 2, 3):
            module = places[len(places) * quarter // 4]
            wanted = every[module]
            rows.append((module, nearest_layer(program, images, layers, wanted, quarter)))
    ((default, ours),) = program.features(images, []).items()
    rows.append((f"default: {default}", default_difference(model, ours, x, outputs)))
    return seconds, form, rows


def default_difference(model, ours, x, outputs):
    """The default layer against what the network's last linear layers read, its own outputs, and the tokens of its last
    normalisation: whichever is nearest."""
    read = []

    def keep(module, inputs, output):
        read.append(inputs[0].detach().clone().numpy())

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    hooks = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, kinds)]
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    hooks += [norm.register_forward_hook(lambda module, inputs, output: read.append(output.detach().numpy())) for norm in norms[-2:]]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    candidates = [*read[-8:], *(output.numpy() for output in outputs if isinstance(output, torch.Tensor))]
    # The class token of a layer of tokens, and the mean of its patches.
    tokens = [values for values in candidates if values.ndim == 3]
    candidates += [values[:, 0] for values in tokens]
    return min((relative(ours, values) for values in candidates if values.size == ours.size), default=np.inf)


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    versions = {module.__name__: module.__version__ for module in (torch, torchvision, timm, transformers)}
    network_table.run(NETWORKS, versions, compare)


if __name__ == "__main__":
    main()
