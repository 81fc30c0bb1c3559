"""Pools two seeded images' maps with PyTorch, for the tests of src/network/pool.rs: tests/reference/pooling.json.

    python scripts/reference/make_pooling_reference.py        # needs torch
"""

import json
import pathlib

import torch
import torch.nn.functional as F

SHAPE = (3, 5, 7)


def main():
    torch.manual_seed(0)
    # About half of it below 0, as before a ReLU.
    x = torch.randn(2, *SHAPE)
    pooled = {
        "avg": x.mean((2, 3)),
        "max": F.adaptive_max_pool2d(x, 1),
        "gem": F.avg_pool2d(x.clamp(min=1e-6).pow(3), SHAPE[1:]).pow(1 / 3),
        "1x1": F.adaptive_avg_pool2d(x, 1),
        "2x2": F.adaptive_avg_pool2d(x, 2),
        "3x3": F.adaptive_avg_pool2d(x, 3),
    }
    values = lambda tensor: [float(value) for value in tensor.reshape(-1)]
    reference = {"shape": SHAPE, "input": values(x), "pooled": {name: values(y) for name, y in pooled.items()}}
    path = pathlib.Path(__file__).resolve().parents[2] / "tests" / "reference" / "pooling.json"
    path.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
