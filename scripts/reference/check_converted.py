"""Reads what `cnncodes convert` wrote, and writes files for it to read.

    check_converted.py read FOLDER     compares FOLDER/features.* with FOLDER/features.h5, bit by bit; Parquet and Arrow if they are there
    check_converted.py write FOLDER    writes features of 12 rows x 4 values as other programs do

NumPy, h5py, safetensors, pyarrow, pandas, polars and DuckDB are needed.
"""

import csv
import json
import sys
from pathlib import Path

import duckdb
import h5py
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import safetensors.numpy

class Truth:
    def __init__(self, path):
        with h5py.File(path) as f:
            self.features = f["features"][:]
            self.names = list(f["image_names"].asstr()[:])
            self.labels = f["labels"][:]
            self.classes = list(f["class_names"].asstr()[:])
            self.sha256 = [text.decode() for text in f["sha256"][:]]
            self.hashes = f["perceptual_hash"][:]
            self.sha256_of_network = f.attrs["model_sha256"]

    def check(self, what, features, names=None, labels=None, classes=None, sha256=None):
        features = np.ascontiguousarray(features)
        assert features.dtype == np.float32, f"{what}: {features.dtype}"
        assert features.view(np.uint32).tolist() == self.features.view(np.uint32).tolist(), what
        if names is not None:
            assert list(names) == self.names, (what, names)
        if labels is not None:
            assert list(labels) == self.labels.tolist(), what
        if classes is not None:
            expected = [self.classes[label] if label >= 0 else None for label in self.labels]
            assert [name or None for name in classes] == expected, (what, classes)
        if sha256 is not None:
            assert list(sha256) == self.sha256, what


