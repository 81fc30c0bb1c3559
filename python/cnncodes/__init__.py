"""Features of images from frozen networks, and classifiers on them.

`Extractor` turns images into features, `LinearSVM`, `LogisticRegression` and `RidgeClassifier` are scikit-learn estimators for them,
`fit_head` fits and measures a head as the command `cnncodes fit-head` does, and `Classifier` classifies images with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _cnncodes, _runtime
from ._cnncodes import Error, ImageError

if TYPE_CHECKING:
    from ._classifier import Classifier as Classifier
    from ._estimators import LinearSVM as LinearSVM
    from ._estimators import LogisticRegression as LogisticRegression
    from ._estimators import RidgeClassifier as RidgeClassifier
    from ._evaluation import Evaluation as Evaluation
    from ._evaluation import Proportion as Proportion
    from ._extractor import ExtractionSummary as ExtractionSummary
    from ._extractor import Extractor as Extractor
    from ._extractor import Problem as Problem
    from ._extractor import layers as layers
    from ._features import Features as Features
    from ._features import convert as convert
    from ._features import read_features as read_features
    from ._heads import Head as Head
    from ._heads import fit_head as fit_head
    from ._neighbors import neighbors as neighbors
    from ._plan import Plan as Plan
    from ._plan import PlanStatus as PlanStatus
    from ._plan import WorkSummary as WorkSummary
    from ._suspects import suspects as suspects
    from ._sweep import Sweep as Sweep
    from ._sweep import sweep as sweep

__version__ = _cnncodes.__version__

_runtime.announce()

# Where each public name lives. The modules are imported on first use, so that the program starts without scikit-learn.
_MODULES = {
    "Classifier": "_classifier",
    "Evaluation": "_evaluation",
    "ExtractionSummary": "_extractor",
    "Extractor": "_extractor",
    "Features": "_features",
    "Head": "_heads",
    "LinearSVM": "_estimators",
    "LogisticRegression": "_estimators",
    "Plan": "_plan",
    "PlanStatus": "_plan",
    "Problem": "_extractor",
    "Proportion": "_evaluation",
    "RidgeClassifier": "_estimators",
    "Sweep": "_sweep",
    "WorkSummary": "_plan",
    "convert": "_features",
    "fit_head": "_heads",
    "layers": "_extractor",
    "neighbors": "_neighbors",
    "read_features": "_features",
    "suspects": "_suspects",
    "sweep": "_sweep",
}

__all__ = [
    "Classifier",
    "Error",
    "Evaluation",
    "ExtractionSummary",
    "Extractor",
    "Features",
    "Head",
    "ImageError",
    "LinearSVM",
    "LogisticRegression",
    "Plan",
    "PlanStatus",
    "Problem",
    "Proportion",
    "RidgeClassifier",
    "Sweep",
    "WorkSummary",
    "__version__",
    "convert",
    "fit_head",
    "layers",
    "neighbors",
    "read_features",
    "suspects",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
