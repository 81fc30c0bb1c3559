"""`suspects`: images of a features file that deserve a second look."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from . import _arguments
from ._arguments import PathLike
from ._features import Features


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
    max_memory: int | str | None = None,
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
    max_memory : int or str, optional
        Memory limit in bytes, or such as "2GiB": features that take more are streamed from their file. Half of the machine's memory by
        default.

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
        min_per_class=_arguments.min_per_class(min_per_class),
        duplicate_distance=_arguments.duplicate_distance(duplicate_distance),
        duplicate_threshold=_arguments.duplicate_threshold(duplicate_threshold),
        groups=_arguments.row_values(groups),
        max_memory=_arguments.memory_limit(max_memory),
    )
    for note in notes:
        warnings.warn(note, stacklevel=2)
    ranked = json.loads(found)
    return {"labels": ranked["labels"], "duplicates": ranked["copies"], "outliers": ranked["outliers"]}
