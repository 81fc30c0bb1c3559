#!/usr/bin/env python3
"""Makes tests/reference/perceptual_hash.json: hashes by `pdqhash`, the Python binding of PDQ's own C++ code.

`drawn`: of pictures that are given by a formula, which the tests draw as well. Of 32 and 64 pixels a side the hashes are PDQ's
bit for bit; larger pictures are brought to 64 x 64 in another way (see src/images/perceptual_hash.rs).
`photos`: of the photos in a folder of the assets, by name.

usage: make_perceptual_hash_reference.py PHOTOS     (needs: pip install pdqhash pillow numpy)
"""

import json
import sys
from pathlib import Path

import numpy as np
import pdqhash
from PIL import Image, ImageOps

OUTPUT = Path(__file__).resolve().parents[2] / "tests/reference/perceptual_hash.json"


def drawn(seed, width, height):
    """A picture that the tests draw in the same way, in integers."""
    x, y = np.arange(width)[None, :] * 256 // width, np.arange(height)[:, None] * 256 // height
    red = (x * x // (3 + seed) + x * y // 7 + y * (5 + seed)) % 256
    green = (x * (2 + seed) + y * y // (11 + seed) + 0 * x) % 256
    blue = ((x - 90) * (x - 90) // (17 + seed) + (y - 140) * (y - 140) // 19) % 256
    return np.stack(np.broadcast_arrays(red, green, blue), axis=-1).astype(np.uint8)


def hexadecimal(image):
    bits, _ = pdqhash.compute(np.ascontiguousarray(image))
    return np.packbits(bits).tobytes().hex()


def main():
    photos = Path(sys.argv[1])
    names = sorted(path.relative_to(photos).as_posix() for path in photos.glob("*/*.jpg"))
    opened = lambda name: np.asarray(ImageOps.exif_transpose(Image.open(photos / name)).convert("RGB"))
    sizes = [(64, 64), (32, 32), (64, 32)]
    reference = {
        "drawn": [
            {"seed": seed, "width": width, "height": height, "hash": hexadecimal(drawn(seed, width, height))}
            for seed in range(6)
            for width, height in sizes
        ],
        "photos": {name: hexadecimal(opened(name)) for name in names},
    }
    OUTPUT.write_text(json.dumps(reference, indent=0) + "\n")


if __name__ == "__main__":
    main()
