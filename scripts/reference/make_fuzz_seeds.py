#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets `list`, `shard`, `features`, `head` and `array`, and one of `network`, to
tests/fixtures/fuzz/: small, and drawn here.

`image` and `network` have others in tests/fixtures/images, images_modern and graphs. Needs Pillow, NumPy, h5py and onnx, and
for the heads the program itself: target/debug/cnncodes, or what CNNCODES names.
"""

import io
import os
import pathlib
import subprocess
import tarfile
import tempfile

import h5py
import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

root = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/fuzz"


def jpeg(level):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (level, 100, 200)).save(file, "JPEG", quality=30)
    return file.getvalue()


def shard(name, members, form):
    (root / "shard").mkdir(parents=True, exist_ok=True)
    with open(root / "shard" / name, "wb") as file, tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "0.jpg"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    # The usual padding to 10 kB would only slow the fuzzer.
    path = root / "shard" / name
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + b"\0" * (-len(content) % 512 + 1024))


shard("classes.tar", [("0.jpg", jpeg(0)), ("0.cls", b"7"), ("1.jpg", jpeg(9)), ("1.cls", b"cat\n")], tarfile.USTAR_FORMAT)
shard("json.tar", [("a/0.json", b'{"label": 3, "class": "dog"}'), ("a/0.png", b"x"), ("l.jpg", None)], tarfile.GNU_FORMAT)
shard("long.tar", [("d/" * 60 + "0.jpg", jpeg(1)), ("0.cls", b"")], tarfile.GNU_FORMAT)
shard("pax.tar", [("ü/" * 60 + "0.jpg", jpeg(2)), ("._x.jpg", b"")], tarfile.PAX_FORMAT)
dotted = [("i.0.jpg", b"x"), ("i.0.cls", b"a"), ("i.1.jpg", b"x"), ("i.1.jpg.json", b'{"class": 2}'), ("i.2.y.cls", b"c")]
shard("dotted.tar", [*dotted, ("i.jpg", b"x"), ("i.m.png", b"x"), ("i.cls", b"\xff\xfea\0")], tarfile.USTAR_FORMAT)
shard("twice.tar", [("0.jpg", jpeg(3)), ("0.jpg", jpeg(4))], tarfile.USTAR_FORMAT)

(root / "list").mkdir(parents=True, exist_ok=True)
lists = {
    "paths": b"Cargo.toml\n./src/lib.rs\r\n\nabsent.jpg\n../x\n",
    "nul": b"Cargo.toml\0src/../README.md\0",
    "manifest.csv": b'path,label\nCargo.toml,a\n"src/lib.rs",b\nREADME.md,\n',
    "excel.csv": "\ufefflabel;PATH\r\na;Cargo.toml\r\n\"b;\"\"c\";src\\lib.rs\r\n".encode(),
    "utf16.csv": "image\tclass\nCargo.toml\t\"a\"\nREADME.md\tnan\n".encode("utf-16"),
    "broken.csv": b'path,label\n"Cargo.toml,a\n\xff\xfe,\n',
}
for name, content in lists.items():
    (root / "list" / name).write_bytes(content)

# A network whose convolutions this program computes itself: they share their weights, so that it is small, and what may follow
# a convolution is there once.
(root / "network").mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
constants = {
    "stem": rng.normal(0, 0.3, (8, 3, 3, 3)), "filters": rng.normal(0, 0.15, (8, 8, 3, 3)), "point": rng.normal(0, 0.3, (8, 8, 1, 1)),
    "single": rng.normal(0, 0.3, (8, 1, 3, 3)), "bias": rng.normal(0, 0.1, 8), "ones": np.ones(8), "factors": np.ones((1, 8, 1, 1)),
    "zero": np.float32(0), "six": np.float32(6),
}
nodes, tensor = [], "image"


def node(operation, *inputs, **attributes):
    global tensor
    name = f"{operation.lower()}{len(nodes)}"
    nodes.append(helper.make_node(operation, [tensor, *inputs], [name], **attributes))
    tensor = name


node("Conv", "stem", "bias", pads=[1] * 4)
for index in range(18):
    before = tensor
    node("Conv", "filters", "bias", pads=[1] * 4)
    if index % 3 == 0:
        node("BatchNormalization", "ones", "bias", "bias", "ones")
        node("Add", before)
    if index % 3 == 1:
        node("Mul", "factors")
        node("Clip", "zero", "six")
    node("Relu")
node("Conv", "single", pads=[0, 0, 1, 1], strides=[2, 2], group=8)
node("Conv", "point", auto_pad="SAME_UPPER", strides=[2, 2])
node("Pad", "pads")
node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
node("GlobalAveragePool")
node("Flatten")
floats = [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in constants.items()]
pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
graph = helper.make_graph(
    nodes, "convolutions",
    [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 64, 64])],
    [helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, ["n", 8])],
    [*floats, pads],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
onnx.checker.check_model(model)
(root / "network" / "convolutions.onnx").write_bytes(model.SerializeToString())

# Features files as docs/features-format.md has them, in the oldest and the newest form of HDF5.
def features(path, rows, libver=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = h5py.string_dtype("utf-8")
    values = np.random.default_rng(1).normal(0, 1, (rows, 6)).astype("float32")
    values[::2] += 2
    with h5py.File(path, "w", libver=libver) as file:
        for name in ["program_version", "model_name", "source", "runtime", "device"]:
            file.attrs.create(name, name, dtype=text)
        file.attrs.update({"format": "cnncodes", "precision": "fp32", "preprocess": '{"preset": "tf"}', "model_sha256": "ab" * 32})
        for name, value in {"format_version": 1, "rows": rows, "error_rows": 1}.items():
            file.attrs.create(name, value, dtype="int64")
        file.attrs.create("complete", 1, dtype="uint8")
        for index, (name, shape, filters) in enumerate([("fc7", [6], {}), ("pool%2F5", [2, 1, 3], {"compression": "gzip", "shuffle": True})]):
            layer = file.create_dataset(f"layers/{name}", data=values, chunks=(4, 6), maxshape=(None, 6), **filters)
            for key, value in {"name": name.replace("%2F", "/"), "tensor": "t", "pooling": "none"}.items():
                layer.attrs.create(key, value, dtype=text)
            layer.attrs.create("shape", shape, dtype="int64")
            layer.attrs.create("index", index, dtype="int64")
        file["features"] = h5py.SoftLink("/layers/fc7")
        column = lambda name, values, dtype: file.create_dataset(name, data=values, dtype=dtype, chunks=(4,), maxshape=(None,))
        column("image_names", [f"c{row % 2}/{row}.jpg" for row in range(rows)], text)
        column("labels", [row % 2 for row in range(rows)], "int64")
        column("sha256", [f"{row:064x}".encode() for row in range(rows)], "S64")
        column("errors/name", ["bad.jpg"], text)
        column("errors/reason", ["cut short"], text)
        file.create_dataset("class_names", data=["c0", "c1"], dtype=text)


features(root / "features" / "old.h5", 6)
features(root / "features" / "new.h5", 6, "latest")

(root / "array").mkdir(parents=True, exist_ok=True)
pixels = (np.arange(6 * 5 * 4 * 3) % 251).astype("uint8").reshape(6, 5, 4, 3)
for name, libver in {"old.h5": None, "new.h5": "latest"}.items():
    with h5py.File(root / "array" / name, "w", libver=libver) as file:
        file["x"] = pixels
        file.create_dataset("planar", data=pixels.transpose(0, 3, 1, 2), chunks=(2, 3, 5, 2), compression="lzf")
        file.create_dataset("g/grey", data=pixels[..., 0], chunks=(4, 2, 2), maxshape=(None, None, 4), compression="gzip", fletcher32=True)
        file.create_dataset("matlab", data=pixels.transpose(0, 3, 2, 1)).attrs["MATLAB_class"] = np.bytes_(b"uint8")
        file["y"] = np.array([[0, 1, 2, 0, 1, 2]], ">f8")
        file["name"] = np.array([b"cat", b"dog", b"", b"cat", b"dog", b"owl"])
        file.create_dataset("pets", data=[5, 1] * 3, dtype=h5py.enum_dtype({"cat": 5, "dog": 1}))

program = os.environ.get("CNNCODES", pathlib.Path(__file__).resolve().parents[2] / "target/debug/cnncodes")
with tempfile.TemporaryDirectory() as folder:
    features_file = pathlib.Path(folder) / "features.h5"
    features(features_file, 24)
    (root / "head").mkdir(parents=True, exist_ok=True)
    for name, options in {"ridge": ["--ridge"], "logistic": ["--logistic", "--pca", "2", "--l2-normalize"], "kernel": ["--svm", "--kernel", "rbf"]}.items():
        head = pathlib.Path(folder) / f"{name}.h5"
        subprocess.run([program, "fit-head", *options, "--folds", "2", features_file, "-o", head], check=True, stdout=subprocess.DEVNULL)
        # Without the room that libhdf5 leaves between the parts.
        with h5py.File(head) as old, h5py.File(root / "head" / f"{name}.h5", "w") as new:
            new.attrs.update(old.attrs)
            for part in old:
                old.copy(part, new)
