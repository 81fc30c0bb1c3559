"""What the comparisons of scripts/reference/networks share: the program that is compared, images, differences, and the page.

What was compared is kept in WORK/results.json, so that networks can be compared one by one and by the Python of one framework after
the other. The page has the rows of all of them.
"""

import datetime
import json
import pathlib
import platform
import subprocess
import sys
import time
import urllib.parse

import h5py
import numpy as np
from PIL import Image

TOLERANCE = 1e-4
# 16-bit floats have 11 bits, and ONNX Runtime may leave out another rounding in a whole graph than in a cut one.
TOLERANCE_OF_FLOAT16 = 5e-4
IMAGES = 2
# Layers of one shape that are compared at once with an activation that has no name in the graph.
CANDIDATES = 60


def relative(ours, theirs):
    """The largest difference over the largest value, with maps channels first or last."""
    if ours.size != theirs.size:
        return np.inf
    best = np.inf
    forms = [theirs.reshape(IMAGES, -1)]
    if theirs.ndim == 4:
        forms.append(theirs.transpose(0, 3, 1, 2).reshape(IMAGES, -1))
    for form in forms:
        # A layer that is zero everywhere has to be just that.
        largest = np.abs(form).max() or 1.0
        best = min(best, float(np.abs(ours.reshape(IMAGES, -1) - form).max() / largest))
    return best


class Program:
    def __init__(self, program, work):
        self.program, self.work = program, work

    def run(self, *arguments):
        command = [self.program, *arguments, "--models", self.work / "models"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def features(self, images, layers, *more):
        """The activations of each layer: its name in the file, and an array."""
        output = self.work / "features.h5"
        output.unlink(missing_ok=True)
        named = [f"--layer={layer}" for layer in layers]
        self.run("extract", images, "--model", "net", *named, *more, "--force", "-o", output)
        with h5py.File(output) as file:
            found = {}
            for name, data in file["layers"].items():
                found[urllib.parse.unquote(name)] = data[()].reshape(IMAGES, *data.attrs["shape"])
            return found


def images_of(side, folder):
    """Smooth pictures with noise, of a network's own size, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(IMAGES):
        random = np.random.default_rng(index)
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        noise = random.integers(-20, 21, (side, side, 3))
        Image.fromarray(np.clip(np.asarray(coarse, int) + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return [np.asarray(Image.open(folder / f"{index}.png")) for index in range(IMAGES)]


def nearest_layer(program, images, layers, wanted, quarter):
    """The smallest difference of any layer of the shape of the activation `wanted`: of those about as far up in the network first."""
    shapes = [list(wanted.shape[1:]), [wanted.shape[-1], *wanted.shape[1:-1]]]
    same = [layer for layer in layers if layer["shape"] in shapes]
    middle = len(same) * quarter // 4
    nearest = sorted(range(len(same)), key=lambda at: abs(at - middle))
    best = np.inf
    for start in range(0, len(nearest), CANDIDATES):
        names = [same[at]["name"] for at in nearest[start : start + CANDIDATES]]
        ours = program.features(images, names, "--pool", "none")
        best = min([best, *(relative(found, wanted) for found in ours.values())])
        if best <= TOLERANCE:
            break
    return best


def listed(program):
    """The layers of the network that was added last, how long listing took, and what the network is recognised as."""
    start = time.perf_counter()
    layers = json.loads(program.run("layers", "net", "--format", "json"))
    seconds = time.perf_counter() - start
    form = program.run("layers", "net").splitlines()[0].split(": ", 1)[1].rsplit(", ", 1)[0]
    return layers, seconds, form


def report(results, target):
    """Writes the page; whether no difference is above the tolerance."""
    versions = {name: version for result in results for name, version in result["versions"].items()}
    lines = [
        "# Networks of other kinds",
        "",
        "Written by `scripts/reference/networks`, which describes the method. The networks have seeded weights. Three inner layers and",
        f"the default one are compared with the framework's own activations. Tolerance: {TOLERANCE:g} of a layer's largest value.",
        "",
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "",
        "| network | exporter | `layers` takes | what it is recognised as | layers: largest difference over the largest value |",
        "|---|---|---|---|---|",
    ]
    rows = lambda result: "; ".join(f"{name} {difference:.1e}" for name, difference in result["rows"])  # noqa: E731
    typed = [result for result in results if result["package"] == "types"]
    for result in results:
        if result not in typed:
            lines.append(
                f"| {result['package']} {result['network']} | {result['exporter']} | {result['seconds']:.2f} s | {result['form']} | {rows(result)} |"
            )
    if typed:
        lines += [
            "",
            "## Weights of other types",
            "",
            "The same layers of a network in float16, in bfloat16 and quantised to 8 bits, compared with Python's onnxruntime on the whole",
            "graph of that type, image by image. ONNX Runtime does not run bfloat16 on a processor: there the reference is the same graph",
            "in float32 with weights that were rounded to bfloat16. In float16 the reference is ONNX Runtime",
            "with basic optimisations: the others leave out roundings here and there, which changes up to 1.5e-3 of the largest value. Basic",
            f"ones may still leave out one (a float16 has 11 bits, 4.9e-4): there the tolerance is {TOLERANCE_OF_FLOAT16:g}.",
            "",
            "| network | type | layers: largest difference over the largest value |",
            "|---|---|---|",
        ]
        lines += [f"| {result['network']} | {result['exporter']} | {rows(result)} |" for result in typed]
    target.write_text("\n".join(lines) + "\n")
    allowed = lambda result: TOLERANCE_OF_FLOAT16 if result["exporter"] == "float16" else TOLERANCE  # noqa: E731
    return all(difference <= allowed(result) for result in results for _, difference in result["rows"])


def run(networks, versions, compare):
    """Compares `networks`, a list of package, name and exporter, or those of them that the command line names.

        python SCRIPT PROGRAM WORK PAGE [NAME...]

    `compare` is given the program, the folder of work, and these three; it returns the seconds that `layers` takes, the form,
    and for each layer the difference."""
    program, work, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    wanted = sys.argv[4:]
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    failed = False
    for package, name, exporter in networks:
        if wanted and name not in wanted:
            continue
        try:
            seconds, form, rows = compare(Program(program, work), work, package, name, exporter)
        except Exception as error:  # noqa: BLE001
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            failed = True
            continue
        found = {"network": name, "package": package, "exporter": exporter, "seconds": seconds, "form": form, "rows": rows, "versions": versions}
        results[f"{package} {name} {exporter}"] = found
        print(f"{name} ({exporter}), layers in {seconds:.2f} s: " + "; ".join(f"{layer} {difference:.1e}" for layer, difference in rows), flush=True)
        kept.write_text(json.dumps(results))
    good = report(list(results.values()), target)
    sys.exit(0 if good and not failed else 1)
