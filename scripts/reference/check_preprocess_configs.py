"""Compares the program's tensors of real photos with those of transformers and timm, for the files that lie beside known networks.

    pip install -r scripts/reference/requirements-preprocess.txt
    python scripts/reference/check_preprocess_configs.py PROGRAM FOLDER [--only NAME ...] [--fast]

A network that only passes its input on (a max-pool of one pixel) is added with `--preprocess auto`, and its features are the
tensors. --fast compares with transformers 4's processors on torchvision, which resize otherwise.
"""

import argparse
import pathlib
import subprocess
import tempfile

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image, ImageOps

from preprocess_configs import TIMM, TRANSFORMERS, files, processor


def passes_on():
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("MaxPool", ["pixel_values"], ["same"], kernel_shape=[1, 1])],
        "passes_on",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def tensors(program, photos, name, folder):
    network = folder / "a_net"
    network.mkdir()
    onnx.save(passes_on(), network / "model.onnx")
    for file, text in files(name).items():
        (network / file).write_text(text)
    run = lambda *arguments: subprocess.run([program, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    run("models", "add", "a_net", "--preprocess", "auto")
    run("extract", str(photos), "--layer", "same", "--pool", "none", "--output", "tensors.h5", "--device", "cpu")
    return h5py.File(folder / "tensors.h5")


def compare(program, photos, name, fast):
    with tempfile.TemporaryDirectory() as folder:
        with tensors(program, photos, name, pathlib.Path(folder)) as file:
            names, process = file["image_names"].asstr()[:], processor(name, fast)
            equal, largest, different = 0, 0.0, 0
            for row, image_name in enumerate(names):
                with Image.open(photos / image_name) as image:
                    expected = process(ImageOps.exif_transpose(image).convert("RGB")).astype(np.float32).reshape(-1)
                found = file["features"][row].reshape(-1)
                difference = np.abs(found - expected)
                equal += bool((found == expected).all())
                different += int((difference > 1e-5).sum())
                largest = max(largest, float(difference.max()))
            share = different / (len(names) * found.size)
            print(f"{name}: {equal} of {len(names)} equal to the bit, largest difference {largest:.3g}, {share:.2%} of the values by more than 1e-5", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=[*TRANSFORMERS, *TIMM])
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.only:
        compare(arguments.program.resolve(), arguments.photos.resolve(), name, arguments.fast)


if __name__ == "__main__":
    main()
