"""The estimators against scikit-learn's own, and within its tools."""

import pickle
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn.linear_model
import sklearn.svm
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from cnncodes import LinearSVM, LogisticRegression, RidgeClassifier

ESTIMATORS = [LinearSVM, LogisticRegression, RidgeClassifier]


def blobs(classes: int, rows: int = 400, columns: int = 30, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Rows of classes that overlap, with columns of very different size."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    centres = random.normal(size=(classes, columns))
    scale = 10.0 ** random.uniform(-1, 1, columns)
    return ((centres[labels] * 0.5 + random.normal(size=(rows, columns))) * scale).astype(np.float32), labels


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learns_checks_pass(estimator: Any, standardize: bool) -> None:
    results = check_estimator(estimator(standardize=standardize), on_skip=None)
    skipped = [result["check_name"] for result in results if result["status"] == "skipped"]
    # It needs SCIPY_ARRAY_API in the environment before anything is imported.
    assert set(skipped) <= {"check_array_api_input"}
    assert len(results) > 50


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5}])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_svm_is_linear_svc(classes: int, class_weight: Any, weighted: bool) -> None:
    X, y = blobs(classes)
    if isinstance(class_weight, dict):
        class_weight = {**class_weight, 2: 1.0, 3: 1.0} if classes == 4 else class_weight
    weights = np.random.default_rng(1).uniform(0.1, 3, len(y)) if weighted else None
    ours = LinearSVM(C=0.1, class_weight=class_weight, tol=1e-6, max_iter=100_000).fit(X, y, weights)
    # LIBLINEAR gives the rows of the rest the weight 1, whatever their class.
    row_weights = np.ones(len(y)) if weights is None else weights
    of_classes = _effective(class_weight, y, weights) or {}
    row_weights = row_weights * [of_classes.get(label, 1.0) for label in y]
    theirs = sklearn.svm.LinearSVC(C=0.1, dual=False, tol=1e-9, max_iter=100_000).fit(
        X.astype(np.float64), y, row_weights
    )
    _same(ours, theirs, X, 1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_that_of_scikit_learn(classes: int, class_weight: Any, weighted: bool) -> None:
    X, y = blobs(classes)
    X = StandardScaler().fit_transform(X)
    weights = np.random.default_rng(1).uniform(0.1, 3, len(y)) if weighted else None
    ours = LogisticRegression(C=0.5, class_weight=class_weight, tol=1e-7).fit(X, y, weights)
    theirs = sklearn.linear_model.LogisticRegression(
        C=0.5, class_weight=_effective(class_weight, y, weights), tol=1e-10, max_iter=10_000
    ).fit(X.astype(np.float64), y, weights)
    _same(ours, theirs, X, 3e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=3e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("columns", [30, 500])
@pytest.mark.parametrize("classes", [2, 4])
def test_ridge_is_that_of_scikit_learn(classes: int, columns: int, class_weight: Any, weighted: bool) -> None:
    X, y = blobs(classes, columns=columns)
    weights = np.random.default_rng(1).uniform(0.1, 3, len(y)) if weighted else None
    ours = RidgeClassifier(alpha=3.0, class_weight=class_weight).fit(X, y, weights)
    theirs = sklearn.linear_model.RidgeClassifier(alpha=3.0, class_weight=_effective(class_weight, y, weights))
    # In weighted fits it centres and scales X in place of the caller's array.
    _same(ours, theirs.fit(X.astype(np.float64), y, weights), X, 1e-6)


def test_ridge_chooses_the_penalty_that_ridge_classifier_cv_does() -> None:
    X, y = blobs(3, rows=120, columns=80)
    alphas = [0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0]
    ours = RidgeClassifier(alpha=alphas).fit(X, y)
    theirs = sklearn.linear_model.RidgeClassifierCV(alphas=alphas).fit(X.astype(np.float64), y)
    assert ours.alpha_ == theirs.alpha_
    assert 0.1 < ours.alpha_ < 10_000.0


@pytest.mark.parametrize("estimator", [LinearSVM(C=0.01), LogisticRegression(), RidgeClassifier(alpha=10.0)])
def test_standardize_is_a_standard_scaler_in_front(estimator: Any) -> None:
    X, y = blobs(3)
    X[:, 5] = 7.25
    X[:, 6] = X[:, 6] * 0.01 + 300
    inside = clone(estimator).set_params(standardize=True).fit(X, y)
    in_front = make_pipeline(StandardScaler(), estimator).fit(X.astype(np.float64), y)
    assert (inside.coef_[:, 5] == 0).all()
    np.testing.assert_allclose(inside.decision_function(X), in_front.decision_function(X), rtol=0, atol=2e-3)
    # Weights of the rows count for mean and deviation as well.
    twice = clone(inside).fit(np.vstack([X, X[:50]]), np.hstack([y, y[:50]]))
    weighted = clone(inside).fit(X, y, np.where(np.arange(len(y)) < 50, 2.0, 1.0))
    np.testing.assert_array_equal(twice.coef_, weighted.coef_)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_repeat_as_their_weights_say_to_the_last_bit(estimator: Any) -> None:
    X, y = blobs(3, rows=60)
    weights = np.random.default_rng(2).integers(0, 4, 60)
    order = np.random.default_rng(3).permutation(60)
    weighted = estimator().fit(X[order], y[order], weights[order])
    repeated = estimator().fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_array_equal(weighted.coef_, repeated.coef_)
    np.testing.assert_array_equal(weighted.intercept_, repeated.intercept_)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_they_work_in_pipelines_searches_and_workers(estimator: Any) -> None:
    X, y = blobs(3)
    names = np.array(["cats", "dogs", "horses"])[y]
    parameter = "alpha" if estimator is RidgeClassifier else "C"
    grid = {f"{estimator.__name__.lower()}__{parameter}": [0.01, 1.0]}
    search = GridSearchCV(make_pipeline(StandardScaler(), estimator()), grid, cv=3, n_jobs=2)
    assert search.fit(X, names).best_score_ > 0.7
    processes = cross_val_score(estimator(), X, names, cv=4, n_jobs=2)
    with joblib.parallel_backend("threading"):
        threads = cross_val_score(estimator(), X, names, cv=4, n_jobs=2)
    np.testing.assert_array_equal(processes, threads)
    np.testing.assert_array_equal(processes, cross_val_score(estimator(), X, names, cv=4))
    fitted = estimator(standardize=True).fit(X, names)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.decision_function(X), fitted.decision_function(X))
    assert clone(fitted).get_params() == fitted.get_params()
    assert list(fitted.predict(X[:5])) == [fitted.classes_[k] for k in fitted.decision_function(X[:5]).argmax(axis=1)]


def test_probabilities_of_two_classes_are_the_logistic_function_of_the_score() -> None:
    X, y = blobs(2)
    model = LogisticRegression().fit(X, y)
    scores = model.decision_function(X)
    assert model.coef_.shape == (1, 30)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_only_logistic_regression_has_probabilities() -> None:
    assert [hasattr(estimator(), "predict_proba") for estimator in ESTIMATORS] == [False, True, False]


def test_a_solver_that_stops_early_warns() -> None:
    X, y = blobs(3)
    with pytest.warns(ConvergenceWarning, match="stopped at its limit of 2"):
        LinearSVM(C=1e4, max_iter=2).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="stopped at its limit of 2 iterations"):
        LogisticRegression(C=1e4, max_iter=2).fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (LinearSVM(C=0), "C is 0, but must be a number above 0"),
        (LinearSVM(tol=2.0), "the tolerance is 2"),
        (LogisticRegression(C=float("nan")), "C is NaN"),
        (LogisticRegression(max_iter=0), "the iteration limit is 0"),
        (RidgeClassifier(alpha=[1.0, -1.0]), "alpha is -1, but must be a number above 0"),
        (RidgeClassifier(alpha=[]), "the number of values of alpha"),
        (LinearSVM().set_params(class_weight="even"), "class_weight is 'even'"),
        (LinearSVM(class_weight={0: -1.0, 1: 1.0}), "not a number above 0"),
    ],
)
def test_bad_parameters_are_value_errors_that_say_why(estimator: Any, said: str) -> None:
    X, y = blobs(2, rows=40)
    with pytest.raises(ValueError, match=said):
        estimator.fit(X, y)


