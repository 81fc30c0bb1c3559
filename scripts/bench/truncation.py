"""How long a network cut at a layer takes, against Python's ONNX Runtime on the graph that onnx.utils cuts.

    scripts/bench/truncation VGG16.onnx RESNET50.onnx [--write docs/bench-truncation.md]
    scripts/bench/networks NETWORK.onnx... [--write docs/bench-networks.md]

Of VGG16 and ResNet50 several layers are taken, of any other network the penultimate. A network that lies in a folder of its
own is called as that folder is.

Each round times our forward run and Python's in turn, each in a process of its own, batch 1 and 2 threads; the table
gives medians over the rounds, the ratio round by round, and peak memory. Needs onnx and onnxruntime.
`scripts/export/torchvision` makes networks with seeded weights.
"""

import argparse
import datetime
import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

LAYERS = {"vgg16": ["pool3", "pool5", "fc7"], "resnet50": ["res3d", "pool5"]}

PYTHON = """
import json, sys, time
import numpy as np, onnxruntime
start = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
ready = time.perf_counter() - start
sides = [side if isinstance(side, int) else 224 for side in session.get_inputs()[0].shape[2:]]
x = {session.get_inputs()[0].name: np.full((1, 3, *sides), 0.5, np.float32)}
times = []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    session.run(None, x)
    times.append((time.perf_counter() - start) * 1e3)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]
print(json.dumps({"ready": ready, "milliseconds": times, "peak_mb": int(peak) / 1024}))
"""


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tensor_of(program, network, layer, work):
    """The ONNX tensor behind a layer's canonical name, and what the graph's input is called."""
    subprocess.run(
        [program, "models", "add", network.resolve(), "--preprocess", "torchvision", "--name", network.stem, "--force"],
        cwd=work, check=True, capture_output=True,
    )
    listed = run(["env", "-C", str(work), program, "layers", network.stem, "--all", "--format", "json"])
    return next(
        entry["tensor"] for entry in listed
        if entry["name"] == layer or layer == "penultimate" and entry["penultimate"]
    )


def main():
    import onnx
    import onnx.utils

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("networks", type=pathlib.Path, nargs="+")
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--forward", type=pathlib.Path, required=True, help="the program of benches/forward.rs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--title", default="Cutting a network at a layer", help="of the page that is written")
    parser.add_argument("--write", type=pathlib.Path)
    args = parser.parse_args()
    program, forward = str(args.program.resolve()), str(args.forward.resolve())
    lines = [
        "| network, layer | ours, ms | Python, ms | ratio | ours, ready s | Python, ready s | ours, MB | Python, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for network in args.networks:
            inputs = [value.name for value in onnx.load(network, load_external_data=False).graph.input]
            name = network.parent.resolve().name if network.stem == "model" else network.stem
            for layer in LAYERS.get(network.stem, ["penultimate"]):
                cut = work / "cut.onnx"
                onnx.utils.extract_model(str(network), str(cut), inputs[:1], [tensor_of(program, network, layer, work)], check_model=False)
                ours, theirs = [], []
                for _ in range(args.rounds):
                    ours.append(run([forward, str(network), layer, "1", "2", str(args.runs)]))
                    theirs.append(run([sys.executable, "-c", PYTHON, str(cut), "2", str(args.runs)]))
                time = lambda found: statistics.median(found["milliseconds"][2:])
                median = lambda results, pick: statistics.median(pick(result) for result in results)
                ratio = statistics.median(time(a) / time(b) for a, b in zip(ours, theirs))
                pick = lambda key: lambda result: result[key]
                lines.append(
                    f"| {name}, {layer} | {median(ours, time):.1f} | {median(theirs, time):.1f} | {ratio:.2f} "
                    f"| {median(ours, pick('ready')):.2f} | {median(theirs, pick('ready')):.2f} "
                    f"| {median(ours, pick('peak_mb')):.0f} | {median(theirs, pick('peak_mb')):.0f} |"
                )
                print(lines[-1], flush=True)
    if args.write:
        cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
        import onnxruntime

        args.write.write_text(
            f"# {args.title}\n\n"
            f"Measured on {datetime.date.today()} by `scripts/bench/{pathlib.Path(args.write).stem.removeprefix('bench-')}` on {re.search(r'model name.*: (.*)', cpuinfo)[1]}, "
            f"2 threads, batch 1, Python's onnxruntime {onnxruntime.__version__}, {platform.system()}: medians of "
            f"{args.rounds} rounds of {args.runs} forward runs. Ours reads the uncut network; Python reads the graph that "
            "`onnx.utils.extract_model` has cut at the same tensor. Ready is the time from the file to a loaded session; "
            "ours includes hashing the whole file.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