def read(folder):
    truth = Truth(folder / "features.h5")

    def header_of(text, what):
        header = json.loads(text)
        assert header["spec"]["model_sha256"] == truth.sha256_of_network, what
        assert header["class_names"] == truth.classes, what

    with np.load(folder / "features.npz", allow_pickle=False) as arrays:
        truth.check("npz", arrays["features"], arrays["image_names"], arrays["labels"])
        assert list(arrays["class_names"]) == truth.classes
        assert [bytes(row).hex() for row in arrays["sha256"]] == truth.sha256
        assert arrays["perceptual_hash"].tolist() == truth.hashes.tolist()
        header_of(arrays["cnncodes"].item(), "npz")

    def table_of(path):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    rows = table_of(folder / "features.npy.csv")
    truth.check(
        "npy",
        np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False),
        [row["name"] for row in rows],
        [int(row["label"]) for row in rows],
        [row["class"] for row in rows],
        [row["sha256"] for row in rows],
    )
    header_of((folder / "features.npy.json").read_text("utf-8"), "npy")

    rows = table_of(folder / "features.csv")
    width = truth.features.shape[1]
    values = [[np.float32(row[f"feature_{i}"]) for i in range(width)] for row in rows]
    truth.check("csv", np.array(values), [row["name"] for row in rows], [int(row["label"]) for row in rows])
    header_of((folder / "features.csv.json").read_text("utf-8"), "csv")

    frame = pandas.read_csv(folder / "features.csv", keep_default_na=False)
    columns = [f"feature_{i}" for i in range(width)]
    truth.check("pandas csv", frame[columns].to_numpy(np.float32), frame["name"].astype(str), frame["label"])

    tensors = safetensors.numpy.load_file(folder / "features.safetensors")
    with safetensors.safe_open(folder / "features.safetensors", "numpy") as file:
        texts = file.metadata()
    truth.check("safetensors", tensors["features"], json.loads(texts["image_names"]), tensors["labels"])
    assert [bytes(row).hex() for row in tensors["sha256"]] == truth.sha256
    header_of(texts["cnncodes"], "safetensors")

    if not (folder / "features.parquet").exists():
        return
    for what, table in [
        ("parquet", pa.parquet.read_table(folder / "features.parquet")),
        ("arrow", pa.feather.read_table(folder / "features.arrow")),
    ]:
        assert pa.types.is_fixed_size_list(table.schema.field("features").type), what
        vectors = table["features"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        columns = [table[name].to_pylist() for name in ["name", "label", "class", "sha256"]]
        truth.check(what, vectors, *columns)
        hashes = [None if not row.any() else row.tobytes().hex() for row in truth.hashes]
        assert table["perceptual_hash"].to_pylist() == hashes, what
        header_of(table.schema.metadata[b"cnncodes"], what)

    for what, frame in [
        ("pandas parquet", pandas.read_parquet(folder / "features.parquet")),
        ("pandas feather", pandas.read_feather(folder / "features.arrow")),
    ]:
        truth.check(what, np.stack(frame["features"]), frame["name"], frame["label"])
    for what, frame in [
        ("polars parquet", polars.read_parquet(folder / "features.parquet")),
        ("polars ipc", polars.read_ipc(folder / "features.arrow")),
    ]:
        truth.check(what, np.stack(frame["features"].to_numpy()), frame["name"], frame["label"], frame["class"])
    query = f"SELECT name, label, class, features FROM '{folder / 'features.parquet'}'"
    found = duckdb.sql(query).fetchall()
    vectors = np.array([row[3] for row in found], np.float32)
    truth.check("DuckDB", vectors, [r[0] for r in found], [r[1] for r in found], [r[2] for r in found])


def write(folder):
    """Row i is 4 values of (i * 4 + j) / 8, exact in float16; its class is cats, dogs or horses."""
    values = (np.arange(48, dtype=np.float32) / 8).reshape(12, 4)
    names = [f"photos/{name}/{i} ü.jpg" for i, name in enumerate(["cats", "dogs", "horses"] * 4)]
    classes = [name.split("/")[1] for name in names]

    np.save(folder / "float16.npy", values.astype(np.float16))
    np.save(folder / "big_endian.npy", values.astype(">f8"))
    np.save(folder / "fortran.npy", np.asfortranarray(values))
    np.save(folder / "maps_fortran.npy", np.asfortranarray(values.reshape(12, 2, 1, 2)))
    np.save(folder / "objects.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.savez(folder / "arrays.npz", embeddings=values, names=np.array(names), y=np.array(classes))
    np.savez_compressed(folder / "fortran.npz", x=np.asfortranarray(values), names=np.array(names), y=np.arange(12) % 3)
    np.savez_compressed(folder / "bytes.npz", x=values.astype(np.float64), names=np.array([n.encode() for n in names]))
    np.savetxt(folder / "numbers.csv", values, delimiter=",")
    safetensors.numpy.save_file({"embeddings": values.astype(np.float16), "labels": np.arange(12) % 3}, folder / "st.safetensors")

    lists = pa.array(values.astype(np.float64).tolist())
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 4)
    halves = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel().astype(np.float16)), 4)
    large = lists.cast(pa.large_list(pa.float32()))
    tables = {
        "lists": {"file": names, "embedding": lists, "species": classes, "score": [0.5] * 12},
        "fixed": {"image_path": names, "vector": fixed, "label": pa.array(classes).dictionary_encode()},
        "halves": {"path": pa.array(names, pa.large_string()), "emb": halves, "label": [1.0, 0.0] * 6},
        "large": {"path": names, "emb": large, "label": pa.array([None, 1, 0] * 4, pa.int32())},
        "columns": {"path": names, "class": classes, **{f"f{j}": values[:, j] for j in range(4)}, "id": range(12)},
        "ragged": {"path": names, "emb": [[1.0, 2.0]] * 11 + [[1.0]]},
        "null": {"path": names, "emb": [[1.0, 2.0]] * 11 + [None]},
        "hole": {"path": names, "emb": [[1.0, 2.0]] * 11 + [[1.0, None]]},
        "two": {"path": names, "a": lists, "b": lists},
        "none": {"path": names, "text": names},
    }
    for name, columns in tables.items():
        table = pa.table(columns)
        for codec in ["snappy", "zstd", "gzip", "lz4", "none"] if name == "fixed" else ["snappy"]:
            ending = "" if codec == "snappy" else f"_{codec}"
            pa.parquet.write_table(table, folder / f"{name}{ending}.parquet", compression=codec, row_group_size=5)
        pa.feather.write_feather(table, str(folder / f"{name}.feather"), compression="lz4", chunksize=5)
    pa.feather.write_feather(pa.table(tables["fixed"]), str(folder / "fixed_zstd.arrow"), compression="zstd")
    pa.feather.write_feather(pa.table(tables["columns"]), str(folder / "columns_plain.arrow"), compression="uncompressed")

    clip = folder / "clip"
    for part, rows in enumerate([slice(0, 5), slice(5, 12)]):
        (clip / "img_emb").mkdir(parents=True, exist_ok=True)
        (clip / "metadata").mkdir(exist_ok=True)
        np.save(clip / "img_emb" / f"img_emb_{part}.npy", values[rows].astype(np.float16))
        table = pa.table({"image_path": names[rows], "caption": ["a"] * len(names[rows]), "kind": classes[rows]})
        pa.parquet.write_table(table, clip / "metadata" / f"metadata_{part}.parquet")

    frame = pandas.DataFrame({"path": names, "embedding": list(values), "label": pandas.Categorical(classes)})
    frame.to_parquet(folder / "pandas.parquet")
    frame.to_feather(folder / "pandas.feather")
    wide = pandas.DataFrame(values).assign(path=names, label=classes)
    wide.columns = wide.columns.astype(str)
    wide.to_parquet(folder / "pandas_columns.parquet")
    wide.to_csv(folder / "pandas_columns.csv")
    frame = polars.DataFrame({"path": names, "label": classes, "embedding": values})
    frame = frame.with_columns(polars.col("label").cast(polars.Categorical))
    frame.write_parquet(folder / "polars.parquet")
    frame.write_ipc(folder / "polars.arrow")
    frame.write_ipc(folder / "polars_lz4.feather", compression="lz4")
    lists = polars.DataFrame({"path": names, "label": classes, "embedding": values.tolist()})
    lists.write_parquet(folder / "polars_lists.parquet")
    lists.write_ipc(folder / "polars_lists.arrow")
    source = pa.table({"path": names, "label": classes, "embedding": values.tolist()})  # noqa: F841
    query = f"COPY (SELECT path, label, embedding::FLOAT[4] AS embedding FROM source) TO '{folder / 'duckdb.parquet'}'"
    duckdb.sql(query)
    query = f"COPY (SELECT path, label, embedding FROM source) TO '{folder / 'duckdb_lists.parquet'}'"
    duckdb.sql(query + " (COMPRESSION zstd)")


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]))
