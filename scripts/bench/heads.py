"""Compares the heads' solvers with scikit-learn's and LIBLINEAR's on the same features; writes docs/bench-heads.md.

    python scripts/bench/heads.py PROGRAM [--repeat N] [--shapes small,middle,hard,large]

Makes features of seven shapes with a seed. Each program fits them in a process of its own, one after the other, round by
round: time of the fit alone, the value of the same objective (computed here from the weights of each), accuracy on as
many other rows as a fifth, peak memory of the process. The optimum is the lowest value of all runs, one of which asks our
solver for a gap of 1e-6. scripts/bench/heads installs what this needs and builds PROGRAM.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SHAPES = {"readme": (646, 1280, 4, 0.5), "small": (646, 4096, 4, 0.5), "three": (3000, 2048, 10, 0.6),
          "four": (4000, 2048, 10, 0.6), "middle": (10_000, 2048, 10, 0.6), "hard": (10_000, 2048, 10, 0.25),
          "large": (50_000, 2048, 100, 0.8)}
HEADS = {"svm": (0.01, ["LinearSVC", "LIBLINEAR"]), "logistic": (1.0, ["LogisticRegression"]),
         "ridge": (1000.0, ["RidgeClassifierCV"])}
TOLERANCE, TIGHT = 1e-4, 1e-6
# How many times fewer rows and columns a fit before the measured one has; benches/heads.rs has the same.
SMALLER = 8


def make(folder, name):
    """Standardised ReLU-like features of overlapping classes in 64 latent dimensions; a fifth as many to test on."""
    rows, columns, classes, spread = SHAPES[name]
    rng = np.random.default_rng(0)
    count = rows + rows // 5
    labels = rng.integers(0, classes, count)
    latent = (rng.normal(size=(classes, 64)) * spread)[labels] + rng.normal(size=(count, 64))
    features = latent.astype(np.float32) @ (rng.normal(size=(64, columns)) / 8).astype(np.float32)
    features += 0.5 * rng.standard_normal((count, columns), dtype=np.float32)
    np.maximum(features, 0, out=features)
    features -= features[:rows].mean(0)
    features /= features[:rows].std(0)
    for part, kept in (("", slice(rows)), ("-test", slice(rows, count))):
        features[kept].astype(np.float32).tofile(folder / f"{name}{part}.f32")
        labels[kept].astype(np.uint32).tofile(folder / f"{name}{part}.u32")


def load(folder, name, part=""):
    features = np.fromfile(folder / f"{name}{part}.f32", np.float32).reshape(-1, SHAPES[name][1])
    return features, np.fromfile(folder / f"{name}{part}.u32", np.uint32).astype(int)


def peak_mib():
    """Peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0


def scores(features, weights):
    blocks = [features[i : i + 1000].astype(float) @ weights[:, :-1].T for i in range(0, len(features), 1000)]
    return np.concatenate(blocks) + weights[:, -1]


def objective(head, c, features, labels, weights):
    values = scores(features, weights)
    signs = np.where(labels[:, None] == np.arange(len(weights)), 1.0, -1.0)
    norm, biases = (weights[:, :-1] ** 2).sum(), (weights[:, -1] ** 2).sum()
    if head == "svm":
        return 0.5 * norm + 0.5 * biases + c * (np.maximum(0, 1 - signs * values) ** 2).sum()
    if head == "ridge":
        return ((signs - values) ** 2).sum() + c * norm
    highest = values.max(1, keepdims=True)
    losses = np.log(np.exp(values - highest).sum(1)) + highest[:, 0] - values[np.arange(len(labels)), labels]
    return c * losses.sum() + 0.5 * norm


def reference(folder, name, program, c, output):
    """One fit by another program, in a process of its own."""
    warnings.simplefilter("ignore")
    if program == "LIBLINEAR":
        from liblinear.liblinearutil import train
        from scipy.sparse import csr_matrix
    else:
        from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
        from sklearn.svm import LinearSVC
    features, labels = load(folder, name)
    few = slice(len(features) // SMALLER), slice(features.shape[1] // SMALLER)
    small, small_labels = features[few].copy(), labels[few[0]]
    if program == "LIBLINEAR":
        # L2-regularised L2-loss classification in the primal, as LinearSVC does for more rows than columns.
        settings = f"-s {2 if len(features) > features.shape[1] else 1} -c {c} -B 1 -q"
        train(small_labels, csr_matrix(small), settings)
        before = peak_mib()
        start = time.perf_counter()
        model = train(labels, csr_matrix(features), settings)
        seconds = time.perf_counter() - start
        order = np.argsort(model.get_labels())
        decisions = [model.get_decfun(label_idx=k) for k in range(model.nr_class)]
        weights = np.array([[*decisions[k][0], decisions[k][1]] for k in order])
    else:
        model = {
            "LinearSVC": lambda: LinearSVC(C=c),
            "LogisticRegression": lambda: LogisticRegression(C=c, max_iter=1000),
            "RidgeClassifierCV": lambda: RidgeClassifierCV(alphas=[c]),
        }[program]()
        model.fit(small, small_labels)
        before = peak_mib()
        start = time.perf_counter()
        model.fit(features, labels)
        seconds = time.perf_counter() - start
        weights = np.column_stack([model.coef_, model.intercept_])
    peak = peak_mib()
    weights.astype(float).tofile(output)
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "before_mib": before}))


