"""Compares cnncodes with torchvision and Keras, layer by layer. Run it through scripts/reference/parity.

    python scripts/reference/parity.py compare torchvision|keras PROGRAM PHOTOS NUMBER WORK
    python scripts/reference/parity.py report WORK docs/parity.md

Both sides start from the same decoded pixels (photos are stored as PNG first), and each does its own
preprocessing. Activations of the framework come from forward hooks (PyTorch) or sub-models (Keras).
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

import h5py
import numpy as np
import onnx
from PIL import Image, ImageOps

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "export"))

import model_manifest  # noqa: E402

# Largest difference of a layer's activations over the layer's largest value.
TOLERANCE = 1e-3
# Largest difference of the input tensor in levels of 255, but for one pixel in a thousand.
LEVELS = 1.0
NETWORKS = ("vgg16", "resnet50")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Torchvision:
    exporters = ("legacy", "dynamo")
    preprocess = model_manifest.TORCHVISION
    layout = "nchw"
    # From the tensor to levels of 255.
    scale = 255 * np.array([0.229, 0.224, 0.225])[:, None, None]

    def __init__(self, network):
        import export_torchvision as export
        import torch

        self.torch = torch
        self.export_module = export
        self.model, _, self.note = export.build(network, "none", 0)
        self.versions = {"torch": torch.__version__, "torchvision": export.torchvision.__version__}

    def export(self, path, exporter):
        self.export_module.export(self.model, path, exporter)
        model_manifest.write(path, "", self.layout, self.preprocess, self.note)

    def tensor(self, image):
        from torchvision import transforms

        normalise = transforms.Normalize(self.preprocess["mean"], self.preprocess["std"])
        steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise]
        return transforms.Compose(steps)(image).numpy()

    def activations(self, images, layers):
        """Every layer's activations, by canonical name; layers are found by their torchvision aliases."""
        modules = dict(self.model.named_modules())
        found, hooks = {}, []

        def keep(name):
            # Later modules work in place.
            return lambda module, inputs, output: found.__setitem__(name, output.detach().clone().numpy())

        for layer in layers:
            names = [alias for alias in layer["aliases"] if alias in modules]
            if names:
                hooks.append(modules[names[0]].register_forward_hook(keep(layer["name"])))
        with self.torch.no_grad():
            scores = self.model(self.torch.from_numpy(np.stack(images)))
        for hook in hooks:
            hook.remove()
        if any(layer["name"] == "prob" for layer in layers):
            found["prob"] = scores.softmax(1).numpy()
        return found


class Keras:
    exporters = ("tf2onnx",)
    preprocess = model_manifest.KERAS_CAFFE
    layout = "nhwc"
    scale = np.ones((3, 1, 1))

    def __init__(self, network):
        import export_keras as export

        self.export_module = export
        self.keras = export.keras
        self.applications = getattr(export.keras.applications, network)
        self.model, self.note = export.build(network, "none", 0)
        self.versions = {
            "keras": export.keras.__version__,
            "tensorflow": export.tf.__version__,
            "tf2onnx": export.tf2onnx.__version__,
        }

    def export(self, path, exporter):
        self.export_module.export(self.model, path)
        model_manifest.write(path, "", self.layout, self.preprocess, self.note)

    def tensor(self, image):
        pixels = np.asarray(image.resize((224, 224), Image.Resampling.NEAREST), np.float32)
        return self.applications.preprocess_input(pixels.copy()).transpose(2, 0, 1)

    def activations(self, images, layers):
        """Every layer's activations, by canonical name, channels first; found by their Keras aliases."""
        places = {layer.name: layer for layer in self.model.layers}
        outputs = {}
        for layer in layers:
            names = [alias for alias in layer["aliases"] if alias in places]
            if names:
                outputs[layer["name"]] = places[names[0]].output
        batch = np.stack(images).transpose(0, 2, 3, 1)
        found = self.keras.Model(self.model.inputs, outputs).predict(batch, verbose=0)
        # Keras has no layer for the scores under its softmax.
        last = places["predictions"]
        below = self.keras.Model(self.model.inputs, last.input).predict(batch, verbose=0)
        found["fc8" if "fc8" in {layer["name"] for layer in layers} else "fc1000"] = (
            below @ last.kernel.numpy() + last.bias.numpy()
        )
        return {name: values.transpose(0, 3, 1, 2) if values.ndim == 4 else values for name, values in found.items()}


