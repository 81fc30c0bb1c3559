"""`Plan`: extraction on many machines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _cnncodes
from ._arguments import PathLike, at_least, count, located
from ._extractor import Preprocess, Progress, compute_arguments, parse_spec, preprocess_arguments


@dataclass(frozen=True)
class PlanStatus:
    """How far a plan is, judged by the files of its parts."""

    id: str
    """The plan's id."""
    images: int
    """Images of the plan."""
    parts: int
    """Number of parts."""
    done: int
    """Parts that are done."""
    rows: int
    """Images that have features."""
    missing: list[int]
    """Numbers of the parts that are not there."""
    invalid: list[tuple[int, str]]
    """Numbers of the parts whose file cannot be used, each with the reason."""
    errors: list[tuple[str, str]]
    """Images of finished parts that could not be read, each with the reason."""
    strangers: list[str]
    """Files among the parts that are none of this plan."""

    @property
    def is_complete(self) -> bool:
        """Whether the plan can be merged."""
        return self.done == self.parts


@dataclass(frozen=True)
class WorkSummary:
    """What `Plan.extract` did."""

    parts: int
    """Parts that it was asked for."""
    done_before: int
    """Of these, parts that were done already."""
    computed: int
    """Parts that it computed."""
    done_by_others: int
    """Parts that another worker finished meanwhile."""
    rows: int
    """Images whose features it computed."""
    problems: list[tuple[str, str]]
    """Images that it could not read, each with the reason."""
    failures: list[tuple[int, str]]
    """Parts that it could not compute because none of their images is there, each with the reason."""
    notes: list[str]
    """What else there is to know."""


