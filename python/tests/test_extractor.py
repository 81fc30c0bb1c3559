"""`Extractor`: features equal to the command's, from every kind of image, as scikit-learn wants them."""

import io
import json
import os
import pickle
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import cnncodes
from cnncodes import Extractor

LAYER = "fc7"


@pytest.fixture(scope="module")
def stored(demo):
    """The features file that the command wrote: names and features."""
    with h5py.File(demo / "features" / "demo-vgg-fc7.h5") as file:
        return list(file["image_names"].asstr()[:]), file["features"][:]


@pytest.fixture(scope="module")
def extractor(demo):
    return Extractor(layer=LAYER, models=demo / "models")


def paths(demo, names):
    return [str(demo / "data" / name) for name in names]


def test_features_of_paths_and_of_the_folder_are_the_commands_bit_for_bit(demo, stored, extractor):
    names, expected = stored
    features = extractor.transform(paths(demo, names))
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(extractor.transform(demo / "data"), expected)
    np.testing.assert_array_equal(extractor.transform(str(demo / "data")), expected)
    assert extractor.problems_ == []


def test_one_image_of_every_kind_has_the_same_features(demo, stored, extractor):
    names, expected = stored
    path = demo / "data" / names[7]
    picture = Image.open(path)
    pixels = np.asarray(picture.convert("RGB"))
    kinds = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "picture": picture,
        "array": pixels,
        "view": pixels[:, ::-1][:, ::-1],
        "batch": pixels[np.newaxis],
    }
    for kind, image in kinds.items():
        features = extractor.transform(image if kind in ("batch", "path", "text") else [image])
        np.testing.assert_array_equal(features, expected[7:8], err_msg=kind)
    mixed = [kinds["array"], kinds["path"], kinds["bytes"]]
    np.testing.assert_array_equal(extractor.transform(mixed), expected[[7, 7, 7]])


