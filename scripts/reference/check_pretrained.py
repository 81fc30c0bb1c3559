"""What Python's onnxruntime and Pillow make of two photos with the uncut network: python check_pretrained.py NETWORK FOLDER

Writes the photos, which scikit-learn brings along, into FOLDER, and prints as JSON, for each by name, the activations of
avg_pool and the logits.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import PIL.Image
import sklearn.datasets

network, folder = sys.argv[1], pathlib.Path(sys.argv[2])
photos = pathlib.Path(sklearn.datasets.__file__).parent / "images"
model = onnx.load(network)
model.graph.output.append(onnx.helper.make_empty_tensor_value_info("avg_pool"))
session = onnxruntime.InferenceSession(model.SerializeToString())
folder.mkdir(parents=True, exist_ok=True)
found = {}
for photo in sorted(photos.glob("*.jpg")):
    shutil.copy(photo, folder)
    image = PIL.Image.open(photo).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((256 * width // shorter, 256 * height // shorter), PIL.Image.BICUBIC)
    left, top = (round((side - 224) / 2) for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    tensor = ((pixels - 127) / 128).transpose(2, 0, 1)[None]
    pooled, logits = session.run(["avg_pool", "logits"], {"input": tensor})
    found[photo.name] = {"avg_pool": pooled[0].tolist(), "logits": logits[0].tolist()}
json.dump(found, sys.stdout)
