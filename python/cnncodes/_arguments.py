"""Checks of arguments that several functions have, in the words of Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

PathLike: TypeAlias = str | os.PathLike[str]


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def located(path: PathLike) -> str:
    """The absolute path of a file or folder; an address such as `s3://bucket/run1` as it is."""
    place = os.fspath(path)
    return place if "://" in place else os.path.abspath(place)


def min_per_class(number: int | None) -> int | None:
    if number is not None and number < 2:
        raise ValueError(f"min_per_class is {number}, but must be at least 2")
    return number


def duplicate_distance(bits: int | None) -> int | None:
    if bits is not None and not 0 <= bits <= 128:
        raise ValueError(f"duplicate_distance is {bits}, but must be a number of bits from 0 to 128")
    return bits


def duplicate_threshold(cosine: float | None) -> float | None:
    if cosine is not None and not 0 < cosine <= 1:
        raise ValueError(f"duplicate_threshold is {cosine}, but must be a cosine above 0 and up to 1")
    return cosine


def memory_limit(limit: int | str | None) -> str | None:
    """A number of bytes, or a text with a unit."""
    return f"{limit}B" if isinstance(limit, int) else limit


def row_values(values: PathLike | Sequence[Any] | NDArray[Any] | None) -> list[str | None] | Path | None:
    """A CSV file, or a text for each row, None where nothing is known."""
    if values is None:
        return None
    if isinstance(values, (str, os.PathLike)):
        return Path(values)
    return [_text(value) for value in values]


def _text(value: Any) -> str | None:
    """A label or group as text; None for None, NaN and -1, as CSV files have it."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value)
    return None if text in ("", "-1") else text


def at_least(name: str, number: int, least: int) -> int:
    if number < least:
        raise ValueError(f"{name} is {number}, but must be at least {least}")
    return int(number)