def test_more_images_in_memory_than_are_handed_over_at_once(demo, stored, extractor):
    names, expected = stored
    images = [(demo / "data" / names[index]).read_bytes() for index in range(3)] * 100
    told = []
    features = extractor.transform(images, progress=lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(features, np.tile(expected[:3], (100, 1)))
    assert told[-1] == (300, 300)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_grey_pixels_are_those_of_three_equal_channels(extractor):
    grey = (np.arange(64 * 48, dtype=np.uint32).reshape(64, 48) % 251).astype(np.uint8)
    expected = extractor.transform([np.stack([grey] * 3, axis=2)])
    np.testing.assert_array_equal(extractor.transform(grey), expected)
    np.testing.assert_array_equal(extractor.transform([grey[:, :, np.newaxis]]), expected)
    np.testing.assert_array_equal(extractor.transform(Image.fromarray(grey)), expected)


def test_exif_orientation_is_that_of_the_file(demo, stored, extractor, tmp_path):
    picture = Image.open(demo / "data" / stored[0][0])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    from_file = extractor.transform(tmp_path / "turned.png")
    np.testing.assert_array_equal(extractor.transform(Image.open(tmp_path / "turned.png")), from_file)
    assert (from_file != stored[1][:1]).any()


@pytest.mark.parametrize("on_error", ["raise", "skip", "nan"])
def test_images_that_cannot_be_read(demo, stored, on_error):
    names, expected = stored
    extractor = Extractor(layer=LAYER, models=demo / "models", on_error=on_error)
    images = [str(demo / "data" / names[0]), b"no image", "gone.jpg", str(demo / "data" / names[1])]
    if on_error == "raise":
        with pytest.raises(cnncodes.ImageError, match="image 1: .*2 more|image 1: .*1 more") as raised:
            extractor.transform(images)
        assert raised.value.name == "image 1"
        assert raised.value.reason in str(raised.value)
        assert isinstance(raised.value, cnncodes.Error)
    else:
        features = extractor.transform(images)
        whole = np.full((4, expected.shape[1]), np.nan, np.float32)
        whole[[0, 3]] = expected[:2]
        np.testing.assert_array_equal(features, whole if on_error == "nan" else whole[[0, 3]])
    assert [(problem.index, problem.name) for problem in extractor.problems_] == [(1, "image 1"), (2, "gone.jpg")]
    assert extractor.problems_[1].reason.startswith("the file does not exist")


def test_what_is_no_image_is_refused_by_type_and_shape(extractor):
    with pytest.raises(TypeError, match="float64; convert it"):
        extractor.transform(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="n x height x width x 3"):
        extractor.transform(np.zeros((7, 8, 9), np.uint8))
    with pytest.raises(ValueError, match="has the shape"):
        extractor.transform([np.zeros((4, 4, 4), np.uint8)])
    with pytest.raises(TypeError, match="int"):
        extractor.transform([3])
    with pytest.raises(ValueError, match="0 x 4 pixels"):
        extractor.transform([np.zeros((4, 0, 3), np.uint8)])


def test_settings_that_mean_nothing_are_refused(demo):
    models = demo / "models"
    with pytest.raises(cnncodes.Error, match="fc9"):
        Extractor(layer="fc9", models=models).fit()
    with pytest.raises(cnncodes.Error, match="nosuch"):
        Extractor("nosuch", models=models).fit()
    with pytest.raises(ValueError, match="abacus"):
        Extractor(device="abacus", models=models).fit()
    with pytest.raises(cnncodes.Error, match="pip install onnxruntime-gpu"):
        Extractor(device="cuda", models=models).fit()
    with pytest.raises(ValueError, match="lowest"):
        Extractor(pool="lowest", models=models).fit()
    with pytest.raises(ValueError, match="sizes"):
        Extractor(preprocess={"sizes": 3}, models=models).fit()
    with pytest.raises(ValueError, match="batch_size"):
        Extractor(batch_size=0, models=models).fit()
    with pytest.raises(ValueError, match="on_error"):
        Extractor(on_error="ignore", models=models).transform([])


def test_no_images_have_no_rows(extractor):
    assert extractor.transform([]).shape == (0, extractor.n_features_out_)


def test_layers_poolings_and_preprocessing(demo, stored):
    models = demo / "models"
    image = [str(demo / "data" / stored[0][0])]
    whole = Extractor(layer="pool5", models=models)
    averaged = Extractor(layer="pool5", pool="avg", models=models).transform(image)
    maps = whole.transform(image).reshape(1, *whole.feature_shape)
    np.testing.assert_allclose(averaged, maps.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)
    named = {layer["name"]: layer for layer in cnncodes.layers(models=models)}
    assert tuple(named["pool5"]["shape"]) == whole.feature_shape
    assert named["fc7"]["penultimate"]
    other = Extractor(layer=LAYER, preprocess={"interpolation": "nearest", "mean": 0}, models=models)
    assert other.spec["preprocess"]["interpolation"] == "nearest"
    assert other.spec["preprocess"]["mean"] == [0.0, 0.0, 0.0]
    # The network's file itself, with the preprocessing in words.
    manifest = Extractor(layer=LAYER, models=models).spec["preprocess"]
    network = Extractor(
        demo / "models" / "demo-vgg.onnx", LAYER, preprocess={"preset": "tf", "stretch": True, "size": manifest["size"]}
    )
    np.testing.assert_array_equal(network.transform(image), stored[1][:1])


def test_parameters_can_be_set_after_the_first_use(demo, stored):
    extractor = Extractor(layer=LAYER, models=demo / "models")
    image = [str(demo / "data" / stored[0][0])]
    first = extractor.transform(image)
    assert (
        extractor.set_params(layer="fc6").transform(image).shape != first.shape
        or (extractor.transform(image) != first).any()
    )
    np.testing.assert_array_equal(extractor.set_params(layer=LAYER).transform(image), first)


def test_data_frames(demo, stored, extractor):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    names, expected = stored
    column = pandas.Series(paths(demo, names[:3]), index=["a", "b", "c"])
    framed = clone(extractor).set_output(transform="pandas").transform(column)
    assert list(framed.columns[:2]) == ["fc7_0", "fc7_1"]
    assert list(framed.index) == ["a", "b", "c"]
    np.testing.assert_array_equal(framed.to_numpy(), expected[:3])
    framed = clone(extractor).set_output(transform="polars").transform(polars.Series(paths(demo, names[:3])))
    assert framed.columns[-1] == f"fc7_{expected.shape[1] - 1}"
    np.testing.assert_array_equal(framed.to_numpy(), expected[:3])


def test_pickles_know_their_network(demo, stored, extractor, tmp_path):
    image = [str(demo / "data" / stored[0][0])]
    expected = extractor.transform(image)
    copy = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(copy.transform(image), expected)
    assert len(pickle.dumps(extractor)) < 2000
    changed = pickle.loads(pickle.dumps(extractor).replace(extractor.spec["model_sha256"].encode(), b"0" * 64))
    with pytest.raises(cnncodes.Error, match="another network than the one that this extractor was pickled with"):
        changed.transform(image)


# What scikit-learn's checks cannot ask of something that takes images.
_NUMBERS = "takes images, and the check hands over a matrix of numbers"
_FIT = "fit opens the network and looks at no data, so it has nothing to refuse and no columns to count"
EXPECTED_FAILURES = {
    "check_complex_data": _FIT,
    "check_dict_unchanged": _NUMBERS,
    "check_dtype_object": _NUMBERS,
    "check_estimator_sparse_tag": _FIT,
    "check_estimators_dtypes": _NUMBERS,
    "check_estimators_empty_data_messages": _FIT,
    "check_estimators_nan_inf": _FIT,
    "check_estimators_pickle": _NUMBERS,
    "check_f_contiguous_array_estimator": _NUMBERS,
    "check_fit1d": _FIT,
    "check_fit2d_predict1d": _NUMBERS,
    "check_fit_idempotent": _NUMBERS,
    "check_fit_score_takes_y": _NUMBERS,
    "check_methods_sample_order_invariance": _NUMBERS,
    "check_methods_subset_invariance": _NUMBERS,
    "check_n_features_in": _FIT,
    "check_n_features_in_after_fitting": _FIT,
    "check_pipeline_consistency": _NUMBERS,
    "check_transformer_data_not_an_array": _NUMBERS,
    "check_transformer_general": _NUMBERS,
    "check_transformers_unfitted_stateless": _NUMBERS,
}


class ExtractorOfMatrices(Extractor):
    """Claims to take matrices, since scikit-learn checks next to nothing of what takes none."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.no_validation = False
        return tags


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(demo):
    extractor = ExtractorOfMatrices(layer=LAYER, models=str(demo / "models"))
    results = check_estimator(extractor, expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None)
    failed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}
    unnecessary = set(EXPECTED_FAILURES) - {result["check_name"] for result in results if result["status"] == "xfail"}
    assert unnecessary == set()
    assert sum(result["status"] == "passed" for result in results) >= 20


def test_threads_of_python_share_an_extractor(demo, stored, extractor):
    names, expected = stored
    found = {}

    def work(index):
        found[index] = extractor.transform([str(demo / "data" / names[index])])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(np.concatenate([found[index] for index in range(8)]), expected[:8])


def test_files_equal_the_commands_and_are_reused(demo, stored, extractor, tmp_path):
    told = []
    output = tmp_path / "features.h5"
    done = extractor.extract_to(output, demo / "data", progress=lambda *at: told.append(at))
    assert (done.rows, done.computed, done.problems, done.up_to_date) == (len(stored[0]), len(stored[0]), [], False)
    assert told[-1] == (len(stored[0]), len(stored[0]))
    with h5py.File(output) as file:
        assert list(file["image_names"].asstr()[:]) == stored[0]
        np.testing.assert_array_equal(file["features"][:], stored[1])
        assert list(file["class_names"].asstr()[:]) == sorted({name.split("/")[0] for name in stored[0]})
    again = extractor.extract_to(output, demo / "data")
    assert (again.computed, again.kept, again.up_to_date) == (0, len(stored[0]), True)
    several = extractor.extract_to(tmp_path / "several.h5", demo / "data", layers=["pool5", "fc6"], labels=False)
    assert several.rows == len(stored[0])
    with pytest.raises(ValueError, match="named twice"):
        extractor.extract_to(output, demo / "data", layers=["fc7", "fc7"])
    with pytest.raises(cnncodes.Error, match="nowhere"):
        extractor.extract_to(output, tmp_path / "nowhere")


def test_an_exception_of_the_callback_stops_and_the_next_call_resumes(demo, stored, extractor, tmp_path):
    output = tmp_path / "features.h5"

    def stop(done, total):
        if done > 0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        extractor.extract_to(output, demo / "data", progress=stop)
    assert not output.exists()
    done = extractor.extract_to(output, demo / "data", progress=None)
    assert done.rows == len(stored[0])
    assert done.resumed > 0
    with h5py.File(output) as file:
        np.testing.assert_array_equal(file["features"][:], stored[1])


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_raises_keyboard_interrupt(demo, tmp_path):
    code = f"""
import os, signal, threading
from cnncodes import Extractor
extractor = Extractor(layer="fc7", models={str(demo / "models")!r})
images = [open({str(demo / "image.jpg")!r}, "rb").read()] * 250
extractor.transform(images[:20])
def interrupt(done, total):
    if done > 20:
        os.kill(os.getpid(), signal.SIGINT)
try:
    extractor.transform(images, progress=interrupt)
except KeyboardInterrupt:
    print("stopped", extractor.transform(images[:1]).shape[0])
"""
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["stopped", "1"], run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_fork_after_use_gets_an_error_and_does_not_hang(demo):
    code = f"""
import os, cnncodes
extractor = cnncodes.Extractor(layer="fc7", models={str(demo / "models")!r})
extractor.transform([{str(demo / "image.jpg")!r}])
child = os.fork()
if child == 0:
    try:
        extractor.transform([{str(demo / "image.jpg")!r}])
    except cnncodes.Error as error:
        os._exit(17 if "forked" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["17"], run.stderr


def test_h5py_and_cnncodes_share_a_process_in_both_orders(demo, tmp_path):
    for order in ("h5py, cnncodes", "cnncodes, h5py"):
        code = f"""
import {order}
extractor = cnncodes.Extractor(layer="fc7", models={str(demo / "models")!r})
extractor.extract_to({str(tmp_path / "a.h5")!r}, {str(demo / "data")!r}, force=True, progress=None)
with h5py.File({str(tmp_path / "a.h5")!r}) as file:
    print(file["features"].shape[0])
with h5py.File({str(tmp_path / "b.h5")!r}, "w") as file:
    file["x"] = [1, 2]
"""
        run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        assert int(run.stdout) > 0


def test_calls_do_not_leak(demo, extractor):
    resource = pytest.importorskip("resource")
    image = [np.asarray(Image.open(demo / "image.jpg").convert("RGB"))] * 4

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc")
    for _ in range(200):
        extractor.transform(image)
    before = resident()
    for _ in range(500):
        extractor.transform(image)
    # A leak of one batch a call would be 500 times 50 kB and more.
    assert resident() - before < 8 << 20


def test_the_module_has_what_it_names():
    assert set(cnncodes.__all__) == {*cnncodes._MODULES, "Error", "ImageError", "__version__"}
    for name in cnncodes.__all__:
        assert getattr(cnncodes, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        cnncodes.nothing_like_it  # noqa: B018


def test_the_program_is_the_same(demo):
    run = subprocess.run(
        [sys.executable, "-m", "cnncodes", "layers", "--format", "json"],
        cwd=demo,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == cnncodes.layers(models=demo / "models")
    wrong = subprocess.run(
        [sys.executable, "-m", "cnncodes", "layrs"], cwd=demo, check=False, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "layers" in wrong.stderr
