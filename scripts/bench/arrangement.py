#!/usr/bin/env python3
"""Forward runs a second of a network by sessions, threads of each, and images a run: what src/network/execution_plan.rs rests on.

    scripts/bench/arrangement NETWORK.onnx LAYER [--threads 2] [--images 400]

All threads in one session against a session for each thread, with 1 to 32 images a run. Every cell is a process of its own
that runs about as many images as --images says; the median run counts, the first is left out. Prints a table of images a
second, with the peak memory in MiB.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

BATCHES = [1, 2, 4, 7, 8, 16, 32]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=pathlib.Path)
    parser.add_argument("layer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--forward", type=pathlib.Path, required=True, help="the program of benches/forward.rs")
    options = parser.parse_args()
    print(f"| images a run | {' | '.join(map(str, BATCHES))} |\n|---" + "|---" * len(BATCHES) + "|")
    for sessions, threads in [(1, options.threads), (options.threads, 1)]:
        cells = []
        for batch in BATCHES:
            runs = 1 + max(3, options.images // (batch * sessions))
            command = [options.forward, options.network, options.layer, batch, threads, runs, sessions]
            done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
            measured = json.loads(done.stdout)
            took = statistics.median(measured["milliseconds"][1:])
            cells.append(f"{1000 * batch * sessions / took:.1f} ({measured['peak_mb']:.0f})")
        print(f"| {sessions} x {threads} threads | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
