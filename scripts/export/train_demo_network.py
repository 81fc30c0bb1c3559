#!/usr/bin/env python3
"""Train the network of `cnncodes demo` from scratch and write it as models/demo-vgg.onnx.

    pip install -r scripts/export/requirements-demo-network.txt
    python scripts/export/train_demo_network.py

The network has the topology of VGG16 (Simonyan and Zisserman 2015, configuration D: thirteen 3x3 convolutions with
ReLU, five 2x2 max-pools, three dense layers, softmax) at a small fraction of its width, and takes N x 3 x 64 x 64, RGB,
x/127.5 - 1. It learns the 36 synthetic classes of demo_training_images.py, none of which the demo shows. It trains
with batch normalisation, which is folded into the convolutions on export, so that the graph is plain VGG.

Takes about 8 minutes on two idle CPU cores. The seed fixes the images and the order of training; the last digits of the
weights still depend on the processor and on the version of torch.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

import demo_training_images as synthetic

CONVOLUTIONS = (2, 2, 3, 3, 3)
CHANNELS = (16, 24, 32, 48, 48)
DENSE = 160
LARGEST_FILE = 1_000_000  # bytes: the repository carries it, and the program embeds it


class DemoVgg(nn.Module):
    """The layers of VGG16, narrow; `forward` gives logits."""

    def __init__(self, n_classes):
        super().__init__()
        layers, channels = [], 3
        for count, width in zip(CONVOLUTIONS, CHANNELS):
            for _ in range(count):
                # The bias would be undone by the normalisation; folding brings one back.
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        side = synthetic.SIZE // 2 ** len(CONVOLUTIONS)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, DENSE),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(DENSE, n_classes),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pixels):
        return self.classifier(torch.flatten(self.features(pixels), 1))


def to_input(images):
    """uint8 N x H x W x 3 to float32 N x 3 x H x W in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def augmented(images, rng):
    """Half of the batch mirrored, and the colour channels of every image in a random order."""
    channels = np.stack([rng.permutation(3) for _ in images])
    images = np.take_along_axis(images, channels[:, None, None, :], axis=3)
    mirrored = rng.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def accuracy(net, images, labels):
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(to_input(images[i : i + 256])).argmax(1) for i in range(0, len(images), 256)])
    return (guesses.numpy() == labels).mean()


def train(net, images, labels, held_out, epochs, batch, seed):
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        net.train()
        order = rng.permutation(len(images))
        for i in range(0, len(order) - batch + 1, batch):
            rows = order[i : i + batch]
            optimizer.zero_grad()
            logits = net(to_input(augmented(images[rows], rng)))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * batch
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / len(order):.3f}, "
            f"held out {accuracy(net, *held_out):.4f}, {time.monotonic() - start:.0f} s",
            flush=True,
        )


def export(net, path):
    """Write the network with a softmax at its end, batch normalisation folded, the batch left open."""
    torch.onnx.export(
        # In evaluation mode as a whole: the exporter puts the net back into the mode of what it is given.
        nn.Sequential(net, nn.Softmax(dim=1)).eval(),
        (torch.zeros(1, 3, synthetic.SIZE, synthetic.SIZE),),
        str(path),
        input_names=["input"],
        output_names=["probabilities"],
        dynamic_axes={"input": {0: "batch"}, "probabilities": {0: "batch"}},
        opset_version=13,
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)


def check(net, path, images):
    """The file must compute what torch computes, and be small enough to embed."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = to_input(images[:: len(images) // 64][:64])
    with torch.no_grad():
        expected = net(pixels).softmax(1).numpy()
    difference = np.abs(session.run(None, {"input": pixels.numpy()})[0] - expected).max()
    if difference > 1e-4:
        raise SystemExit(f"{path} differs from torch by {difference:.2e}")
    operators = [node.op_type for node in onnx.load(path).graph.node]
    counts = {operator: operators.count(operator) for operator in dict.fromkeys(operators)}
    size = path.stat().st_size
    print(f"{path}: {size} bytes, {counts}, differs from torch by {difference:.1e}")
    if size > LARGEST_FILE:
        raise SystemExit(f"{path} is larger than {LARGEST_FILE} bytes")


def main():
    default = Path(__file__).resolve().parents[2] / "models" / "demo-vgg.onnx"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--per-class", type=int, default=800, help="training images a class (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=9, help="0 writes the untrained network (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    start = time.monotonic()
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    with ProcessPoolExecutor(2) as pool:
        # The drawing seeds differ, so that no held-out image is a training image.
        sets = pool.map(synthetic.dataset, (arguments.per_class, 50), (arguments.seed, arguments.seed + 1))
        (images, labels), held_out = sets
    print(f"{len(images)} training images, {len(held_out[0])} held out, {time.monotonic() - start:.0f} s", flush=True)

    net = DemoVgg(len(synthetic.CLASSES))
    if arguments.epochs > 0:
        train(net, images, labels, held_out, arguments.epochs, arguments.batch, arguments.seed)
    print(f"held-out accuracy {accuracy(net, *held_out):.4f} on {len(synthetic.CLASSES)} classes")
    export(net, arguments.output)
    check(net, arguments.output, held_out[0])
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
