"""Real photos through a real network, in the ways in which scikit-learn's users work. Needs CNNCODES_ASSETS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from PIL import Image, ImageOps
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

import cnncodes
from cnncodes import Classifier, Extractor, LinearSVM, LogisticRegression, fit_head

ASSETS = os.environ.get("CNNCODES_ASSETS")

pytestmark = pytest.mark.skipif(not ASSETS, reason="CNNCODES_ASSETS names no folder of photos and networks")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with every tenth photo, and MobileNetV2."""
    folder = tmp_path_factory.mktemp("photos")
    photos = Path(ASSETS) / "data" / "cats-dogs-horses-humans"
    for path in sorted(photos.glob("*/*"))[::10]:
        place = folder / "data" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    network = Path(ASSETS) / "models" / "mobilenetv2_1.0_224.onnx"
    program(
        folder,
        "models",
        "add",
        network,
        "--preprocess",
        "tf",
        "--name",
        "mobilenetv2",
        "--layer",
        "global_average_pooling2d",
    )
    return folder


def program(folder, *arguments):
    command = [sys.executable, "-m", "cnncodes", *map(str, arguments)]
    run = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def photos(project):
    paths = sorted(str(path) for path in (project / "data").glob("*/*"))
    return paths, np.array([Path(path).parent.name for path in paths])


@pytest.fixture(scope="module")
def extractor(project):
    return Extractor("mobilenetv2", models=project / "models")


def test_pictures_of_pillow_have_the_features_of_their_files(photos, extractor):
    paths, _ = photos
    from_files = extractor.transform(paths)
    from_memory = extractor.transform([Image.open(path) for path in paths])
    np.testing.assert_array_equal(from_memory, from_files)
    arrays = [np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in paths[:20]]
    np.testing.assert_array_equal(extractor.transform(arrays), from_files[:20])


def test_searches_pipelines_and_workers(project, photos, extractor):
    paths, labels = photos
    scores = cross_val_score(make_pipeline(clone(extractor), LogisticRegression()), paths, labels, cv=3)
    assert scores.mean() > 0.9
    pipeline = Pipeline([("features", clone(extractor)), ("head", LinearSVM())], memory=str(project / "cache"))
    grid = {
        "features__layer": ["global_average_pooling2d", "relu6_35"],
        "features__pool": ["avg"],
        "head__C": [0.001, 0.01],
    }
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(paths, labels)
    assert search.best_score_ > 0.9
    assert set(search.predict(paths[:3])) <= set(labels)
    expected = extractor.transform(paths[:16])
    for backend in ("loky", "threading"):
        work = delayed(extractor.transform)
        parts = Parallel(n_jobs=2, backend=backend)(work(paths[start : start + 4]) for start in range(0, 16, 4))
        np.testing.assert_array_equal(np.concatenate(parts), expected, err_msg=backend)


def test_probabilities_are_the_commands(project, photos, extractor):
    paths, _ = photos
    features, saved = project / "features.h5", project / "models" / "python.head.h5"
    extractor.extract_to(features, project / "data", progress=None)
    fit_head(features, kind="logistic").save(saved)
    program(project, "extract", "--model", "mobilenetv2", "-o", "command.h5")
    program(project, "fit-head", "command.h5", "--logistic", "--output", "models/command.head.h5")
    images = sorted(str(path) for path in (Path(ASSETS) / "data" / "predict").iterdir()) + paths[:5]
    answers = json.loads(
        program(
            project,
            "classify",
            "--head",
            "models/command.head.h5",
            "--format",
            "json",
            "--top",
            100,
            "--coverage",
            0.9,
            *images,
        )
    )
    classifier = Classifier(saved, models=project / "models")
    probabilities = classifier.predict_proba(images)
    for row, answer in zip(probabilities, answers, strict=True):
        expected = {entry["class"]: entry["probability"] for entry in answer["classes"]}
        assert dict(zip(classifier.classes, row, strict=True)) == expected
    assert list(classifier.predict(images)) == [answer["classes"][0]["class"] for answer in answers]
    assert [sorted(members) for members in classifier.predict_set(images, 0.9)] == [
        sorted(answer["set"]) for answer in answers
    ]
    assert list(classifier.is_unknown(images)) == [answer["unknown"] for answer in answers]


def test_an_explanation_is_a_picture(project, photos):
    classifier = Classifier(project / "models" / "python.head.h5", models=project / "models")
    picture = classifier.explain(photos[0][0])
    assert picture.info["class"] == classifier.predict([photos[0][0]])[0]
    assert len(picture.info["nearest"]) == 3
    other = next(name for name in classifier.classes if name != picture.info["class"])
    assert classifier.explain(Image.open(photos[0][0]), other).info["class"] == other
    with pytest.raises(ValueError, match="no class"):
        classifier.explain(photos[0][0], "unicorns")
    with pytest.raises(cnncodes.ImageError):
        classifier.explain(b"no image")


def test_a_sweep_prefers_what_separates(project, monkeypatch):
    monkeypatch.chdir(project)
    found = cnncodes.sweep("data", "mobilenetv2", layers=["block_add_1", "global_average_pooling2d"], heads=["svm"])
    assert found.best["layer"] == "global_average_pooling2d"
    assert "Best: global_average_pooling2d" in str(found)
    assert "<pre>" in found._repr_html_()
