"""Compares the features of cnncodes with those of Python: onnxruntime + Pillow, with the same preprocessing.

    python scripts/reference/compare_with_python.py ASSETS --program target/debug/cnncodes [--write tests/reference/parity.json]

ASSETS holds data/cats-dogs-horses-humans and models/*.onnx. Twenty-four photos, six of each class, go through three
networks and the NHWC export of one of them, once from PNG copies (the same decoded pixels for both programs) and once
from the JPEG files themselves. The table shows the largest difference of any code, relative to the largest code of its
layer, over all photos. `--write` keeps sums and some single features of Python's for tests that have no Python.
"""

import argparse
import json
import math
import pathlib
import subprocess
import tempfile

import h5py
import numpy as np
import onnxruntime
from PIL import Image

PHOTOS_PER_CLASS = 6
# File, layer, arguments of `models add`, and the same recipe here: BGR?, divisor, mean.
NETWORKS = {
    "mobilenet": ("mobilenetv2_1.0_224.onnx", "global_average_pooling2d", ["--preprocess", "tf"], False, 127.5, [1, 1, 1]),
    "mobilenet-nhwc": ("mobilenetv2_1.0_224_nhwc.onnx", "global_average_pooling2d", ["--preprocess", "tf"], False, 127.5, [1, 1, 1]),
    "squeezenet": (
        "squeezenet1_1_notop.onnx",
        "avgpool10",
        ["--preprocess", "keras-caffe", "--crop", "--shorter-side", "256", "--interpolation", "bilinear"],
        True,
        1.0,
        [103.939, 116.779, 123.68],
    ),
}


def photos(assets):
    chosen = []
    for folder in sorted((assets / "data" / "cats-dogs-horses-humans").iterdir()):
        files = sorted(folder.glob("*.jpg"))
        chosen += files[:: len(files) // PHOTOS_PER_CLASS][:PHOTOS_PER_CLASS]
    return chosen


def tensor(picture, bgr, divisor, mean):
    """Shorter side to 256 as torchvision does it, centre crop 224, normalised; 3 x 224 x 224."""
    width, height = picture.size
    short = min(width, height)
    size = (256, int(256 * height / width)) if width == short else (int(256 * width / height), 256)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
    pixels = pixels[:, :, ::-1] if bgr else pixels
    return ((pixels / np.float32(divisor)) - np.asarray(mean, np.float32)).transpose(2, 0, 1)


def of_python(network, layer, files, bgr, divisor, mean, nhwc):
    session = onnxruntime.InferenceSession(str(tapped(network, layer)), providers=["CPUExecutionProvider"])
    rows = []
    for file in files:
        x = tensor(Image.open(file).convert("RGB"), bgr, divisor, mean)[None]
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if nhwc else np.ascontiguousarray(x)
        rows.append(session.run([layer], {session.get_inputs()[0].name: x})[0].reshape(-1))
    return np.stack(rows)


def tapped(network, layer):
    """The network with the layer as an output, uncut."""
    import onnx

    model = onnx.load(network)
    if layer not in [output.name for output in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name=layer))
    path = pathlib.Path(tempfile.mkdtemp()) / "tapped.onnx"
    onnx.save(model, path)
    return path


def of_program(program, folder, name, layer, images):
    subprocess.run(
        [program, "extract", images, "--model", name, "--layer", layer, "-o", "features.h5"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )
    with h5py.File(folder / "features.h5") as file:
        return dict(zip(file["image_names"].asstr()[:], file["features"][:]))


def largest_difference(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("assets", type=pathlib.Path)
    parser.add_argument("--program", default="target/debug/cnncodes")
    parser.add_argument("--write", type=pathlib.Path)
    args = parser.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    files = photos(args.assets)
    kept = {"photos": [file.relative_to(args.assets).as_posix() for file in files], "networks": {}}
    print(f"{len(files)} photos, onnxruntime {onnxruntime.__version__}")
    print(f"{'network':16} {'values':>6} {'from PNG copies':>16} {'from JPEG':>12}")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        names = {}
        for index, file in enumerate(files):
            names[file] = f"{index:02}"
            for kind in ["png", "jpg"]:
                (work / kind).mkdir(exist_ok=True)
            Image.open(file).convert("RGB").save(work / "png" / f"{index:02}.png")
            (work / "jpg" / f"{index:02}.jpg").symlink_to(file.resolve())
        for name, (network, layer, add, bgr, divisor, mean) in NETWORKS.items():
            path = (args.assets / "models" / network).resolve()
            subprocess.run([program, "models", "add", path, "--name", name, *add], cwd=work, check=True, stdout=subprocess.DEVNULL)
            theirs = of_python(path, layer, files, bgr, divisor, mean, "nhwc" in name)
            differences = []
            for kind in ["png", "jpg"]:
                ours = of_program(program, work, name, layer, kind)
                ours = np.stack([ours[f"{names[file]}.{kind}"] for file in files])
                differences.append(largest_difference(ours, theirs))
            print(f"{name:16} {theirs.shape[1]:6} {differences[0]:16.2e} {differences[1]:12.2e}")
            if not max(differences) < 1e-3:
                raise SystemExit(f"{name}: differs by more than 1e-3")
            rows = theirs.astype(np.float64)
            kept["networks"][name] = {
                "file": network,
                "layer": layer,
                "add": add,
                "sums": [math.fsum(row) for row in rows],
                "largest": float(np.abs(rows).max()),
                # Every 97th code of every photo.
                "codes": np.round(rows[:, ::97], 6).tolist(),
            }
    if args.write:
        args.write.write_text(json.dumps(kept, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
