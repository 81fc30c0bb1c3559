"""Measure the Python package beside the program and the bare network: scripts/bench/python, which has the usage, calls it.

Three things take turns within a round: `cnncodes extract` on the photos (its own seconds, without the process's start),
`Extractor.transform` on the same paths, and on uint8 arrays of the network's size that lie in memory. Before and after each
round the bare network runs as many images, in as many sessions as the program takes. Ratios are those of the medians.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--forward", required=True)
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--layer", default="penultimate")
    parser.add_argument("--preprocess", default="tf")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "bench-python.md")
    return parser.parse_args()


def resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    arguments = parse()
    import cnncodes

    paths = sorted(str(path) for path in arguments.photos.glob("*/*"))
    folder = pathlib.Path(tempfile.mkdtemp())
    command = [arguments.program, "--models", str(folder / "models")]
    add = ["models", "add", str(arguments.model.resolve()), "--preprocess", arguments.preprocess, "--name", "network"]
    subprocess.run([*command, *add], check=True, stdout=subprocess.DEVNULL)
    extractor = cnncodes.Extractor("network", arguments.layer, models=folder / "models", threads=arguments.threads)
    width, height = extractor.spec["preprocess"]["size"]
    arrays = [np.asarray(Image.open(path).convert("RGB").resize((width, height))) for path in paths]
    # Already of the network's size: what is left beside the network is the copy and the normalisation.
    plain = extractor.get_params() | {"preprocess": {"stretch": True, "size": [width, height]}}
    in_memory = cnncodes.Extractor(**plain)
    batch = np.stack(arrays)

    def by_the_program() -> float:
        options = ["extract", str(arguments.photos), "--model", "network", "--layer", arguments.layer, "--force"]
        options += ["--threads", str(arguments.threads), "-o", str(folder / "features.h5"), "--log", "json"]
        run = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
        for line in reversed(run.stderr.splitlines()):
            event = json.loads(line)
            if "seconds" in event:
                return float(event["seconds"])
        raise RuntimeError(run.stderr)

    def timed(work) -> float:  # noqa: ANN001
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def bare() -> float:
        runs = len(paths) // (2 * arguments.threads)
        command = [arguments.forward, str(arguments.model), arguments.layer, "2", "1", str(runs), str(arguments.threads)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        # The sessions run side by side: the mean of a run, times the runs of one session.
        milliseconds = found["milliseconds"][runs // 10 :] if len(found["milliseconds"]) > 20 else found["milliseconds"]
        return statistics.mean(milliseconds) / 1e3 * len(paths) / (2 * arguments.threads)

    what = {
        "cnncodes extract": by_the_program,
        "Extractor.transform, paths": lambda: timed(lambda: extractor.transform(paths)),
        "Extractor.transform, uint8 arrays of the network's size": lambda: timed(lambda: in_memory.transform(batch)),
        "the network alone": bare,
    }
    for work in what.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(arguments.rounds):
        for name, work in what.items():
            seconds[name].append(work())
        print(f"round {turn + 1} of {arguments.rounds}: " + ", ".join(f"{times[-1]:.2f}" for times in seconds.values()), file=sys.stderr)

    rate = {name: len(paths) / statistics.median(times) for name, times in seconds.items()}
    one = [arrays[0]]
    for _ in range(500):
        extractor.transform(one)
    before = resident_mib()
    for _ in range(arguments.calls):
        extractor.transform(one)
    after = resident_mib()

    program, from_paths, from_arrays, network = rate.values()
    page = f"""# The Python package, measured

{len(paths)} photos, {arguments.model.name}, {arguments.threads} threads, medians of {arguments.rounds} rounds in turns, {datetime.date.today()},
{platform.processor() or platform.machine()}, Python {platform.python_version()}. `scripts/bench/python` measures it.

| | images/s | ratio |
|---|---|---|
| `cnncodes extract` | {program:.1f} | 1 |
| `Extractor.transform`, paths | {from_paths:.1f} | {from_paths / program:.2f} |
| the network alone | {network:.1f} | 1 |
| `Extractor.transform`, uint8 arrays of the network's size | {from_arrays:.1f} | {from_arrays / network:.2f} |

So the ratios of [bench-extract.md](bench-extract.md) to other programs hold for the package as well.

{arguments.calls:,} calls with one image each: {before:.1f} MiB resident before, {after:.1f} MiB after.
"""
    arguments.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
