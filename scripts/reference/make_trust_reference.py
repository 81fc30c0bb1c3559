#!/usr/bin/env python3
"""Writes tests/reference/trust.json: calibration error, Brier score, isotonic regression, conformal quantiles and
distances to training features, computed with numpy and scikit-learn independently of the Rust code.

Usage: scripts/reference/make_trust_reference.py   (needs numpy and scikit-learn)
"""

import json
from pathlib import Path

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.neighbors import NearestNeighbors

OUT = Path(__file__).resolve().parents[2] / "tests" / "reference" / "trust.json"
random = np.random.default_rng(5)


def calibration():
    rows, classes = 200, 3
    probabilities = random.dirichlet([0.6] * classes, rows)
    # Some on the very edges of bins.
    probabilities[:3] = [[1, 0, 0], [0.6, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3]]
    labels = np.array([random.choice(classes, p=p) for p in probabilities])
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    edges = np.linspace(0, 1, 16)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs((predicted == labels)[inside].mean() - confidence[inside].mean())
    brier = ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1).mean()
    return {
        "classes": classes,
        "probabilities": probabilities.ravel().tolist(),
        "labels": labels.tolist(),
        "expected_error": error,
        "brier": brier,
    }


def isotonic():
    scores = np.round(random.normal(size=120), 1)
    targets = (random.random(120) < 1 / (1 + np.exp(-2 * scores))).astype(float)
    at = np.linspace(-4, 4, 81)
    model = IsotonicRegression(out_of_bounds="clip").fit(scores, targets)
    return {
        "scores": scores.tolist(),
        "targets": targets.tolist(),
        "at": at.tolist(),
        "values": model.predict(at).tolist(),
    }


def novelty():
    rows, columns, neighbours = 60, 16, 3
    features = np.maximum(random.normal(size=(rows, columns)), 0).astype(np.float32)
    queries = random.normal(size=(7, columns)).astype(np.float32)
    features, queries = features.astype(np.float64), queries.astype(np.float64)
    groups = np.repeat(np.arange(30), 2)
    search = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(features)
    distances = search.kneighbors(queries)[0].mean(axis=1)
    held_out = []
    for row in range(rows):
        others = features[groups != groups[row]]
        near = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(others)
        held_out.append(float(near.kneighbors(features[row : row + 1])[0].mean()))
    return {
        "columns": columns,
        "neighbours": neighbours,
        "codes": features.ravel().tolist(),
        "groups": groups.tolist(),
        "queries": queries.ravel().tolist(),
        "distances": distances.tolist(),
        "held_out": held_out,
    }


if __name__ == "__main__":
    OUT.write_text(json.dumps({"calibration": calibration(), "isotonic": isotonic(), "novelty": novelty()}) + "\n")
