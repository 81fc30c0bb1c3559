"""`Extractor`: images in, features out; and the files that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from . import _cnncodes
from ._cnncodes import Error, ImageError
from ._images import as_sequence, is_source, named

PathLike: TypeAlias = "str | os.PathLike[str]"
Progress: TypeAlias = Callable[[int, int], None]
Preprocess: TypeAlias = "str | Mapping[str, Any] | None"

# Images in memory that are handed over at once, so that only so many are held twice.
_CHUNK = 256


@dataclass(frozen=True)
class Problem:
    """An image without features."""

    index: int
    """Its position among the images."""
    name: str
    """Its path, or `image 3` for one that lies in memory."""
    reason: str
    """Why it has none."""


@dataclass(frozen=True)
class ExtractionSummary:
    """What `Extractor.extract_to` did."""

    path: str
    """The file of features."""
    rows: int
    """Images in it."""
    computed: int
    """Images that were computed now."""
    kept: int
    """Images whose features the file had already."""
    resumed: int
    """Images that an interrupted run had left."""
    up_to_date: bool
    """Whether the file was what it is to be, and was left alone."""
    problems: list[tuple[str, str]]
    """Images without features, each with the reason."""
    notes: list[str]
    """What else there is to know."""
    seconds: float
    """How long it took."""


class Extractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of images from a layer of a frozen network, as a transformer of scikit-learn.

    Parameters
    ----------
    model : str or path
        Name of a model in the models folder, a manifest (`.toml`), a network (`.onnx`), or a folder that holds one; "" takes the
        only model of the folder.
    layer : str, optional
        Layer, by any of its names (`cnncodes.layers` lists them); the model's own, or the penultimate, if none is named.
    pool : {"none", "flatten", "avg", "max", "gem", "2x2", ..., "cls", "mean", "cls+mean"}, optional
        How maps or tokens become one vector; "none" flattens whole maps. What suits the layer if nothing is said.
    preprocess : {"torchvision", "keras-caffe", "tf"} or dict, optional
        The preprocessing that the network was trained with, or changes to it such as ``{"size": 299, "interpolation": "bicubic"}``;
        a dict may have a "preset" as well. That of the model's manifest, or of the files beside the network, if nothing is said.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "openvino".
    precision : {"fp32", "tf32", "bf16"}
        What the network computes in.
    threads : int, optional
        Threads that decode and compute; every core if nothing is said.
    batch_size : int or "auto"
        Images a run of the network. It changes the speed and not the features.
    models : str or path
        The models folder.
    on_error : {"raise", "skip", "nan"}
        What to do about an image that cannot be read: raise `ImageError`, leave its row out, or fill its row with NaN. The
        attribute `problems_` lists them all.
    max_pixels : int, optional
        Images of more pixels are not read; 250 million if nothing is said.

    Notes
    -----
    Features are equal to those of the command `cnncodes extract`, bit for bit. The network is opened when it is first needed.
    An extractor is pickled by its parameters and the network's hash: another process needs the same files.

    Examples
    --------
    >>> extractor = Extractor("mobilenetv2", layer="avg_pool")    # doctest: +SKIP
    >>> extractor.transform(["cat.jpg", "dog.jpg"]).shape         # doctest: +SKIP
    (2, 1280)
    """

    def __init__(
        self,
        model: PathLike = "",
        layer: str | None = None,
        *,
        pool: str | None = None,
        preprocess: Preprocess = None,
        device: str = "auto",
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
        threads: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        models: PathLike = "models",
        on_error: Literal["raise", "skip", "nan"] = "raise",
        max_pixels: int | None = None,
    ) -> None:
        self.model = model
        self.layer = layer
        self.pool = pool
        self.preprocess = preprocess
        self.device = device
        self.precision = precision
        self.threads = threads
        self.batch_size: int | Literal["auto"] = batch_size
        self.models = models
        self.on_error = on_error
        self.max_pixels = max_pixels

    # --- scikit-learn's protocol ---------------------------------------------------------------------------

    def fit(self, X: Any = None, y: Any = None) -> Extractor:
        """Opens the network. There is nothing to learn."""
        self._open()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Names of the columns: the layer and a number, such as `fc7_0`."""
        layer = self.spec["layer"]
        return np.array([f"{layer}_{column}" for column in range(self.n_features_out_)], dtype=object)

    @property
    def n_features_out_(self) -> int:
        """Number of features of an image."""
        return int(np.prod(self._open().shape))

    # --- what there is to know -----------------------------------------------------------------------------

    @property
    def spec(self) -> dict[str, Any]:
        """All that decides the value of a feature: the network and its hash, layer, pooling, preprocessing, precision."""
        return parse_spec(self._open().spec)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of an image's features, channels first, such as (512, 7, 7)."""
        return tuple(self._open().shape)

    # --- features ------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """Features of images.

        Parameters
        ----------
        X : images
            A list (or a column of a data frame) of paths, bytes of image files, files open for reading, pictures of Pillow, or
            uint8 arrays of height x width x 3; one array of n x height x width x 3; a folder, a CSV file with a column `path`, tar
            shards, or `FILE.h5:/DATASET`, whose images are sorted by name; or one image.
        progress : callable, optional
            Is called with the number of images that are done and of all.

        Returns
        -------
        features : float32 array, n x d
            One row an image, in the images' order.

        Raises
        ------
        ImageError
            An image cannot be read, and `on_error` is "raise".
        Error
            The network cannot be opened or run.
        """
        return self._features(X, progress)[0]

    def _features(self, X: Any, progress: Progress | None = None) -> tuple[npt.NDArray[np.float32], list[str]]:
        """The features, and the names of their images."""
        if self.on_error not in ("raise", "skip", "nan"):
            raise ValueError(f'on_error is "raise", "skip" or "nan", and not {self.on_error!r}')
        core = self._open()
        if is_source(X):
            (features, kept, failed), names = core.extract_source(os.fspath(X), progress)
            return self._finish(features, kept, failed, names)
        images = as_sequence(X)
        if isinstance(images, np.ndarray) or not all(isinstance(image, str | os.PathLike) for image in images):
            return self._in_chunks(core, images, progress)
        paths = [named(image, index, exif=False) for index, image in enumerate(images)]
        features, kept, failed = core.extract_images(paths, progress)
        return self._finish(features, kept, failed, [name for name, _ in paths])

    def _in_chunks(
        self, core: _cnncodes.Extractor, images: Sequence[Any], progress: Progress | None
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        features: list[npt.NDArray[np.float32]] = []
        kept: list[int] = []
        failed: list[tuple[int, str, str]] = []
        names: list[str] = []
        for start in range(0, len(images), _CHUNK):
            chunk = [
                named(image, start + offset, exif=core.exif_orientation)
                for offset, image in enumerate(images[start : start + _CHUNK])
            ]

            def advance(done: int, _: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, len(images))

            rows, there, problems = core.extract_images(chunk, advance if progress is not None else None)
            features.append(rows)
            kept.extend(start + index for index in there)
            failed.extend((start + index, name, reason) for index, name, reason in problems)
            names.extend(name for name, _ in chunk)
        whole = features[0] if len(features) == 1 else np.concatenate([_no_rows(core), *features])
        return self._finish(whole, kept, failed, names)

    def _finish(
        self,
        features: npt.NDArray[np.float32],
        kept: list[int],
        failed: list[tuple[int, str, str]],
        names: list[str],
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        self.problems_ = [Problem(*problem) for problem in failed]
        if not failed:
            return features, names
        if self.on_error == "raise":
            raise image_error(self.problems_)
        if self.on_error == "skip":
            return features, [names[index] for index in kept]
        whole = np.full((len(names), features.shape[1]), np.nan, dtype=np.float32)
        whole[kept] = features
        return whole, names

    def extract_to(
        self,
        output: PathLike,
        images: PathLike | Sequence[PathLike] = "data",
        *,
        layers: Sequence[str] | None = None,
        labels: bool = True,
        path_column: str | None = None,
        label_column: str | None = None,
        strict: bool = False,
        force: bool = False,
        rehash: bool = False,
        progress: Progress | Literal["auto"] | None = "auto",
    ) -> ExtractionSummary:
        """Writes the features of many images to an HDF5 file, as the command `cnncodes extract` does.

        Images whose features the file has already are not computed again. A run that is interrupted (Ctrl-C) resumes with the
        next call. Memory does not grow with the number of images.

        Parameters
        ----------
        output : path
            The file, such as `features/pets.h5`; it appears when it is complete.
        images : path, or sequence of paths
            A folder with a folder for each class, a CSV file, tar shards, or `FILE.h5:/DATASET`.
        layers : sequence of str, optional
            Several layers of the network; that of this extractor if none are named.
        labels : bool
            Whether the names of folders and columns are labels.
        path_column, label_column : str, optional
            Columns of a CSV file, where they have other names than `path` and `label`.
        strict : bool
            Stop at the first image that cannot be read. Otherwise such images are listed in the file and skipped.
        force : bool
            Compute every image, even if an earlier run computed it.
        rehash : bool
            Read every image to see whether it changed, instead of comparing size and times.
        progress : callable, optional
            Is called with the number of images that are done and of all; "auto" shows a bar where tqdm is installed and somebody
            looks at it.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C. What was computed is kept for the next call.
        Error
            The images cannot be listed, the network cannot be run, or the file cannot be written.
        """
        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        wanted = list(layers) if layers is not None else [] if self.layer is None else [self.layer]
        options = {
            "labels": labels,
            "strict": strict,
            "force": force,
            "rehash": rehash,
            "path_column": path_column,
            "label_column": label_column,
        }
        with _Bar(progress) as report:
            done = _cnncodes.extract_to(
                os.fspath(self.model),
                os.fspath(self.models),
                wanted,
                self.pool,
                *preprocess_arguments(self.preprocess),
                self._compute(),
                [os.fspath(path) for path in paths],
                os.fspath(output),
                options,
                report,
            )
        return ExtractionSummary(**{**done, "path": os.fspath(done["path"])})

    # --- the network ---------------------------------------------------------------------------------------

    def _compute(self) -> dict[str, Any]:
        return compute_arguments(self.device, self.precision, self.threads, self.batch_size, self.max_pixels)

    def _key(self) -> tuple[Any, ...]:
        parameters = self.get_params(deep=False)
        parameters.pop("on_error")
        return tuple(json.dumps(value, default=str) for value in parameters.values())

    def _open(self) -> _cnncodes.Extractor:
        # Parameters may be set at any time (set_params): the network that is open is that of the parameters.
        key = self._key()
        opened: tuple[tuple[Any, ...], _cnncodes.Extractor] | None = self.__dict__.get("_opened")
        if opened is not None and opened[0] == key:
            return opened[1]
        core = _cnncodes.Extractor(
            os.fspath(self.model),
            os.fspath(self.models),
            self.layer,
            self.pool,
            *preprocess_arguments(self.preprocess),
            self._compute(),
        )
        self._check_hash(core)
        self._opened = (key, core)
        return core

    def _check_hash(self, core: _cnncodes.Extractor) -> None:
        expected = self.__dict__.pop("_expected_hash", None)
        found = parse_spec(core.spec)["model_sha256"]
        if expected is not None and expected != found:
            raise Error(
                f"{self.model or 'the model'} in {self.models} is another network than the one that this extractor was pickled "
                f"with: its SHA-256 is {found}, and was {expected}; restore the network, or make a new extractor"
            )

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(cast("dict[str, Any]", super().__getstate__()))
        opened = state.pop("_opened", None)
        if opened is not None:
            state["_expected_hash"] = parse_spec(opened[1].spec)["model_sha256"]
        return state


def preprocess_arguments(preprocess: Preprocess) -> tuple[str | None, str | None]:
    """The preset, and the changes to it as JSON."""
    if preprocess is None or isinstance(preprocess, str):
        return preprocess, None
    changes = dict(preprocess)
    preset = changes.pop("preset", None)
    for side in ("size", "stretched"):
        if isinstance(changes.get(side), int):
            changes[side] = [changes[side]] * 2
    for channels in ("mean", "std"):
        if isinstance(changes.get(channels), int | float):
            changes[channels] = [changes[channels]] * 3
    return preset, json.dumps(changes, default=lambda value: np.asarray(value).tolist())


def compute_arguments(
    device: str,
    precision: str | None,
    threads: int | None,
    batch_size: int | Literal["auto"],
    max_pixels: int | None,
) -> dict[str, Any]:
    """What a network runs on, as the extension module wants it."""
    if batch_size != "auto" and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise ValueError(f'batch_size is "auto" or a number of images, and not {batch_size!r}')
    return {
        "device": device,
        "precision": precision,
        "threads": threads,
        "batch_size": None if batch_size == "auto" else int(batch_size),
        "max_pixels": max_pixels,
    }


def image_error(problems: Sequence[Problem]) -> ImageError:
    """The error for images without features; the first is named."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more, see `problems_`)" if len(problems) > 1 else ""
    error = ImageError(f'{first.name}: {first.reason}{more}; on_error="skip" or "nan" goes on without it')
    error.name, error.reason = first.name, first.reason
    return error


