"""Features of images from frozen networks, and classifiers on them."""

from . import _cnncodes, _runtime

__version__ = _cnncodes.__version__

_runtime.announce()
