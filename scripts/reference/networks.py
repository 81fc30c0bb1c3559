"""Compares layers of many networks with the frameworks' own activations. Run it through scripts/reference/networks.

    python scripts/reference/networks.py PROGRAM WORK docs/networks.md [NAME...]

Each network is built with seeded weights, whose batch normalisation gets the statistics of a batch of noise so that
activations stay of order one, and exported by one of PyTorch's two exporters. The images have the network's own size, so
that both sides start from the same input. Forward hooks give the framework's activations: of the blocks that
`layers` names, at a quarter, a half and three quarters of the network; where it names none, of containers of modules at these
places, with the layer of the same shape that is nearest. The default layer is compared with the input of the last dense layer, with the
pooled output, or with the class token or the mean of the patches.
"""

import contextlib
import datetime
import io
import json
import logging
import pathlib
import platform
import subprocess
import sys
import time
import urllib.parse
import warnings

import h5py
import numpy as np
import timm
import torch
import torchvision
import transformers
from PIL import Image

TOLERANCE = 1e-4
IMAGES = 2
# Layers of one shape that are compared at once with a module that has no name in the graph.
CANDIDATES = 60

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


class ImageTower(torch.nn.Module):
    """A network of transformers with plain tensors as outputs, as optimum exports it."""

    def __init__(self, model, outputs):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixel_values):
        found = self.model(pixel_values=pixel_values)
        return tuple(found[name] for name in self.outputs)


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


def relative(ours, theirs):
    """The largest difference over the largest value, with maps channels first or last."""
    if ours.size != theirs.size:
        return np.inf
    best = np.inf
    forms = [theirs.reshape(IMAGES, -1)]
    if theirs.ndim == 4:
        forms.append(theirs.transpose(0, 3, 1, 2).reshape(IMAGES, -1))
    for form in forms:
        best = min(best, float(np.abs(ours.reshape(IMAGES, -1) - form).max() / np.abs(form).max()))
    return best


class Program:
    def __init__(self, program, work):
        self.program, self.work = program, work

    def run(self, *arguments):
        command = [self.program, *arguments, "--models", self.work / "models"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def features(self, images, layers, *more):
        """The activations of each layer: its name in the file, and an array."""
        output = self.work / "features.h5"
        output.unlink(missing_ok=True)
        named = [f"--layer={layer}" for layer in layers]
        self.run("extract", images, "--model", "net", *named, *more, "--force", "-o", output)
        with h5py.File(output) as file:
            found = {}
            for name, data in file["layers"].items():
                found[urllib.parse.unquote(name)] = data[()].reshape(IMAGES, *data.attrs["shape"])
            return found


def images_of(side, folder):
    """Smooth pictures with noise, of a network's own size, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(IMAGES):
        random = np.random.default_rng(index)
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        noise = random.integers(-20, 21, (side, side, 3))
        Image.fromarray(np.clip(np.asarray(coarse, int) + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return [np.asarray(Image.open(folder / f"{index}.png")) for index in range(IMAGES)]


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
    start = time.perf_counter()
    layers = json.loads(program.run("layers", "net", "--format", "json"))
    seconds = time.perf_counter() - start
    listing = program.run("layers", "net").splitlines()[0]
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
            shapes = [list(wanted.shape[1:]), [wanted.shape[-1], *wanted.shape[1:-1]]]
            same = [layer for layer in layers if layer["shape"] in shapes]
            middle = len(same) * quarter // 4
            nearest = sorted(range(len(same)), key=lambda at: abs(at - middle))
            best = np.inf
            for start in range(0, len(nearest), CANDIDATES):
                names = [same[at]["name"] for at in nearest[start : start + CANDIDATES]]
                ours = program.features(images, names, "--pool", "none")
                best = min([best, *(relative(found, wanted) for found in ours.values())])
                if best <= TOLERANCE:
                    break
            rows.append((module, best))
    ((default, ours),) = program.features(images, []).items()
    rows.append((f"default: {default}", default_difference(model, ours, x, outputs)))
    return {"network": name, "package": package, "exporter": exporter, "seconds": seconds, "form": listing, "rows": rows}


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


def report(results, target):
    versions = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
    }
    good = all(difference <= TOLERANCE for result in results for _, difference in result["rows"])
    lines = [
        "# Networks of other kinds",
        "",
        "Written by `scripts/reference/networks`, which describes the method. The networks have seeded weights. Three inner layers and",
        f"the default one are compared with PyTorch's own activations. Tolerance: {TOLERANCE:g} of a layer's largest value.",
        "",
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "",
        "| network | exporter | `layers` takes | what it is recognised as | layers: largest difference over the largest value |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        rows = "; ".join(f"{name} {difference:.1e}" for name, difference in result["rows"])
        form = result["form"].split(": ", 1)[1].rsplit(", ", 1)[0]
        lines.append(
            f"| {result['package']} {result['network']} | {result['exporter']} | {result['seconds']:.2f} s | {form} | {rows} |"
        )
    target.write_text("\n".join(lines) + "\n")
    return good


def main():
    program, work, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    wanted = sys.argv[4:]
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    work.mkdir(parents=True, exist_ok=True)
    # What was compared is kept, so that networks can be compared one by one.
    kept = work / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    failed = good = False
    for package, name, exporter in NETWORKS:
        if wanted and name not in wanted:
            continue
        try:
            result = compare(Program(program, work), work, package, name, exporter)
        except Exception as error:  # noqa: BLE001
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            failed = True
            continue
        results[f"{package} {name}"] = result
        rows = "; ".join(f"{layer} {difference:.1e}" for layer, difference in result["rows"])
        print(f"{name} ({exporter}), layers in {result['seconds']:.2f} s: {rows}", flush=True)
        kept.write_text(json.dumps(results))
        order = [f"{package} {name}" for package, name, _ in NETWORKS]
        good = report([results[key] for key in order if key in results], target)
    sys.exit(0 if good and not failed else 1)


if __name__ == "__main__":
    main()
