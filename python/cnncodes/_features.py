"""Features files, read safely: the program's own reader checks all of a file, and h5py is not needed."""

from __future__ import annotations

import html
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _cnncodes
from ._arguments import PathLike, count
from ._html import NAME, TABLE

if TYPE_CHECKING:
    import pandas
    import polars


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
        return f"Features({str(self._path)!r}, layer={self._layer!r}): {shape}, {count(len(self.classes), 'class', 'classes')}"

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
            f'<tr><th style="{NAME}">{html.escape(name)}</th><td style="{NAME}">{html.escape(value)}</td></tr>'
            for name, value in rows.items()
        )
        return f"{TABLE}{cells}</table>"

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
    files, notes = _cnncodes.convert(
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
