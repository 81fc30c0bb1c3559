#!/usr/bin/env python3
"""Write crates/linear-heads/tests/reference/ridge.json: what scikit-learn's RidgeClassifierCV finds on the features in crates/linear-heads/tests/reference/head.json.

Needs numpy and scikit-learn; run from the repository's root, after scripts/reference/make_head_reference.py:

    python3 scripts/reference/make_ridge_reference.py
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

ALPHAS = [0.1, 1.0, 10.0, 100.0, 1000.0]


def ridge(problem):
    features = np.array(problem["codes"]).reshape(-1, problem["columns"])
    labels = np.array(problem["labels"])
    fitted = RidgeClassifierCV(alphas=ALPHAS, store_cv_results=True).fit(features, labels)
    return {
        "alphas": ALPHAS,
        "alpha": float(fitted.alpha_),
        "errors": fitted.cv_results_.reshape(-1, len(ALPHAS)).mean(axis=0).tolist(),
        "weights": np.atleast_2d(fitted.coef_).tolist(),
        "intercepts": np.atleast_1d(fitted.intercept_).tolist(),
        "predictions": fitted.predict(features).tolist(),
        "weighted": weighted(features, labels),
    }


def weighted(features, labels):
    """The first rows count twice and more."""
    weights = np.where(np.arange(len(labels)) < 30, 2.5, 1.0)
    fitted = RidgeClassifier(alpha=3.0).fit(features, labels, sample_weight=weights)
    return {
        "weights": np.atleast_2d(fitted.coef_).tolist(),
        "intercepts": np.atleast_1d(fitted.intercept_).tolist(),
    }


def main():
    problems = json.loads(Path("crates/linear-heads/tests/reference/head.json").read_text())
    reference = {name: ridge(problems[name]) for name in ("three_classes", "two_classes")}
    Path("crates/linear-heads/tests/reference/ridge.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
