#!/usr/bin/env python3
"""Write crates/linear-heads/tests/reference/kernel.json: decision values of scikit-learn's SVC, one class against the rest, on the features in
crates/linear-heads/tests/reference/head.json.

Needs numpy and scikit-learn; run from the repository's root, after scripts/reference/make_head_reference.py:

    python3 scripts/reference/make_kernel_reference.py
"""

import json
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

CASES = [
    {"kernel": "rbf", "gamma": "scale", "C": 1.0},
    {"kernel": "rbf", "gamma": 0.02, "C": 30.0},
    {"kernel": "poly", "gamma": "scale", "degree": 3, "coef0": 1.0, "C": 1.0},
    {"kernel": "poly", "gamma": 0.1, "degree": 2, "coef0": 0.0, "C": 0.1},
]


def fresh(columns):
    """Rows that no machine was fitted to."""
    return np.round(np.random.default_rng(9).normal(size=(8, columns)), 3).astype(np.float32)


def solve(problem, case):
    features = np.array(problem["codes"], np.float32).reshape(-1, problem["columns"])
    labels = np.array(problem["labels"])
    rows = np.concatenate([features, fresh(problem["columns"])]).astype(np.float64)
    decisions, objective, gamma = [], 0.0, 0.0
    for k in range(problem["classes"]):
        machine = SVC(tol=1e-9, cache_size=500, **case).fit(features.astype(np.float64), labels == k)
        decision = machine.decision_function(rows)
        decisions.append(decision.tolist())
        alpha = np.zeros(len(features))
        alpha[machine.support_] = machine.dual_coef_[0]
        hinges = np.maximum(0, 1 - np.where(labels == k, 1, -1) * decision[: len(features)])
        squared_norm = alpha @ (decision[: len(features)] - machine.intercept_[0])
        objective += 0.5 * squared_norm + case["C"] * hinges.sum()
        gamma = machine._gamma
    return {**case, "gamma": None if case["gamma"] == "scale" else case["gamma"], "scale": gamma,
            "objective": objective, "decisions": np.round(decisions, 9).tolist()}


def main():
    problems = json.loads(Path("crates/linear-heads/tests/reference/head.json").read_text())
    reference = {"fresh": fresh(problems["three_classes"]["columns"]).astype(float).round(3).ravel().tolist()}
    for name in ("three_classes", "two_classes"):
        reference[name] = [solve(problems[name], case) for case in CASES]
    Path("crates/linear-heads/tests/reference/kernel.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
