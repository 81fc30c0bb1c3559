"""`fit_head` and `Head` against the commands, and exported heads in ONNX Runtime."""

import json
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import cnncodes
from cnncodes import Features, Head, LinearSVM, convert, fit_head, read_features

FEATURES = "features/demo-vgg-fc7.h5"


@pytest.fixture(scope="module")
def features(demo: Path) -> Features:
    return read_features(demo / FEATURES)


@pytest.fixture(scope="module")
def head(features: Features) -> Head:
    return fit_head(features)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, ["--svm"]),
        ({"kind": "logistic", "C": [0.01, 1.0], "calibration": "platt"}, ["--logistic", "--c", "0.01,1", "--calibration", "platt"]),
        ({"kind": "ridge", "folds": 3, "seed": 7, "class_weight": "balanced"}, ["--ridge", "--folds", "3", "--seed", "7", "--class-weight", "balanced"]),
        ({"kernel": "rbf", "gamma": 0.01, "l2_normalize": True}, ["--svm", "--kernel", "rbf", "--gamma", "0.01", "--l2-normalize"]),
        ({"kernel": "poly", "degree": 2, "coef0": 0.5, "C": 2.0}, ["--svm", "--kernel", "poly", "--degree", "2", "--coef0", "0.5", "--c", "2"]),
        ({"kind": "logistic", "standardize": False, "pca": 20}, ["--logistic", "--no-standardize", "--pca", "20"]),
        ({"class_weight": {"fish": 3.0}, "duplicate_threshold": 0.999}, ["--svm", "--class-weight", "fish=3", "--duplicate-threshold", "0.999"]),
        ({"kind": "logistic", "solver": "linfa"}, ["--logistic", "--solver", "linfa"]),
        ({"min_per_class": 5, "duplicate_distance": 3}, ["--svm", "--min-per-class", "5", "--duplicate-distance", "3"]),
        ({"C": "auto", "leaky_accuracy": True}, ["--svm", "--c", "auto", "--leaky-accuracy"]),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_head_and_its_evaluation_are_those_of_the_command(
    demo: Path,
    run: Callable[..., str],
    features: Features,
    options: dict[str, Any],
    arguments: list[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "command.head.h5"
    printed = run("fit-head", *arguments, FEATURES, "-o", str(path), "--format", "json", folder=demo)
    head = fit_head(features, **options)
    assert head.evaluation.to_dict() == json.loads(printed)
    command = Head.open(path)
    assert head.settings == command.settings
    np.testing.assert_array_equal(head.predict_proba(features), command.predict_proba(features))
    np.testing.assert_array_equal(head.decision_function(features), command.decision_function(features))


def test_answers_are_those_of_classify(demo: Path, run: Callable[..., str], features: Features, head: Head) -> None:
    head.save(demo / "models" / "mine.head.h5")
    printed = run(
        "classify",
        "--features",
        FEATURES,
        "--head",
        "models/mine.head.h5",
        "--format",
        "json",
        "--coverage",
        "0.9",
        folder=demo,
    )
    answers = json.loads(printed)
    expected = [
        [{c["class"]: c["probability"] for c in answer["classes"]}[name] for name in head.classes] for answer in answers
    ]
    np.testing.assert_array_equal(head.predict_proba(features), expected)
    assert list(head.predict(features)) == [answer["classes"][0]["class"] for answer in answers]
    assert head.predict_set(features, 0.9) == [answer["set"] for answer in answers]
    assert list(head.is_unknown(features)) == [answer["unknown"] for answer in answers]
    assert any(head.is_unknown(features))
    # A path, an array and lists are the same to it, but for the order of sums over rows that are alone.
    np.testing.assert_array_equal(head.predict_proba(demo / FEATURES), expected)
    np.testing.assert_allclose(head.predict_proba(features.array[:3].tolist()), expected[:3], rtol=0, atol=1e-6)
    assert head.predict_proba(np.zeros((0, 160))).shape == (0, 4)
    assert head.predict(features.array[:0]).shape == head.is_unknown(features.array[:0]).shape == (0,)


def test_the_evaluation_has_figures_text_and_tables(features: Features, head: Head) -> None:
    evaluation = head.evaluation
    accuracy = evaluation.accuracy
    assert (
        accuracy.value
        == accuracy.successes / accuracy.trials
        == float(accuracy)
        == np.trace(evaluation.confusion) / 240
    )
    assert 0.8 < accuracy.low < accuracy.value < accuracy.high < 1
    assert (evaluation.rows, evaluation.folds, evaluation.chance) == (240, 5, 0.25)
    assert (
        list(evaluation.confusion.sum(axis=1)) == [figures["support"] for figures in evaluation.per_class] == [60] * 4
    )
    assert evaluation.to_text().startswith(
        f"accuracy {accuracy.value * 100:.1f} % ({accuracy.successes} of 240), 95 % interval"
    )
    shown = head._repr_html_()
    for text in [
        "svm head of 4 classes",
        "95 % interval",
        "sailboat",
        str(evaluation.confusion[0, 0]),
        "true \\ predicted",
    ]:
        assert text in shown
    assert "http" not in shown
    assert "<script" not in shown


def test_names_of_classes_are_escaped_and_many_classes_are_listed(features: Features, head: Head) -> None:
    classes = np.array(["<b>fish</b>", "a&b", '"house"', "sail"])
    shown = fit_head(features, labels=classes[features.labels]).evaluation._repr_html_()
    assert "&lt;b&gt;fish&lt;/b&gt;" in shown
    assert "a&amp;b" in shown
    assert "<b>fish" not in shown
    numbers = np.arange(240) % 30
    with pytest.warns(UserWarning, match="not shown to be above chance"):
        many = fit_head(features, labels=numbers, folds=2)
    assert many.classes == [str(number) for number in range(30)]
    assert "taken for" in many.evaluation._repr_html_()


def test_given_labels_are_those_of_the_file_in_other_words(features: Features, head: Head, tmp_path: Path) -> None:
    names = [features.classes[label] for label in features.labels]
    given = fit_head(features, labels=names)
    np.testing.assert_array_equal(given.predict_proba(features), head.predict_proba(features))
    csv = tmp_path / "labels.csv"
    csv.write_text(
        "path,label\n" + "".join(f"{name},{label}\n" for name, label in zip(features.names, names, strict=True))
    )
    np.testing.assert_array_equal(fit_head(features, labels=csv).predict_proba(features), head.predict_proba(features))
    some = [name if row % 2 else None for row, name in enumerate(names)]
    with pytest.warns(UserWarning, match="left out 120 images without a label"):
        assert fit_head(features, labels=some).evaluation.rows == 120
    with pytest.raises(cnncodes.Error, match="3 values were given as the labels of the 240 rows"):
        fit_head(features, labels=["a", "b", "c"])


def test_images_of_a_group_stay_together(features: Features, tmp_path: Path) -> None:
    groups = np.arange(240) // 4
    given = fit_head(features, groups=groups).evaluation
    assert given.groups == 60
    csv = tmp_path / "groups.csv"
    csv.write_text(
        "path,group\n" + "".join(f"{name},{group}\n" for name, group in zip(features.names, groups, strict=True))
    )
    assert fit_head(features, groups=csv).evaluation.to_dict() == given.to_dict()
    with pytest.raises(cnncodes.Error, match="2 values were given as the groups"):
        fit_head(features, groups=[1, 2])


def test_a_split_by_a_file_has_test_figures(features: Features, tmp_path: Path) -> None:
    csv = tmp_path / "split.csv"
    parts = ["test" if row % 4 == 0 else "train" for row in range(240)]
    csv.write_text(
        "path,split\n" + "".join(f"{name},{part}\n" for name, part in zip(features.names, parts, strict=True))
    )
    head = fit_head(features, split=csv)
    assert head.evaluation.rows == 180
    assert head.evaluation.test is not None
    right = (head.predict(features.array[::4]) == np.array(features.classes)[features.labels[::4]]).sum()
    assert (head.evaluation.test["accuracy"]["successes"], head.evaluation.test["accuracy"]["trials"]) == (right, 60)
    assert "on the test images" in head.evaluation._repr_html_()
    with pytest.raises(cnncodes.Error, match="split needs folders such as train/cats"):
        fit_head(features, split=True)


def test_a_report_is_written(demo: Path, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    fit_head(features, report=tmp_path / "report.html")
    assert "fc7 of demo-vgg" in (tmp_path / "report.html").read_text()
    with pytest.raises(cnncodes.Error, match="the report .* needs the features in memory.* raise max_memory"):
        fit_head(features, report=tmp_path / "report.html", max_memory=1000)


def test_a_head_survives_saving_pickling_and_export(demo: Path, features: Features, head: Head, tmp_path: Path) -> None:
    expected = head.predict_proba(features)
    saved = Head.open(head.save(tmp_path / "a.head.h5"))
    pickled = pickle.loads(pickle.dumps(head))
    [file] = head.to_onnx(tmp_path / "a.onnx", models=demo / "models")
    sealed = Head.open(file)
    for copy in (saved, pickled, sealed):
        np.testing.assert_array_equal(copy.predict_proba(features), expected)
        assert (copy.classes, copy.layer, copy.n_features) == (features.classes, "fc7", 160)
        assert copy.evaluation.to_dict() == head.evaluation.to_dict()
    assert (saved.path, pickled.path, sealed.path) == (tmp_path / "a.head.h5", None, file)
    # An exported head needs no models folder.
    [again] = sealed.to_onnx(tmp_path / "b.onnx", models=tmp_path, input="tensor", label="index", with_features=True)
    outputs = [output.name for output in onnxruntime.InferenceSession(again).get_outputs()]
    assert {"probabilities", "label", "features"} <= set(outputs)


def test_an_exported_head_answers_in_onnx_runtime_as_the_program_does(
    demo: Path, features: Features, head: Head, tmp_path: Path
) -> None:
    files = head.to_onnx(tmp_path / "a.onnx", models=demo / "models", coverage=0.9, external_data=True)
    assert [file.name for file in files] == ["a.onnx", "a.onnx.data"]
    session = onnxruntime.InferenceSession(files[0])
    row = 100
    pixels = np.asarray(Image.open(demo / "data" / features.names[row]).convert("RGB"))
    outputs = dict(
        zip([output.name for output in session.get_outputs()], session.run(None, {"image": pixels}), strict=True)
    )
    np.testing.assert_allclose(outputs["probabilities"][0], head.predict_proba(features)[row], atol=1e-4)
    inside = [name for name, is_in in zip(head.classes, outputs["prediction_set"][0], strict=True) if is_in]
    assert sorted(inside) == sorted(head.predict_set(features, 0.9)[row])


def test_a_head_that_streams_its_features_is_that_of_the_command(run: Callable[..., str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 4000)
    rows = (random.normal(size=(3, 300))[labels] * 0.3 + random.normal(size=(4000, 300))).astype(np.float32)
    names = np.array([f"{row:04}.jpg" for row in range(4000)])
    np.savez(tmp_path / "rows.npz", features=rows, name=names, label=np.array(["a", "b", "c"])[labels])
    with pytest.warns(UserWarning, match="rows.npz|column|array"):
        convert(tmp_path / "rows.npz", tmp_path / "rows.h5")
    run("fit-head", "--svm", "rows.h5", "--max-memory", "8MiB", "-o", "command.head.h5", folder=tmp_path)
    streamed = fit_head(tmp_path / "rows.h5", max_memory=8 << 20)
    assert any("streamed" in note["text"] for note in streamed.evaluation.notes)
    expected = Head.open(tmp_path / "command.head.h5").predict_proba(rows)
    np.testing.assert_array_equal(streamed.predict_proba(rows), expected)
    assert (streamed.predict(rows) == np.array(["a", "b", "c"])[labels]).mean() > 0.9


def test_few_different_images_do_not_say_what_is_unknown(features: Features) -> None:
    head = fit_head(features, groups=np.arange(240) // 15)
    with pytest.raises(cnncodes.Error, match="cannot tell images of none of its classes"):
        head.is_unknown(features)


def test_features_of_another_kind_are_refused(demo: Path, run: Callable[..., str], head: Head) -> None:
    run("extract", "--layer", "fc6", "-o", "features/fc6.h5", folder=demo)
    with pytest.raises(cnncodes.Error, match="fc7"):
        head.predict(demo / "features" / "fc6.h5")
    with pytest.raises(ValueError, match="an image has 5 features, and the head takes 160: those of the layer fc7"):
        head.predict(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"the shape \(160,\)"):
        head.predict(np.zeros(160))
    with pytest.raises(cnncodes.Error, match="hold NaN in column 3"):
        head.predict(np.where(np.arange(160) == 3, np.nan, 0.0)[None])
    with pytest.raises(cnncodes.Error, match="models folder|demo-vgg"):
        head.to_onnx(demo / "x.onnx", models=demo / "nowhere")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "tree"}, 'kind is "tree", but must be one of "svm", "logistic", "ridge"'),
        ({"kernel": "rbf", "degree": 3}, "degree and coef0 are for kernel poly; kernel rbf takes gamma alone"),
        ({"kernel": "rbf", "kind": "ridge"}, "kernel is for the SVM"),
        ({"gamma": 1.0}, "are for a kernel"),
        ({"C": "best"}, "C is 'best'"),
        ({"C": -1.0}, "C is -1.0, but must be a number above 0"),
        ({"C": []}, "C holds no number"),
        ({"folds": 1}, "folds is 1, but must be at least 2"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"class_weight": {"fish": 0.0}}, "the weight of the class 'fish' is 0.0"),
        ({"duplicate_distance": 129}, "duplicate_distance is 129"),
        ({"duplicate_threshold": 0.0}, "duplicate_threshold is 0.0"),
        ({"duplicate_threshold": 0.5, "duplicate_distance": 3}, "give one of them"),
        ({"min_per_class": 1}, "min_per_class is 1"),
        ({"max_memory": "much"}, "max_memory: expected a number with a unit"),
        ({"calibration": "none"}, 'calibration is "none"'),
    ],
)
def test_arguments_that_mean_nothing_are_value_errors(features: Features, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_head(features, **options)


def test_what_cannot_be_fitted_is_an_error_in_words_of_python(features: Features) -> None:
    with pytest.raises(cnncodes.Error, match=r"class_weight names the class `cow`, but the classes are fish, flower"):
        fit_head(features, class_weight={"cow": 2.0})
    with pytest.raises(cnncodes.Error, match="161 principal components were asked for"):
        fit_head(features, pca=161)
    with pytest.raises(cnncodes.Error, match="ridge regression takes no values of C to choose from.*leave C out"):
        fit_head(features, kind="ridge", C="auto")
    with pytest.raises(cnncodes.Error, match="there is no head file"):
        Head.open("nothing.head.h5")


def test_other_threads_run_while_a_head_is_fitted() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 1500)).astype(np.float32)
    fit = threading.Thread(target=LinearSVM(C=1.0).fit, args=(X, random.integers(0, 4, 3000)))
    fit.start()
    turns = 0
    while fit.is_alive():
        turns += 1
        fit.join(0.0001)
    assert turns > 20


def _fit_in_child(results: Any) -> None:
    try:
        LinearSVM().fit([[0.0], [1.0]], [0, 1])
        results.put("fitted")
    except cnncodes.Error as error:
        results.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_refused_and_does_not_hang() -> None:
    LinearSVM().fit([[0.0], [1.0]], [0, 1])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_fit_in_child, args=(results,))
    child.start()
    assert "its threads did not survive that" in results.get(timeout=60)
    child.join(60)
