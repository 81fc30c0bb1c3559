"""Speed and agreement of the devices: seconds to start, photos a second after that, and how far the features are from fp32's.

    scripts/bench/devices PHOTOS NETWORK.onnx [...] --devices cpu,cuda,cuda+tf32 [--write docs/bench-devices.md]

PHOTOS is a folder of images; a network's preprocessing is torchvision's unless another follows it. ONNX Runtime must
be a build that has the devices (scripts/setup --cuda, or --openvino). A device may be followed by a precision, as in
cuda+tf32 or openvino+bf16. Devices take turns within each round, so that a slow minute hits all of them. Seconds to
start are those of an extraction of one photo; what one of all photos takes longer than that gives the rate. The table
has medians over the rounds, ratios to the first device in the same round, the largest difference of any code relative
to the largest code, and the least cosine of any image. Needs numpy and h5py; --torchvision, which has torchvision and
its DataLoader do the same on the GPU with a loading process for each processor, needs torchvision.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

import h5py
import numpy as np


def processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*: (.*)", text)[1]
    except (OSError, TypeError):
        return platform.processor()


def graphics():
    """The GPU's name, where there is one."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return ""
    return f" and {said.stdout.splitlines()[0]}" if said.returncode == 0 and said.stdout.strip() else ""


def extract(program, work, photos, name, layer, arguments):
    """Seconds that the program says it took, the features, and what computed them."""
    said = subprocess.run(
        [program, "extract", photos, "--model", name, "--layer", layer, "-o", "features.h5", "--force", "--log", "json", *arguments],
        cwd=work, check=True, capture_output=True, text=True,
    ).stderr
    finished = next(line for line in map(json.loads, said.splitlines()) if line["event"] == "finished")
    with h5py.File(work / "features.h5") as file:
        return finished["seconds"], file["features"][:], file.attrs["runtime"]


def torchvision(folder, work, network, tf32):
    """Photos a second from the first one to the written file."""
    script = pathlib.Path(__file__).with_name("extract_peers.py")
    said = subprocess.run(
        [sys.executable, script, "torchvision", folder, "--network", network, "--threads", str(os.cpu_count()), "--device", "cuda"]
        + ["--tf32"] * tf32,
        cwd=work, check=True, capture_output=True, text=True,
    ).stdout
    took = json.loads(said.splitlines()[-1])
    return took["photos"] / took["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("networks", nargs="+", help="NETWORK.onnx, or NETWORK.onnx=PREPROCESSING")
    parser.add_argument("--program", default="target/debug/cnncodes")
    parser.add_argument("--devices", default="cpu,openvino,openvino+bf16", help="device or device+precision, with commas")
    parser.add_argument("--copies", type=int, default=1, help="how often each photo is taken, under another name")
    parser.add_argument("--layer", default="penultimate")
    parser.add_argument("--torchvision", action="store_true", help="also torchvision on the GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=pathlib.Path, help="a file for the table")
    args = parser.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    devices = {}
    for device in args.devices.split(","):
        name, _, precision = device.partition("+")
        devices[device] = ["--device", name] + (["--precision", precision] if precision else [])
    lines = [
        "| network, layer | device | start, s | images/s | ratio | largest difference | least cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        many, one = work / "many", work / "one"
        files = sorted(path for path in args.photos.resolve().rglob("*") if path.is_file())
        for folder, sources, copies in (many, files, args.copies), (one, files[:1], 1):
            for copy in range(copies):
                (folder / f"{copy}").mkdir(parents=True)
                for number, source in enumerate(sources):
                    (folder / f"{copy}" / f"{number}{source.suffix}").symlink_to(source)
        for network in args.networks:
            path, _, preprocess = network.partition("=")
            name = pathlib.Path(path).stem
            subprocess.run(
                [program, "models", "add", pathlib.Path(path).resolve(), "--preprocess", preprocess or "torchvision"],
                cwd=work, check=True, capture_output=True,
            )
            starts, rates, features = [{device: [] for device in devices} for _ in range(3)]
            peers = {f"torchvision, cuda{'+tf32' * tf32}": (tf32, []) for tf32 in (False, True) if args.torchvision}
            peer_network = next((known for known in ("resnet50", "vgg16") if name.startswith(known)), "mobilenet_v2")
            for _ in range(args.rounds):
                for device, arguments in devices.items():
                    start, _, _ = extract(program, work, one, name, args.layer, arguments)
                    took, features[device], runtime = extract(program, work, many, name, args.layer, arguments)
                    starts[device].append(start)
                    rates[device].append((len(features[device]) - 1) / (took - start))
                for tf32, peer_rates in peers.values():
                    peer_rates.append(torchvision(many, work, peer_network, tf32))
            first = next(iter(devices))
            reference = features[first].astype(np.float64)
            for device in devices:
                ratios = [b / a for a, b in zip(rates[first], rates[device])]
                other = features[device].astype(np.float64)
                cosine = (reference * other).sum(1) / np.sqrt((reference**2).sum(1) * (other**2).sum(1))
                lines.append(
                    f"| {name}, {args.layer} | {device} | {statistics.median(starts[device]):.2f} "
                    f"| {statistics.median(rates[device]):.1f} | {statistics.median(ratios):.2f} "
                    f"| {np.abs(other - reference).max() / np.abs(reference).max():.1e} | {cosine.min():.6f} |"
                )
                print(lines[-1], flush=True)
            for peer, (_, peer_rates) in peers.items():
                ratios = [b / a for a, b in zip(rates[first], peer_rates)]
                lines.append(
                    f"| {name}, {args.layer} | {peer} | | {statistics.median(peer_rates):.1f} | {statistics.median(ratios):.2f} | | |"
                )
                print(lines[-1], flush=True)
    if args.write:
        args.write.write_text(
            f"Measured on {datetime.date.today()} with {runtime}, on {os.cpu_count()} processors ({processor()}){graphics()}, "
            f"{len(reference)} photos, {args.rounds} rounds, by `scripts/bench/devices`. A start is that of an extraction of "
            f"one photo, the rate is that of the others; the ratio is to {first}.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
