#!/usr/bin/env python3
"""Write crates/linear-heads/tests/reference/head.json: what scikit-learn and scipy find on small data.

The solvers' tests compare themselves with it. Needs numpy, scipy and scikit-learn; run from the repository's root:

    python3 scripts/reference/make_head_reference.py
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

ROWS, COLUMNS = 120, 20


def data(classes, seed):
    """Overlapping classes of unequal size, float32, rounded so that JSON holds the very same numbers."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, ROWS) * rng.integers(0, 2, ROWS))
    centres = rng.normal(size=(classes, COLUMNS))
    features = 0.6 * centres[labels] + rng.normal(size=(ROWS, COLUMNS)) + 0.5
    features[:, 3] = 0.25  # a constant column
    order = rng.permutation(ROWS)
    return np.round(features[order], 3).astype(np.float32), labels[order]


def svm(features, labels, c):
    """Objective summed over the one-vs-rest problems, intercept penalised as LinearSVC has it; predictions."""
    fitted = LinearSVC(C=c, loss="squared_hinge", dual=True, tol=1e-9, max_iter=1_000_000, random_state=0)
    fitted.fit(features.astype(np.float64), labels)
    objective = 0.0
    for k, (w, b) in enumerate(zip(fitted.coef_, fitted.intercept_)):
        positive = labels == (1 if len(fitted.coef_) == 1 else k)
        margin = np.where(positive, 1.0, -1.0) * (features.astype(np.float64) @ w + b)
        objective += 0.5 * (w @ w + b * b) + c * (np.maximum(0, 1 - margin) ** 2).sum()
    return {
        "c": c,
        "objective": objective,
        "weights": fitted.coef_.tolist(),
        "predictions": fitted.predict(features).tolist(),
    }


def logistic(features, labels, c):
    """Objective and predictions of scikit-learn's LogisticRegression."""
    features = features.astype(np.float64)
    fitted = LogisticRegression(C=c, tol=1e-12, max_iter=100_000, solver="newton-cholesky").fit(features, labels)
    scores = features @ fitted.coef_.T + fitted.intercept_
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(labels)), labels]
    return {
        "c": c,
        "objective": c * losses.sum() + 0.5 * (fitted.coef_**2).sum(),
        "weights": fitted.coef_.tolist(),
        "predictions": fitted.predict(features).tolist(),
        "probabilities": np.exp(log_softmax(scores, axis=1))[:5].tolist(),
    }


def platt(scores, positive):
    """Lin, Lin and Weng's regularised maximum likelihood, by a general-purpose optimiser."""
    n = positive.sum(), (~positive).sum()
    target = np.where(positive, (n[0] + 1) / (n[0] + 2), 1 / (n[1] + 2))

    def loss(parameters):
        z = parameters[0] * scores + parameters[1]
        return (target * np.logaddexp(0, z) + (1 - target) * np.logaddexp(0, -z)).sum()

    start = [0.0, np.log((n[1] + 1) / (n[0] + 1))]
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 10_000})
    return {
        "scores": scores.tolist(),
        "positive": positive.tolist(),
        "slope": best.x[0],
        "offset": best.x[1],
    }


def temperature(scores, labels):
    """The temperature that minimises the cross-entropy with targets smoothed to (n + 1) / (n + K)."""
    n, k = scores.shape
    targets = np.full((n, k), 1 / (n + k))
    targets[np.arange(n), labels] = (n + 1) / (n + k)
    best = minimize_scalar(
        lambda t: -(targets * log_softmax(scores / np.exp(t), axis=1)).sum(),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return {"scores": scores.ravel().tolist(), "labels": labels.tolist(), "temperature": float(np.exp(best.x))}


def problem(classes, seed):
    features, labels = data(classes, seed)
    # Powers of two change no digit of a float32: columns from 2e-5 to 3e4 times their size.
    exponents = (np.arange(COLUMNS) * 7 % 31) - 15
    ill_scaled = features * np.exp2(exponents).astype(np.float32)
    return {
        "classes": classes,
        "columns": COLUMNS,
        "codes": features.ravel().tolist(),
        "labels": labels.tolist(),
        "exponents": exponents.tolist(),
        "svm": [svm(features, labels, c) for c in (0.01, 1.0)],
        "logistic": [logistic(features, labels, c) for c in (0.01, 1.0, 100.0)],
        "logistic_ill_scaled": [logistic(ill_scaled, labels, 1.0)],
    }


def main():
    rng = np.random.default_rng(5)
    truth = rng.random(60) < 0.4
    labels = rng.integers(0, 3, 50)
    scores = np.round(rng.normal(size=(50, 3)) * 4 + 6 * np.eye(3)[labels], 3)
    reference = {
        "three_classes": problem(3, 1),
        "two_classes": problem(2, 2),
        "platt": platt(np.round(rng.normal(size=60) + 1.5 * truth - 0.5, 3), truth),
        "temperature": temperature(scores, labels),
    }

    def rounded(value):
        if isinstance(value, float):
            return float(f"{value:.12g}")
        if isinstance(value, list):
            return [rounded(v) for v in value]
        if isinstance(value, dict):
            return {k: rounded(v) for k, v in value.items()}
        return value

    Path("crates/linear-heads/tests/reference/head.json").write_text(json.dumps(rounded(reference)) + "\n")


if __name__ == "__main__":
    main()