class Program:
    def __init__(self, program, work):
        self.program, self.work = program, work

    def run(self, *arguments):
        command = [self.program, "--models", self.work / "models", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def layers(self, model):
        return json.loads(self.run("layers", model, "--format", "json"))

    def features(self, model, layer):
        """Image names, and a row of activations an image."""
        output = self.work / "features.h5"
        output.unlink(missing_ok=True)
        self.run("extract", self.work / "photos", "--model", model, "--layer", layer, "--force", "-o", output)
        with h5py.File(output) as file:
            (name,) = file["layers"]
            return name, list(file["image_names"].asstr()), file["layers"][name][()]

    def versions(self):
        output = self.work / "features.h5"
        with h5py.File(output) as file:
            runtime, version = str(file.attrs["runtime"]).rsplit(" ", 1)
            return {"cnncodes": str(file.attrs["program_version"]), runtime: version}


def photos(folder, number, target):
    """Stores `number` photos of `folder`, evenly picked and turned upright, as PNG files."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < number:
        sys.exit(f"{folder} holds {len(files)} photos, {number} are wanted")
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    for path in files[:: len(files) // number][:number]:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image).convert("RGB").save(target / f"{path.stem}.png")
    return {path.name: Image.open(path).convert("RGB") for path in sorted(target.iterdir())}


def echo(folder, framework):
    """A network that gives its input back, to see what the program's preprocessing makes."""
    shape = ["N", 3, 224, 224] if framework.layout == "nchw" else ["N", 224, 224, 3]
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)  # noqa: E731
    node = onnx.helper.make_node("Identity", ["input"], ["echo"])
    graph = onnx.helper.make_graph([node], "echo", [value("input")], [value("echo")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "echo.onnx"
    onnx.save(model, path)
    model_manifest.write(path, "", framework.layout, framework.preprocess, "gives its input back")


def compare(kind, program, folder, number, work):
    program = Program(program, work)
    models = work / "models"
    models.mkdir(parents=True, exist_ok=True)
    images = photos(folder, number, work / "photos")
    result = {"versions": {}, "photos": number, "preprocess": None, "networks": []}
    for network in NETWORKS:
        framework = {"torchvision": Torchvision, "keras": Keras}[kind](network)
        result["versions"] |= framework.versions
        tensors = [framework.tensor(image) for image in images.values()]
        if result["preprocess"] is None:
            echo(models, framework)
            _, names, rows = program.features("echo", "echo")
            assert names == list(images), (names, list(images))
            ours = rows.reshape(number, 3, 224, 224)
            levels = np.abs(ours - np.stack(tensors)) * framework.scale
            result["preprocess"] = {
                "largest": float(levels.max()),
                "beyond": float((levels > LEVELS + 1e-3).mean()),
            }
            print(f"{kind}: input tensor differs by at most {levels.max():.3g} of 255 levels", flush=True)
        expected = None
        for exporter in framework.exporters:
            model = f"{kind}-{network}-{exporter}"
            framework.export(models / f"{model}.onnx", exporter)
            catalogue = program.layers(model)
            if expected is None:
                expected = framework.activations(tensors, catalogue)
            rows = []
            for layer in catalogue:
                _, _, ours = program.features(model, layer["name"])
                theirs = expected[layer["name"]].reshape(number, -1)
                assert ours.shape == theirs.shape, (model, layer["name"], ours.shape, theirs.shape)
                scale = float(np.abs(theirs).max())
                relative = float(np.abs(ours - theirs).max() / scale)
                rows.append({"layer": layer["name"], "shape": layer["shape"], "scale": scale, "relative": relative})
                print(f"{model:32} {layer['name']:8} {relative:.1e} of {scale:.3g}", flush=True)
            same = None
            if network == "vgg16":
                features = [program.features(model, name) for name in ("fc7", "fc2", "classifier.4")]
                same = len({(name, values.tobytes()) for name, _, values in features}) == 1
            result["versions"] |= program.versions()
            result["networks"].append({"model": model, "same_by_alias": same, "layers": rows})
            (models / f"{model}.onnx").unlink()
    (work / f"{kind}.json").write_text(json.dumps(result, indent=1))


def report(work, target):
    results = {kind: json.loads((work / f"{kind}.json").read_text()) for kind in ("torchvision", "keras")}
    versions = {}
    for result in results.values():
        versions |= result["versions"]
    lines = [
        "# Parity with the frameworks",
        "",
        "Written by `scripts/reference/parity`, which describes the method. The networks have full size and seeded weights. Every",
        "layer of the catalogue is compared with the framework's own activation (forward hooks in PyTorch, sub-models in Keras).",
        "Each side does its own preprocessing of the same decoded pixels.",
        "",
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; {results['keras']['photos']} photos.",
        "",
        f"Tolerance: {TOLERANCE:g} of a layer's largest value; {LEVELS:g} level of 255 in the input tensor at 99.9 % of the pixels.",
        "",
        "| preprocessing | largest difference, levels of 255 | share beyond 1 level |",
        "|---|---|---|",
    ]
    good = True
    for kind, result in results.items():
        found = result["preprocess"]
        good &= found["beyond"] <= 1e-3
        lines.append(f"| {kind} | {found['largest']:.2g} | {found['beyond']:.2g} |")
    for network in NETWORKS:
        columns = [entry for result in results.values() for entry in result["networks"] if f"-{network}-" in entry["model"]]
        lines += ["", f"## {network}", "", "Largest difference over the layer's largest value.", ""]
        lines.append("| layer | " + " | ".join(entry["model"] for entry in columns) + " |")
        lines.append("|---" * (len(columns) + 1) + "|")
        by_name = [{row["layer"]: row["relative"] for row in entry["layers"]} for entry in columns]
        for name in dict.fromkeys(name for column in by_name for name in column):
            cells = [f"{column[name]:.1e}" if name in column else "-" for column in by_name]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        good &= all(value <= TOLERANCE for column in by_name for value in column.values())
        aliases = [entry["same_by_alias"] for entry in columns if entry["same_by_alias"] is not None]
        if aliases:
            good &= all(aliases)
            words = "give" if all(aliases) else "DO NOT give"
            lines += ["", f"`fc7`, `fc2` and `classifier.4` {words} byte-identical features on all of them."]
    target.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4]), int(sys.argv[5]), pathlib.Path(sys.argv[6]))
    else:
        report(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
