#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets `list` and `shard`, and one of `network`, to tests/fixtures/fuzz/: small, and drawn here.

`image` and `network` have others in tests/fixtures/images, images_modern and graphs. Needs Pillow, NumPy and onnx.
"""

import io
import pathlib
import tarfile

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

root = pathlib.Path(__file__).parent.parent / "tests/fixtures/fuzz"


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
