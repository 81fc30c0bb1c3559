"""`Plan`: made, worked on in shares, and merged into the file that one machine writes."""

import gzip
import importlib.util
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnncodes import Error, Extractor, Plan, PlanStatus, WorkSummary, read_features
from cnncodes._arguments import located
from cnncodes.ray import extract, run_plan


@pytest.fixture(scope="module")
def images(demo, tmp_path_factory) -> Path:
    """24 photos of the demo, and a damaged one."""
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((demo / "data").glob("*/*.jpg"))[::10]:
        place = folder / path.parent.name / path.name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(path, place)
    (folder / "fish" / "damaged.jpg").write_bytes(b"\xff\xd8 no image")
    return folder


@pytest.fixture
def plan(demo, images, tmp_path) -> Plan:
    return Plan.create(tmp_path / "plan", images, "demo-vgg", "fc7", models=demo / "models", rows_per_part=10)


def test_a_plan_says_what_it_is(plan, images, tmp_path, demo):
    assert (plan.images, plan.parts, plan.rows_per_part) == (25, 3, 10)
    assert plan.classes == sorted(place.name for place in images.iterdir())
    assert [spec["layer"] for spec in plan.specs] == ["fc7"]
    assert plan.specs[0]["preprocess"]
    assert Plan(tmp_path / "plan").id == plan.id
    lines = gzip.decompress((tmp_path / "plan" / "manifest.jsonl.gz").read_bytes()).splitlines()
    names = [json.loads(line)["name"] for line in lines]
    assert names == sorted(names)
    assert "fish/damaged.jpg" in names
    again = Plan.create(tmp_path / "plan", images, "demo-vgg", "fc7", models=demo / "models", rows_per_part=10)
    assert again.id == plan.id
    with pytest.raises(Error, match="holds another plan"):
        Plan.create(tmp_path / "plan", images, "demo-vgg", "fc6", models=demo / "models", rows_per_part=10)


def test_shares_and_parts_add_up_to_the_file_of_one_machine(plan, demo, images, tmp_path):
    models = demo / "models"
    assert plan.status() == PlanStatus(plan.id, 25, 3, 0, 0, [0, 1, 2], [], [], [])
    first = plan.extract(shard=(0, 2), models=models)
    assert first == WorkSummary(2, 0, 2, 0, first.rows, first.problems, [], first.notes)
    with pytest.raises(Error, match=r"1 of 3 parts is missing \(1\)"):
        plan.merge(tmp_path / "merged.h5")
    seen = []
    second = pickle.loads(pickle.dumps(plan)).extract([0, 1], models=models, progress=lambda *at: seen.append(at))
    assert (second.parts, second.done_before, second.computed) == (2, 1, 1)
    assert seen[-1] == (10, 10)
    assert first.rows + second.rows == 24
    assert [name for name, _ in first.problems + second.problems] == ["fish/damaged.jpg"]
    status = plan.status()
    assert status.is_complete
    assert [name for name, _ in status.errors] == ["fish/damaged.jpg"]
    assert plan.merge(tmp_path / "merged.h5") == (24, 1)
    Extractor("demo-vgg", "fc7", models=models).extract_to(tmp_path / "single.h5", images, progress=None)
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "single.h5").read_bytes()


def test_a_folder_is_absolute_and_an_address_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("run1") == str(tmp_path / "run1")
    assert located("s3://bucket/run1") == "s3://bucket/run1"


def test_features_may_stay_in_the_parts(plan, demo, tmp_path):
    plan.extract(models=demo / "models")
    plan.merge(tmp_path / "merged.h5")
    plan.merge(tmp_path / "virtual.h5", format="virtual")
    merged, virtual = read_features(tmp_path / "merged.h5"), read_features(tmp_path / "virtual.h5")
    assert virtual.names == merged.names
    assert np.array_equal(virtual.array, merged.array)


