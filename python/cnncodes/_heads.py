"""Heads: classifiers on features, fitted and measured as the command `cnncodes fit-head` does."""

from __future__ import annotations

import html
import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arguments, _cnncodes
from ._arguments import PathLike, at_least, count
from ._evaluation import Evaluation
from ._features import Features

FeatureRows: TypeAlias = PathLike | Features | ArrayLike

# Values that are classified at a time: as many as the program does, so that sums are rounded alike.
_BLOCK = 1 << 20


class Head:
    """
    A classifier on features, with its calibration, prediction sets and a sense of what is unknown.

    `fit_head` makes it, and `Head.open` reads it. It classifies features; `cnncodes.Classifier` classifies images with it.
    """

    def __init__(self, head: _cnncodes.HeadFile, path: Path | None = None) -> None:
        self._head = head
        self._path = path

    @classmethod
    def open(cls, path: PathLike) -> Head:
        """
        Opens a head file.

        Parameters
        ----------
        path : path-like
            A head (.head.h5), or a classifier that `to_onnx` or `cnncodes export` wrote (.onnx).

        Returns
        -------
        Head
            The head.

        Raises
        ------
        cnncodes.Error
            The file cannot be read, is damaged, or is no head.
        """
        return cls(_cnncodes.HeadFile(Path(path)), Path(path))

    def save(self, path: PathLike) -> Path:
        """
        Writes the head to a file, which appears when it is complete.

        Parameters
        ----------
        path : path-like
            The file, such as models/pets.head.h5; it is replaced if it exists.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        cnncodes.Error
            The file cannot be written.
        """
        self._head.save(Path(path))
        self._path = Path(path)
        return self._path

    @property
    def path(self) -> Path | None:
        """The file that it was saved to or opened from last; None if there is none."""
        return self._path

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the columns of scores and probabilities."""
        return self._head.classes()

    @property
    def layer(self) -> str:
        """Name of the layer whose features it takes."""
        return self._head.layer()

    @property
    def n_features(self) -> int:
        """Number of features of an image."""
        return self._head.columns()

    @cached_property
    def spec(self) -> dict[str, Any]:
        """How the features must be made: network, layer, pooling, preprocessing, precision; and the file that it was fitted to."""
        spec: dict[str, Any] = json.loads(self._head.spec())
        preprocess = spec.pop("preprocess_json")
        return {**spec, "preprocess": json.loads(preprocess) if isinstance(preprocess, str) else preprocess}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What it was fitted with, such as `kind`, `c` and `class_weights`."""
        settings: dict[str, Any] = json.loads(self._head.settings())
        return settings

    @cached_property
    def evaluation(self) -> Evaluation:
        """What cross-validation found about it."""
        return Evaluation(json.loads(self._head.evaluation()), self._head.evaluation_text())

    def decision_function(self, features: FeatureRows) -> NDArray[np.float64]:
        """
        Scores of the classes, before calibration.

        Parameters
        ----------
        features : path-like, Features or array-like of shape (n, d)
            A features file, what `read_features` made of it, or float32 numbers.

        Returns
        -------
        ndarray of shape (n, n_classes)
            float64, also with two classes.

        Raises
        ------
        cnncodes.Error
            The features of the file are of another kind than the head's, or a value is not finite.
        ValueError
            The array has another number of columns.
        """
        return self._by_blocks(features, self._head.scores)

    def predict_proba(self, features: FeatureRows) -> NDArray[np.float64]:
        """
        Calibrated probabilities of the classes: those of `cnncodes classify`.

        Parameters
        ----------
        features : path-like, Features or array-like of shape (n, d)
            A features file, what `read_features` made of it, or float32 numbers.

        Returns
        -------
        ndarray of shape (n, n_classes)
            float64; each row sums to 1.

        Raises
        ------
        cnncodes.Error
            The features of the file are of another kind than the head's, or a value is not finite.
        ValueError
            The array has another number of columns.
        """
        return self._by_blocks(features, self._head.probabilities)

    def predict(self, features: FeatureRows) -> NDArray[np.str_]:
        """
        The most probable class of each image.

        Parameters
        ----------
        features : path-like, Features or array-like of shape (n, d)
            A features file, what `read_features` made of it, or float32 numbers.

        Returns
        -------
        ndarray of shape (n,)
            Names of classes.

        Raises
        ------
        cnncodes.Error
            The features of the file are of another kind than the head's, or a value is not finite.
        ValueError
            The array has another number of columns.
        """
        chosen = [self._head.predict(block) for block in self._blocks(features)]
        names: NDArray[np.str_] = np.array(self.classes, dtype=np.str_)
        return names[np.concatenate(chosen)] if chosen else names[:0]

    def predict_set(self, features: FeatureRows, coverage: float) -> list[list[str]]:
        """
        The classes that together hold the right one in a chosen share of cases.

        Parameters
        ----------
        features : path-like, Features or array-like of shape (n, d)
            A features file, what `read_features` made of it, or float32 numbers.
        coverage : float
            The share, between 0 and 1, such as 0.95.

        Returns
        -------
        list of list of str
            For each image the names of the classes, most probable first: one if the head is sure, several if it is not, none if nothing
            fits.

        Raises
        ------
        cnncodes.Error
            The features of the file are of another kind than the head's, or the head is of an early version.
        ValueError
            `coverage` is no such share, or the array has another number of columns.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage}, but must be a share above 0 and below 1, such as 0.95")
        sets = (found for block in self._blocks(features) for found in self._head.sets(block, coverage))
        return [[self.classes[index] for index in found] for found in sets]

    def is_unknown(self, features: FeatureRows) -> NDArray[np.bool_]:
        """
        Whether each image is unlike the training images, and so probably of none of the classes.

        Parameters
        ----------
        features : path-like, Features or array-like of shape (n, d)
            A features file, what `read_features` made of it, or float32 numbers.

        Returns
        -------
        ndarray of shape (n,)
            bool: the features are farther from the training images than 97.5 % of these are from one another.

        Raises
        ------
        cnncodes.Error
            The features of the file are of another kind than the head's, or the head cannot tell.
        ValueError
            The array has another number of columns.
        """
        unknown = [self._head.unknown(block) for block in self._blocks(features)]
        return np.concatenate(unknown) if unknown else np.zeros(0, np.bool_)

    def to_onnx(
        self,
        path: PathLike,
        *,
        models: PathLike = "models",
        input: Literal["pixels", "tensor"] = "pixels",
        static: bool = False,
        label: Literal["name", "index"] = "name",
        coverage: float | None = None,
        with_features: bool = False,
        fp16_weights: bool = False,
        external_data: bool = False,
    ) -> list[Path]:
        """
        Writes the head with its network, preprocessing and calibration as one ONNX file, as `cnncodes export` does.

        Parameters
        ----------
        path : path-like
            File to write.
        models : path-like, default="models"
            The models folder, where the network is found by its hash.
        input : {"pixels", "tensor"}, default="pixels"
            What the file takes: `image`, uint8 of shape (height, width, 3), RGB, of any size; or `tensor`, float32, preprocessed as the
            network wants it.
        static : bool, default=False
            Fix all shapes to one image, compute in float32 alone, and give the label as an index; with `input="tensor"`.
        label : {"name", "index"}, default="name"
            What `label` is.
        coverage : float, optional
            Also give `prediction_set`, the classes that hold the right one in this share of cases, between 0 and 1.
        with_features : bool, default=False
            Also give `features`.
        fp16_weights : bool, default=False
            Store the network's weights as float16: half the size, slightly different answers.
        external_data : bool, default=False
            Write the network's weights to a second file.

        Returns
        -------
        list of pathlib.Path
            The files that were written; `path` comes first.

        Warns
        -----
        UserWarning
            What the user of the file should know.

        Raises
        ------
        cnncodes.Error
            The network is missing, the head cannot be expressed so, or the file cannot be written.
        ValueError
            An argument is out of range.
        """
        if coverage is not None and not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage}, but must be a share above 0 and below 1, such as 0.95")
        files, remarks = self._head.to_onnx(
            Path(path),
            models=Path(models),
            input=input,
            is_static=static,
            label=label,
            coverage=coverage,
            with_features=with_features,
            fp16_weights=fp16_weights,
            external_data=external_data,
        )
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
        return files

    def _by_blocks(self, features: FeatureRows, function: Any) -> NDArray[np.float64]:
        found = [function(block) for block in self._blocks(features)]
        return np.concatenate(found) if found else np.zeros((0, len(self.classes)))

    def _blocks(self, features: FeatureRows) -> Iterator[NDArray[np.float32]]:
        """The rows in blocks, C-contiguous."""
        rows = self._rows(features)
        step = max(1, _BLOCK // self.n_features)
        for start in range(0, len(rows), step):
            yield np.ascontiguousarray(rows[start : start + step], np.float32)

    def _rows(self, features: FeatureRows) -> NDArray[Any]:
        if isinstance(features, (str, os.PathLike)):
            features = Features(features)
        if isinstance(features, Features):
            self._head.check(features._file)
            # Features of another program have one layer, whatever its name.
            if features.layer != self.layer and self.layer in features.layers:
                features = Features(features.path, self.layer)
            return features._matrix()
        rows = np.asarray(features)
        if rows.ndim < 2:
            raise ValueError(
                f"features have the shape {rows.shape}, but must have a row for each image: (n, {self.n_features})"
            )
        rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        if rows.shape[1] != self.n_features:
            raise ValueError(
                f"an image has {rows.shape[1]} features, and the head takes {self.n_features}: those of the layer {self.layer}"
            )
        return rows

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pickled.head.h5"
            self._head.save(path)
            return _from_bytes, (path.read_bytes(),)

    def __repr__(self) -> str:
        kind = self.settings["kind"]
        return (
            f"Head({kind} of {count(len(self.classes), 'class', 'classes')} on {self.n_features} features of {self.layer}; "
            f"accuracy {self.evaluation.accuracy})"
        )

    def _repr_html_(self) -> str:
        title = (
            f"{self.settings['kind']} head of {count(len(self.classes), 'class', 'classes')} on {self.n_features} features of "
            f"{self.layer} ({self.spec['model_name']})"
        )
        return f"<p>{html.escape(title)}</p>{self.evaluation._repr_html_()}"


def _from_bytes(content: bytes) -> Head:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pickled.head.h5"
        path.write_bytes(content)
        return Head(_cnncodes.HeadFile(path, remember=False))


def fit_head(
    features: PathLike | Features,
    *,
    kind: Literal["svm", "logistic", "ridge"] = "svm",
    layer: str | None = None,
    C: float | Sequence[float] | Literal["auto"] | None = None,
    kernel: Literal["rbf", "poly"] | None = None,
    gamma: float | None = None,
    degree: int | None = None,
    coef0: float | None = None,
    solver: Literal["own", "linfa"] = "own",
    class_weight: Mapping[str, float] | Literal["balanced"] | None = None,
    folds: int = 5,
    seed: int = 0,
    l2_normalize: bool = False,
    standardize: bool = True,
    pca: int | None = None,
    calibration: Literal["platt", "isotonic", "temperature"] | None = None,
    labels: PathLike | Sequence[Any] | NDArray[Any] | None = None,
    groups: PathLike | Sequence[Any] | NDArray[Any] | None = None,
    duplicate_distance: int | None = None,
    duplicate_threshold: float | None = None,
    min_per_class: int | None = None,
    split: bool | PathLike = False,
    leaky_accuracy: bool = False,
    max_memory: int | str | None = None,
    report: PathLike | None = None,
    models: PathLike = "models",
) -> Head:
    """
    Fits a linear SVM, logistic regression or ridge regression to features, and measures how good it is, as `cnncodes fit-head` does.

    Cross-validation measures the accuracy: a head that was fitted without an image classifies it. Duplicates are never on both sides of
    a split. The head that is returned is fitted to all images, its probabilities are calibrated on the scores of the
    cross-validation, and it holds what prediction sets and the answer "unknown" need.

    Parameters
    ----------
    features : path-like or Features
        A features file, or what `read_features` made of it.
    kind : {"svm", "logistic", "ridge"}, default="svm"
        Support vector machine, one class against the rest; multinomial logistic regression; or ridge regression on targets of
        1 and -1, with the penalty chosen by exact leave-one-out.
    layer : str, optional
        Layer, if the file holds several; the first, or that of `features`, by default.
    C : float, sequence of float, or "auto", optional
        Weight of the losses against the regularisation. Several numbers, or "auto", are chosen from by cross-validation within the training
        images. By default 0.01 for the linear SVM, 1 with a kernel and for logistic regression.
    kernel : {"rbf", "poly"}, optional
        Kernel of an SVM, for up to 10,000 images: exp(-gamma |x - y|²), or (gamma x·y + coef0)^degree. The SVM is linear by default.
    gamma : float, optional
        Parameter of the kernel; 1 / (number of features · variance of all features) by default.
    degree, coef0 : int and float, optional
        Degree of the polynomial, 1 to 10, and what is added before the power; 3 and 1 by default.
    solver : {"own", "linfa"}, default="own"
        The program's own solvers, or linfa's.
    class_weight : dict or "balanced", optional
        Weight of mistakes on each class, by its name, where other classes count 1; or every class counts the same.
    folds, seed : int, default=5 and 0
        Folds of the cross-validation, and the seed of their choice.
    l2_normalize : bool, default=False
        Divide each image's features by their Euclidean length first.
    standardize : bool, default=True
        Bring each feature to mean 0 and deviation 1 over the training images.
    pca : int, optional
        Number of principal components to keep, after standardising.
    calibration : {"platt", "isotonic", "temperature"}, optional
        How scores become probabilities; "platt" for the SVM and ridge regression, "temperature" for logistic regression by default.
    labels : path-like or sequence, optional
        Classes in place of those in the file: a CSV file with the columns path,label, or one for each row (None, NaN or -1 where it is unknown).
    groups : path-like or sequence, optional
        CSV file with the columns path,group, or a group for each row (None where it has none): images of one group stay on one side of
        each split, like duplicates.
    duplicate_distance : int, optional
        Largest number of bits, of 256, in which the perceptual hashes of two duplicates differ, 0 to 128; 31 by default.
    duplicate_threshold : float, optional
        Find duplicates by their features instead: the cosine above which two images are duplicates, above 0 and up to 1.
    min_per_class : int, optional
        Leave out classes with fewer different images than this, at least 2. A class of one image is an error by default.
    split : bool or path-like, default=False
        Fit to the training and validation images and test on the test images: by folders train/CLASS, val/CLASS and test/CLASS
        (True), or by a CSV file with the columns path,split.
    leaky_accuracy : bool, default=False
        Also measure how good the head would look with duplicates on both sides of the splits.
    max_memory : int or str, optional
        Memory limit in bytes, or such as "2GiB": features that take more are streamed from their file. Half of the machine's memory by
        default.
    report : path-like, optional
        Also write a report: one HTML file for the browser, with confusions, mistakes and suspects as pictures.
    models : path-like, default="models"
        The models folder, where the report finds the network.

    Returns
    -------
    Head
        The head; `evaluation` says how good it is.

    Warns
    -----
    UserWarning
        What was left out, a solver that stopped early, or an accuracy that is not shown to be above chance.

    Raises
    ------
    cnncodes.Error
        The file, its labels and the arguments do not go together.
    ValueError
        An argument is out of range, or arguments contradict each other.

    Examples
    --------
    >>> from cnncodes import fit_head
    >>> head = fit_head("features/pets.h5", kind="logistic", groups="scenes.csv")  # doctest: +SKIP
    >>> head.evaluation.accuracy.value  # doctest: +SKIP
    0.9975
    >>> head.save("models/pets.head.h5")  # doctest: +SKIP
    """
    opened = features if isinstance(features, Features) else Features(features, layer)
    class_weights: list[tuple[str, float]] | None = None
    if isinstance(class_weight, Mapping):
        class_weights = [(str(name), float(weight)) for name, weight in class_weight.items()]
        for name, weight in class_weights:
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of the class {name!r} is {weight}, but must be a number above 0")
    elif class_weight not in (None, "balanced"):
        raise ValueError(f'class_weight is {class_weight!r}, but must be None, "balanced" or a dictionary')
    if duplicate_distance is not None and duplicate_threshold is not None:
        raise ValueError("duplicates are found by duplicate_distance or by duplicate_threshold; give one of them")
    options = {
        "kind": kind,
        "kernel": kernel,
        "gamma": gamma,
        "degree": degree,
        "coef0": coef0,
        "solver": solver,
        "c": _costs(C),
        "c_auto": isinstance(C, str),
        "class_weight": class_weights,
        "balanced": class_weight == "balanced",
        "folds": at_least("folds", folds, 2),
        "seed": at_least("seed", seed, 0),
        "l2_normalize": bool(l2_normalize),
        "standardize": bool(standardize),
        "pca": None if pca is None else at_least("pca", pca, 1),
        "calibration": calibration,
        "layer": layer or opened.layer,
        "labels": _arguments.row_values(labels),
        "groups": _arguments.row_values(groups),
        "duplicate_distance": _arguments.duplicate_distance(duplicate_distance),
        "duplicate_threshold": _arguments.duplicate_threshold(duplicate_threshold),
        "min_per_class": _arguments.min_per_class(min_per_class),
        "split": None if isinstance(split, bool) else Path(split),
        "split_folders": split is True,
        "max_memory": _arguments.memory_limit(max_memory),
        "leaky_accuracy": bool(leaky_accuracy),
    }
    fitted, notes = _cnncodes.fit_head(opened._file, options, None if report is None else Path(report), Path(models))
    head = Head(fitted)
    serious = [note["text"] for note in head.evaluation.notes if note["severity"] == "warning"]
    for note in [*notes, *serious]:
        warnings.warn(note, stacklevel=2)
    return head


def _costs(C: float | Sequence[float] | str | None) -> list[float] | None:
    if isinstance(C, str) and C != "auto":
        raise ValueError(f'C is {C!r}, but must be a number, several numbers or "auto"')
    if C is None or isinstance(C, str):
        return None
    costs: list[float] = np.atleast_1d(np.asarray(C, dtype=np.float64)).ravel().tolist()
    for cost in costs:
        if not (math.isfinite(cost) and cost > 0):
            raise ValueError(f"C is {cost}, but must be a number above 0")
    if not costs:
        raise ValueError("C holds no number")
    return costs
