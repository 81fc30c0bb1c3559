"""`neighbors`: the images with the nearest features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._arguments import PathLike
from ._features import Features


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
        Names of images of the file, features as numbers, such as those of `Extractor.transform`, or the features of another file. An
        image is not its own neighbour.
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
        The file cannot be read, or the queries are features of another kind.
    ValueError
        The file has no image of that name, or an argument is out of range.
    """
    if k < 1:
        raise ValueError(f"k is {k}, but must be at least 1")
    searched = features if isinstance(features, Features) else Features(features, layer)
    layer = layer or searched.layer
    own_rows: list[int] = []
    if isinstance(queries, Features):
        searched._file.check_kind(layer, queries._file)
        values = (queries if queries.layer == layer else Features(queries.path, layer))._matrix()
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
