"""cnncodes.ray on a cluster whose workers and nodes die."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from ray.cluster_utils import Cluster

from cnncodes import Error, Extractor, Plan
from cnncodes.ray import extract, run_plan

from .conftest import draw

ASSETS = os.environ.get("CNNCODES_ASSETS")


@dataclass
class Source:
    """Images that take so long that something can die meanwhile, and what a single machine makes of them."""

    folder: Path
    network: dict
    rows_per_part: int
    missing: list[str]
    """Paths of images that are not there."""
    output: Path
    """For the file of the single machine."""

    @cached_property
    def paths(self) -> list[str]:
        return sorted([*(str(path) for path in self.folder.rglob("*.jpg")), *self.missing])

    @cached_property
    def expected(self) -> dict[str, np.ndarray | None]:
        """Features of each image by one extractor, None where it has none."""
        extractor = Extractor(**self.network, on_error="nan")
        features = extractor.transform(self.paths)
        failed = {problem.index for problem in extractor.problems_}
        return {name: None if index in failed else features[index] for index, name in enumerate(self.paths)}

    @cached_property
    def single(self) -> bytes:
        """The features file of a single machine."""
        Extractor(**self.network).extract_to(self.output, self.folder, progress=None)
        return self.output.read_bytes()


@pytest.fixture(scope="module")
def network(demo) -> dict:
    return {"model": "demo-vgg", "layer": "fc7", "models": demo / "models"}


@pytest.fixture(scope="module")
def drawn(network, tmp_path_factory) -> Source:
    """Large drawn images, most of them links to others; one is damaged, and one is missing."""
    folder = tmp_path_factory.mktemp("ray")
    images = draw(folder / "drawn", 40, size=(1600, 1200))
    for path in sorted(images.rglob("*.jpg")):
        for number in range(1, 10):
            path.with_stem(f"{path.stem}-{number}").symlink_to(path.name)
    (images / "damaged.jpg").write_bytes(b"\xff\xd8 no image")
    return Source(images, network, 10, [str(images / "missing.jpg")], folder / "single.h5")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Source:
    """The 808 real photos through MobileNetV2."""
    if not ASSETS:
        pytest.skip("CNNCODES_ASSETS names no folder of photos and networks")
    folder = tmp_path_factory.mktemp("photos")
    network = Path(ASSETS) / "models" / "mobilenetv2_1.0_224.onnx"
    command = ["cnncodes", "models", "add", network, "--preprocess", "tf", "--crop", "--shorter-side", "256"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    images = Path(ASSETS) / "data" / "cats-dogs-horses-humans"
    return Source(images, {"models": folder / "models"}, 16, [], folder / "single.h5")


@pytest.fixture(scope="module", params=["drawn", pytest.param("photos", marks=pytest.mark.full)])
def images(request) -> Source:
    found: Source = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def nodes(cluster):
    """Two nodes of one processor."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield nodes
    for node in nodes:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=True)


