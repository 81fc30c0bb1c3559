"""Fits heads to features that are streamed from their file, and compares the optimum with that of a fit in memory.

    python scripts/bench/out_of_core.py PROGRAM MAKER [--rows 1000000] [--columns 2048] [--folder DIR]

A file of 50,000 x 512 features is fitted in memory, streamed (--max-memory of less than the features need) and by scikit-learn
at tight tolerance; the objective of each is computed here from its weights. Then the large file is streamed. At last other work
is done in memory and within --bound, on a file of --bounded-rows: principal components, suspects, and neighbours, from a features
file, a virtual file and a Parquet file. --only-bounded does that alone, and keeps what was written of the rest. Peak memory is
that of the process, as the system counts it. MAKER is the program of benches/random_features.rs. Needs h5py, numpy and scikit-learn.
"""

import argparse
import datetime
import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import numpy as np

import peak_memory
from heads import objective, processor

C = {"svm": 0.01, "logistic": 1.0, "ridge": 1000.0}  # of ridge regression the penalty, which is 1 / 2C
CLASSES = 10
COMPONENTS = 64
SEPARATOR = "\n## Other work within a bound\n"


def fit(program, features, head, kind, memory):
    """Seconds, peak MiB, what the head says about its fit."""
    command = [program, "fit-head", f"--{kind}", features, "-o", head, "--max-memory", memory, "--format", "json"]
    if kind == "ridge":
        command += ["--c", str(0.5 / C[kind])]
    start = time.perf_counter()
    output, peak = peak_memory.run(command)
    seconds = time.perf_counter() - start
    with h5py.File(head) as file:
        convergence = json.loads(file.attrs["convergence"])
    return seconds, peak, convergence, json.loads(output)


def weights_of(head):
    with h5py.File(head) as file:
        return np.column_stack([file["weights"][:], file["bias"][:]]).astype(float), file["mean"][:], file["scale"][:]


def tight(kind, features, labels):
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    warnings.simplefilter("ignore")
    if kind == "svm":
        model = LinearSVC(C=C[kind], dual=False, tol=1e-8, max_iter=10_000)
    elif kind == "ridge":
        model = RidgeClassifier(alpha=C[kind])
        features = features.astype(float)
    else:
        model = LogisticRegression(C=C[kind], tol=1e-6, max_iter=10_000)
    model.fit(features, labels)
    return np.column_stack([model.coef_, model.intercept_])


def virtual_file(features, output, rows_of_part=4096):
    """The features file again, as a virtual one that maps parts of it."""
    with h5py.File(features) as whole, h5py.File(output, "w") as file:
        for name, value in whole.attrs.items():
            file.attrs[name] = value
        for name in whole:
            if name not in ("layers", "features"):
                whole.copy(name, file)
        (name,) = whole["layers"]
        layer = whole["layers"][name]
        mapped = h5py.VirtualLayout(shape=layer.shape, dtype="f4")
        for start in range(0, len(layer), rows_of_part):
            rows = slice(start, min(start + rows_of_part, len(layer)))
            mapped[rows] = h5py.VirtualSource(features.name, f"layers/{name}", shape=layer.shape)[rows]
        file.create_group("layers").create_virtual_dataset(name, mapped)
        for attribute, value in layer.attrs.items():
            file["layers"][name].attrs[attribute] = value
        file["features"] = h5py.SoftLink(f"/layers/{name}")


def measured(command):
    """Seconds, peak MiB, and the JSON that a command prints."""
    start = time.perf_counter()
    output, peak = peak_memory.run([*command, "--format", "json"])
    return time.perf_counter() - start, peak, json.loads(output)