def test_bad_rows_are_value_errors() -> None:
    X, y = blobs(2, rows=40)
    with pytest.raises(ValueError, match="negative"):
        LinearSVM().fit(X, y, np.full(40, -1.0))
    with pytest.raises(ValueError, match="at least two classes"):
        LinearSVM().fit(X, np.zeros(40))
    with pytest.raises(ValueError, match="NaN"):
        LinearSVM().fit(np.where(np.arange(40)[:, None] == 3, np.nan, X), y)
    with pytest.raises(ValueError, match="features"):
        LinearSVM().fit(X, y).predict(X[:, 1:])


def _effective(class_weight: Any, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Any:
    """Balanced by the weights of the rows, as newer versions of scikit-learn have it for some of its estimators."""
    if class_weight != "balanced":
        return class_weight
    sums = np.bincount(y, weights=weights)
    return dict(enumerate(sums.sum() / (len(sums) * sums)))


def _same(ours: Any, theirs: Any, X: NDArray[np.float32], tolerance: float) -> None:
    """Weights and scores agree within a share of the largest, and so do the answers."""
    for found, expected in [
        (ours.coef_, theirs.coef_),
        (ours.decision_function(X), theirs.decision_function(X.astype(np.float64))),
    ]:
        # RidgeClassifier has a vector of weights for two classes.
        expected = expected.reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(
        ours.intercept_, theirs.intercept_, rtol=0, atol=tolerance * max(1, np.abs(theirs.intercept_).max())
    )
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
