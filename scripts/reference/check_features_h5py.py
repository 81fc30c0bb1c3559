#!/usr/bin/env python3
"""Reads a features file with h5py, using nothing but the calls that docs/features-format.md shows.

Prints what it read as JSON. tests/it/features_h5py.rs writes the file and compares.

usage: check_features_h5py.py FILE
"""

import json
import sys
from urllib.parse import unquote

import h5py

with h5py.File(sys.argv[1]) as f:
    # The snippet of docs/features-format.md:
    features = f["features"][:]                       # float32, images x values
    names = f["image_names"].asstr()[:]               # str
    labels = f["labels"][:]                           # int64, -1 where unknown
    classes = f["class_names"].asstr()[:]             # str
    shape = f["features"].attrs["shape"]              # of one image, e.g. [512, 7, 7]
    # End of the snippet.

    attributes = {
        key: value if isinstance(value, str) else int(value) for key, value in sorted(f.attrs.items())
    }
    layers = {}
    for link, dataset in f["layers"].items():
        assert unquote(link) == dataset.attrs["name"], link
        layers[dataset.attrs["name"]] = {
            "dtype": str(dataset.dtype),
            "features": dataset[:].tolist(),
            "shape": dataset.attrs["shape"].tolist(),
            "tensor": dataset.attrs["tensor"],
            "pooling": dataset.attrs["pooling"],
            "index": int(dataset.attrs["index"]),
        }
    print(
        json.dumps(
            {
                "attributes": attributes,
                "features": features.tolist(),
                "features_as_activations": list(features.reshape(-1, *shape).shape),
                "features_link": f.get("features", getlink=True).path,
                "names": list(names),
                "labels": labels.tolist(),
                "labels_dtype": str(labels.dtype),
                "classes": list(classes),
                "perceptual_hash": f["perceptual_hash"][:].tolist(),
                "perceptual_hash_dtype": str(f["perceptual_hash"].dtype),
                "sha256": list(f["sha256"].asstr()[:]),
                "errors": list(zip(f["errors/name"].asstr()[:], f["errors/reason"].asstr()[:])),
                "layers": layers,
            }
        )
    )
