"""Linear classifiers as scikit-learn estimators, on the solvers of cnncodes.

Their objectives are those of scikit-learn's `LinearSVC` (squared hinge), `LogisticRegression` and `RidgeClassifier`, and so are their
parameters: `C` and `alpha` mean the same, and columns are left as they are unless `standardize` is set. What differs is the solver: it
works on float32 rows without copying them, on all cores, and stops at a duality gap.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from . import _cnncodes

ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"] | None

# scikit-learn does not annotate what it takes and gives.
_validated: Any = validate_data

# Values that are brought to float64 at a time.
_BLOCK = 1 << 22


class _LinearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What the three estimators share: checks, class weights, and scores from `coef_` and `intercept_`."""

    class_weight: ClassWeight
    standardize: bool
    classes_: NDArray[Any]
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    n_features_in_: int

    def _training_rows(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> dict[str, Any]:
        """Checks what to fit to, sets `classes_`, and gives what the solvers take."""
        features: NDArray[np.float32]
        targets: NDArray[Any]
        features, targets = _validated(self, X, y, dtype=np.float32, order="C")
        check_classification_targets(targets)
        row_weights: NDArray[np.float64] | None = None
        if sample_weight is not None:
            row_weights = np.ascontiguousarray(_check_sample_weight(sample_weight, features, dtype=np.float64))
            if (row_weights < 0).any():
                raise ValueError("sample_weight holds a negative number; give numbers of at least 0")
            # Rows of weight 0 take no part, so their classes do not either.
            kept = row_weights > 0
            if not kept.all():
                features, targets, row_weights = features[kept], targets[kept], row_weights[kept]
        classes = np.unique(targets)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least two classes, but all rows"
                f"{'' if row_weights is None else ' of a weight above 0'} belong to {len(classes)} class"
            )
        self.classes_ = classes
        labels = np.searchsorted(classes, targets).astype(np.int64, copy=False)
        return {
            "features": features,
            "labels": labels,
            "class_weights": self._class_weights(labels, row_weights),
            "row_weights": row_weights,
            "standardize": bool(self.standardize),
        }

    def _class_weights(self, labels: NDArray[np.int64], row_weights: NDArray[np.float64] | None) -> list[float]:
        count = len(self.classes_)
        if self.class_weight is None:
            return [1.0] * count
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise ValueError(f'class_weight is {self.class_weight!r}, but must be None, "balanced" or a dictionary')
            sums = np.bincount(labels, weights=row_weights, minlength=count)
            balanced: list[float] = (sums.sum() / (count * sums)).tolist()
            return balanced
        weights = compute_class_weight(dict(self.class_weight), classes=self.classes_, y=self.classes_)
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError("class_weight holds a weight that is not a number above 0")
        given: list[float] = weights.tolist()
        return given

    def _set_model(self, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        self.coef_, self.intercept_ = weights, bias

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """
        Scores of the classes: `X @ coef_.T + intercept_`, summed in float64.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. Values are taken as float32.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            float64. With two classes, a score above 0 stands for `classes_[1]`.

        Raises
        ------
        ValueError
            `X` has another number of columns, or a value that is not a finite number.
        sklearn.exceptions.NotFittedError
            The estimator has not been fitted.
        """
        check_is_fitted(self)
        features: NDArray[np.float32] = _validated(self, X, dtype=np.float32, order="C", reset=False)
        scores = np.empty((len(features), len(self.intercept_)))
        step = max(1, _BLOCK // features.shape[1])
        for start in range(0, len(features), step):
            block = features[start : start + step].astype(np.float64)
            scores[start : start + step] = block @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """
        The class of the highest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. Values are taken as float32.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes, as in `classes_`.

        Raises
        ------
        ValueError
            `X` has another number of columns, or a value that is not a finite number.
        sklearn.exceptions.NotFittedError
            The estimator has not been fitted.
        """
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        answers: NDArray[Any] = self.classes_[chosen]
        return answers


def _warn(message: str | None) -> None:
    if message is not None:
        warnings.warn(message, ConvergenceWarning, stacklevel=3)


class LinearSVM(_LinearClassifier):
    """
    Linear support vector machine with the squared hinge, one class against the rest.

    For each class it minimises `0.5 (w·w + b²) + C Σ max(0, 1 - y (w·x + b))²`, as scikit-learn's
    `LinearSVC(loss="squared_hinge")` does. It has no `predict_proba`: wrap it in
    `sklearn.calibration.CalibratedClassifierCV`, or use `cnncodes.fit_head`, which calibrates by cross-validation.

    Parameters
    ----------
    C : float, default=1.0
        Weight of the losses against the regularisation. On standardised features of a network, 0.01 is a better start; it is the
        default of `cnncodes.fit_head`.
    class_weight : dict, "balanced" or None, default=None
        What multiplies C for the rows of each class: by class, or n / (number of classes · rows of the class). A row has the
        weight of its class in the problems of all classes; in `LinearSVC` it has it in that of its own alone.
    standardize : bool, default=False
        Bring each column to mean 0 and deviation 1 over the training rows first. `coef_` and `intercept_` are those of
        columns as they were given. Constant columns get the weight 0.
    tol : float, default=1e-4
        Duality gap, relative to the objective, at which the solver stops; from 1e-9 to below 1.
    max_iter : int, default=1000
        Passes over the rows after which the solver gives up, with a `ConvergenceWarning`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
        Weights, float64.
    intercept_ : ndarray of shape (n_classes,), or (1,) for two classes
        Biases, float64.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` has them.
    n_iter_ : int
        Passes over the rows: those of the slowest class.

    Notes
    -----
    A row of weight 3 is the same as three rows, to the last bit, and a row of weight 0 takes no part. Equal rows count as one
    with the sum of their weights. The result depends neither on the number of threads nor on a random state.

    Examples
    --------
    >>> from cnncodes import LinearSVM
    >>> svm = LinearSVM(C=1.0).fit([[0, 1], [0.2, 0.9], [1, 0.1], [0.9, 0]], ["cat", "cat", "dog", "dog"])
    >>> svm.predict([[0.1, 0.8], [0.8, 0.1]]).tolist()
    ['cat', 'dog']
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: ClassWeight = None,
        standardize: bool = False,
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> LinearSVM:
        """
        Fit to rows of features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A C-contiguous float32 array is not copied, unless rows are weighted or equal.
        y : array-like of shape (n_samples,)
            Class of each row: text or whole numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            What multiplies C for each row, at least 0.

        Returns
        -------
        LinearSVM
            The estimator itself.

        Raises
        ------
        ValueError
            A parameter is out of range, sizes disagree, a value is not finite, or there is only one class.
        """
        rows = self._training_rows(X, y, sample_weight)
        weights, bias, iterations, message = _cnncodes.fit_svm(
            rows, float(self.C), float(self.tol), int(self.max_iter), 0
        )
        if len(self.classes_) == 2:
            weights, bias = weights[1:], bias[1:]
        self._set_model(weights, bias)
        self.n_iter_ = max(1, iterations)
        _warn(message)
        return self


class LogisticRegression(_LinearClassifier):
    """
    Multinomial logistic regression with an L2 penalty.

    It minimises `C Σ (log Σ exp f - f_y) + 0.5 Σ w·w` over all classes at once, as scikit-learn's `LogisticRegression` does; the
    intercepts are not penalised.

    Parameters
    ----------
    C : float, default=1.0
        Weight of the losses against the regularisation.
    class_weight : dict, "balanced" or None, default=None
        What multiplies C for the rows of each class: by class, or n / (number of classes · rows of the class).
    standardize : bool, default=False
        Bring each column to mean 0 and deviation 1 over the training rows first. `coef_` and `intercept_` are those of
        columns as they were given. Constant columns get the weight 0.
    tol : float, default=1e-4
        Duality gap, relative to the objective, at which the solver stops; from 1e-7 to below 1.
    max_iter : int, default=1000
        Iterations after which the solver gives up, with a `ConvergenceWarning`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
        Weights, float64.
    intercept_ : ndarray of shape (n_classes,), or (1,) for two classes
        Biases, float64.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` has them.
    n_iter_ : int
        Iterations of the solver.

    Notes
    -----
    A row of weight 3 is the same as three rows, to the last bit, and a row of weight 0 takes no part. Equal rows count as one
    with the sum of their weights. The result does not depend on a random state.

    Examples
    --------
    >>> from cnncodes import LogisticRegression
    >>> model = LogisticRegression(C=10.0).fit([[0, 1], [0.2, 0.9], [1, 0.1], [0.9, 0]], [3, 3, 7, 7])
    >>> model.predict([[0.1, 0.8], [0.8, 0.1]]).tolist()
    [3, 7]
    >>> model.predict_proba([[0.1, 0.8]]).round(2).tolist()
    [[0.9, 0.1]]
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: ClassWeight = None,
        standardize: bool = False,
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> LogisticRegression:
        """
        Fit to rows of features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A C-contiguous float32 array is not copied, unless rows are weighted or equal.
        y : array-like of shape (n_samples,)
            Class of each row: text or whole numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            What multiplies C for each row, at least 0.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        ValueError
            A parameter is out of range, sizes disagree, a value is not finite, or there is only one class.
        """
        rows = self._training_rows(X, y, sample_weight)
        weights, bias, iterations, message = _cnncodes.fit_logistic(
            rows, float(self.C), float(self.tol), int(self.max_iter)
        )
        if len(self.classes_) == 2:
            weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
        self._set_model(weights, bias)
        self.n_iter_ = max(1, iterations)
        _warn(message)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """
        Probabilities of the classes: the softmax of the scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. Values are taken as float32.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            float64; each row sums to 1, and the columns are in the order of `classes_`.

        Raises
        ------
        ValueError
            `X` has another number of columns, or a value that is not a finite number.
        sklearn.exceptions.NotFittedError
            The estimator has not been fitted.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        probabilities: NDArray[np.float64] = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """
        Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. Values are taken as float32.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            float64; the columns are in the order of `classes_`.
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            np.log(probabilities, out=probabilities)
        return probabilities


class RidgeClassifier(_LinearClassifier):
    """
    Ridge regression on targets of 1 for a row's class and -1 for the others.

    It minimises `|Y - X Wᵀ - b|² + alpha |W|²`, as scikit-learn's `RidgeClassifier` does; given several penalties, it takes the one of the
    least mean squared leave-one-out error, as `RidgeClassifierCV` does. It has no `predict_proba`: wrap it in
    `sklearn.calibration.CalibratedClassifierCV`, or use `cnncodes.fit_head`, which calibrates by cross-validation.

    Parameters
    ----------
    alpha : float or array-like of floats, default=1.0
        Penalty, above 0; or several to choose from by exact leave-one-out.
    class_weight : dict, "balanced" or None, default=None
        What multiplies the squares of the rows of each class: by class, or n / (number of classes · rows of the class).
    standardize : bool, default=False
        Bring each column to mean 0 and deviation 1 over the training rows first. `coef_` and `intercept_` are those of
        columns as they were given. Constant columns get the weight 0.

    Attributes
    ----------
    alpha_ : float
        The penalty that was used.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
        Weights, float64.
    intercept_ : ndarray of shape (n_classes,), or (1,) for two classes
        Biases, float64.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` has them.

    Notes
    -----
    A row of weight 3 is the same as three rows, to the last bit, and a row of weight 0 takes no part. Equal rows count as one with the
    sum of their weights, so they are left out together where the penalty is chosen.

    Examples
    --------
    >>> from cnncodes import RidgeClassifier
    >>> ridge = RidgeClassifier(alpha=[0.1, 1, 10]).fit([[0, 1], [0.2, 0.9], [1, 0.1], [0.9, 0]], [0, 0, 1, 1])
    >>> ridge.alpha_, ridge.predict([[0.1, 0.8], [0.8, 0.1]]).tolist()
    (0.1, [0, 1])
    """

    def __init__(
        self,
        alpha: float | ArrayLike = 1.0,
        *,
        class_weight: ClassWeight = None,
        standardize: bool = False,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> RidgeClassifier:
        """
        Fit to rows of features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A C-contiguous float32 array is not copied, unless rows are weighted or equal.
        y : array-like of shape (n_samples,)
            Class of each row: text or whole numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            What multiplies the squares of each row, at least 0.

        Returns
        -------
        RidgeClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            A parameter is out of range, sizes disagree, a value is not finite, or there is only one class.
        """
        rows = self._training_rows(X, y, sample_weight)
        alphas = np.atleast_1d(np.asarray(self.alpha, dtype=np.float64)).ravel().tolist()
        (weights, bias, _, _), self.alpha_ = _cnncodes.fit_ridge(rows, alphas)
        if len(self.classes_) == 2:
            weights, bias = weights[1:], bias[1:]
        self._set_model(weights, bias)
        return self
