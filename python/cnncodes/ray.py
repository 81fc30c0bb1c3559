"""Features on a Ray cluster: images of a `ray.data` dataset, or the parts of a plan.

Ray is imported when a function is called. Each worker needs this package, ONNX Runtime, the network, and the images at the same
paths as the caller.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, Literal

from ._arguments import PathLike, count, located
from ._cnncodes import Error
from ._extractor import Extractor, Preprocess, Progress
from ._plan import Plan, PlanStatus

__all__ = ["extract", "run_plan"]

# Parts that Ray knows of at a time. A plan may have many more than its scheduler likes.
_TASKS_IN_FLIGHT = 1000

# Paths in one task of reading: they are short, and an actor takes its batches from them.
_PATHS_PER_TASK = 4096


def extract(
    images: Any,
    model: PathLike = "",
    layer: str | None = None,
    *,
    column: str = "path",
    name_column: str = "path",
    checkpoint: PathLike | None = None,
    concurrency: int | tuple[int, int] | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    rows_per_batch: int = 256,
    pool: str | None = None,
    preprocess: Preprocess = None,
    device: str = "auto",
    precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    models: PathLike = "models",
    max_pixels: int | None = None,
) -> Any:
    """Adds the columns `features` and `error` to a dataset of images.

    Actors hold one `Extractor` each. If a worker or a node dies, Ray computes its batches again; each image has one row in the
    result.

    Parameters
    ----------
    images : ray.data.Dataset, or sequence of paths
        A dataset with a column of images, or the paths of images. Paths become a dataset with the column `name`.
    model, layer, pool, preprocess, device, precision, batch_size, models, max_pixels
        As of `Extractor`. The device "auto" means "cuda" if `num_gpus` is not 0.
    column : str
        Column of a dataset that holds the images: paths, bytes of image files, or pixels. It is left out of the result unless it holds
        paths.
    name_column : str
        Column of a dataset that holds the name of each image. Names are unique if there is a checkpoint.
    checkpoint : path, optional
        Folder, on storage that all nodes share, where Ray records the names of images whose rows were written. When the same program
        runs again after a failure, it computes the others only. It takes effect if the dataset was read from files, or is made of
        paths here, and if its rows are written to files (`write_parquet`). Ray deletes the folder at the end of a run that succeeds.
    concurrency : int or (int, int), optional
        Number of actors, or the least and the greatest number; from 1 to what the cluster has if nothing is said.
    num_cpus : float
        Processors of an actor, which are the threads of its `Extractor`.
    num_gpus : float
        GPUs of an actor.
    rows_per_batch : int
        Images that an actor gets at once. It changes neither the features nor the batch size of the network.

    Returns
    -------
    dataset : ray.data.Dataset
        The columns of the input; `features`, a list of float32, null for an image that cannot be read; and `error`,
        which says why, and is null for all others. Nothing is computed until the dataset is written or iterated over.

    Raises
    ------
    ImportError
        Ray is not installed.

    Examples
    --------
    >>> from cnncodes.ray import extract                        # doctest: +SKIP
    >>> dataset = extract(paths, "mobilenetv2", num_cpus=4)     # doctest: +SKIP
    >>> dataset.write_parquet("/shared/features")               # doctest: +SKIP
    """
    data = _ray("ray.data")
    # It is opened here, on the CPU, so that a mistake shows at once; pickled, it refuses another network on another node.
    extractor = Extractor(
        os.fspath(model),
        layer,
        pool=pool,
        preprocess=preprocess,
        device="cpu",
        precision=precision,
        threads=max(1, int(num_cpus)),
        batch_size=batch_size,
        models=os.path.abspath(models),
        on_error="nan",
        max_pixels=max_pixels,
    ).fit()
    extractor.set_params(device=_device(device, num_gpus))
    if not isinstance(images, data.Dataset):
        images = _of_paths(images)
        column = name_column = "name"
    if checkpoint is not None:
        images.context.checkpoint_config = _checkpoint(data, name_column, checkpoint)
    return images.map_batches(
        _Actor,
        fn_constructor_args=(extractor, column, name_column),
        batch_format="pyarrow",
        batch_size=rows_per_batch,
        compute=_actors(data, concurrency),
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
    )


def run_plan(
    plan: Plan | PathLike,
    *,
    models: PathLike = "models",
    root: PathLike | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    device: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    max_retries: int = 3,
    progress: Progress | None = None,
) -> PlanStatus:
    """Computes the parts of a plan that are not done, each by a task of Ray.

    Ray runs a task again if its worker or node dies. Parts that are done stay, so that a second call goes on where the first one ended.

    Parameters
    ----------
    plan : Plan or path
        The plan; its folder lies on storage that all nodes share, or in an object store.
    models, root, device, batch_size
        As of `Plan.extract`. The device "auto" means "cuda" if `num_gpus` is not 0.
    num_cpus, num_gpus : float
        What a task takes; `num_cpus` is the number of its threads.
    max_retries : int
        How often a task whose worker died runs again; -1 for any number of times.
    progress : callable, optional
        Is called with the number of parts that are done and of all.

    Returns
    -------
    status : PlanStatus
        How far the plan is. `plan.merge` merges it when it is complete.

    Raises
    ------
    Error
        A part could not be computed. Those that had begun are finished.
    ImportError
        Ray is not installed.
    """
    ray = _ray()
    plan = plan if isinstance(plan, Plan) else Plan(plan)
    before = plan.status()
    parts = sorted([*before.missing, *(part for part, _ in before.invalid)])
    task = ray.remote(_compute).options(
        name="cnncodes part", num_cpus=num_cpus, num_gpus=num_gpus or None, max_retries=max_retries
    )
    settings = {
        "models": os.path.abspath(models),
        "root": None if root is None else located(root),
        "device": _device(device, num_gpus),
        "threads": max(1, int(num_cpus)),
        "batch_size": batch_size,
    }
    failures: list[str] = []
    running: dict[Any, int] = {}
    waiting = iter(parts)
    done = before.done
    while True:
        # An error stops the run: the others would have the same one. A part whose workers die does not.
        while len(running) < _TASKS_IN_FLIGHT and (part := next(waiting, None)) is not None:
            running[task.remote(plan.path, part, settings)] = part
        if not running:
            break
        ended, _ = ray.wait(list(running))
        for one in ended:
            part = running.pop(one)
            try:
                reasons = ray.get(one)
            except ray.exceptions.RayTaskError as error:
                failures.append(f"part {part}: {error.cause}")
                waiting = iter(())
            except ray.exceptions.RayError as error:
                failures.append(f"part {part}: its workers died: {error}")
            else:
                failures.extend(reasons)
                done += not reasons
                if progress is not None:
                    progress(done, plan.parts)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise Error(f"{plan.path}: {failures[0]}{more}; parts that are done stay, and run_plan goes on with the others")
    return plan.status()


def _compute(plan: str, part: int, settings: dict[str, Any]) -> list[str]:
    """The task: one part. Gives why it could not be computed."""
    return [f"part {part}: {reason}" for part, reason in Plan(plan).extract([part], **settings).failures]


class _Actor:
    """A worker with its open network."""

    def __init__(self, extractor: Extractor, column: str, name_column: str) -> None:
        self._extractor = extractor.fit()
        self._column = column
        self._name_column = name_column

    def __call__(self, batch: Any) -> Any:
        for column in {self._column, self._name_column}.difference(batch.column_names):
            raise ValueError(
                f"the dataset has no column {column!r}; its columns are {', '.join(batch.column_names)}; name the right ones with "
                "column and name_column"
            )
        return with_features(batch, self._extractor, self._column)


def with_features(table: Any, extractor: Extractor, column: str) -> Any:
    """A table of Arrow with the columns `features` and `error` of the images in `column`. `extractor` has `on_error="nan"`."""
    import numpy as np
    import pyarrow as pa

    images = _values(table.column(column))
    features = extractor.transform(images)
    reasons: list[str | None] = [None] * len(images)
    for problem in extractor.problems_:
        reasons[problem.index] = problem.reason
    read = np.array([reason is None for reason in reasons], dtype=bool)
    # Not of fixed size: Arrow cannot read such lists with nulls among them back from Parquet.
    ends = pa.array(np.concatenate([[0], np.cumsum(read * features.shape[1])]), pa.int32())
    vectors = pa.ListArray.from_arrays(ends, pa.array(features[read].reshape(-1)), mask=pa.array(~read))
    if not pa.types.is_string(table.schema.field(column).type):
        table = table.drop_columns([column])
    return table.append_column("features", vectors).append_column("error", pa.array(reasons, pa.string()))


def _values(column: Any) -> list[Any]:
    """The images of a column: text, bytes or arrays."""
    import numpy as np

    values = column.to_pylist()
    return [np.asarray(value, np.uint8) if isinstance(value, list) else value for value in values]


def _of_paths(images: Iterable[PathLike]) -> Any:
    """A dataset with a row for each path. It counts as read from files, so that a checkpoint takes effect."""
    if isinstance(images, str | os.PathLike):
        raise TypeError(
            f"images are a dataset of ray.data or a list of paths, and not the one path {os.fspath(images)!r}; for a folder, "
            "tar shards or a CSV file, make a plan with `cnncodes plan` and use run_plan"
        )
    names = [os.fspath(path) for path in images]
    if not names:
        raise ValueError("no image is named")
    twice = len(names) - len(set(names))
    if twice:
        raise ValueError(f"{count(twice, 'path is', 'paths are')} named more than once; name each image once")
    data = _ray("ray.data")
    pa = import_module("pyarrow")

    class Paths(data.Datasource):  # type: ignore[misc, name-defined]
        def get_name(self) -> str:
            return "Paths"

        def estimate_inmemory_data_size(self) -> int:
            return sum(map(len, names))

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            size = min(_PATHS_PER_TASK, -(-len(names) // max(parallelism, 1)))
            return [_read_task(data, pa, names[start : start + size]) for start in range(0, len(names), size)]

    # To list paths costs nothing, and must not wait for a processor that an actor has.
    return data.read_datasource(Paths(), num_cpus=0)


def _read_task(data: Any, pa: Any, names: Sequence[str]) -> Any:
    metadata = import_module("ray.data.block").BlockMetadata(
        num_rows=len(names), size_bytes=sum(map(len, names)), input_files=None, exec_stats=None
    )
    return data.ReadTask(lambda: [pa.table({"name": pa.array(names, pa.string())})], metadata)


def _checkpoint(data: Any, column: str, folder: PathLike) -> Any:
    try:
        kind = import_module("ray.data.checkpoint").CheckpointConfig
    except (ImportError, AttributeError) as error:
        raise ImportError("this Ray has no CheckpointConfig; run `pip install --upgrade 'ray[data]'`") from error
    return kind(id_column=column, checkpoint_path=located(folder))


def _actors(data: Any, concurrency: int | tuple[int, int] | None) -> Any:
    if concurrency is None:
        return data.ActorPoolStrategy()
    if isinstance(concurrency, int):
        return data.ActorPoolStrategy(size=concurrency)
    least, greatest = concurrency
    return data.ActorPoolStrategy(min_size=least, max_size=greatest)


def _device(device: str, num_gpus: float) -> str:
    # "auto" would go on without a word on the CPU of a node whose ONNX Runtime knows no GPU.
    return "cuda" if device == "auto" and num_gpus else device


def _ray(module: str = "ray") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError("Ray with ray.data is not installed; run `pip install 'ray[data]'`") from error