def workers(title: str) -> list[int]:
    """Processes of Ray with this title that belong to this test."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().startswith(title.encode()):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def until(condition, seconds=120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def assert_same(rows: list[dict], expected: dict[str, np.ndarray | None]) -> None:
    """Each image has one row, with the features of a run without accidents."""
    assert sorted(row["name"] for row in rows) == sorted(expected)
    for row in rows:
        if expected[row["name"]] is None:
            assert row["features"] is None
            assert row["error"]
        else:
            assert row["error"] is None
            assert np.array_equal(np.asarray(row["features"], np.float32), expected[row["name"]])


def test_rows_are_the_same_and_once_though_a_worker_and_a_node_die(cluster, nodes, images):
    expected = images.expected
    failed = [Path(name).name for name, features in expected.items() if features is None]
    assert failed == (["damaged.jpg", "missing.jpg"] if images.missing else [])
    title = "ray::MapWorker(MapBatches(_Actor))"
    rows = []
    for row in extract(images.paths, **images.network, concurrency=2, rows_per_batch=10).iter_rows():
        rows.append(row)
        if len(rows) in (20, 100):
            # Actors live as long as there is work to do.
            until(lambda: len(workers(title)) == 2)
            before = set(workers(title))
            if len(rows) == 20:
                os.kill(min(before), signal.SIGKILL)
            else:
                cluster.remove_node(nodes[1], allow_graceful=False)
                cluster.add_node(num_cpus=1)
            until(lambda alive=before: alive - set(workers(title)))
    assert_same(rows, expected)


def test_a_run_that_failed_resumes_from_its_checkpoint(nodes, network, tmp_path):
    paths = sorted(draw(tmp_path / "drawn", 60).rglob("*.jpg"))
    output, checkpoint = tmp_path / "features", tmp_path / "checkpoint"
    flag = tmp_path / "fail"
    flag.touch()

    def fail_late(batch):
        if flag.exists() and any(output.glob("*.parquet")):
            raise RuntimeError("out of luck")
        return batch

    def run() -> None:
        dataset = extract(paths, **network, concurrency=1, rows_per_batch=10, checkpoint=checkpoint)
        dataset.map_batches(fail_late, batch_size=10).write_parquet(str(output))

    with pytest.raises(Exception, match="out of luck"):
        run()
    done = {name for file in checkpoint.glob("*.parquet") for name in pq.read_table(file)["name"].to_pylist()}
    assert 0 < len(done) < len(paths)
    extractor = Extractor(**network)
    expected = dict(zip(map(str, paths), extractor.transform(paths), strict=True))
    # What is done is not read again.
    for name in done:
        Path(name).unlink()
    flag.unlink()
    run()
    assert_same(pq.read_table(output).to_pylist(), expected)


def test_columns_of_bytes_and_of_pixels_are_images_and_others_stay(nodes, network, tmp_path):
    paths = sorted(str(path) for path in draw(tmp_path / "drawn", 8).rglob("*.jpg"))
    expected = Extractor(**network).transform(paths)
    files = ray.data.read_binary_files(paths, include_paths=True).add_column(
        "label", lambda table: table["path"].str.len()
    )
    pictures = ray.data.read_images(paths, include_paths=True, mode="RGB")
    for dataset, column in ((files, "bytes"), (pictures, "image")):
        rows = {row["path"]: row for row in extract(dataset, **network, column=column, concurrency=1).take_all()}
        assert sorted(rows) == paths
        assert all(column not in row for row in rows.values())
        for path, features in zip(paths, expected, strict=True):
            found = np.asarray(rows[path]["features"], np.float32)
            if column == "bytes":
                assert np.array_equal(found, features)
                assert rows[path]["label"] == len(path)
            else:
                # Pillow's decoder is another one.
                np.testing.assert_allclose(found, features, atol=0.02 * np.abs(features).max())


def test_mistakes_show_before_anything_runs(nodes, network):
    with pytest.raises(TypeError, match="make a plan with `cnncodes plan` and use run_plan"):
        extract("photos", **network)
    with pytest.raises(ValueError, match="no image is named"):
        extract([], **network)
    with pytest.raises(ValueError, match="1 path is named more than once"):
        extract(["a.jpg", "a.jpg"], **network)
    with pytest.raises(Error, match="no-such"):
        extract(["a.jpg"], **{**network, "model": "no-such"})
    with pytest.raises(Exception, match="the dataset has no column 'path'; its columns are id"):
        extract(ray.data.range(2), **network).take_all()


def test_a_plan_is_complete_and_right_though_a_worker_and_a_node_die(cluster, nodes, images, tmp_path):
    single = images.single
    plan = Plan.create(tmp_path / "plan", images.folder, **images.network, rows_per_part=images.rows_per_part)
    title = "ray::cnncodes part"
    killed = []

    def disturb(done: int, parts: int) -> None:
        assert parts == plan.parts
        if done == 5:
            killed.append(min(workers(title)))
            os.kill(killed[0], signal.SIGKILL)
        if done == 15:
            cluster.remove_node(nodes[1], allow_graceful=False)
            cluster.add_node(num_cpus=1)

    status = run_plan(plan, models=images.network["models"], progress=disturb)
    assert killed
    assert status.is_complete
    errors = 1 if images.missing else 0
    assert [Path(name).name for name, _ in status.errors] == ["damaged.jpg"] * errors
    assert plan.merge(tmp_path / "merged.h5") == (plan.images - errors, errors)
    assert (tmp_path / "merged.h5").read_bytes() == single


def test_a_part_that_cannot_be_computed_is_an_error_and_the_next_call_goes_on(nodes, network, tmp_path):
    folder = draw(tmp_path / "drawn", 40)
    plan = Plan.create(tmp_path / "plan", folder, **network, rows_per_part=10)
    with pytest.raises(Error, match=r"part \d: .*no-models"):
        run_plan(plan.path, models=tmp_path / "no-models")
    assert plan.status().done == 0
    assert run_plan(plan.path, models=network["models"]).is_complete
