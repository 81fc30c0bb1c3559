"""What users have as images, as the extension module wants them: a name, and bytes or an array, or nothing for a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

    # One image: a path, the bytes of an image file, a file that is open for reading, a picture of Pillow, or uint8 pixels
    # (height x width x 3, height x width x 1, or height x width).
    ImageLike: TypeAlias = str | os.PathLike[str] | bytes | io.BufferedIOBase | Image.Image | npt.NDArray[np.uint8]

Named: TypeAlias = "tuple[str, bytes | npt.NDArray[np.uint8] | None]"


def is_source(images: object) -> bool:
    """Whether `images` names many images at once: a folder, a CSV file, tar shards, an array in an HDF5 file, or the
    address of a prefix."""
    if not isinstance(images, str | os.PathLike):
        return False
    path = os.fspath(images)
    is_prefix = "://" in path and path.endswith("/")
    return (
        is_prefix
        or os.path.isdir(path)
        or path.lower().endswith((".csv", ".tsv", ".tar"))
        or ".h5:" in path
        or ".hdf5:" in path
    )


def as_sequence(images: Any) -> Sequence[ImageLike]:
    """Many images, or one as a list of one."""
    if isinstance(images, str | bytes | os.PathLike) or hasattr(images, "read") or _is_pillow(images):
        return [images]
    if isinstance(images, np.ndarray):
        return _of_array(images)
    # Columns of data frames (pandas, polars) have the method, and are sequences of their elements otherwise.
    if hasattr(images, "to_numpy"):
        return _of_array(np.asarray(images.to_numpy()))
    if isinstance(images, Sequence):
        return images
    if isinstance(images, Iterable):
        return list(images)
    raise TypeError(f"images are paths, bytes, pictures of Pillow or arrays, and not {type(images).__name__}")


def _of_array(array: npt.NDArray[Any]) -> Sequence[ImageLike]:
    if array.dtype.kind in "OUST":
        # scikit-learn hands out columns of one.
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim > 1:
            raise ValueError(f"paths or images are one to a row, and this array has the shape {array.shape}")
        return [str(item) if isinstance(item, np.str_) else item for item in np.atleast_1d(array)]
    if array.dtype != np.uint8:
        raise TypeError(
            f"pixels are uint8 from 0 to 255, and this array has {array.dtype}; convert it, such as with "
            "(array * 255).round().astype('uint8') where 1 is white"
        )
    if array.ndim == 4:
        return array  # type: ignore[return-value]
    if array.ndim in (2, 3):
        if array.ndim == 3 and array.shape[-1] not in (1, 3):
            raise ValueError(
                f"an array of the shape {array.shape} is no image (height x width x 3) and no batch of images (n x height x "
                "width x 3); add the channels with numpy.newaxis, or repeat a batch of grey images to three channels"
            )
        return [array]
    raise ValueError(f"pixels have the shape height x width x 3, or n x height x width x 3, and not {array.shape}")


def named(image: Any, index: int, *, exif: bool) -> Named:
    """The image at `index` under the name that messages and problems have. `exif` turns pictures of Pillow upright."""
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return path, None
    name = f"image {index}"
    if isinstance(image, bytes):
        return name, image
    if isinstance(image, bytearray | memoryview):
        return name, bytes(image)
    if isinstance(image, np.ndarray):
        return name, _rgb(image, name)
    if _is_pillow(image):
        return getattr(image, "filename", "") or name, _of_pillow(image, exif=exif)
    if hasattr(image, "read"):
        content = image.read()
        if isinstance(content, bytes):
            return str(getattr(image, "name", name)), content
    raise TypeError(f"{name} is no path, bytes, picture of Pillow or uint8 array, but {type(image).__name__}")


def _rgb(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise TypeError(f"{name} has pixels of {array.dtype}; they are uint8 from 0 to 255")
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim == 3 and array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{name} has the shape {array.shape}; an image's pixels have height x width x 3")
    return array


def _is_pillow(image: object) -> bool:
    # Without an import of Pillow, which is not needed otherwise.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def _of_pillow(image: Any, *, exif: bool) -> npt.NDArray[np.uint8]:
    if exif:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))
