#!/usr/bin/env python3
"""The turns of scripts/bench/solvers: PROGRAM [--repeat N] PHOTOS NETWORK.onnx. Prints a table in Markdown.

Each head is fitted by `cnncodes fit-head`, in a process of its own: seconds and peak memory are those of the process, with
5 folds, calibration and the final fit. Both SVMs are judged by both objectives, computed in float64 from the weights in the
head file: the squared hinge with a penalised intercept, which this program minimises, and the plain hinge with a free
intercept, which linfa-svm minimises. Both logistic regressions minimise the same one, which the head file records.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

import peak_memory

HEADS = [("--svm", "own"), ("--svm", "linfa"), ("--logistic", "own"), ("--logistic", "linfa")]
NAMES = {"--svm": "SVM", "--logistic": "logistic regression", "own": "this program's", "linfa": "linfa's"}


def svm_objectives(head, features, labels):
    """Squared hinge with the intercept penalised, and plain hinge without, summed over the classes' problems."""
    z = (features - head["mean"][:]) / head["scale"][:]
    z[:, head["constant"][:] != 0] = 0
    c = json.loads(head.attrs["settings"])["c"] or 0.01
    weights, bias = head["weights"][:].astype(np.float64), head["bias"][:]
    signs = np.where(labels[:, None] == np.arange(len(bias)), 1.0, -1.0)
    slack = np.maximum(0, 1 - signs * (z @ weights.T + bias))
    norms = 0.5 * (weights**2).sum()
    return norms + 0.5 * (bias**2).sum() + c * (slack**2).sum(), norms + c * slack.sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("photos", type=Path)
    parser.add_argument("network", type=Path)
    args = parser.parse_args()
    program = args.program.resolve()
    runtime = Path(__file__).resolve().parent.parent / ".cnncodes/onnxruntime/lib"
    if runtime.exists():
        os.environ.setdefault("CNNCODES_ONNXRUNTIME", str(runtime))
    with tempfile.TemporaryDirectory() as folder:
        def cnncodes(*arguments):
            return peak_memory.run([program, *arguments], cwd=folder)

        scaling = ["--preprocess", "tf", "--crop", "--shorter-side", "256"]
        cnncodes("models", "add", args.network.resolve(), "--name", "network", *scaling)
        cnncodes("extract", args.photos.resolve(), "-o", "f.h5")
        with h5py.File(Path(folder) / "f.h5") as file:
            features = file["features"][:].astype(np.float64)
            labels = file["labels"][:]
        rows = {head: [] for head in HEADS}
        for _ in range(args.repeat):
            for kind, solver in HEADS:
                start = time.perf_counter()
                printed, mib = cnncodes(
                    "fit-head", kind, "--solver", solver, "f.h5", "-o", "head.h5", "--format", "json"
                )
                seconds = time.perf_counter() - start
                with h5py.File(Path(folder) / "head.h5") as head:
                    gap = json.loads(head.attrs["convergence"])
                    judged = (gap["objective"],)
                    if kind == "--svm":
                        judged = svm_objectives(head, features, labels)
                rows[kind, solver].append((seconds, mib, json.loads(printed), gap["criterion"], judged))
    images, columns = features.shape
    print(f"{images} images, {columns} features, {args.repeat} turns each (medians)\n")
    print("| head | solver | accuracy | log-loss | objective (SVM: squared hinge; hinge) | duality gap | seconds | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, solver), turns in rows.items():
        _, _, evaluation, gap, judged = turns[0]
        print(
            f"| {NAMES[kind]} | {NAMES[solver]} | {100 * evaluation['accuracy']['value']:.2f} % | "
            f"{evaluation['log_loss']:.4f} | {'; '.join(f'{value:.5f}' for value in judged)} | {gap:.1e} | "
            f"{statistics.median(turn[0] for turn in turns):.2f} | {statistics.median(turn[1] for turn in turns):.0f} |"
        )


if __name__ == "__main__":
    main()
