"""Where ONNX Runtime lies: in the Python package of it that the user installed, which is found without being imported."""

import sys
from importlib import metadata, util
from pathlib import Path

from . import _cnncodes

# The distributions that bring the package `onnxruntime`.
_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime")

_REMEDY = (
    "run `pip install --upgrade onnxruntime` (or onnxruntime-gpu, onnxruntime-openvino)"
    if sys.version_info >= (3, 11)
    else "use Python 3.11 or newer, because onnxruntime 1.24 has no wheel for Python 3.10"
)

_PROVIDER_REMEDIES = [
    (provider, f"run `pip uninstall onnxruntime` and `pip install {package}`")
    for provider, package in (("cuda", "onnxruntime-gpu"), ("openvino", "onnxruntime-openvino"))
]


def announce() -> None:
    """Tells the extension module where to look for ONNX Runtime first, and what to advise if it is nowhere."""
    spec = util.find_spec("onnxruntime")
    folders = [str(Path(place) / "capi") for place in (spec.submodule_search_locations or ())] if spec else []
    _cnncodes.set_runtime(f"the Python package onnxruntime{_version()}", folders, _REMEDY, _PROVIDER_REMEDIES)


def _version() -> str:
    for name in _DISTRIBUTIONS:
        try:
            return f" ({name} {metadata.version(name)})"
        except metadata.PackageNotFoundError:
            continue
    return ", which is not installed"
