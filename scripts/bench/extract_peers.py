"""Other programs that make features of photos, for scripts/bench/extract. Each runs in a process of its own:

    python extract_peers.py PEER FOLDER --network resnet50 --layer FILE.onnx --threads 2 --output features.h5

prints the seconds from the first photo to the written file, by the wall and of the processor, as JSON; imports, the
making of the network and the start of a GPU are left out. --device and --tf32 are for torchvision.
Weights are random where the peer has networks of its own: they do not change the time.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import time

BATCH = 8
GPU_BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Clock:
    """Seconds by the wall, and of the processor by this process and its children, since it was made."""

    def __init__(self):
        self.start = (time.perf_counter(), sum(os.times()[:4]))

    def took(self):
        return time.perf_counter() - self.start[0], sum(os.times()[:4]) - self.start[1]


def write(path, names, features):
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        file["features"] = np.concatenate(features).reshape(len(names), -1)
        file["image_names"] = names


def pillow_tensor(source):
    """torchvision's recipe by Pillow and numpy, 3 x 224 x 224."""
    import numpy as np
    from PIL import Image

    image = Image.open(source).convert("RGB")
    width, height = image.size
    size = (256, 256 * height // width) if width <= height else (256 * width // height, 256)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    image = image.resize(size, Image.BILINEAR).crop((left, top, left + 224, top + 224))
    values = np.asarray(image, np.float32) / np.float32(255)
    return ((values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)


def opencv_tensor(data):
    """The same by OpenCV, whose bilinear filter does not antialias."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    size = (256, 256 * height // width) if width <= height else (256 * width // height, 256)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[top : top + 224, left : left + 224, ::-1]
    values = image.astype(np.float32) / np.float32(255)
    return ((values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)


def batches_by_threads(paths, threads):
    """Batches by Pillow, decoded by threads while the network is busy."""
    import numpy as np

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        futures = []
        for start in range(0, len(paths), BATCH):
            futures.append([pool.submit(pillow_tensor, path) for path in paths[start : start + BATCH]])
        for batch in futures:
            yield np.stack([future.result() for future in batch])
            batch.clear()


def onnxruntime(paths, args):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(str(args.layer), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    clock = Clock()
    features = [session.run(None, {name: batch})[0] for batch in batches_by_threads(paths, args.threads)]
    write(args.output, [path.name for path in paths], features)
    return clock.took()


def openvino(paths, args):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": args.threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(args.layer), "CPU", settings)
    clock = Clock()
    features = [model(batch)[0].copy() for batch in batches_by_threads(paths, args.threads)]
    write(args.output, [path.name for path in paths], features)
    return clock.took()


def torchvision(paths, args):
    import torch
    import torchvision as tv

    torch.set_num_threads(args.threads)
    model = tv.models.get_model(args.network, weights=None).eval()
    if args.network == "vgg16":
        model.classifier = model.classifier[:6]
    elif args.network == "resnet50":
        model.fc = torch.nn.Identity()
    else:
        model.classifier = torch.nn.Identity()
    model = model.to(args.device, memory_format=torch.channels_last)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.tf32
    on_gpu = args.device != "cpu"
    batch_size = GPU_BATCH if on_gpu else BATCH
    if on_gpu:
        with torch.inference_mode():
            model(torch.zeros(batch_size, 3, 224, 224, device=args.device).to(memory_format=torch.channels_last)).cpu()
    steps = tv.transforms
    recipe = steps.Compose([steps.Resize(256), steps.CenterCrop(224), steps.ToTensor(), steps.Normalize(MEAN, STD)])

    class Photos(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            from PIL import Image

            return recipe(Image.open(paths[index]).convert("RGB"))

    clock = Clock()
    loader = torch.utils.data.DataLoader(Photos(), batch_size=batch_size, num_workers=args.threads, pin_memory=on_gpu)
    with torch.inference_mode():
        place = {"device": args.device, "memory_format": torch.channels_last, "non_blocking": True}
        features = [model(batch.to(**place)).cpu().numpy() for batch in loader]
    write(args.output, [path.name for path in paths], features)
    return clock.took()


def thingsvision(paths, args):
    import numpy
    import torch

    # It was written for NumPy 1.
    numpy.AxisError = numpy.exceptions.AxisError
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    torch.set_num_threads(args.threads)
    module = {"vgg16": "classifier.4", "resnet50": "avgpool", "mobilenet_v2": "features.18"}[args.network]
    extractor = get_extractor(model_name=args.network, source="torchvision", device="cpu", pretrained=False)
    clock = Clock()
    dataset = ImageDataset(
        root=str(args.folder), out_path=str(args.output.parent), backend=extractor.get_backend(),
        transforms=extractor.get_transformations(resize_dim=256, crop_dim=224),
    )
    loader = DataLoader(dataset=dataset, batch_size=BATCH, backend=extractor.get_backend())
    features = extractor.extract_features(batches=loader, module_name=module, flatten_acts=True, output_type="ndarray")
    write(args.output, [str(index) for index in range(len(features))], [features])
    return clock.took()


def keras(paths, args):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    applications = tf.keras.applications
    if args.network == "vgg16":
        whole = applications.VGG16(weights=None)
        model = tf.keras.Model(whole.input, whole.get_layer("fc2").output)
    elif args.network == "resnet50":
        model = applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    else:
        model = applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))

    def load(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        resized = tf.cast(size * 256.0 / tf.reduce_min(size), tf.int32)
        image = tf.image.resize(tf.cast(image, tf.float32), resized, antialias=True)
        image = tf.image.resize_with_crop_or_pad(image, 224, 224)
        return (image / 255.0 - MEAN) / STD

    clock = Clock()
    photos = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    photos = photos.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    features = [model.predict(photos, verbose=0)]
    write(args.output, [path.name for path in paths], features)
    return clock.took()


def decoding(tensor, paths, args):
    """Seconds to turn all photos, already in memory, into tensors."""
    data = [path.read_bytes() for path in paths]
    clock = Clock()
    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
        for _ in pool.map(tensor, data):
            pass
    return clock.took()


def pillow_decoding(paths, args):
    import io

    return decoding(lambda data: pillow_tensor(io.BytesIO(data)), paths, args)


def opencv_decoding(paths, args):
    import cv2

    cv2.setNumThreads(1)
    return decoding(opencv_tensor, paths, args)


PEERS = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torchvision": torchvision,
    "thingsvision": thingsvision,
    "keras": keras,
    "pillow_decoding": pillow_decoding,
    "opencv_decoding": opencv_decoding,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--network", choices=["resnet50", "vgg16", "mobilenet_v2"], default="resnet50")
    parser.add_argument("--layer", type=pathlib.Path, help="the network cut at the layer, as ONNX")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--output", type=pathlib.Path, default="features.h5")
    args = parser.parse_args()
    paths = sorted(path for path in args.folder.rglob("*") if path.is_file())
    seconds, cpu = PEERS[args.peer](paths, args)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "photos": len(paths)}))


if __name__ == "__main__":
    main()
