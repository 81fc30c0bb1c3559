#!/usr/bin/env python3
"""How much less a second `extract` does: an unchanged folder, and one with 1 % changed images, against the first run.

    scripts/bench_extract_again.py PROGRAM NETWORK.onnx IMAGES [--preprocess tf] [--layer NAME] [--repeats 3]

Works on a copy of IMAGES in a temporary folder. Prints medians of wall seconds and of CPU seconds (user and system),
their ratios to the first run, and the peak memory. An image is changed by one byte after its end, which no decoder
reads and SHA-256 does. Needs nothing but Python's own library.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def run(program, folder, *arguments):
    """Wall seconds, CPU seconds and peak MiB of a command that must not fail."""
    start = time.monotonic()
    child = subprocess.Popen([program, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise SystemExit(f"{program} {' '.join(arguments)} ended with {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--preprocess", default="tf")
    parser.add_argument("--layer")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    program = str(options.program.resolve())
    extract = ["extract", *(["--layer", options.layer] if options.layer else [])]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "models").mkdir()
        shutil.copytree(options.images, folder / "data")
        run(program, folder, "models", "add", str(options.network.resolve()), "--preprocess", options.preprocess)
        files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
        some = files[:: max(1, len(files) // max(1, len(files) // 100))]
        # Files younger than two seconds are read again; a folder that was just copied is not what is measured.
        time.sleep(3)
        measured = {"first": [], "unchanged": [], "unchanged, --rehash": [], "1 % changed": []}
        for _ in range(options.repeats):
            measured["first"].append(run(program, folder, *extract, "--force"))
            measured["unchanged"].append(run(program, folder, *extract))
            measured["unchanged, --rehash"].append(run(program, folder, *extract, "--rehash"))
            for path in some:
                with path.open("ab") as file:
                    file.write(b"\0")
            time.sleep(3)
            measured["1 % changed"].append(run(program, folder, *extract))
        medians = {name: [statistics.median(values) for values in zip(*runs)] for name, runs in measured.items()}
        first = medians["first"]
        print(f"{len(files)} images, {len(some)} of them changed, medians of {options.repeats}\n")
        print("| run | wall s | of the first | CPU s | of the first | peak MiB |\n|---|---|---|---|---|---|")
        for name, (wall, cpu, memory) in medians.items():
            print(f"| {name} | {wall:.3f} | 1/{first[0] / wall:.0f} | {cpu:.3f} | 1/{first[1] / cpu:.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