def fit(command, weights, limit):
    """What a program says and the weights it wrote; None when it took longer than the limit, or failed."""
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return None
    return json.loads(done.stdout) | {"weights": np.fromfile(weights)}


def compare(folder, name, head, program, repeat, limit):
    """Lines of the table for one head on one shape."""
    rows, columns, classes, _ = SHAPES[name]
    c, others = HEADS[head]
    weights = folder / "weights.f64"
    ours = [program, head, folder / f"{name}.f32", folder / f"{name}.u32", columns, c]
    commands = {"cnncodes": [*ours, TOLERANCE, weights]}
    for other in others:
        commands[other] = [sys.executable, __file__, "--reference", folder, name, other, str(c), weights]
    found = {who: [] for who in commands}
    for _ in range(repeat):
        for who, command in commands.items():
            # Who has run past the limit once is not asked again.
            if None not in found[who]:
                found[who].append(fit(command, weights, limit))
    features, labels = load(folder, name)
    other_features, other_labels = load(folder, name, "-test")
    for runs in found.values():
        for run in filter(None, runs):
            run["weights"] = run["weights"].reshape(classes, columns + 1)
    last = {who: runs[-1] for who, runs in found.items()}
    tight = fit([*ours, TIGHT, weights], weights, limit) if head != "ridge" else None
    candidates = {who: run["weights"] for who, run in last.items() if run}
    values = {who: objective(head, c, features, labels, w) for who, w in candidates.items()}
    best = min(values.values())
    if tight:
        best = min(best, objective(head, c, features, labels, tight["weights"].reshape(classes, columns + 1)))
    own = [run["seconds"] for run in found["cnncodes"] if run]
    for who, runs in found.items():
        cells = [f"{rows} x {columns}, {classes} ({name})", head, who]
        if None in runs:
            print("| " + " | ".join([*cells, f"more than {limit}, or failed", "", "", "", "", "", ""]) + " |", flush=True)
            yield "| " + " | ".join([*cells, f"more than {limit}, or failed", "", "", "", "", "", ""]) + " |"
            continue
        seconds = [run["seconds"] for run in runs]
        ratio = statistics.median(a / b for a, b in zip(own, seconds)) if own and who != "cnncodes" else None
        right = scores(other_features, candidates[who]).argmax(1) == other_labels
        cells += [
            f"{statistics.median(seconds):.3f}",
            f"{ratio:.2f}" if ratio else "",
            f"{values[who]:.6g}",
            f"{values[who] / best - 1:.1e}",
            f"{100 * right.mean():.2f}",
            f"{statistics.median(run['peak_mib'] for run in runs) * 2**20 / features.nbytes:.2f}",
            f"{1 + statistics.median(run['peak_mib'] - run['before_mib'] for run in runs) * 2**20 / features.nbytes:.2f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        yield "| " + " | ".join(cells) + " |"


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main():
    if sys.argv[1:2] == ["--reference"]:
        folder, name, program, c, output = sys.argv[2:]
        reference(Path(folder), name, program, float(c), output)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--shapes", default="small,middle,hard,large")
    parser.add_argument("--heads", default="svm,logistic,ridge")
    parser.add_argument("--limit", type=int, default=60, help="seconds after which a fit is given up")
    parser.add_argument("--write", type=Path, default=Path("docs/bench-heads.md"))
    options = parser.parse_args()

    from importlib.metadata import version

    versions = f"scikit-learn {version('scikit-learn')}, LIBLINEAR {version('liblinear-official')}"
    lines = [
        "# Heads against scikit-learn and LIBLINEAR",
        "",
        f"Written by `scripts/bench/heads` on {datetime.date.today()}: {os.cpu_count()} processors ({processor()}), load "
        f"average {os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}, {versions}; medians of "
        f"{options.repeat} runs, with the programs in turn. The other programs run with their default tolerances, ours with its own: a "
        f"duality gap of {TOLERANCE} of the objective. C is {HEADS['svm'][0]} for the SVM and {HEADS['logistic'][0]} for "
        f"logistic regression, α {HEADS['ridge'][0]} for ridge regression. A ratio below 1 means that cnncodes was faster. The "
        "objective is the same function for all, computed from the weights of each program; `above` is its distance from the "
        "lowest value of any run, one of which asks our solver for a gap of 1e-6. Accuracy is measured on other rows. Peak memory "
        "is that of the whole process, in multiples of the size of the features; `its own` is the features and what the process "
        "took besides them since the start of the fit. Before that, each program fits an eighth of the rows and columns, which "
        f"loads its code into memory. A fit stops after {options.limit} s. LIBLINEAR "
        "has no multinomial logistic regression.",
        "",
        "| shape | head | program | fit, s | cnncodes / it | objective | above | accuracy, % | memory | its own |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in options.shapes.split(","):
            make(folder, name)
            for head in options.heads.split(","):
                lines += compare(folder, name, head, options.program, options.repeat, options.limit)
                options.write.write_text("\n".join(lines) + "\n")
            for file in folder.glob(f"{name}*"):
                file.unlink()


if __name__ == "__main__":
    main()
