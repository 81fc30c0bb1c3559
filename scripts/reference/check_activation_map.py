#!/usr/bin/env python3
"""Class activation maps with ONNX Runtime, h5py and NumPy: NETWORK HEAD MAP INPUT, as JSON.

MAP is the tensor that enters the head's average pooling; INPUT holds one preprocessed image as little-endian float32, in
the layout of the network's own input. Prints, for each class, the score and what each place of the map adds to it.
"""

import json
import sys

import h5py
import numpy as np
import onnx
import onnxruntime

network, head, tensor, image = sys.argv[1:5]
graph = onnx.load(network)
graph.graph.output.append(onnx.ValueInfoProto(name=tensor))
session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
wanted = session.get_inputs()[0]
channels_last = wanted.shape[3] == 3
image = np.fromfile(image, "<f4")
side = int((image.size // 3) ** 0.5)
image = image.reshape((1, side, side, 3) if channels_last else (1, 3, side, side))
activations = session.run([tensor], {wanted.name: image})[0][0].astype(np.float64)

with h5py.File(head) as f:
    weights, bias = f["weights"][:].astype(np.float64), f["bias"][:]
    mean, scale, constant = f["mean"][:], f["scale"][:], f["constant"][:].astype(bool)
if activations.shape[0] != mean.size:
    activations = activations.transpose(2, 0, 1)
features = activations.mean(axis=(1, 2))
standardised = np.where(constant, 0, (features - mean) / scale)
scores = weights @ standardised + bias
# Zhou et al. 2016: the weighted sum of the channels at each place, here of channels less their mean over the training
# images, and divided by the number of places as the pooling does.
folded = np.where(constant, 0, weights / scale)
centred = activations - mean[:, None, None]
maps = np.einsum("kc,chw->khw", folded, centred) / (activations.shape[1] * activations.shape[2])
json.dump({"scores": scores.tolist(), "maps": maps.tolist(), "bias": bias.tolist()}, sys.stdout)
