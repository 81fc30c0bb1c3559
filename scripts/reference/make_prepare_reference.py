#!/usr/bin/env python3
"""Prepared features as scikit-learn's Normalizer, StandardScaler and PCA give them: crates/linear-heads/tests/reference/prepare.json.

Made with numpy 2.x and scikit-learn 1.x; run it with a Python that has both.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

REFERENCE = Path(__file__).resolve().parents[2] / "crates/linear-heads/tests/reference" / "prepare.json"


def case(rng, rows, columns, components, l2_normalize, standardize):
    # Columns of unequal size that lean on one another, and one that says nothing.
    mixing = rng.normal(size=(columns, columns)) * 0.5 ** np.arange(columns)
    features = (rng.normal(size=(rows + 5, columns)) @ mixing + rng.normal(size=columns)).astype(np.float32)
    if not l2_normalize:
        features[:, columns // 2] = 2.5
    training = features[:rows].astype(np.float64)
    pca = PCA(components, svd_solver="full")
    steps = [Normalizer()] * l2_normalize + [StandardScaler()] * standardize + [pca]
    scores = make_pipeline(*steps).fit(training).transform(features.astype(np.float64))
    return {
        "columns": columns,
        "training_rows": rows,
        "components": components,
        "l2_normalize": l2_normalize,
        "standardize": standardize,
        "codes": features.ravel().tolist(),
        "variances": pca.explained_variance_.tolist(),
        "kept": pca.explained_variance_ratio_.sum(),
        "scores": scores.ravel().tolist(),
    }


def main():
    rng = np.random.default_rng(11)
    cases = [
        case(rng, 30, 8, 3, False, True),
        case(rng, 12, 20, 4, False, True),
        case(rng, 12, 20, 5, True, True),
        case(rng, 30, 8, 8, False, False),
        case(rng, 12, 20, 11, True, False),
    ]
    REFERENCE.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
