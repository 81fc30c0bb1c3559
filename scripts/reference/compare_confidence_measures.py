"""Which measure of a classifier's confidence finds the right normalisation? The table of docs/preprocessing.md.

    python scripts/reference/compare_confidence_measures.py FOLDER NETWORK.onnx [...]

Runs networks that were trained with pixels from -1 to 1 (N x 3 x H x W) on 192 photos with that and with five wrong
normalisations. Prints how far the right one is ahead of each, in standard errors of the paired differences: by the largest
probability, and by the measure of `cnncodes models check`.
"""

import argparse
import pathlib
import random

import numpy as np
import onnxruntime
from PIL import Image

# Divisor, mean and deviation of red, green and blue, and whether the order is turned.
RIGHT = (127.5, [1, 1, 1], [1, 1, 1], False)
WRONG = {
    "0 to 1": (255, [0, 0, 0], [1, 1, 1], False),
    "ImageNet's mean": (255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
    "CLIP's mean": (255, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711], False),
    "BGR": (127.5, [1, 1, 1], [1, 1, 1], True),
    "0 to 255": (1, [0, 0, 0], [1, 1, 1], False),
}


def seen(path, size):
    """Shorter side to 256/224 of the size (bilinear), and the centre."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    side = round(size * 256 / 224)
    width, height = image.size
    if width <= height:
        image = image.resize((side, int(side * height / width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(side * width / height), side), Image.Resampling.BILINEAR)
    left, top = (int(round((length - size) / 2)) for length in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32)


def log_scores(session, pictures, recipe):
    divisor, mean, std, turned = recipe
    rows = []
    for picture in pictures:
        x = (picture / divisor - np.float32(mean)) / np.float32(std)
        x = np.ascontiguousarray(x[..., ::-1] if turned else x, dtype=np.float32).transpose(2, 0, 1)[None]
        rows.append(session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})[0].reshape(-1))
    scores = np.array(rows, dtype=np.float64)
    is_softmax = (scores >= 0).all() and np.abs(scores.sum(axis=1) - 1).max() < 1e-3
    return np.log(np.maximum(scores, 1e-30)) if is_softmax else scores


def largest_probability(scores):
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials.max(axis=1) / exponentials.sum(axis=1)


def sureness(scores):
    centred = scores - scores.mean(axis=0)
    standardised = (centred - centred.mean(axis=1, keepdims=True)) / centred.std(axis=1, ddof=1, keepdims=True)
    return np.log(np.exp(standardised).mean(axis=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("networks", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    paths = sorted(str(path) for path in arguments.folder.glob("*/*.*"))
    random.Random(5).shuffle(paths)
    print("| network | measure |", " | ".join(WRONG), "|")
    for network in arguments.networks:
        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        size = session.get_inputs()[0].shape[2]
        pictures = [seen(path, size) for path in paths[:192]]
        right = log_scores(session, pictures, RIGHT)
        wrong = [log_scores(session, pictures, recipe) for recipe in WRONG.values()]
        for measure in (largest_probability, sureness):
            print(f"| {network.stem} | {measure.__name__} |", end="")
            for scores in wrong:
                difference = measure(right) - measure(scores)
                print(f" {difference.mean() / (difference.std() / len(difference) ** 0.5):.1f} |", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
