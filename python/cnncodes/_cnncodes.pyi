"""The extension module: plain values in, plain values out. The package around it is what users see."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__version__: str

class Error(Exception):
    """Something that cnncodes was asked for cannot be done; the message says why."""

class ImageError(Error):
    """An image cannot be read, or has no finite features."""

    name: str
    reason: str

def main(arguments: list[str], program: list[str]) -> int: ...
def set_runtime(
    description: str, folders: list[str], remedy: str, provider_remedies: list[tuple[str, str]]
) -> None: ...

# Extraction, explanations, sweeps.

_Image: TypeAlias = tuple[str, bytes | NDArray[np.uint8] | None]
_Extracted: TypeAlias = tuple[NDArray[np.float32], list[int], list[tuple[int, str, str]]]

class Extractor:
    spec: str
    shape: list[int]
    exif_orientation: bool
    device: str

    def __init__(
        self,
        model: str,
        models: str,
        layer: str | None,
        pool: str | None,
        preset: str | None,
        changes: str | None,
        compute: dict[str, Any],
    ) -> None: ...
    @staticmethod
    def of_head(head: HeadFile, models: str, compute: dict[str, Any]) -> Extractor: ...
    def extract_images(
        self, images: list[_Image], progress: Callable[[int, int], None] | None = None
    ) -> _Extracted: ...
    def extract_source(
        self, source: str, progress: Callable[[int, int], None] | None = None
    ) -> tuple[_Extracted, list[str]]: ...

def extract_to(
    model: str,
    models: str,
    layers: list[str],
    pool: str | None,
    preset: str | None,
    changes: str | None,
    compute: dict[str, Any],
    images: list[str],
    output: str,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]: ...
def layers(model: str, models: str, all: bool) -> str: ...

class Plan:
    id: str
    source: str
    class_names: list[str]
    images: int
    parts: int
    rows_per_part: int

    def __init__(self, path: str) -> None: ...
    @staticmethod
    def create(
        path: str,
        images: list[str],
        model: str,
        models: str,
        layers: list[str],
        pool: str | None,
        preset: str | None,
        changes: str | None,
        compute: dict[str, Any],
        options: dict[str, Any],
        rows_per_part: int,
        hash: bool,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Plan, bool, list[tuple[str, str]]]: ...
    def specs(self) -> list[str]: ...
    def status(self) -> str: ...
    def extract(
        self,
        parts: list[int],
        models: str,
        root: str | None,
        compute: dict[str, Any],
        progress: Callable[[int, int], None] | None,
    ) -> dict[str, Any]: ...
    def merge(
        self, output: str, format: str, allow_mixed: bool, overwrite: bool, progress: Callable[[int, int], None] | None
    ) -> tuple[int, int]: ...

def explain(
    head: HeadFile,
    models: str,
    compute: dict[str, Any],
    image: _Image,
    classes: list[str],
    folder: str,
    occlusion: tuple[int | None, int | None],
) -> str: ...
def sweep(
    images: list[str],
    networks: list[str],
    models: str,
    trials: dict[str, Any],
    compute: dict[str, Any],
    progress: Callable[[str, int, int], None] | None,
) -> tuple[str, str]: ...

# Solvers, features files and heads.

_Linear: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], int, str | None]

def fit_svm(data: dict[str, Any], c: float, tolerance: float, most_passes: int, seed: int) -> _Linear: ...
def fit_logistic(data: dict[str, Any], c: float, tolerance: float, most_iterations: int) -> _Linear: ...
def fit_ridge(data: dict[str, Any], alphas: list[float]) -> tuple[_Linear, float]: ...

class FeaturesFile:
    def __init__(self, path: PathLike[str]) -> None: ...
    def rows(self) -> int: ...
    def names(self) -> list[str]: ...
    def labels(self) -> NDArray[np.int64]: ...
    def classes(self) -> list[str]: ...
    def sha256(self) -> list[str]: ...
    def skipped(self) -> list[tuple[str, str]]: ...
    def layers(self) -> list[str]: ...
    def layer(self, layer: str | None = None) -> tuple[str, list[int]]: ...
    def spec(self, layer: str | None = None) -> str: ...
    def origin(self) -> list[str]: ...
    def position(self, layer: str | None = None) -> int | None: ...
    def read(self, layer: str | None = None) -> NDArray[np.float32]: ...
    def check_kind(self, layer: str, other: FeaturesFile) -> None: ...
    def neighbors(
        self, layer: str, queries: NDArray[np.float32], left_out: list[int], k: int, metric: str
    ) -> list[list[tuple[int, float]]]: ...
    def suspects(
        self,
        *,
        layer: str | None,
        folds: int,
        seed: int,
        most: int,
        min_per_class: int | None,
        duplicate_distance: int | None,
        duplicate_threshold: float | None,
        groups: list[str | None] | Path | None,
        max_memory: str | None,
    ) -> tuple[str, list[str]]: ...

def convert(
    from_: PathLike[str],
    to: PathLike[str],
    *,
    layer: str | None,
    name_column: str | None,
    label_column: str | None,
    features_column: str | None,
    names: Path | None,
    labels: Path | None,
    no_labels: bool,
    overwrite: bool,
) -> tuple[list[Path], list[str]]: ...

class HeadFile:
    def __init__(self, path: PathLike[str], remember: bool = True) -> None: ...
    def save(self, path: PathLike[str]) -> None: ...
    def classes(self) -> list[str]: ...
    def columns(self) -> int: ...
    def layer(self) -> str: ...
    def spec(self) -> str: ...
    def settings(self) -> str: ...
    def evaluation(self) -> str: ...
    def evaluation_text(self) -> str: ...
    def check(self, file: FeaturesFile) -> None: ...
    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]: ...
    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]: ...
    def predict(self, features: NDArray[np.float32]) -> NDArray[np.int64]: ...
    def sets(self, features: NDArray[np.float32], coverage: float) -> list[list[int]]: ...
    def unknown(self, features: NDArray[np.float32]) -> NDArray[np.bool_]: ...
    def to_onnx(
        self,
        path: PathLike[str],
        *,
        models: Path,
        input: str,
        is_static: bool,
        label: str,
        coverage: float | None,
        with_features: bool,
        fp16_weights: bool,
        external_data: bool,
    ) -> tuple[list[Path], list[str]]: ...

def fit_head(
    file: FeaturesFile, options: dict[str, Any], report: Path | None, models: Path
) -> tuple[HeadFile, list[str]]: ...
