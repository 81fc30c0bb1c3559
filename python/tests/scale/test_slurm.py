"""The scripts of examples/slurm on a Slurm cluster of two nodes on this machine (scripts/dev/slurm-cluster).

Whatever happens to nodes, tasks, parts and disks, the merged file is the one that a single machine writes, byte for byte, or the merge
refuses and says why.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import PROJECT, draw

CLUSTER = PROJECT / "scripts" / "dev" / "slurm-cluster"
EXAMPLES = PROJECT / "examples" / "slurm"
ASSETS = os.environ.get("CNNCODES_ASSETS")


def missing() -> str | None:
    lacks = [tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(tool) is None]
    if lacks:
        return f"{', '.join(lacks)} missing: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "a Slurm cluster of one's own needs root"


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def call(*command, check=True, cwd=None) -> subprocess.CompletedProcess:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert not check or done.returncode in (0, 1), f"{words}: {done.stdout}{done.stderr}"
    return done


class Slurm:
    """The cluster; its folder `small` is a file system that may be made too small."""

    def __init__(self) -> None:
        # Names of sockets are short.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.small = self.folder / "small"
        self.small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.small)]
        self.has_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        call(CLUSTER, "start", self.folder)

    def stop(self) -> None:
        call(CLUSTER, "stop", self.folder)
        if self.has_small:
            call("umount", "-l", self.small)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self, node: str) -> None:
        call(CLUSTER, "kill", self.folder, node)

    def boot(self, node: str) -> None:
        call(CLUSTER, "boot", self.folder, node)
        until(lambda: call("sinfo", "-h", "-n", node, "-o", "%T").stdout.strip() == "idle", "the node is idle again")

    @staticmethod
    def jobs() -> str:
        return call("squeue", "-h", "-o", "%i %T").stdout

    def wait(self) -> None:
        """Until no job is left."""
        until(lambda: not self.jobs(), "all jobs end")

    @staticmethod
    def states(job: str) -> list[str]:
        """How the tasks of a job ended."""
        shown = call("scontrol", "show", "job", job).stdout
        return sorted(word.removeprefix("JobState=") for word in shown.split() if word.startswith("JobState="))


def until(condition, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s until {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def slurm():
    cluster = Slurm()
    yield cluster
    cluster.stop()


@dataclass
class Source:
    """Images, and what a single machine makes of them."""

    folder: Path
    """Where the commands run; models/ is in it."""
    images: list[str]
    options: list[str]
    """Options of `plan`."""
    parts: int
    single: bytes


def source(folder: Path, models: Path, images: list[str], options: list[str], parts: int) -> Source:
    folder.mkdir(exist_ok=True)
    if models != folder / "models":
        (folder / "models").symlink_to(models)
    rows = options.index("--rows-per-part")
    call("cnncodes", "extract", *images, *options[:rows], "-o", "single.h5", cwd=folder)
    return Source(folder, images, options, parts, (folder / "single.h5").read_bytes())


NETWORK = ["--model", "demo-vgg", "--layer", "fc7"]


@pytest.fixture(scope="module")
def small(demo, tmp_path_factory) -> Source:
    """Small drawn images, and a damaged one."""
    folder = tmp_path_factory.mktemp("small")
    images = draw(folder / "images", 300)
    (images / "red" / "damaged.jpg").write_bytes(b"\xff\xd8 no image")
    return source(folder, demo / "models", [str(images)], [*NETWORK, "--rows-per-part", "10"], 31)


@pytest.fixture(scope="module")
def large(demo, tmp_path_factory) -> Source:
    """Large drawn images; most of them are links to others."""
    folder = tmp_path_factory.mktemp("large")
    images = draw(folder / "images", 40, size=(1600, 1200))
    for path in sorted(images.rglob("*.jpg")):
        for number in range(1, 10):
            path.with_stem(f"{path.stem}-{number}").symlink_to(path.name)
    return source(folder, demo / "models", [str(images)], [*NETWORK, "--rows-per-part", "10"], 40)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Source:
    """The 808 real photos through MobileNetV2."""
    if not ASSETS:
        pytest.skip("CNNCODES_ASSETS names no folder of photos and networks")
    folder = tmp_path_factory.mktemp("photos")
    network = Path(ASSETS) / "models" / "mobilenetv2_1.0_224.onnx"
    call("cnncodes", "models", "add", network, "--preprocess", "tf", "--crop", "--shorter-side", "256", cwd=folder)
    options = ["--rows-per-part", "16"]
    images = [str(Path(ASSETS) / "data" / "cats-dogs-horses-humans")]
    return source(folder, folder / "models", images, options, 51)


@pytest.fixture(scope="module")
def shards(demo, tmp_path_factory) -> Source:
    """20,000 drawn images in tar shards."""
    folder = tmp_path_factory.mktemp("shards")
    images = draw(folder / "images", 20_000, shards=10)
    return source(folder, demo / "models", [str(images)], [*NETWORK, "--rows-per-part", "256"], 79)


FULL = [pytest.param(name, marks=pytest.mark.full) for name in ("photos", "shards")]


@pytest.fixture(params=["small", *FULL])
def images(request) -> Source:
    """Images that need not take time."""
    found: Source = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["large", *FULL])
def slow(request) -> Source:
    """Images that take so long that a run can be disturbed."""
    found: Source = request.getfixturevalue(request.param)
    return found


class Run:
    """A plan of some images, and what becomes of it."""

    def __init__(self, source: Source, plan: Path) -> None:
        self.source = source
        self.plan = plan
        self.output = source.folder / f"{plan.name}.h5"
        self.output.unlink(missing_ok=True)

    def cnncodes(self, *arguments) -> subprocess.CompletedProcess:
        return call("cnncodes", *arguments, check=False, cwd=self.source.folder)

    def make(self) -> None:
        call("cnncodes", "plan", *self.source.images, *self.source.options, "-o", self.plan, cwd=self.source.folder)

    def submit(self, tasks: int) -> tuple[str, str]:
        """The array and the merge."""
        command = [EXAMPLES / "submit.sh", tasks, self.plan, self.output, *self.source.images, *self.source.options]
        said = call(*command, cwd=self.source.folder).stdout
        words = said.splitlines()[-1].replace(",", " ").replace(";", " ").split()
        return words[1], words[3]

    def done(self) -> int:
        return len(list(self.plan.glob("parts/*.h5")))

    def until_begun(self) -> None:
        """Until some parts are there, and others are not."""
        until(lambda: self.done() >= 4, "some parts are done")
        assert self.done() < self.source.parts - 2, "too fast to be disturbed"

    def status(self) -> dict:
        return json.loads(self.cnncodes("extract", "--status", self.plan, "--log", "json").stdout)

    def log(self, job: str) -> str:
        return "".join(path.read_text() for path in sorted(self.source.folder.glob(f"*{job}*.log")))

    def assert_merged(self) -> None:
        assert self.output.read_bytes() == self.source.single

    def merge(self) -> None:
        assert self.cnncodes("merge", self.plan, "-o", self.output).returncode in (0, 1)
        self.assert_merged()

    def refused(self) -> str:
        """What merge says when it refuses."""
        done = self.cnncodes("merge", self.plan, "-o", self.output)
        assert done.returncode == 2
        assert not self.output.exists()
        return done.stderr


@pytest.fixture
def run(images, slurm, tmp_path) -> Run:
    return Run(images, tmp_path / "plan")


def test_a_node_that_dies_is_replaced(slurm, slow, tmp_path):
    run = Run(slow, tmp_path / "plan")
    array, merge = run.submit(4)
    run.until_begun()
    slurm.kill("node1")
    slurm.wait()
    slurm.boot("node1")
    assert slurm.states(array) == ["COMPLETED"] * 4
    assert slurm.states(merge) == ["COMPLETED"]
    run.assert_merged()


def test_a_task_that_runs_twice_at_once_counts_once(slurm, run):
    run.make()
    os.environ["PLAN"] = str(run.plan)
    submit = ["sbatch", "--parsable", "--array=0-0", EXAMPLES / "extract.sbatch"]
    twins = [call(*submit, cwd=run.source.folder).stdout.strip() for _ in range(2)]
    slurm.wait()
    assert [slurm.states(job) for job in twins] == [["COMPLETED"]] * 2
    said = [run.log(job) for job in twins]
    assert all(f"share 0/1: {run.source.parts} parts" in text for text in said), said
    status = run.status()
    assert status["done"] == run.source.parts
    assert status["strangers"] == []
    run.merge()


def test_another_number_of_tasks_may_go_on(slurm, slow, tmp_path):
    run = Run(slow, tmp_path / "plan")
    array, merge = run.submit(3)
    run.until_begun()
    call("scancel", array)
    slurm.wait()
    assert "COMPLETED" not in slurm.states(merge)
    before = {path.name: path.stat().st_mtime_ns for path in run.plan.glob("parts/*.h5")}
    assert before
    assert "parts are missing" in run.refused()
    run.submit(2)
    slurm.wait()
    run.assert_merged()
    after = {path.name: path.stat().st_mtime_ns for path in run.plan.glob("parts/*.h5")}
    assert {name: after[name] for name in before} == before


def test_a_part_that_was_cut_short_is_refused_and_made_anew(slurm, run):
    run.submit(2)
    slurm.wait()
    run.assert_merged()
    run.output.unlink()
    part = run.plan / "parts" / "000002.h5"
    size = part.stat().st_size
    for keep in (0, 100, size // 2, size * 9 // 10):
        os.truncate(part, keep)
        assert str(part) in run.refused()
        assert [broken["part"] for broken in run.status()["invalid"]] == [2]
        run.submit(2)
        slurm.wait()
        run.assert_merged()
        run.output.unlink()


def test_a_full_disk_fails_the_task_and_the_next_run_goes_on(slurm, images):
    if not slurm.has_small:
        pytest.skip("no file system can be mounted here")
    run = Run(images, slurm.small / "plan")
    run.make()
    call("mount", "-o", f"remount,size={(len(images.single) // 3 >> 10) + 1024}k", slurm.small)
    array, merge = run.submit(2)
    slurm.wait()
    assert slurm.states(array) == ["FAILED", "FAILED"]
    assert slurm.states(merge) == ["CANCELLED"]
    assert re.search(r"error: (cannot write|writing) .*/parts/", run.log(array))
    assert 0 < run.status()["done"] < images.parts
    assert "parts are missing" in run.refused()
    call("mount", "-o", "remount,size=1g", slurm.small)
    run.submit(2)
    slurm.wait()
    run.assert_merged()
    shutil.rmtree(run.plan)


def test_an_edited_plan_is_refused(slurm, run):
    run.make()
    document, manifest = run.plan / "plan.json", run.plan / "manifest.jsonl.gz"
    text, lines = document.read_text(), manifest.read_bytes()
    document.write_text(re.sub('"rows_per_part": ?', '"rows_per_part":1', text))
    array, merge = run.submit(2)
    slurm.wait()
    assert slurm.states(array) == ["FAILED", "FAILED"]
    assert slurm.states(merge) == ["CANCELLED"]
    assert "was edited or damaged" in run.log(array)
    assert "was edited or damaged" in run.refused()
    document.write_text(text)
    run.submit(2)
    slurm.wait()
    run.assert_merged()
    run.output.unlink()
    edited = gzip.decompress(lines).decode().replace('"size":', '"size":1', 1)
    manifest.write_bytes(gzip.compress(edited.encode()))
    array, _ = run.submit(2)
    slurm.wait()
    assert "FAILED" in slurm.states(array)
    assert "was edited or damaged" in run.log(array)
    assert "was edited or damaged" in run.refused()
    manifest.write_bytes(lines)
    run.merge()
