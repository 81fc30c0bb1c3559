#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets `list` and `shard` to tests/fixtures/fuzz/: small, and drawn here.

The other targets have seeds in tests/fixtures/images and tests/fixtures/graphs. Needs Pillow.
"""

import io
import pathlib
import tarfile

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
    "excel.csv": "\ufefflabel;path,PATH\r\na,Cargo.toml\r\n\"b,\"\"c\",src\\lib.rs\r\n".encode(),
    "broken.csv": b'path,label\n"Cargo.toml,a\n\xff\xfe,\n',
}
for name, content in lists.items():
    (root / "list" / name).write_bytes(content)
