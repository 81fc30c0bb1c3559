"""Speed and agreement of the devices: images per second of `cnncodes extract`, and how far the codes are from fp32's.

    python scripts/bench_devices.py PHOTOS NETWORK.onnx [...] [--program target/debug/cnncodes] [--write docs/bench-devices.md]

PHOTOS is a folder of images; the networks want torchvision's preprocessing. ONNX Runtime must be a build that has the
devices (scripts/setup --openvino, or --cuda). Devices take turns within each round, so that a slow minute hits all of
them; the table gives medians over the rounds, ratios to the CPU in fp32 of the same round, the largest difference of
any code relative to the largest code, and the least cosine of any image. Needs numpy and h5py.
"""

import argparse
import datetime
import pathlib
import platform
import re
import statistics
import subprocess
import tempfile

import h5py
import numpy as np


def processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*: (.*)", text)[1]
    except (OSError, TypeError):
        return platform.processor()


def extract(program, work, photos, name, layer, batch, arguments):
    """Seconds that the images took, the session's making left out, and the codes."""
    said = subprocess.run(
        [program, "extract", photos, "--model", name, "--layer", layer, "--batch-size", str(batch), "-o", "codes.h5", *arguments],
        cwd=work, check=True, capture_output=True, text=True,
    ).stdout
    with h5py.File(work / "codes.h5") as file:
        codes, runtime = file["features"][:], file.attrs["runtime"]
    return float(re.search(r" in ([0-9.]+) s on", said)[1]), codes, runtime


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("networks", type=pathlib.Path, nargs="+")
    parser.add_argument("--program", default="target/debug/cnncodes")
    parser.add_argument("--devices", default="cpu,openvino,openvino:bf16", help="device or device:precision, with commas")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=pathlib.Path)
    args = parser.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    photos = str(args.photos.resolve())
    devices = {}
    for device in args.devices.split(","):
        name, _, precision = device.partition(":bf")
        devices[device] = ["--device", name] + (["--precision", "bf16"] if precision else [])
    lines = [
        "| network, layer | batch | device | images/s | ratio to cpu | largest difference | least cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for network in args.networks:
            name = network.stem
            layer = "penultimate"
            subprocess.run(
                [program, "models", "add", network.resolve(), "--preprocess", "torchvision"],
                cwd=work, check=True, capture_output=True,
            )
            for batch in args.batches.split(","):
                seconds, codes = {device: [] for device in devices}, {}
                for _ in range(args.rounds):
                    for device, arguments in devices.items():
                        took, codes[device], runtime = extract(program, work, photos, name, layer, batch, arguments)
                        seconds[device].append(took)
                reference = codes[next(iter(devices))].astype(np.float64)
                for device in devices:
                    ratios = [a / b for a, b in zip(seconds[next(iter(devices))], seconds[device])]
                    other = codes[device].astype(np.float64)
                    cosine = (reference * other).sum(1) / np.sqrt((reference**2).sum(1) * (other**2).sum(1))
                    lines.append(
                        f"| {name}, {layer} | {batch} | {device} "
                        f"| {len(reference) / statistics.median(seconds[device]):.1f} | {statistics.median(ratios):.2f} "
                        f"| {np.abs(other - reference).max() / np.abs(reference).max():.1e} | {cosine.min():.6f} |"
                    )
                    print(lines[-1], flush=True)
    if args.write:
        args.write.write_text(
            "# Devices\n\n"
            f"Measured on {datetime.date.today()} with {runtime}, on {processor()}, {len(reference)} photos, "
            f"{args.rounds} rounds, by `scripts/bench_devices.py`. Seconds are told to a tenth, so a rate is good to about a tenth.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
