"""Measure `cnncodes extract` and `classify` beside other programs: scripts/bench/extract, which has the usage, calls it.

Everything takes turns within a round, so that a slow minute hits all; the rounds of several calls may be put together
(--more). Of each program two times are taken: the loop, from the first photo to the written file when the network is loaded,
and the whole process with its start, imports and loading. Weights are random: they do not change the time. A peer whose
package is missing leaves a dash in the table.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import peak_memory

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
STATE = ROOT / ".cnncodes" / "bench-extract.json"
# Photos a run: so many that the first runs of a network, which allocate, weigh little.
NETWORKS = {
    "resnet50": dict(network="resnet50", layer="penultimate", photos=600, multiply_adds=4.09e9),
    "vgg16": dict(network="vgg16", layer="fc7", photos=240, multiply_adds=15.47e9),
    "mobilenet": dict(network="mobilenet_v2", layer="penultimate", photos=1600, multiply_adds=0.30e9),
    "large": dict(network="mobilenet_v2", layer="penultimate", photos=96, multiply_adds=0.30e9),
}
# Of no use to compare seconds with.
USELESS = 0.25
# A run counts as disturbed where others took more than this share of a processor; runs are made so often until one is not.
DISTURBED = 0.05
ATTEMPTS = 1
# Images a run, and photos that are extracted with each.
BATCHES = [1, 2, 4, 8, 16, 32]
BATCH_PHOTOS = {"mobilenet": 1600, "resnet50": 320, "vgg16": 96}
MEMORY_PHOTOS = [500, 10_000]
SECTIONS = [*NETWORKS, "decode", "batch", "memory", "reuse", "classify"]
# Of the section decode: what, how many, and whether enlarged to 12 megapixels.
DECODED = [("photos as they are", 800, False), ("12 megapixels", 96, True)]
PEERS = ["onnxruntime", "openvino", "torchvision", "thingsvision", "keras"]
PREPROCESS = {"resnet50": "torchvision", "vgg16": "torchvision", "mobilenet_v2": "tf"}


def others_seconds():
    """Processor seconds of all that this process has not started, as far as what it started has ended."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    # All but idle and waiting for disks; guests are part of user.
    busy = sum(int(field) for index, field in enumerate(fields[:8]) if index not in (3, 4)) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


