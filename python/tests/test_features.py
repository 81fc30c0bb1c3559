"""`read_features` against h5py, its tables, conversion, suspects and neighbours."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cnncodes
from cnncodes import Features, convert, neighbors, read_features, suspects


@pytest.fixture(scope="module")
def path(demo: Path) -> Path:
    return demo / "features" / "demo-vgg-fc7.h5"


@pytest.fixture(scope="module")
def features(path: Path) -> Features:
    return read_features(path)


def test_all_of_a_file_is_as_h5py_reads_it(path: Path, features: Features) -> None:
    with h5py.File(path) as file:
        assert features.names == [name.decode() for name in file["image_names"]]
        assert (
            features.classes
            == [name.decode() for name in file["class_names"]]
            == ["fish", "flower", "house", "sailboat"]
        )
        assert features.sha256 == [digest.decode() for digest in file["sha256"]]
        np.testing.assert_array_equal(features.labels, file["labels"][...])
        np.testing.assert_array_equal(features.array, file["features"][...])
        assert features.layers == list(file["layers"]) == ["fc7"]
        attributes = file["layers/fc7"].attrs
        assert features.spec["tensor"] == attributes["tensor"]
        assert features.spec["model_sha256"] == attributes.get("model_sha256", file.attrs.get("model_sha256"))
    assert (features.labels.dtype.name, features.array.dtype.name, features.array.shape) == (
        "int64",
        "float32",
        (240, 160),
    )
    assert (len(features), features.skipped, features.layer) == (240, [], "fc7")
    assert (features.spec["model_name"], features.spec["pooling"]) == ("demo-vgg", "none")
    assert features.spec["preprocess"]["size"] == [64, 64]


def test_features_in_one_piece_are_mapped_and_others_are_read(path: Path, features: Features, tmp_path: Path) -> None:
    assert isinstance(features.array, np.memmap)
    assert not features.array.flags.writeable
    layouts: dict[str, tuple[dict[str, Any], bool]] = {
        "contiguous": ({}, True),
        "one chunk": ({"chunks": (240, 160)}, True),
        "chunks in another order": ({"chunks": (120, 160)}, False),
        "compressed": ({"chunks": (50, 160), "compression": "gzip"}, False),
        "parts": ({"chunks": (50, 64)}, False),
        "big-endian": ({"dtype": ">f4"}, False),
    }
    for name, (layout, mapped) in layouts.items():
        copy = tmp_path / f"{name}.h5"
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            old = file["layers/fc7"]
            values, attributes = old[...], dict(old.attrs)
            del file["layers/fc7"], file["features"]
            new = file["layers"].create_dataset("fc7", values.shape, **{"dtype": "<f4", **layout})
            new[120:] = values[120:]
            new[:120] = values[:120]
            new.attrs.update(attributes)
            file["features"] = h5py.SoftLink("/layers/fc7")
        found = read_features(copy).array
        assert isinstance(found, np.memmap) == mapped, name
        np.testing.assert_array_equal(found, features.array, err_msg=name)
        assert (found.dtype.str, found.flags.writeable) == (np.dtype(np.float32).str, False)


def test_maps_keep_their_shape_and_layers_are_chosen_by_name(demo: Path, run: Callable[..., str]) -> None:
    run("extract", "--layer", "fc6,conv5_1", "--pool", "none", "-o", "features/two.h5", folder=demo)
    two = demo / "features" / "two.h5"
    first, second = read_features(two), read_features(two, "conv5_1")
    assert first.layers == second.layers == ["fc6", "conv5_1"]
    assert (first.layer, first.array.ndim, second.array.ndim) == ("fc6", 2, 4)
    with h5py.File(two) as file:
        assert second.array.shape == (240, *file["layers/conv5_1"].attrs["shape"]) == (240, 48, 4, 4)
        np.testing.assert_array_equal(second.array.reshape(240, -1), file["layers/conv5_1"][...])
    with pytest.raises(cnncodes.Error, match="fc9"):
        read_features(two, "fc9")


def test_tables_hold_names_classes_and_features(features: Features) -> None:
    pandas, polars = features.to_pandas(), features.to_polars()
    assert list(pandas.index) == list(polars["name"]) == features.names
    assert list(pandas["label"]) == list(polars["label"]) == [features.classes[label] for label in features.labels]
    np.testing.assert_array_equal(pandas.drop(columns="label").to_numpy(), features.array)
    np.testing.assert_array_equal(polars.drop("name", "label").to_numpy(), features.array)
    assert pandas.columns[1] == polars.columns[2] == "f0"


def test_they_are_pickled_by_their_path(features: Features) -> None:
    copy = pickle.loads(pickle.dumps(features))
    assert (copy.names, copy.layer) == (features.names, features.layer)
    assert repr(copy).endswith("layer='fc7'): 240 x 160, 4 classes")


def test_a_notebook_shows_escaped_text(features: Features, tmp_path: Path) -> None:
    shown = features._repr_html_()
    assert "fish (60), flower (60)" in shown
    odd = tmp_path / "a<b>&.h5"
    shutil.copy(features.path, odd)
    assert "a&lt;b&gt;&amp;.h5" in read_features(odd)._repr_html_()


def test_what_is_no_features_file_is_an_error_with_the_programs_message(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(cnncodes.Error, match=r"cannot open .*nothing\.h5; check the path.*No such file"):
        read_features(tmp_path / "nothing.h5")
    with pytest.raises(cnncodes.Error, match="is not an HDF5 file"):
        read_features(demo / "image.jpg")
    short = tmp_path / "short.h5"
    short.write_bytes((demo / "features" / "demo-vgg-fc7.h5").read_bytes()[:5000])
    with pytest.raises(cnncodes.Error, match="cut short"):
        read_features(short)
    with pytest.raises(TypeError):
        read_features(7)  # type: ignore[arg-type]


def test_conversion_keeps_every_value(features: Features, tmp_path: Path) -> None:
    parquet, back = tmp_path / "f.npz", tmp_path / "f.h5"
    assert convert(features.path, parquet) == [parquet]
    np.testing.assert_array_equal(np.load(parquet)["features"], features.array)
    assert convert(parquet, back) == [back]
    copy = read_features(back)
    np.testing.assert_array_equal(copy.array, features.array)
    assert (copy.names, copy.classes) == (features.names, features.classes)
    with pytest.raises(cnncodes.Error, match="exists"):
        convert(parquet, back)
    with pytest.raises(ValueError, match="one of label_column, labels and no_labels"):
        convert(parquet, back, labels="labels.csv", no_labels=True)


def test_suspects_are_those_of_the_command(demo: Path, run: Callable[..., str], features: Features) -> None:
    expected = json.loads(run("suspects", "features/demo-vgg-fc7.h5", "--top", "3", "--format", "json", folder=demo))
    found = suspects(features, top=3)
    assert found == {
        "labels": expected["labels"],
        "duplicates": expected["copies"],
        "outliers": expected["outliers"],
    }
    assert len(found["labels"]) == 3
    with pytest.raises(ValueError, match="min_per_class is 1"):
        suspects(features, min_per_class=1)
    assert suspects(features, top=3, max_memory="64GiB") == found
    with pytest.raises(ValueError, match="max_memory: expected a number with a unit"):
        suspects(features, max_memory="much")


def test_neighbors_are_the_nearest_by_numpy(demo: Path, run: Callable[..., str], features: Features) -> None:
    run("extract", "--layer", "fc6", "-o", "features/only-fc6.h5", folder=demo)
    values = features.array.astype(np.float64)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    distances = 1 - unit[7] @ unit.T
    distances[7] = np.inf
    rows = np.argsort(distances, kind="stable")[:3]
    [found] = neighbors(features, features.names[7], k=3)
    assert [near["row"] for near in found] == list(rows)
    assert [near["image"] for near in found] == [features.names[row] for row in rows]
    assert found[0]["class"] == features.classes[features.labels[rows[0]]]
    np.testing.assert_allclose([near["distance"] for near in found], distances[rows], atol=1e-9)
    [[itself]] = neighbors(features, features.array[7], k=1, metric="euclidean")
    assert (itself["row"], itself["distance"]) == (7, 0.0)
    assert [near[0]["row"] == row for row, near in enumerate(neighbors(features, features, k=1))] == [False] * 240
    with pytest.raises(ValueError, match=r"has no image named 'nobody\.jpg'"):
        neighbors(features, ["nobody.jpg"])
    with pytest.raises(cnncodes.Error, match="fc7"):
        neighbors(features, read_features(demo / "features" / "only-fc6.h5"))
    with pytest.raises(cnncodes.Error, match="a query has 3 features"):
        neighbors(features, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="is not a metric"):
        neighbors(features, features.array[:1], metric="manhattan")  # type: ignore[arg-type]
