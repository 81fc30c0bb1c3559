"""What it costs to share an extraction among workers, as ratios from one run.

    python scripts/bench/scale.py PROGRAM [--rows 200000] [--rounds 3] [--folder DIR]

Images are drawn, a thousand different ones under many names, in tar shards. The demo's network gives 2048 features of each (pool3), so
that parts and merged file are as wide as ResNet50's. Compared are: all shares of a plan, one after the other, with one `extract`; `merge`
with `cp` of the merged file, both from files that are not in memory and with a sync after them; and the peak memory at an eighth of the
images with that at all of them. Then 1, 2 and 8 workers with one thread each share a plan of photos at the same time. Each row of a table
comes from rounds in which what is compared takes turns; medians are shown. Needs NumPy and Pillow.
"""

import argparse
import concurrent.futures
import datetime
import hashlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import peak_memory
from heads import processor

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "scripts" / "dev"))
from draw_images import drawn

SHARES = 8
# So many that a worker's start weighs little.
COPIES = 5
LAYER = "pool3"
# Merges are short beside what comes before them.
MERGES = 5


def draw(folder, rows):
    """Tar shards of `rows` images."""
    folder.mkdir()
    files = [drawn(number, (80, 60))[1] for number in range(1000)]
    per_shard = 20_000
    for shard in range(-(-rows // per_shard)):
        with tarfile.open(folder / f"shard-{shard:04}.tar", "w") as tar:
            for number in range(shard * per_shard, min(rows, (shard + 1) * per_shard)):
                member = tarfile.TarInfo(f"{number:09}.jpg")
                content = files[number % len(files)]
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


class Bench:
    def __init__(self, program, folder, rounds):
        self.program, self.folder, self.rounds = program.resolve(), folder, rounds
        self.lines = []

    def run(self, *arguments, cwd=None, threads=None):
        """Seconds and peak MiB of the program."""
        command = [self.program, *arguments, *([] if threads is None else ["--threads", threads])]
        start = time.perf_counter()
        _, peak = peak_memory.run(command, cwd=cwd or self.folder)
        return time.perf_counter() - start, peak

    def say(self, *lines):
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def plan(self, rows):
        plan = self.folder / f"plan-{rows}"
        seconds, peak = self.run("plan", f"images-{rows}", "--layer", LAYER, "--no-labels", "-o", plan)
        manifest = (plan / "manifest.jsonl.gz").stat().st_size
        document = (plan / "plan.json").stat().st_size
        self.say(f"| {rows:,} | {seconds * 1e6 / rows:.1f} | {peak:.0f} | {manifest / rows:.1f} | {document / rows:.2f} |")
        return plan

    def share(self, plan, rows):
        """Shares one after the other against one run; the SHA-256 of the one run's file, which goes to save room."""
        single = self.folder / f"single-{rows}.h5"
        found = []
        for _ in range(self.rounds):
            shutil.rmtree(plan / "parts", ignore_errors=True)
            single.unlink(missing_ok=True)
            before = processor_seconds()
            shares = [self.run("extract", "--plan", plan, "--shard", f"{share}/{SHARES}") for share in range(SHARES)]
            between = processor_seconds()
            one, peak = self.run("extract", f"images-{rows}", "--layer", LAYER, "--no-labels", "-o", single)
            work = (between - before) / (processor_seconds() - between)
            together = sum(seconds for seconds, _ in shares)
            found.append((rows / one, together / one, work, max(peak for _, peak in shares), peak))
        rate, ratio, work, shared, alone = map(statistics.median, zip(*found, strict=True))
        self.say(f"| {rows:,} | {rate:.0f} | {ratio:.3f} | {work:.3f} | {shared:.0f} | {alone:.0f} |")
        with single.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        single.unlink()
        return digest

    def merge(self, plan, single, rows):
        merged, copy = self.folder / f"merged-{rows}.h5", self.folder / "copy.h5"
        found = []
        for _ in range(max(self.rounds, MERGES)):
            merged.unlink(missing_ok=True)
            forget(plan.glob("parts/*.h5"))
            seconds, peak = self.run("merge", plan, "-o", merged)
            start = time.perf_counter()
            os.sync()
            seconds += time.perf_counter() - start
            forget([merged, *plan.glob("parts/*.h5")])
            start = time.perf_counter()
            subprocess.run(["cp", "--reflink=never", merged, copy], check=True)
            os.sync()
            copying = time.perf_counter() - start
            copy.unlink()
            found.append((merged.stat().st_size / seconds / 1e6, copying / seconds, peak))
        rate, ratio, peak = map(statistics.median, zip(*found, strict=True))
        with merged.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").digest() == single
        self.say(
            f"| {rows:,} | {merged.stat().st_size / 1e6:.0f} | {rate:.0f} | {ratio:.2f} | {peak:.0f} | {'yes' if same else 'NO'} |"
        )
        sizes = sum(file.stat().st_size for file in (plan / "parts").glob("*.h5"))
        self.note = f"A row of a part takes {sizes / rows:.0f} bytes, and of the merged file {merged.stat().st_size / rows:.0f} bytes."
        merged.unlink()

    def workers(self, images, folder):
        """Workers at the same time, with one thread each."""
        plan = folder / "plan"
        # So small that eight workers have the same number of parts, nearly.
        self.run("plan", images, "--rows-per-part", 16, "-o", plan, cwd=folder)
        base = None
        for workers in (1, 2, 8):
            shares = [f"{share}/{workers}" for share in range(workers)]
            found = []
            for _ in range(self.rounds):
                shutil.rmtree(plan / "parts", ignore_errors=True)
                before, start = processor_seconds(), time.perf_counter()
                with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                    for work in [pool.submit(self.work, plan, share, folder) for share in shares]:
                        work.result()
                seconds = time.perf_counter() - start
                cost = processor_seconds() - before
                status = [self.program, "extract", "--status", plan, "--log", "json"]
                rows = json.loads(subprocess.run(status, capture_output=True, check=True).stdout)["rows"]
                found.append((rows / seconds, cost / rows * 1e3))
            rate, cost = map(statistics.median, zip(*found, strict=True))
            base = base or (rate, cost)
            self.say(f"| {workers} | {rate:.1f} | {rate / base[0]:.2f} | {cost:.2f} | {cost / base[1]:.2f} |")

    def work(self, plan, share, folder):
        self.run("extract", "--plan", plan, "--shard", share, cwd=folder, threads=1)


def forget(paths):
    """Makes the system forget what it has of the files in memory, so that they come from the disk."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def photos():
    """Folder of photos and of networks, if there is one."""
    assets = os.environ.get("CNNCODES_ASSETS")
    return Path(assets) if assets else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", type=Path, default=PROJECT / "docs" / "bench-scale.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="cnncodes-scale-") as place:
        folder = Path(place) / "demo"
        peak_memory.run([options.program.resolve(), "demo", "--dir", folder])
        bench = Bench(options.program, folder, options.rounds)
        sizes = [options.rows // 8, options.rows]
        bench.say(
            "# Many workers",
            "",
            f"Written by `scripts/bench/scale` on {datetime.date.today()}: {os.cpu_count()} processors ({processor()}), load average "
            f"{os.getloadavg()[0]:.1f} at the start, {options.rounds} round{'s' * (options.rounds != 1)} ({max(options.rounds, MERGES)} of merging). Drawn images of 3 kB in tar shards; the demo's network gives "
            "2048 features of each.",
            "",
            "Making a plan:",
            "",
            "| images | s for a million | peak memory, MiB | manifest, bytes an image | plan.json, bytes an image |",
            "|---|---|---|---|---|",
        )
        for rows in sizes:
            draw(folder / f"images-{rows}", rows)
        plans = [bench.plan(rows) for rows in sizes]
        bench.say(
            "",
            f"{SHARES} shares one after the other, each a process, against one `extract`:",
            "",
            "| images | images/s of one run | shares take, times one run | processor time, times one run's | peak memory of a share, MiB "
            "| of one run, MiB |",
            "|---|---|---|---|---|---|",
        )
        singles = [bench.share(plan, rows) for plan, rows in zip(plans, sizes, strict=True)]
        bench.say(
            "",
            "Merging, against `cp` of the merged file, both from files that are not in memory, and with a sync:",
            "",
            "| images | file, MB | merge, MB/s | merge's speed, times cp's | peak memory, MiB | equal to one run's file |",
            "|---|---|---|---|---|---|",
        )
        for plan, single, rows in zip(plans, singles, sizes, strict=True):
            bench.merge(plan, single, rows)
        bench.say("", bench.note)
        if assets := photos():
            bench.say(
                "",
                f"Workers at the same time, one thread each, on {COPIES} copies of 808 photos through MobileNetV2 (start of each process "
                "included):",
                "",
                "| workers | images/s of all | times one worker | processor ms an image | times one worker's |",
                "|---|---|---|---|---|",
            )
            place = Path(place) / "photos"
            place.mkdir()
            for copy in range(COPIES):
                shutil.copytree(assets / "data" / "cats-dogs-horses-humans", place / "images" / str(copy))
            network = assets / "models" / "mobilenetv2_1.0_224.onnx"
            bench.run("models", "add", network, "--preprocess", "tf", "--crop", "--shorter-side", 256, cwd=place)
            bench.workers(place / "images", place)
    options.write.write_text("\n".join(bench.lines) + "\n")


if __name__ == "__main__":
    main()
