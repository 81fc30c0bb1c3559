"""docs/scale.md: its examples run as they stand, in the demo's folder, and give the features of a single machine."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from cnncodes import Extractor, Plan, read_features

from .conftest import PROJECT


@pytest.fixture
def folder(demo, tmp_path) -> Path:
    """A copy of the demo's folder with a damaged image more."""
    place = tmp_path / "demo"
    shutil.copytree(demo, place)
    (place / "data" / "fish" / "damaged.jpg").write_bytes(b"\xff\xd8 no image")
    return place


@pytest.fixture
def execute(documented, folder):
    """Runs the Python of a section in the folder, with the modules that it needs; gives what it printed."""

    def run(heading: str, *modules: str) -> str:
        for module in modules:
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{module} is not installed")
        code = "\n".join(documented(heading, "python"))
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def assert_table(table, folder: Path, name: str) -> None:
    """Each image has one row, and its features are those of a single machine."""
    paths = sorted(str(path) for path in (folder / "data").rglob("*.jpg"))
    extractor = Extractor("demo-vgg", "fc7", models=folder / "models", on_error="nan")
    expected = dict(zip(paths, extractor.transform(paths), strict=True))
    rows = {os.path.join(folder, row[name]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    assert sorted(rows) == paths
    damaged = rows.pop(str(folder / "data" / "fish" / "damaged.jpg"))
    assert damaged["features"] is None
    assert "image" in damaged["error"] or "JPEG" in damaged["error"]
    for path, row in rows.items():
        assert row["error"] is None
        assert np.array_equal(np.asarray(row["features"], np.float32), expected[path])


def test_the_commands_of_the_contract(documented, folder):
    commands = "\n".join(
        line.removeprefix("$ ").split("  #")[0]
        for block in documented("The contract", "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    )
    # Status 1 says that an image could not be read.
    script = "\n".join(f"{line} || [ $? -eq 1 ] || exit" for line in commands.splitlines())
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    Extractor("demo-vgg", "fc7", models=folder / "models").extract_to(
        folder / "single.h5", folder / "data", progress=None
    )
    merged = read_features(folder / "features" / "photos.h5")
    assert [Path(skipped["name"]).name for skipped in merged.skipped] == ["damaged.jpg"]
    assert np.array_equal(merged.array, read_features(folder / "single.h5").array)


def test_pods_of_the_kubernetes_job_compute_all_parts(documented, folder):
    [text] = documented("Kubernetes and AWS Batch", "yaml")
    [container] = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    Plan.create(folder / "run1", folder / "data", "demo-vgg", "fc7", models=folder / "models", rows_per_part=64)
    command = [word.replace("/shared/run1", "run1") for word in container["command"]]
    # The job has more pods than the plan has parts. Some have nothing to do.
    for pod in range(6):
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        environment = {**os.environ, **given, "JOB_COMPLETION_INDEX": str(pod)}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    status = Plan(folder / "run1").status()
    assert status.is_complete
    assert [name for name, _ in status.errors] == ["fish/damaged.jpg"]


def test_ray(execute, folder):
    execute("Ray", "ray")
    import pyarrow.parquet as pq

    assert read_features(folder / "features" / "photos.h5").skipped
    assert_table(pq.read_table(folder / "features" / "ray"), folder, "name")


@pytest.mark.full
def test_spark(execute, folder):
    if shutil.which("java") is None:
        pytest.skip("Java is missing: apt-get install openjdk-17-jre-headless")
    execute("Spark", "pyspark")
    import pyarrow.parquet as pq

    assert_table(pq.read_table(folder / "features" / "spark"), folder, "path")


def test_daft(execute, folder):
    execute("Daft", "daft")
    import pyarrow.parquet as pq

    assert_table(pq.read_table(folder / "features" / "daft"), folder, "path")


def test_files_that_are_named_exist():
    text = (PROJECT / "docs" / "scale.md").read_text("utf-8")
    for name in ("examples/slurm/submit.sh", "scripts/dev/test-scale", "scripts/bench/scale"):
        assert name in text
        assert (PROJECT / name).exists()