def bounded(program, maker, folder, options):
    """Lines of a table: work in memory, and within a bound, on the same features in three forms."""
    rows, columns = options.bounded_rows, options.columns
    features = folder / "bounded.h5"
    subprocess.run([maker, features, str(rows), str(columns), str(CLASSES)], check=True)
    virtual, parquet = folder / "virtual.h5", folder / "bounded.parquet"
    virtual_file(features, virtual)
    subprocess.run([program, "convert", features, parquet], check=True, capture_output=True)
    lines = [
        "",
        f"{rows:,} x {columns} features ({rows * columns * 4 / 2**30:.1f} GiB) in memory and within `--max-memory {options.bound}`, "
        f"on {datetime.date.today()}, load average {os.getloadavg()[0]:.1f} at the start{options.remark}. The virtual file maps the "
        "features file in parts of 4,096 rows.",
        "",
        "| work | features | memory | result | seconds | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    forms = [("features file", features), ("virtual file", virtual), ("Parquet", parquet)]

    def add(work, form, memory, result, seconds, peak):
        cells = [work, form, memory, result, f"{seconds:.0f}", f"{peak:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)

    head = folder / "bounded.head.h5"
    reference = None
    for index, (form, path) in enumerate([forms[0], *forms]):
        memory = "64GiB" if index == 0 else options.bound
        command = [program, "fit-head", "--svm", "--pca", str(COMPONENTS), path, "-o", head, "--max-memory", memory]
        seconds, peak, evaluation = measured(command)
        with h5py.File(head) as file:
            components = file["components"][:]
        if reference is None:
            reference = components
        difference = np.abs(components - reference).max()
        result = f"accuracy {100 * evaluation['accuracy']['value']:.3f} %, components within {difference:.0e}"
        add(f"`fit-head --svm --pca {COMPONENTS}`", form, memory, result, seconds, peak)
    first = None
    for memory in ("64GiB", options.bound):
        seconds, peak, found = measured([program, "suspects", features, "--max-memory", memory])
        labels = {suspect["image"] for suspect in found["labels"]}
        first = first or (found["outliers"], labels)
        same = "equal" if found["outliers"] == first[0] else "different"
        result = f"{same} outliers, {len(labels & first[1])} of 20 labels"
        add("`suspects`", forms[0][0], memory, result, seconds, peak)
    for form, path in forms:
        seconds, peak, found = measured([program, "neighbors", path, *(f"{row:08}.jpg" for row in range(0, 100, 10))])
        nearest = " ".join(answer["neighbors"][0]["image"] for answer in found[:2])
        add("`neighbors`, 10 queries", form, "", nearest, seconds, peak)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("maker", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--heads", default="svm,logistic,ridge")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--bounded-rows", type=int, default=200_000)
    parser.add_argument("--bound", default="512MiB")
    parser.add_argument("--only-bounded", action="store_true")
    parser.add_argument("--remark", default="", help="what is to be said about the program that is measured")
    parser.add_argument("--write", type=Path, default=Path("docs/bench-out-of-core.md"))
    options = parser.parse_args()
    program, maker = options.program, options.maker
    kinds = options.heads.split(",")
    if options.only_bounded:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            kept = options.write.read_text().split(SEPARATOR)[0]
            options.write.write_text(kept + SEPARATOR + "\n".join(bounded(program, maker, Path(folder), options)) + "\n")
        return
    lines = [
        "# Features larger than memory",
        "",
        f"Written by `scripts/bench/out-of-core` on {datetime.date.today()}: {os.cpu_count()} processors ({processor()}), load "
        f"average {os.getloadavg()[0]:.1f} at the start. One run each. Random features of {CLASSES} classes; `fit-head` with its "
        "defaults: standardised, five folds and the final fit, calibration, duality gap of 1e-4.",
        "",
        "The same 50,000 x 512 features (98 MiB) in memory, streamed, and by scikit-learn at tight tolerance (final fit only):",
        "",
        "| head | how | objective | above scikit-learn's | accuracy, % | seconds | peak memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = Path(folder)
        features, head = folder / "features.h5", folder / "features.head.h5"
        subprocess.run([maker, features, "50000", "512", str(CLASSES)], check=True)
        with h5py.File(features) as file:
            values, labels = file["features"][:], file["labels"][:]
        for kind in kinds:
            scaled = None
            found = []
            for how, memory in (("in memory", "4GiB"), ("streamed", "200MiB")):
                seconds, peak, _, evaluation = fit(program, features, head, kind, memory)
                weights, mean, scale = weights_of(head)
                if scaled is None:
                    scaled = ((values - mean) / scale).astype(np.float32)
                value = objective(kind, C[kind], scaled, labels, weights)
                accuracy = f"{100 * evaluation['accuracy']['value']:.2f}"
                found.append((how, value, accuracy, f"{seconds:.1f}", f"{peak:.0f}"))
            least = objective(kind, C[kind], scaled, labels, tight(kind, scaled, labels))
            found.append(("scikit-learn", least, "", "", ""))
            for how, value, *rest in found:
                lines.append("| " + " | ".join([kind, how, f"{value:.6f}", f"{value / least - 1:.1e}", *rest]) + " |")
                print(lines[-1], flush=True)
        features.unlink()
        del values, scaled
        lines += [
            "",
            f"{options.rows:,} x {options.columns} features ({options.rows * options.columns * 4 / 2**30:.1f} GiB), "
            f"`--max-memory {options.memory}`:",
            "",
            "| head | passes of the final fit | duality gap | accuracy, % | minutes | peak memory, MiB |",
            "|---|---|---|---|---|---|",
        ]
        start = time.perf_counter()
        subprocess.run([maker, features, str(options.rows), str(options.columns), str(CLASSES)], check=True)
        print(f"made the file in {time.perf_counter() - start:.0f} s", flush=True)
        for kind in kinds:
            seconds, peak, convergence, evaluation = fit(program, features, head, kind, options.memory)
            cells = [kind, str(convergence["iterations"]), f"{convergence['criterion']:.1e}"]
            cells += [f"{100 * evaluation['accuracy']['value']:.2f}", f"{seconds / 60:.1f}", f"{peak:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
            options.write.write_text("\n".join(lines) + "\n")
        features.unlink()
        lines += [SEPARATOR.strip("\n"), *bounded(program, maker, folder, options)]
        options.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
