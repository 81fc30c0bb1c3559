#!/usr/bin/env python3
"""How well the demo's network transfers to the demo's pictures, measured independently of the Rust program.

    CNNCODES_DEMO_DUMP="$PWD/pictures" cargo test --lib demo -- --ignored
    python scripts/export/measure_demo_transfer.py pictures [--model untrained.onnx]

Codes come from onnxruntime, pictures through Pillow, heads from scikit-learn (standardised; 5 stratified folds). A
network with random weights for comparison comes from `train_demo_network.py --epochs 0 --output untrained.onnx`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

SIDE = 64


def pixels(path):
    """float32 3 x 64 x 64, RGB, x/127.5 - 1, stretched by antialiased bilinear."""
    picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1


def taps(model):
    """Tensors to measure by canonical layer name: what follows the last pool and the two hidden dense layers."""
    nodes = [node for node in model.graph.node if node.op_type != "Identity"]
    pools = [node.output[0] for node in nodes if node.op_type == "MaxPool"]
    relus = [node.output[0] for node in nodes if node.op_type == "Relu"]
    return {"pool5": pools[-1], "fc6": relus[-2], "fc7": relus[-1]}


def report(name, features, labels):
    """Mean accuracy and its spread over the folds, for all the pictures and for only 30 a class."""
    few = np.concatenate([np.flatnonzero(labels == label)[:30] for label in np.unique(labels)])
    for rows in (np.arange(len(labels)), few):
        line = f"{name:>8} {features.shape[1]:6} numbers, {len(rows):4} pictures:"
        for kind, head in (
            ("logistic", LogisticRegression(C=1, max_iter=5000)),
            ("linear SVM", LinearSVC(C=1, max_iter=5000)),
        ):
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            scores = cross_val_score(make_pipeline(StandardScaler(), head), features[rows], labels[rows], cv=folds)
            line += f"  {kind} {100 * scores.mean():5.1f} % ± {100 * scores.std():.1f}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder that holds data/CLASS/*.jpg")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parents[2] / "models/demo-vgg.onnx")
    arguments = parser.parse_args()

    paths = sorted((arguments.pictures / "data").glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    labels = np.array([names.index(path.parent.name) for path in paths])
    batch = np.stack([pixels(path) for path in paths])
    print(f"{len(paths)} pictures of {', '.join(names)}; chance {100 / len(names):.1f} %")
    # Every other pixel: a linear head on all 12,288 takes minutes and does no better.
    report("pixels", batch[:, :, ::2, ::2].reshape(len(batch), -1), labels)

    model = onnx.load(arguments.model)
    tapped = taps(model)
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tapped.values())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, activations in zip(tapped, session.run(list(tapped.values()), {session.get_inputs()[0].name: batch})):
        report(name, activations.reshape(len(activations), -1), labels)


if __name__ == "__main__":
    main()
