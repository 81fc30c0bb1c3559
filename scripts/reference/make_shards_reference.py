"""Pairs images and labels of small tar shards by the package webdataset, for tests/it/shards.rs: tests/reference/shards.json.

    python scripts/reference/make_shards_reference.py        # needs webdataset (1.0.2)

STEMS are shards in which people put dots into names; webdataset then needs to be told where a key ends.
"""

import io
import json
import os
import pathlib
import tarfile
import tempfile

import webdataset

IMAGES = ("jpg", "jpeg", "png")

CASES = {
    "plain": [["a.jpg", "x"], ["a.cls", "red"], ["b.png", "x"], ["b.cls", "blue"]],
    "number": [["a.jpg", "x"], ["a.cls", "3"], ["b.jpg", "x"], ["b.json", '{"label": 10}']],
    "several images of a key": [["7.left.jpg", "x"], ["7.right.jpg", "x"], ["7.cls", "red"], ["8.left.jpg", "x"], ["8.cls", "blue"]],
    "compound fields": [["7.image.jpg", "x"], ["7.target.cls", "red"], ["8.image.jpg", "x"], ["8.target.cls", "blue"]],
    "capitals": [["A.JPG", "x"], ["A.CLS", "red"], ["b.Jpeg", "x"], ["b.Cls", "blue"], ["c.PNG", "x"], ["c.JSON", '{"label": "red"}']],
    "folders are part of the key": [["a/0.jpg", "x"], ["b/0.jpg", "x"], ["b/0.cls", "red"]],
    "dots in folders": [["v1.0/0.jpg", "x"], ["v1.0/0.cls", "red"], ["v1.1/0.jpg", "x"], ["v1.1/0.cls", "blue"]],
    "no label": [["a.jpg", "x"], ["b.jpg", "x"], ["b.cls", "red"]],
    "other fields": [["a.jpg", "x"], ["a.txt", "a caption"], ["a.cls", "red"], ["a.npy", "x"]],
    "two pictures of one name": [["a.jpg", "x"], ["a.png", "x"], ["a.cls", "red"]],
    "long names": [["d/" * 80 + "é0.jpg", "x"], ["d/" * 80 + "é0.cls", "red"], ["n" * 200 + ".jpg", "x"], ["n" * 200 + ".cls", "blue"]],
}

STEMS = {
    "numbers": [["IMG.00.jpg", "x"], ["IMG.00.cls", "red"], ["IMG.01.jpg", "x"], ["IMG.01.cls", "blue"]],
    "json": [["IMG.00.jpg", "x"], ["IMG.00.json", '{"label": "red"}'], ["IMG.01.jpg", "x"], ["IMG.01.json", '{"label": "blue"}']],
    "some without a label": [["a.b.0.jpg", "x"], ["a.b.1.jpg", "x"], ["a.b.1.cls", "red"], ["a.0.jpg", "x"], ["a.0.cls", "blue"]],
    "a name that begins as another": [["a.jpg", "x"], ["a.cls", "red"], ["a.1.jpg", "x"], ["a.1.cls", "blue"], ["a.10.jpg", "x"], ["a.10.cls", "green"]],
    "in folders": [["p/a.0.jpg", "x"], ["p/a.0.cls", "red"], ["q/a.0.jpg", "x"], ["q/a.0.cls", "blue"]],
}


def label_of(sample):
    for field, value in sample.items():
        if field.split(".")[-1] == "cls":
            return value.decode()
    for field, value in sample.items():
        if field.split(".")[-1] == "json":
            return str(json.loads(value)["label"])
    return None


def paired(members, folder, keys):
    """[image, label] of all images, sorted."""
    path = folder / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    files = webdataset.tariterators.tar_file_expander(webdataset.tariterators.url_opener([{"url": str(path)}]))
    found = []
    # Names as they are written; a label's extension counts in any case, as it does where webdataset lowers it.
    for sample in webdataset.tariterators.group_by_keys(files, keys=keys, lcase=False):
        label = label_of({field.lower(): value for field, value in sample.items() if not field.startswith("__")})
        for field in sample:
            if field.split(".")[-1].lower() in IMAGES:
                found.append([f"{sample['__key__']}.{field}", label])
    return sorted(found)


def split_extension(name):
    stem, extension = os.path.splitext(name)
    return stem, extension.removeprefix(".")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        by_key, by_stem = webdataset.tariterators.base_plus_ext, split_extension
        cases = [
            {"name": name, "members": members, "paired": paired(members, folder, keys)}
            for cases, keys in [(CASES, by_key), (STEMS, by_stem)]
            for name, members in cases.items()
        ]
    path = pathlib.Path(__file__).resolve().parents[2] / "tests" / "reference" / "shards.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
