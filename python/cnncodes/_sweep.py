"""`sweep`: which layer and which head suit a set of images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from . import _cnncodes
from ._extractor import PathLike, compute_arguments


class Sweep:
    """What a sweep found. It shows itself as the command's table.

    Attributes
    ----------
    result : dict
        Everything, as `cnncodes sweep --format json` prints it: `candidates` with their accuracy, `advice`, `notes`.
    """

    def __init__(self, result: dict[str, Any], text: str) -> None:
        self.result = result
        self._text = text

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """One dictionary for each layer, pooling and kind of head, in the order of the table."""
        return list(self.result["candidates"])

    @property
    def best(self) -> dict[str, Any]:
        """The most accurate candidate."""
        best: dict[str, Any] = self.result["candidates"][self.result["advice"]["best"]]
        return best

    @property
    def cheapest(self) -> dict[str, Any]:
        """The most accurate candidate of the cheapest layer that is as good as the best one."""
        cheapest: dict[str, Any] = self.result["candidates"][self.result["advice"]["cheapest"]]
        return cheapest

    def to_text(self) -> str:
        """The table and the advice."""
        return self._text

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self._text)}</pre>"


def sweep(
    images: PathLike | Sequence[PathLike] = "data",
    model: str | Sequence[str] | None = None,
    *,
    layers: Sequence[str] | Literal["all"] | None = None,
    pool: Sequence[str] | None = None,
    heads: Sequence[Literal["svm", "logistic", "ridge"]] | None = None,
    folds: int = 5,
    seed: int = 0,
    force: bool = False,
    models: PathLike = "models",
    device: str = "auto",
    threads: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Sweep:
    """Compares layers and heads on labelled images, as the command `cnncodes sweep` does.

    The features are kept in `features/MODEL-sweep.h5`, so that the same sweep does not compute them again.

    Parameters
    ----------
    images : path, or sequence of paths
        A folder with a folder for each class, a CSV file, or tar shards.
    model : str or sequence of str, optional
        Models of the models folder; the only one if none is named.
    layers : sequence of str, or "all", optional
        Layers to compare; six that are spread over the depth if none are named.
    pool : sequence of str, optional
        Poolings to try; "avg" if none are named.
    heads : sequence of {"svm", "logistic", "ridge"}, optional
        Kinds of head; all of them if none are named.
    folds, seed : int
        Folds of the cross-validation, and the seed of their choice.
    force : bool
        Compute the features anew.
    models, device, threads, batch_size
        As for `Extractor`.
    progress : callable, optional
        Is called with "features", "timing" or "heads", how much of that is done, and how much there is.

    Raises
    ------
    Error
        There are fewer than two classes, a model or layer is missing, or the network cannot be run.
    KeyboardInterrupt
        Ctrl-C. Finished features are kept.
    """
    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    trials = {
        "layers": ["all"] if layers == "all" else list(layers or ()),
        "pool": list(pool or ()),
        "heads": list(heads or ()),
        "folds": folds,
        "seed": seed,
        "force": force,
    }
    if folds < 2:
        raise ValueError(f"folds is 2 or more, and not {folds}")
    result, text = _cnncodes.sweep(
        [os.fspath(path) for path in paths],
        [model] if isinstance(model, str) else list(model or ()),
        os.fspath(models),
        trials,
        compute_arguments(device, None, threads, batch_size, None),
        progress,
    )
    return Sweep(json.loads(result), text)