def test_parts_become_a_folder_of_parquet_files(plan, demo, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    plan.extract(models=demo / "models")
    assert plan.merge(tmp_path / "table", format="parquet") == (24, 1)
    plan.merge(tmp_path / "merged.h5")
    merged = read_features(tmp_path / "merged.h5")
    tables = [parquet.read_table(file) for file in sorted((tmp_path / "table").glob("*.parquet"))]
    assert [name for table in tables for name in table["name"].to_pylist()] == merged.names
    features = np.concatenate([np.stack(table["features"].to_numpy()) for table in tables])
    assert np.array_equal(features, merged.array)


def test_what_a_plan_refuses(plan, demo, tmp_path):
    with pytest.raises(Error, match="holds no plan"):
        Plan(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="exclude each other"):
        plan.extract([0], shard=(0, 1))
    with pytest.raises(ValueError, match=r"i from 0 to n-1, and not \(2, 2\)"):
        plan.extract(shard=(2, 2))
    with pytest.raises(Error, match="there is no part 3"):
        plan.extract([3], models=demo / "models")
    with pytest.raises(ValueError, match="rows_per_part is 0"):
        Plan.create(tmp_path / "other", demo / "data", models=demo / "models", rows_per_part=0)
    plan.extract(models=demo / "models")
    with pytest.raises(ValueError, match='"hdf5", "virtual" or "parquet", and not "csv"'):
        plan.merge(tmp_path / "x.csv", format="csv")
    (tmp_path / "there.h5").touch()
    with pytest.raises(Error, match=r"there\.h5"):
        plan.merge(tmp_path / "there.h5")
    document = tmp_path / "plan" / "plan.json"
    document.write_text(re.sub('"rows_per_part": ?', '"rows_per_part":1', document.read_text()))
    with pytest.raises(Error, match="edited or damaged"):
        Plan(tmp_path / "plan")


def test_an_interruption_leaves_finished_parts(plan, demo):
    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.extract(models=demo / "models", progress=stop)
    assert 0 not in plan.status().missing
    assert not plan.status().is_complete
    plan.extract(models=demo / "models")
    assert plan.status().is_complete


def test_images_that_changed_or_vanished_are_errors_and_a_folder_that_is_not_there_stops_the_run(
    demo, images, tmp_path
):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    plan = Plan.create(tmp_path / "plan", folder, "demo-vgg", "fc7", models=demo / "models", rows_per_part=10)
    first, second, third = sorted(path for path in folder.rglob("*.jpg") if path.name != "damaged.jpg")[:3]
    shutil.copy(third, first)
    second.unlink()
    plan.extract(models=demo / "models")
    errors = dict(plan.status().errors)
    assert sorted(errors) == sorted(["fish/damaged.jpg", *(str(path.relative_to(folder)) for path in (first, second))])
    assert "changed" in errors[str(first.relative_to(folder))]
    assert plan.merge(tmp_path / "merged.h5") == (22, 3)
    other = Plan.create(tmp_path / "other", images, "demo-vgg", "fc7", models=demo / "models", rows_per_part=10)
    with pytest.raises(Error, match="mount it, or say with root where"):
        other.extract(models=demo / "models", root=tmp_path / "elsewhere")
    with pytest.raises(Error, match="no-network|models"):
        other.extract(models=tmp_path / "no-network")
    empty = tmp_path / "empty"
    empty.mkdir()
    summary = other.extract([0], models=demo / "models", root=empty)
    assert [part for part, _ in summary.failures] == [0]
    assert other.status().done == 0


def test_without_ray_the_message_says_how_to_install_it(plan, demo):
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is installed")
    for call in (lambda: run_plan(plan), lambda: extract(["a.jpg"], "demo-vgg", models=demo / "models")):
        with pytest.raises(ImportError, match=r"pip install 'ray\[data\]'"):
            call()


def test_another_network_than_the_plan_is_refused(plan, demo, tmp_path):
    shutil.copytree(demo / "models", tmp_path / "models")
    with (tmp_path / "models" / "demo-vgg.onnx").open("ab") as network:
        # A field that ONNX does not know.
        network.write(b"\x7a\x02\x08\x01")
    with pytest.raises(Error, match="SHA-256|hash|another network"):
        plan.extract(models=tmp_path / "models")
    assert plan.status().done == 0
