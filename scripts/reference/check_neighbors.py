#!/usr/bin/env python3
"""Nearest rows by brute force with NumPy in float64: FEATURES QUERIES METRIC K, as JSON [[[row, distance], ...], ...]."""

import json
import sys

import h5py
import numpy as np

features, queries, metric, k = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
with h5py.File(features) as f:
    rows = f["features"][:].astype(np.float64)
with h5py.File(queries) as f:
    asked = f["features"][:].astype(np.float64)
answers = []
for query in asked:
    if metric == "cosine":
        distances = 1 - rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    else:
        distances = np.linalg.norm(rows - query, axis=1)
    # Stable: equal distances stay in order of rows.
    nearest = np.argsort(distances, kind="stable")[:k]
    answers.append([[int(row), float(distances[row])] for row in nearest])
json.dump(answers, sys.stdout)
