"""Records what transformers and timm make of the drawn pictures with the preprocessing of known networks.

    pip install -r scripts/reference/requirements-preprocess.txt
    python scripts/reference/make_preprocess_config_reference.py

Writes tests/reference/preprocess_configs.json: for each network the files that lie beside it, and for each of three fixtures
the SHA-256 of the 8-bit pixels, channel by channel, and 8 single values of the tensor. transformers 4's processors that resize with Pillow are asked.
"""

import hashlib
import json
import pathlib

import numpy as np
from PIL import Image

from preprocess_configs import TIMM, TRANSFORMERS, files, processor

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "images"
IMAGES = ["scene.jpg", "tall.jpg", "small.png"]


def summary(tensor, pixels, random):
    assert pixels.dtype == np.uint8 and pixels.shape == tensor.shape
    flat = tensor.astype(np.float32).reshape(-1)
    places = random.integers(0, flat.size, 8)
    return {
        "pixels": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        "at": [[int(place), float(str(flat[place]))] for place in places],
    }


def main():
    random = np.random.default_rng(19)
    pictures = {name: Image.open(FIXTURES / name).convert("RGB") for name in IMAGES}
    cases = []
    for name in [*TRANSFORMERS, *TIMM]:
        process, see = processor(name), processor(name, pixels=True)
        values = {image: summary(process(picture), see(picture), random) for image, picture in pictures.items()}
        shape = process(pictures["scene.jpg"]).shape
        cases.append({"name": name, "files": files(name), "shape": shape, "values": values})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (ROOT / "tests" / "reference" / "preprocess_configs.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
