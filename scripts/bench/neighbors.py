#!/usr/bin/env python3
"""One turn of scripts/bench/neighbors in Python: FEATURES QUERIES K read|search. Prints seconds.

The search is what one would write by hand: blocks by h5py, a float32 product, the k nearest so far kept.
"""

import sys
import time

import h5py
import numpy as np

features, queries, k, what = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
BLOCK = 2048
start = time.perf_counter()
with h5py.File(features) as f:
    stored = f["features"]
    rows, width = stored.shape
    block = np.empty((BLOCK, width), np.float32)
    if what == "search":
        with h5py.File(queries) as g:
            asked = g["features"][:]
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        best = np.full((len(asked), k), np.inf, np.float32)
        best_rows = np.zeros((len(asked), k), np.int64)
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        stored.read_direct(block, np.s_[first : first + count], np.s_[:count])
        if what == "search":
            part = block[:count]
            distances = 1 - asked @ part.T / np.sqrt(np.einsum("ij,ij->i", part, part))
            all_distances = np.hstack([best, distances])
            all_rows = np.hstack([best_rows, np.broadcast_to(np.arange(first, first + count), distances.shape)])
            keep = np.argpartition(all_distances, k, axis=1)[:, :k]
            best = np.take_along_axis(all_distances, keep, axis=1)
            best_rows = np.take_along_axis(all_rows, keep, axis=1)
print(time.perf_counter() - start)
