"""`Classifier`: a head with its network. Images in, answers out."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from . import _cnncodes
from ._extractor import Extractor, PathLike, compute_arguments
from ._heads import Head
from ._images import named

if TYPE_CHECKING:
    from PIL.Image import Image

    from ._images import ImageLike


class _HeadExtractor(Extractor):
    """The extractor of the features that a head was fitted to."""

    def __init__(self, core: _cnncodes.Extractor, on_error: Literal["raise", "skip", "nan"]) -> None:
        self._core = core
        self.on_error = on_error

    def _open(self) -> _cnncodes.Extractor:
        return self._core


class Classifier:
    """Classifies images with a head.

    Parameters
    ----------
    head : path or Head
        A head file, an exported classifier (`.onnx`, which has its network inside), or a head.
    models : str or path
        The models folder, in which the head's network is searched by its hash.
    device, precision, threads, batch_size, max_pixels
        As for `Extractor`; the precision is that of the head's features if none is named.
    on_error : {"raise", "skip"}
        What to do about an image that cannot be read: raise `ImageError`, or leave it out. `problems_` lists them.

    Raises
    ------
    Error
        The head cannot be read, or the models folder lacks its network.

    Examples
    --------
    >>> classifier = Classifier("models/pets.head.h5")          # doctest: +SKIP
    >>> classifier.predict(["image.jpg"])                       # doctest: +SKIP
    array(['cat'], dtype='<U3')
    """

    def __init__(
        self,
        head: PathLike | Head,
        *,
        models: PathLike = "models",
        device: str = "auto",
        precision: Literal["fp32", "tf32", "bf16"] | None = None,
        threads: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        on_error: Literal["raise", "skip"] = "raise",
        max_pixels: int | None = None,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error is "raise" or "skip", and not {on_error!r}')
        self._compute = compute_arguments(device, precision, threads, batch_size, max_pixels)
        self._models = os.fspath(models)
        self.head = head if isinstance(head, Head) else Head.open(head)
        core = _cnncodes.Extractor.of_head(self.head._head, self._models, self._compute)
        self._extractor = _HeadExtractor(core, on_error)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the columns of `predict_proba`."""
        return self.head.classes

    @property
    def problems_(self) -> list[Any]:
        """The images of the last call that could not be read, each with its index, name and reason."""
        return list(getattr(self._extractor, "problems_", []))

    def transform(self, images: Any) -> npt.NDArray[np.float32]:
        """The features that the head sees: n x d. `images` as for `Extractor.transform`."""
        return self._extractor._features(images)[0]

    def predict(self, images: Any) -> npt.NDArray[np.str_]:
        """The most probable class of each image: n names."""
        return self.head.predict(self.transform(images))

    def predict_proba(self, images: Any) -> npt.NDArray[np.float64]:
        """Calibrated probabilities: n x classes."""
        return self.head.predict_proba(self.transform(images))

    def predict_set(self, images: Any, coverage: float = 0.95) -> list[list[str]]:
        """For each image the set of classes that holds the right one in this share of cases, most probable first."""
        return self.head.predict_set(self.transform(images), coverage)

    def is_unknown(self, images: Any) -> npt.NDArray[np.bool_]:
        """Whether each image is so unlike the training images that it is probably of none of the classes."""
        return self.head.is_unknown(self.transform(images))

    def explain(
        self,
        image: ImageLike,
        classes: str | Sequence[str] | None = None,
        *,
        occlusion_size: int | None = None,
        occlusion_stride: int | None = None,
    ) -> Image:
        """A picture that shows which parts of the image support its class, in yellow.

        Parameters
        ----------
        image : image
            One image.
        classes : str, optional
            The class to explain; the most probable one if none is named.
        occlusion_size, occlusion_stride : int, optional
            Side and step of the patch that covers parts of the image, in pixels of the network's input, for heads on features
            that have no place.

        Returns
        -------
        picture : PIL.Image.Image
            Its `info` has `class`, `score`, `method` and `nearest`, the training images that are most alike.
        """
        from PIL import Image as pillow

        wanted = [] if classes is None else [classes] if isinstance(classes, str) else list(classes)
        exif = self._extractor._open().exif_orientation
        with tempfile.TemporaryDirectory() as folder:
            found = json.loads(
                _cnncodes.explain(
                    self.head._head,
                    self._models,
                    self._compute,
                    named(image, 0, exif=exif),
                    wanted[:1],
                    folder,
                    (occlusion_size, occlusion_stride),
                )
            )
            explained = found["classes"][0]
            with open(explained["overlay"], "rb") as file:
                picture = pillow.open(io.BytesIO(file.read()))
                picture.load()
        picture.info.update(
            {
                "class": explained["class"],
                "score": explained["score"],
                "method": explained["method"],
                "nearest": found["nearest"],
            }
        )
        return picture

    def __repr__(self) -> str:
        return f"Classifier({self.head!r})"
