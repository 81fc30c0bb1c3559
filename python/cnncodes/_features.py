"""Features files, read safely: the program's own reader checks all of a file, and h5py is not needed."""

from __future__ import annotations

import html
import json
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _cnncodes

if TYPE_CHECKING:
    import pandas
    import polars

PathLike: TypeAlias = str | os.PathLike[str]


class Features:
    """
    What is in a features file: one layer of it, with the names and labels of its rows.

    `read_features` makes it. Names, labels and classes are read when the file is opened, the features when `array` is first asked for.
    """

    def __init__(self, path: PathLike, layer: str | None = None) -> None:
        self._path = Path(path)
        self._file = _cnncodes.FeaturesFile(self._path)
        self._layer, self._shape = self._file.layer(layer)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self._layer

    @cached_property
    def layers(self) -> list[str]:
        """Names of all layers in the file, the primary one first."""
        return self._file.layers()

    @cached_property
    def names(self) -> list[str]:
        """Names of the images, one for each row: their paths below the folder that was extracted, with `/`."""
        return self._file.names()

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels; empty without labels."""
        return self._file.classes()

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class of each row as an index into `classes`, -1 where it is unknown; int64 of shape (n,)."""
        labels = self._file.labels()
        labels.flags.writeable = False
        return labels

    @cached_property
    def sha256(self) -> list[str]:
        """SHA-256 of each image file, in lower-case hexadecimal."""
        return self._file.sha256()

    @cached_property
    def skipped(self) -> list[dict[str, str]]:
        """`name` and `reason` of each image that could not be read and has no row."""
        return [{"name": name, "reason": reason} for name, reason in self._file.skipped()]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """
        Everything that decides the features' values: `model_name`, `model_sha256`, `layer`, `tensor`, `pooling`, `preprocess` and
        `precision`; and where they come from: `source`, `program_version`, `runtime` and `device`.
        """
        spec: dict[str, Any] = json.loads(self._file.spec(self._layer))
        # A text of JSON in the file.
        preprocess = spec.pop("preprocess_json")
        spec["preprocess"] = json.loads(preprocess) if isinstance(preprocess, str) else preprocess
        origin = zip(("source", "program_version", "runtime", "device"), self._file.origin(), strict=True)
        return {**spec, **dict(origin)}

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """
        The features: float32 of shape (n, d), or (n, channels, height, width) for maps that were not pooled.

        They are mapped into memory, read-only, if the file holds them in one piece and uncompressed, as `extract` writes up to 32 MB;
        else they are read. While they are mapped, the file must not be shortened.
        """
        shape = (len(self), *self._shape)
        position = self._file.position(self._layer)
        if position is not None:
            return np.memmap(self._path, np.float32, "r", position, shape)
        features = self._file.read(self._layer).reshape(shape)
        features.flags.writeable = False
        return features

    def __len__(self) -> int:
        return self._file.rows()

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (len(self), *self._shape)))
        return f"Features({str(self._path)!r}, layer={self._layer!r}): {shape}, {_count(len(self.classes), 'class', 'classes')}"

    def _repr_html_(self) -> str:
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        classes = ", ".join(f"{name} ({count})" for name, count in zip(self.classes[:30], counts, strict=False))
        rows = {
            "file": str(self._path),
            "features": " x ".join(map(str, (len(self), *self._shape))) + " float32",
            "layer": self._layer + (f" (of {', '.join(self.layers)})" if len(self.layers) > 1 else ""),
            "network": self.spec["model_name"],
            "classes": (classes + (", …" if len(self.classes) > 30 else "")) or "none",
            "skipped": str(len(self.skipped)),
        }
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in rows.items()
        )
        return f"<table>{cells}</table>"

    def __reduce__(self) -> tuple[type[Features], tuple[Path, str]]:
        return Features, (self._path.absolute(), self._layer)

    def to_pandas(self) -> pandas.DataFrame:
        """
        The features as a table of pandas.

        Returns
        -------
        pandas.DataFrame
            The names are the index. The column `label` is a category: the class, missing where it is unknown. The columns `f0`,
            `f1`, … are the features, in float32.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        import pandas

        values = self._matrix()
        index = pandas.Index(self.names, name="name")
        table = pandas.DataFrame(values, index=index, columns=self._columns(values))
        codes = pandas.Categorical.from_codes(self.labels, categories=pandas.Index(self.classes, dtype=object))
        table.insert(0, "label", pandas.Series(codes, index=index))
        return table

    def to_polars(self) -> polars.DataFrame:
        """
        The features as a table of polars.

        Returns
        -------
        polars.DataFrame
            The columns are `name`, `label` (the class, null where it is unknown), and `f0`, `f1`, … in float32.

        Raises
        ------
        ImportError
            polars is not installed.
        """
        import polars

        values = self._matrix()
        labels = [self.classes[label] if label >= 0 else None for label in self.labels]
        texts = polars.DataFrame({"name": self.names, "label": labels}, {"name": polars.String, "label": polars.String})
        columns = [polars.Series(name, values[:, j]) for j, name in enumerate(self._columns(values))]
        return texts.hstack(columns)

    def _matrix(self) -> NDArray[np.float32]:
        """One row an image."""
        return np.asarray(self.array).reshape(len(self), -1)

    @staticmethod
    def _columns(values: NDArray[np.float32]) -> list[str]:
        return [f"f{j}" for j in range(values.shape[1])]


def read_features(path: PathLike, layer: str | None = None) -> Features:
    """
    Opens a features file.

    Parameters
    ----------
    path : path-like
        A features file (.h5) that `cnncodes extract`, `Extractor.extract_to` or `convert` wrote.
    layer : str, optional
        Name of the layer, if the file holds several; the first by default.

    Returns
    -------
    Features
        Names, labels, classes and features.

    Raises
    ------
    cnncodes.Error
        The file cannot be read, is damaged or is no features file, or it has no such layer.

    Examples
    --------
    >>> from cnncodes import read_features
    >>> features = read_features("features/pets.h5")  # doctest: +SKIP
    >>> features.array.shape, features.classes  # doctest: +SKIP
    ((808, 512), ['cats', 'dogs', 'horses', 'humans'])
    """
    return Features(path, layer)


def convert(
    from_: PathLike,
    to: PathLike,
    *,
    layer: str | None = None,
    name_column: str | None = None,
    label_column: str | None = None,
    features_column: str | None = None,
    names: PathLike | None = None,
    labels: PathLike | None = None,
    no_labels: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """
    Converts features to and from the files of other programs, as the command `cnncodes convert` does.

    The endings of the names say what the files are: .h5 (the features file of this program), .npz, .npy, .parquet, .arrow, .csv and
    .safetensors. Every float32 stays as it is.

    Parameters
    ----------
    from_ : path-like
        Features to read: a file, or the folder that thingsvision or clip-retrieval wrote.
    to : path-like
        File to write.
    layer : str, optional
        Layer, if `from_` is a features file that holds several; the first by default.
    name_column, label_column, features_column : str, optional
        Columns or arrays of another program that have unusual names.
    names : path-like, optional
        Text file with the name of a row on each line; not with `name_column`.
    labels : path-like, optional
        CSV file with the columns path,label, whose paths are the names of the rows; not with `label_column`.
    no_labels : bool, default=False
        Write no labels.
    overwrite : bool, default=False
        Replace `to` if it exists.

    Returns
    -------
    list of pathlib.Path
        The files that were written; `to` comes first.

    Warns
    -----
    UserWarning
        How a table of another program was understood, and what its values became.

    Raises
    ------
    cnncodes.Error
        A file cannot be read or written, or does not hold a table of features.
    ValueError
        Arguments contradict each other.
    """
    *_, files, notes = _cnncodes.convert(
        Path(from_),
        Path(to),
        layer=layer,
        name_column=name_column,
        label_column=label_column,
        features_column=features_column,
        names=None if names is None else Path(names),
        labels=None if labels is None else Path(labels),
        no_labels=no_labels,
        overwrite=overwrite,
    )
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return files


def suspects(
    features: PathLike | Features,
    *,
    layer: str | None = None,
    top: int = 20,
    folds: int = 5,
    seed: int = 0,
    min_per_class: int | None = None,
    duplicate_distance: int | None = None,
    duplicate_threshold: float | None = None,
    groups: PathLike | Sequence[Any] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """
    Lists probable label errors, duplicates with different labels, and outliers, as the command `cnncodes suspects` does.

    Parameters
    ----------
    features : path-like or Features
        A features file, or what `read_features` made of it.
    layer : str, optional
        Layer, if the file holds several; the first, or that of `features`, by default.
    top : int, default=20
        Number of each kind.
    folds, seed : int, default=5 and 0
        Folds of the cross-validation, and the seed of their choice.
    min_per_class : int, optional
        Leave out classes with fewer different images than this, at least 2.
    duplicate_distance : int, optional
        Largest number of bits, of 256, in which the perceptual hashes of two duplicates differ, 0 to 128; 31 by default.
    duplicate_threshold : float, optional
        Find duplicates by their features instead: the cosine above which two images are duplicates, above 0 and up to 1.
    groups : path-like or sequence, optional
        CSV file with the columns path,group, or a group for each row (None where it has none): images of one group count as duplicates.

    Returns
    -------
    dict
        `labels`: dictionaries with `image`, `class`, `probability` (of this class, by a head that had not seen the image), `predicted`,
        `predicted_probability`; the least probable first. `duplicates`: dictionaries with `images`, `classes`, `similarity`.
        `outliers`: dictionaries with `image`, `class`, `distance` (1 - cosine); the farthest first.

    Warns
    -----
    UserWarning
        What was left out, and what to know about the duplicates.

    Raises
    ------
    cnncodes.Error
        The file, its labels and the arguments do not go together.
    ValueError
        An argument is out of range.
    """
    opened = features if isinstance(features, Features) else Features(features, layer)
    found, notes = opened._file.suspects(
        layer=layer or opened.layer,
        folds=folds,
        seed=seed,
        most=top,
        min_per_class=_min_per_class(min_per_class),
        duplicate_distance=_duplicate_distance(duplicate_distance),
        duplicate_threshold=_duplicate_threshold(duplicate_threshold),
        groups=_row_values(groups),
    )
    for note in notes:
        warnings.warn(note, stacklevel=2)
    ranked = json.loads(found)
    return {"labels": ranked["labels"], "duplicates": ranked["copies"], "outliers": ranked["outliers"]}


def neighbors(
    features: PathLike | Features,
    queries: str | Sequence[str] | ArrayLike | Features,
    *,
    layer: str | None = None,
    k: int = 5,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> list[list[dict[str, Any]]]:
    """
    Finds the images with the nearest features, exactly, as the command `cnncodes neighbors` does.

    Parameters
    ----------
    features : path-like or Features
        The features file to search.
    queries : str, sequence of str, array-like of shape (m, d) or Features
        Names of images of the file, features as numbers, or the features of another file. An image is not its own neighbour.
    layer : str, optional
        Layer, if the file holds several; the first, or that of `features`, by default.
    k : int, default=5
        Neighbours of each query.
    metric : {"cosine", "euclidean"}, default="cosine"
        1 - cosine, or the length of the difference; computed in float64.

    Returns
    -------
    list of list of dict
        For each query its neighbours, nearest first: `image`, `class` (None where it is unknown), `row` and `distance`.

    Raises
    ------
    cnncodes.Error
        The file cannot be read, or the queries have another number of features.
    ValueError
        The file has no image of that name, or an argument is out of range.
    """
    if k < 1:
        raise ValueError(f"k is {k}, but must be at least 1")
    searched = features if isinstance(features, Features) else Features(features, layer)
    layer = layer or searched.layer
    own_rows: list[int] = []
    if isinstance(queries, Features):
        values = queries._matrix()
        if queries.path.resolve() == searched.path.resolve():
            own_rows = list(range(len(queries)))
    elif (names := _names(queries)) is not None:
        row_of = {name: row for row, name in enumerate(searched.names)}
        unknown = [name for name in names if name not in row_of]
        if unknown:
            raise ValueError(f"{searched.path} has no image named {unknown[0]!r}")
        own_rows = [row_of[name] for name in names]
        source = searched if layer == searched.layer else Features(searched.path, layer)
        values = source._matrix()[own_rows]
    else:
        values = np.asarray(queries, np.float32)
        values = values.reshape(1, -1) if values.ndim == 1 else values.reshape(len(values), -1)
    found = searched._file.neighbors(layer, np.ascontiguousarray(values, np.float32), own_rows, k, metric)
    labels, classes = searched.labels, searched.classes
    return [
        [
            {
                "image": searched.names[row],
                "class": classes[labels[row]] if labels[row] >= 0 else None,
                "row": row,
                "distance": distance,
            }
            for row, distance in nearest
        ]
        for nearest in found
    ]


def _names(queries: Any) -> list[str] | None:
    """The names, if the queries are such."""
    if isinstance(queries, str):
        return [queries]
    if isinstance(queries, Sequence) and queries and all(isinstance(query, str) for query in queries):
        return list(queries)
    return None


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _min_per_class(number: int | None) -> int | None:
    if number is not None and number < 2:
        raise ValueError(f"min_per_class is {number}, but must be at least 2")
    return number


def _duplicate_distance(bits: int | None) -> int | None:
    if bits is not None and not 0 <= bits <= 128:
        raise ValueError(f"duplicate_distance is {bits}, but must be a number of bits from 0 to 128")
    return bits


def _duplicate_threshold(cosine: float | None) -> float | None:
    if cosine is not None and not 0 < cosine <= 1:
        raise ValueError(f"duplicate_threshold is {cosine}, but must be a cosine above 0 and up to 1")
    return cosine


def _row_values(values: PathLike | Sequence[Any] | NDArray[Any] | None) -> list[str | None] | Path | None:
    """A CSV file, or a text for each row, None where nothing is known."""
    if values is None:
        return None
    if isinstance(values, (str, os.PathLike)):
        return Path(values)
    return [_text(value) for value in values]


def _text(value: Any) -> str | None:
    """A label or group as text; None for None, NaN and -1, as CSV files have it."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value)
    return None if text in ("", "-1") else text