class Plan:
    """A frozen list of images and layers that many machines can work on, as the command `cnncodes plan` makes it.

    A plan is a folder that all machines see. It is cut into parts of a fixed number of images. Any worker computes any part, and a part
    appears complete or not at all. Workers can be killed, repeated and run twice at once.

    Parameters
    ----------
    path : path
        The folder of a plan that was made before (`Plan.create` makes one), or its address in an object store (`s3://bucket/run1`).

    Raises
    ------
    Error
        The folder holds no plan, or the plan was edited.

    Examples
    --------
    >>> plan = Plan.create("run1", "photos", "resnet50", "avg_pool")    # doctest: +SKIP
    >>> plan.extract(shard=(0, 8))              # on the first of eight machines    # doctest: +SKIP
    >>> plan.merge("features/photos.h5")        # when all have ended               # doctest: +SKIP
    """

    def __init__(self, path: PathLike) -> None:
        self._path = located(path)
        self._core = _cnncodes.Plan(self._path)

    @classmethod
    def create(
        cls,
        path: PathLike,
        images: PathLike | Sequence[PathLike] = "data",
        model: PathLike = "",
        layer: str | Sequence[str] | None = None,
        *,
        rows_per_part: int = 4096,
        hash: bool = False,
        labels: bool = True,
        path_column: str | None = None,
        label_column: str | None = None,
        pool: str | None = None,
        preprocess: Preprocess = None,
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
        models: PathLike = "models",
        max_pixels: int | None = None,
        progress: Progress | None = None,
    ) -> Plan:
        """Makes a plan, or opens it if the folder holds the very same one.

        Parameters
        ----------
        path : path
            Folder or address of the plan.
        images : path, or sequence of paths
            A folder with a folder for each class, a CSV file, tar shards, or `FILE.h5:/DATASET`.
        model, pool, preprocess, precision, models, max_pixels
            As of `Extractor`.
        layer : str or sequence of str, optional
            Layer, or several of them.
        rows_per_part : int
            Images of a part.
        hash : bool
            Read every image, and let its content say later whether it changed; else the size and the time of its file do.
        labels, path_column, label_column
            As of `Extractor.extract_to`.
        progress : callable, optional
            Is called with the number of images that are listed and of all.

        Raises
        ------
        Error
            The images cannot be listed, the network cannot be opened, or the folder holds another plan.
        """
        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        layers = [layer] if isinstance(layer, str) else list(layer or ())
        options = {
            "labels": labels,
            "strict": False,
            "force": False,
            "rehash": False,
            "path_column": path_column,
            "label_column": label_column,
        }
        plan = cls.__new__(cls)
        plan._path = located(path)
        plan._core, _, _ = _cnncodes.Plan.create(
            plan._path,
            [os.fspath(image) for image in paths],
            os.fspath(model),
            os.fspath(models),
            layers,
            pool,
            *preprocess_arguments(preprocess),
            compute_arguments("cpu", precision, None, "auto", max_pixels),
            options,
            at_least("rows_per_part", rows_per_part, 1),
            hash,
            progress,
        )
        return plan

    @property
    def path(self) -> str:
        """The folder, as an absolute path, or the address."""
        return self._path

    @property
    def id(self) -> str:
        """SHA-256 of all that the plan says, in lower-case hexadecimal."""
        return self._core.id

    @property
    def source(self) -> str:
        """What was named as the source of the images."""
        return self._core.source

    @property
    def images(self) -> int:
        """Number of images."""
        return self._core.images

    @property
    def parts(self) -> int:
        """Number of parts; they are numbered from 0."""
        return self._core.parts

    @property
    def rows_per_part(self) -> int:
        """Images of each part but the last."""
        return self._core.rows_per_part

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self._core.class_names

    @property
    def specs(self) -> list[dict[str, Any]]:
        """All that decides the values of each layer's features, the primary layer first."""
        return [parse_spec(text) for text in self._core.specs()]

    def __repr__(self) -> str:
        return f"Plan({self._path!r}): {count(self.images, 'image', 'images')} in {count(self.parts, 'part', 'parts')}, id {self.id[:12]}"

    def __reduce__(self) -> tuple[type[Plan], tuple[str]]:
        return Plan, (self._path,)

    def status(self) -> PlanStatus:
        """How far the plan is. Nothing is written."""
        status = json.loads(self._core.status())
        status["invalid"] = [(part["part"], part["why"]) for part in status["invalid"]]
        status["errors"] = [(error["name"], error["reason"]) for error in status["errors"]]
        return PlanStatus(**status)

    def extract(
        self,
        parts: Iterable[int] | None = None,
        *,
        shard: tuple[int, int] | None = None,
        models: PathLike = "models",
        root: PathLike | None = None,
        device: str = "auto",
        threads: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        progress: Progress | None = None,
    ) -> WorkSummary:
        """Computes those parts that are not done, and makes those anew whose file cannot be used.

        Parameters
        ----------
        parts : iterable of int, optional
            Numbers of parts; all if neither they nor a shard are named.
        shard : (int, int), optional
            `(i, n)`: the parts whose number divided by n leaves i.
        models, device, threads, batch_size
            As of `Extractor`.
        root : path, optional
            Folder of the images on this machine, if it is not where the plan was made.
        progress : callable, optional
            Is called with the number of images that are done and of all that are to be computed.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C. Finished parts stay.
        Error
            The network or the images' folder is not there, the plan was edited, or a part cannot be written.
        """
        if parts is not None and shard is not None:
            raise ValueError("parts and shard exclude each other; name one of them")
        if shard is not None:
            index, workers = shard
            if not 0 <= index < workers:
                raise ValueError(f"shard is (i, n) with i from 0 to n-1, and not {shard!r}")
            parts = range(index, self.parts, workers)
        done = self._core.extract(
            list(range(self.parts) if parts is None else parts),
            os.fspath(models),
            None if root is None else os.fspath(root),
            compute_arguments(device, None, threads, batch_size, None),
            progress,
        )
        return WorkSummary(**done)

    def merge(
        self,
        output: PathLike,
        *,
        format: Literal["hdf5", "virtual", "parquet"] = "hdf5",
        allow_mixed: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> tuple[int, int]:
        """Merges the parts into one features file, the same that one machine would have written.

        Parameters
        ----------
        output : path
            File to write, or folder for Parquet files.
        format : {"hdf5", "virtual", "parquet"}
            One features file, one whose features stay in the parts (virtual datasets of HDF5), or a folder of Parquet files.
        allow_mixed : bool
            Accept parts of different devices or versions of ONNX Runtime, whose features may differ in the last digits.
        overwrite : bool
            Replace the output if it exists.
        progress : callable, optional
            Is called with the number of images that are copied and of all.

        Returns
        -------
        rows, errors : int, int
            Images in the output, and images without features.

        Raises
        ------
        Error
            A part is missing or cannot be used, a file belongs to another plan, two files of a part differ, parts come from different
            devices, or the output exists.
        """
        return self._core.merge(os.fspath(output), format, allow_mixed, overwrite, progress)