class Bench:
    def __init__(self, args, work):
        self.args, self.work = args, work
        # The most that others took of a processor in a run that counts.
        self.disturbed = 0.0
        # Processor seconds of the last run's loop, and seconds of its whole process.
        self.cpu = self.whole = None
        self.program = str(args.program.resolve())
        self.photos = sorted(path for path in args.photos.rglob("*.jpg"))
        if not self.photos:
            sys.exit(f"{args.photos} holds no .jpg")
        (work / "models").mkdir()
        self.networks = {}
        for name in ("resnet50", "vgg16", "mobilenet_v2"):
            folder, pattern = (args.models, "mobilenetv2*.onnx") if name == "mobilenet_v2" else (args.networks, f"{name}.onnx")
            found = sorted(path for path in folder.glob(pattern) if "nhwc" not in path.name) if folder else []
            if found:
                self.networks[name] = found[0].resolve()
                self.cnncodes("models", "add", found[0].resolve(), "--name", name, "--preprocess", PREPROCESS[name], "--force")

    def cnncodes(self, *arguments):
        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def timed(self, *arguments):
        start, before = time.perf_counter(), sum(os.times()[2:4])
        self.cnncodes(*arguments)
        self.cpu = sum(os.times()[2:4]) - before
        return time.perf_counter() - start

    def extracting(self, *arguments):
        """Seconds of the loop of an extraction, which begins when the network is loaded; notes the others."""
        command = [self.program, *map(str, arguments), "--log", "json"]
        # Its processor time is that of all children before and after, less what it had used when the loop began.
        start, before, began = time.perf_counter(), sum(os.times()[2:4]), None
        lines = []
        with subprocess.Popen(command, cwd=self.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if began is None and '"arranged"' in line:
                    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                    began = time.perf_counter(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                lines.append(line)
        if process.returncode or began is None:
            sys.exit(f"{' '.join(command)}: {''.join(lines[-3:])}")
        end = time.perf_counter()
        self.whole, self.cpu = end - start, sum(os.times()[2:4]) - before - began[1]
        return end - began[0]

    def extract(self, folder, network, features, *more, layer="penultimate"):
        """The arguments of an extraction."""
        threads = self.args.threads
        return ["extract", folder, "--model", network, "--layer", layer, "-o", features, "--threads", threads, *self.args.extract, *more]

    def arrangement(self, extract):
        """How many sessions, threads of each and images a run `extract` would choose."""
        command = [self.program, *map(str, extract), "--dry-run", "--log", "json"]
        said = subprocess.run(command, cwd=self.work, check=True, capture_output=True, text=True).stderr
        return json.loads(said.splitlines()[-1])["arrangement"]

    def helper(self, program, *arguments):
        """What a program of benches/ prints."""
        command = [str(part) for part in (program, *arguments)]
        return json.loads(subprocess.run(command, cwd=self.work, check=True, capture_output=True, text=True).stdout)

    def peer(self, name, folder, **options):
        """Seconds of a peer's loop, None where it cannot run here; notes the others."""
        command = [sys.executable, HERE / "extract_peers.py", name, folder, "--threads", self.args.threads]
        for key, value in options.items():
            command += [f"--{key}", value]
        start = time.perf_counter()
        done = subprocess.run([str(part) for part in command], cwd=self.work, capture_output=True, text=True)
        self.whole = time.perf_counter() - start
        if done.returncode:
            print(f"  {name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
            return None
        said = json.loads(done.stdout.splitlines()[-1])
        self.cpu = said["cpu"]
        return said["seconds"]

    def turn(self, runs):
        """What each of `runs` gives, one after another; again where others worked meanwhile."""
        seconds = {}
        for name, run in runs.items():
            for _ in range(ATTEMPTS):
                before, start = others_seconds(), time.perf_counter()
                seconds[name] = run()
                share = (others_seconds() - before) / (time.perf_counter() - start)
                if share < DISTURBED:
                    break
                print(f"  {name}: others took {share:.0%} of a processor meanwhile", flush=True)
            self.disturbed = max(self.disturbed, share)
            print(f"  {name} {'-' if seconds[name] is None else f'{seconds[name]:.3f} s'}", flush=True)
        return seconds

    def folder(self, count, large=False):
        """A folder of that many different files, the photos repeated with a number after their end where they do not suffice."""
        # Photos of 12 megapixels are kept: to make them takes longer than to measure.
        folder = (ROOT / ".cnncodes" / "bench-large" if large else self.work) / f"photos-{count}"
        if folder.exists():
            return folder
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        step = max(1, len(self.photos) // count)
        for index in range(count):
            photo = self.photos[index * step % len(self.photos)]
            target = partial / photo.parent.name / f"{index:05}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            if large:
                from PIL import Image

                image = Image.open(photo).convert("RGB")
                scale = (12e6 / (image.width * image.height)) ** 0.5
                size = (round(image.width * scale), round(image.height * scale))
                image.resize(size, Image.BICUBIC).save(target, quality=90)
            else:
                target.write_bytes(photo.read_bytes() + index.to_bytes(4, "big"))
        partial.rename(folder)
        return folder

    def cut(self, network, features):
        """The network cut at the layer that the features are of, for the peers that read ONNX."""
        import h5py
        import onnx.utils

        with h5py.File(features) as file:
            (layer,) = file["layers"].values()
            tensor = layer.attrs["tensor"]
        path = self.work / f"{network}-cut.onnx"
        if not path.exists():
            whole = str(self.networks[network])
            model = onnx.load(whole)
            (name,) = {i.name for i in model.graph.input} - {t.name for t in model.graph.initializer}
            onnx.utils.extract_model(whole, str(path), [name], [tensor])
        return path


def network_section(bench, section):
    settings = NETWORKS[section]
    network, threads, layer = settings["network"], bench.args.threads, settings["layer"]
    folder = bench.folder(settings["photos"], large=section == "large")
    features = bench.work / f"{section}.h5"
    bench.cnncodes(*bench.extract(bench.folder(16), network, features, layer=layer))
    cut = bench.cut(network, features)
    own = bench.extract(folder, network, features, "--force", layer=layer)
    runs = {"cnncodes": lambda: bench.extracting(*own)}
    if section == "large":
        runs["cnncodes --fast-decode"] = lambda: bench.extracting(*own, "--fast-decode")
    for peer in bench.args.peers:
        runs[peer] = lambda peer=peer: bench.peer(peer, folder, network=network, layer=cut, output=bench.work / "peer.h5")

    def one_round():
        cpu, whole = {}, {}

        def noting(name, run):
            bench.cpu = bench.whole = None
            took = run()
            cpu[name], whole[name] = bench.cpu, bench.whole if took else None
            return took

        seconds = bench.turn({name: lambda name=name, run=run: noting(name, run) for name, run in runs.items()})
        arrangement = bench.arrangement(own)
        sessions, batch, runs_of_each = arrangement["sessions"], arrangement["batch"], max(8, 64 // arrangement["batch"])
        forward = bench.helper(
            bench.args.forward, bench.networks[network], layer, batch, arrangement["threads"], runs_of_each, sessions
        )
        # The first runs allocate.
        forward = statistics.median(forward["milliseconds"][runs_of_each // 4 :])
        decoding = bench.helper(bench.args.pixels, flat(bench, folder), threads, 3)["seconds"]
        limits = {
            "forward": sessions * batch * 1000 / forward,
            "decode": settings["photos"] / statistics.median(decoding),
            "sgemm": sgemm_peak(threads) / settings["multiply_adds"],
        }
        return {"": seconds, "whole": whole, "cpu": cpu, "limits": limits}

    return one_round


def flat(bench, folder):
    """All files of a folder with classes in one folder."""
    target = bench.work / f"{folder.name}-flat"
    if not target.exists():
        target.mkdir()
        for path in folder.rglob("*.jpg"):
            (target / f"{path.parent.name}-{path.name}").symlink_to(path.resolve())
    return target


def sgemm_peak(threads):
    """Multiply-adds a second of a large product of float32 matrices; the best of ten, by the better of OpenBLAS's kernels."""
    code = (
        "import numpy as np, time\n"
        "a = np.random.rand(3000, 3000).astype('f'); b = a.T.copy()\n"
        "best = 1e9\n"
        "for _ in range(10):\n"
        "    start = time.perf_counter(); a @ b; best = min(best, time.perf_counter() - start)\n"
        "print(3000 ** 3 / best)"
    )
    environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    # Processors that are newer than the library get its kernels for old ones, unless it is told.
    kernels = [{}, {"OPENBLAS_CORETYPE": "SkylakeX"}] if has_avx512() else [{}]
    measure = lambda kernel: subprocess.run(
        [sys.executable, "-c", code], env=environment | kernel, check=True, capture_output=True, text=True
    )
    return max(float(measure(kernel).stdout) for kernel in kernels)


def has_avx512():
    try:
        return "avx512f" in pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def decode_section(bench, _):
    def one_round():
        result = {}
        for name, count, large in DECODED:
            folder = flat(bench, bench.folder(count, large))
            own = lambda *more: statistics.median(bench.helper(bench.args.pixels, folder, bench.args.threads, 3, *more)["seconds"])
            result[name] = bench.turn({
                "cnncodes": own,
                "cnncodes --fast-decode": lambda: own("--fast-decode"),
                "Pillow": lambda: bench.peer("pillow_decoding", folder),
                "OpenCV": lambda: bench.peer("opencv_decoding", folder),
            })
        return result

    return one_round


def reuse_section(bench, _):
    folder = bench.folder(NETWORKS["resnet50"]["photos"])
    extract = bench.extract(folder, "resnet50", bench.work / "reuse.h5")
    paths = sorted(folder.rglob("*.jpg"))
    changes = 0

    def settled(*arguments):
        # Files younger than two seconds are read again; a folder that was just written is not what is measured.
        time.sleep(3)
        return bench.timed(*arguments)

    def changed():
        nonlocal changes
        for path in paths[::100]:
            changes += 1
            path.write_bytes(path.read_bytes() + changes.to_bytes(4, "big"))
        return settled(*extract)

    return lambda: {"": bench.turn({"first": lambda: settled(*extract, "--force"), "unchanged": lambda: settled(*extract), "1 % changed": changed})}


COLD = '''
import pickle, sys
import numpy as np, onnxruntime as ort
sys.path.insert(0, sys.argv[4])
from extract_peers import pillow_tensor
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[5])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
features = session.run(None, {session.get_inputs()[0].name: pillow_tensor(sys.argv[3])[None]})[0].reshape(1, -1)
print(pickle.load(open(sys.argv[2], "rb")).predict_proba(features))
'''


def classify_section(bench, _):
    features, head = bench.work / "classify.h5", bench.work / "classify.head.h5"
    bench.cnncodes("extract", bench.folder(400), "--model", "resnet50", "-o", features)
    bench.cnncodes("fit-head", features, "--logistic", "-o", head)
    cut = bench.cut("resnet50", features)
    fit = (
        "import h5py, pickle, sys; from sklearn.linear_model import LogisticRegression; from sklearn.pipeline import make_pipeline;"
        "from sklearn.preprocessing import StandardScaler; f = h5py.File(sys.argv[1]);"
        "m = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(f['features'][:], f['labels'][:]);"
        "pickle.dump(m, open(sys.argv[2], 'wb'))"
    )
    pickled, script, photo = bench.work / "head.pickle", bench.work / "cold.py", bench.photos[0].resolve()
    subprocess.run([sys.executable, "-c", fit, features, pickled], check=True, stderr=subprocess.DEVNULL)
    script.write_text(COLD)
    command = [str(part) for part in (sys.executable, script, cut, pickled, photo, HERE, bench.args.threads)]

    def python():
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    ours = ["classify", photo, "--head", head, "--threads", bench.args.threads]
    bench.timed(*ours)
    return lambda: {"": bench.turn({"Python": python, "cnncodes": lambda: bench.timed(*ours)})}


def batch_section(bench, _):
    """Seconds of `extract` by the images of a run; the sessions are what is chosen without."""

    def one_round():
        result = {}
        for section, count in BATCH_PHOTOS.items():
            settings = NETWORKS[section]
            own = bench.extract(bench.folder(count), settings["network"], bench.work / "batch.h5", "--force", layer=settings["layer"])
            runs = {str(size): lambda size=size: bench.timed(*own, "--batch-size", size) for size in ["auto", *BATCHES]}
            result[section] = bench.turn(runs)
        return result

    return one_round


def memory_section(bench, _):
    def peak(count):
        extract = bench.extract(bench.folder(count), "mobilenet_v2", bench.work / "memory.h5", "--force")
        _, mebibytes = peak_memory.run([bench.program, *extract], cwd=bench.work)
        print(f"  {count} photos: {mebibytes:.1f} MiB", flush=True)
        return mebibytes

    return lambda: {"": {str(count): peak(count) for count in MEMORY_PHOTOS}}


def processor():
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor()


def versions():
    names = ["onnxruntime", "pillow", "openvino", "torch", "torchvision", "thingsvision", "tensorflow-cpu", "keras", "opencv-python-headless", "scikit-learn"]
    code = (
        "import importlib.metadata as m, sys\n"
        "for n in sys.argv[1:]:\n"
        "    try: print(n, m.version(n))\n"
        "    except m.PackageNotFoundError: pass"
    )
    said = subprocess.run([sys.executable, "-c", code, *names], check=True, capture_output=True, text=True).stdout
    return ", ".join(said.split("\n")).strip(", ")


def medians(rounds, part):
    """The median of each program over the rounds in which it ran; None for one that ran in none."""
    programs = {name: None for each in rounds for name in each[part]}
    values = {name: [each[part][name] for each in rounds if each[part].get(name) is not None] for name in programs}
    return {name: statistics.median(took) if took else None for name, took in values.items()}


def table(seconds, photos, whole=None, cpu=None, disturbed=False):
    """Rows of rates and ratios of what was timed on the same photos, unless disturbed, and where known of whole processes and
    of processor time."""
    columns, own = ["program"], []
    if not disturbed:
        columns += ["photos/s", "cnncodes is faster by"]
        own = [name for name in ("cnncodes", "cnncodes --fast-decode") if name in seconds]
        columns += ["with --fast-decode"] * (len(own) - 1)
        columns += ["whole process, s", "cnncodes is faster by"] if whole else []
    if cpu:
        columns += ["processor ms a photo", "times cnncodes'"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    show = lambda value, digits: "-" if value is None else f"{value:.{digits}f}"
    for name, took in seconds.items():
        cells = [] if disturbed else [show(took and photos / took, 1)]
        cells += [show(took and took / seconds[other], 2) for other in own]
        if whole and not disturbed:
            cells += [show(whole[name], 1), show(whole[name] and whole[name] / whole["cnncodes"], 2)]
        if cpu:
            used = cpu[name]
            cells += [show(used and used / photos * 1e3, 2), show(used and used / cpu["cnncodes"], 2)]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines


def network_lines(section, rounds):
    settings, seconds, cpu = NETWORKS[section], medians(rounds, ""), medians(rounds, "cpu")
    limits = medians(rounds, "limits")
    limit = 1 / (1 / limits["forward"] + 1 / limits["decode"])
    rate = settings["photos"] / seconds["cnncodes"]
    what = "photos of 12 megapixels" if section == "large" else "photos"
    lines = [
        f"{settings['photos']} {what}, {settings['network']}, {settings['layer']}, JPEG folder to HDF5.",
        "",
        *table(seconds, settings["photos"], medians(rounds, "whole"), cpu, is_disturbed(rounds)),
    ]
    if not is_disturbed(rounds):
        lines += [
            "",
            f"Limits: forward alone {limits['forward']:.1f} images/s, decoding alone {limits['decode']:.1f}, so both on the same cores "
            f"{limit:.1f}, of which cnncodes reaches {rate / limit:.2f}; sgemm's peak would allow {limits['sgemm']:.1f}.",
        ]
    return lines


def is_disturbed(rounds):
    return max(each["others"] for each in rounds) >= USELESS


def decode_lines(_, rounds):
    lines = []
    for name, count, _ in DECODED:
        lines += [f"JPEG in memory to normalised tensor, {name}, {count} files:", "", *table(medians(rounds, name), count), ""]
    return lines[:-1]


def batch_lines(_, rounds):
    lines = [
        "`extract` end to end, photos a second by `--batch-size`; the sessions and threads are those that auto takes. How far "
        "auto is from the best: last column.",
        "",
        f"| network | photos | auto | {' | '.join(map(str, BATCHES))} | auto / best |",
        "|---" * (len(BATCHES) + 4) + "|",
    ]
    for section, count in BATCH_PHOTOS.items():
        rates = {name: count / took for name, took in medians(rounds, section).items()}
        cells = " | ".join(f"{rate:.1f}" for rate in rates.values())
        lines.append(f"| {NETWORKS[section]['network']} | {count} | {cells} | {rates['auto'] / max(rates.values()):.3f} |")
    return lines


def memory_lines(_, rounds):
    few, many = (medians(rounds, "")[str(count)] for count in MEMORY_PHOTOS)
    return [
        f"Peak memory of `extract` with mobilenet_v2: {few:.1f} MiB for {MEMORY_PHOTOS[0]} photos, {many:.1f} MiB for "
        f"{MEMORY_PHOTOS[1]}, {many / few:.3f} times as much."
    ]


def ratio_lines(section, rounds):
    seconds = medians(rounds, "")
    base = next(iter(seconds))
    what = {
        "reuse": f"`extract` with resnet50 over {NETWORKS['resnet50']['photos']} photos, again and again:",
        "classify": "One photo in a cold process, ResNet50 and a logistic head; Python with onnxruntime, Pillow and a pickled scikit-learn head:",
    }[section]
    lines = [what, "", f"| run | seconds | ratio to {base} |", "|---|---|---|"]
    return lines + [f"| {name} | {took:.3f} | {took / seconds[base]:.3f} |" for name, took in seconds.items()]


def report(results, path):
    lines = [
        "# Extraction compared with other programs",
        "",
        "By `scripts/bench/extract`; medians of rounds in which the programs took turns. Photos a second and processor time are measured "
        "from the first photo to the written file, with the network loaded. The whole process also includes start, imports and "
        "loading. Processor time is the sum over all cores.",
    ]
    for section in SECTIONS:
        if section in results:
            rounds = results[section]["rounds"]
            describe = network_lines if section in NETWORKS else LINES.get(section, ratio_lines)
            lines += ["", f"## {section}", "", *describe(section, rounds), ""]
            others = max(each["others"] for each in rounds)
            quiet = "nothing else ran" if others < DISTURBED else f"others took {others:.0%} of a processor at most"
            if is_disturbed(rounds):
                lines += ["**Disturbed: another program had a processor at times, so seconds are left out or stand for ratios alone.**", ""]
            # Memory does not depend on what else runs, and that is not watched there.
            quiet = "" if section == "memory" else f"; {quiet}"
            lines += [f"*{results[section]['about']}; rounds: {len(rounds)}{quiet}.*"]
    path.write_text("\n".join(lines) + "\n")


RUN = {
    "decode": decode_section, "batch": batch_section, "memory": memory_section, "reuse": reuse_section, "classify": classify_section,
}
LINES = {"decode": decode_lines, "batch": batch_lines, "memory": memory_lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="a folder of JPEGs, one folder a class")
    parser.add_argument("--models", type=pathlib.Path, help="the folder of a mobilenetv2*.onnx")
    parser.add_argument("--networks", type=pathlib.Path, required=True, help="the folder of resnet50.onnx and vgg16.onnx")
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", action="store_true", help="put the rounds to those of an earlier call on the same day")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="the programs to compare with; all by default")
    parser.add_argument("--extract", nargs="*", default=[], metavar="OPTION", help="more options for extract, such as batch-size=8")
    parser.add_argument("--write", type=pathlib.Path, default=ROOT / "docs/bench-extract.md")
    args = parser.parse_args()
    unknown = [section for section in args.sections if section not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]}; choose from {', '.join(SECTIONS)}")
    args.extract = [f"--{option}" for option in args.extract]
    results = json.loads(STATE.read_text()) if STATE.exists() else {}
    options = f" {' '.join(args.extract)}," if args.extract else ""
    about = f"{datetime.date.today()}, {processor()},{options} {args.threads} threads; {versions()}"
    with tempfile.TemporaryDirectory(prefix="bench-extract-") as work:
        bench = Bench(args, pathlib.Path(work))
        for section in args.sections or SECTIONS:
            one_round = RUN.get(section, network_section)(bench, section)
            earlier = results.get(section, {})
            rounds = earlier["rounds"] if args.more and earlier.get("about") == about else []
            for _ in range(args.rounds):
                print(f"{section}, round {len(rounds) + 1}:", flush=True)
                bench.disturbed = 0.0
                rounds.append({**one_round(), "others": bench.disturbed})
                results[section] = {"about": about, "rounds": rounds}
                STATE.write_text(json.dumps(results, indent=1))
                report(results, args.write)


if __name__ == "__main__":
    main()