def parse_spec(text: str) -> dict[str, Any]:
    """A spec from its JSON."""
    spec: dict[str, Any] = json.loads(text)
    # Files hold the preprocessing as a text.
    spec["preprocess"] = json.loads(spec.pop("preprocess_json"))
    return spec


def _no_rows(core: _cnncodes.Extractor) -> npt.NDArray[np.float32]:
    return np.empty((0, int(np.prod(core.shape))), dtype=np.float32)


class _Bar:
    """Progress for people: what the caller gave, or a bar of tqdm."""

    def __init__(self, progress: Progress | Literal["auto"] | None) -> None:
        self._progress = progress
        self._bar: Any = None

    def __enter__(self) -> Progress | None:
        if not isinstance(self._progress, str):
            return self._progress
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return None
        self._bar = tqdm(unit=" images", disable=None)
        return self._advance

    def _advance(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def layers(model: PathLike = "", *, models: PathLike = "models", all: bool = False) -> list[dict[str, Any]]:
    """The layers of a network that features can be taken from, as `cnncodes layers` lists them.

    Parameters
    ----------
    model : str or path
        A model in the models folder, a manifest or an ONNX file; "" takes the only model.
    models : str or path
        The models folder.
    all : bool
        Also activations that have no name but ONNX's.

    Returns
    -------
    layers : list of dict
        From the input to the output, each with `name`, `aliases`, `tensor`, `what`, `shape` (of one image, channels first),
        `multiply_adds` and `share` (up to here), and `penultimate`.
    """
    listed: list[dict[str, Any]] = json.loads(_cnncodes.layers(os.fspath(model), os.fspath(models), all))
    return listed
