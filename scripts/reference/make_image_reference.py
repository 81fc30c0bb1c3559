#!/usr/bin/env python3
"""Draws the image fixtures and records what Pillow makes of them.

Writes tests/fixtures/images/* (small images in every format and kind of pixel that is read),
tests/reference/images/* (their RGB as Pillow decodes it, and Pillow's resized images, as PNG) and
tests/reference/images.json (which case is which, and the normalised values as numpy computes them in float32).

    python3 scripts/reference/make_image_reference.py
    python3 scripts/reference/make_image_reference.py --photos FOLDER   # also tests/reference/images_photos.json

Needs Pillow 13 or later (older releases take the passes of a resize in another order), numpy, and libjpeg-turbo's
`jpegtran` (Debian: libjpeg-turbo-progs), since Pillow writes no arithmetic coding.
"""

import argparse
import hashlib
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "images"
REFERENCE = ROOT / "tests" / "reference" / "images"
ORIENTATION = 0x0112

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def scene(width, height, seed, noise=12):
    """Gradients, shapes with hard edges, and noise."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 127 * np.sin((x + 2 * y) / 9)], axis=-1)
    image = Image.fromarray(pixels.astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse([width * 0.1, height * 0.2, width * 0.5, height * 0.7], fill=(250, 20, 40))
    draw.rectangle([width * 0.55, height * 0.1, width * 0.9, height * 0.4], fill=(10, 200, 30))
    draw.polygon([(width * 0.5, height * 0.95), (width * 0.95, height * 0.9), (width * 0.7, height * 0.5)],
                 fill=(30, 40, 255))
    rng = np.random.default_rng(seed)
    noisy = np.asarray(image, dtype=np.int16) + rng.integers(-noise, noise + 1, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGB")


def patched(path, old, new, count=1):
    """Replaces bytes of a file that occur exactly `count` times."""
    data = path.read_bytes()
    assert data.count(old) == count, (path, old, data.count(old))
    path.write_bytes(data.replace(old, new))


def png(path, width, height, bits, colour, rows, extra=b""):
    """Writes a PNG of a kind that Pillow cannot save."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def cmyk_of(image):
    """CMYK with some of everything in the black channel, too (Pillow's own conversion leaves it 0)."""
    inks = np.asarray(image.convert("CMYK")).copy()
    inks[..., 3] = 255 - np.asarray(image.convert("L"))
    return Image.fromarray(inks, "CMYK")


def draw_jpegs(image):
    save = lambda name, picture, **options: picture.save(FIXTURES / name, quality=85, **options)
    save("jpeg_444.jpg", image, subsampling="4:4:4")
    save("jpeg_422.jpg", image, subsampling="4:2:2")
    save("jpeg_420.jpg", image, subsampling="4:2:0")
    save("jpeg_progressive.jpg", image, subsampling="4:2:0", progressive=True)
    save("jpeg_restart.jpg", image, subsampling="4:2:0", restart_marker_blocks=2)
    save("jpeg_rgb.jpg", image, keep_rgb=True)
    save("jpeg_grey.jpg", image.convert("L"))
    save("jpeg_grey_progressive.jpg", image.convert("L"), progressive=True)
    cmyk = cmyk_of(image)
    save("jpeg_cmyk.jpg", cmyk)
    # Pillow writes no YCCK, no CMYK without Adobe's marker and no 4:4:0: take a file that it does write and alter
    # the header. The colours turn out wild, and that is as good for a comparison of decoders.
    save("jpeg_ycck.jpg", cmyk)
    patched(FIXTURES / "jpeg_ycck.jpg", b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
    save("jpeg_cmyk_no_adobe.jpg", cmyk)
    patched(FIXTURES / "jpeg_cmyk_no_adobe.jpg", b"Adobe", b"Xdobe")
    # 16 x 8 blocks become 8 x 16; both fill 64 x 48 with the same number of blocks.
    save("jpeg_440.jpg", image.resize((64, 48)), subsampling="4:2:2")
    patched(FIXTURES / "jpeg_440.jpg", b"\x01\x21\x00\x02\x11\x01\x03\x11\x01", b"\x01\x12\x00\x02\x11\x01\x03\x11\x01")
    for source, name, options in [
        ("jpeg_420.jpg", "jpeg_arithmetic.jpg", []),
        ("jpeg_progressive.jpg", "jpeg_arithmetic_progressive.jpg", ["-progressive"]),
    ]:
        command = ["jpegtran", "-arithmetic", *options, "-outfile", str(FIXTURES / name), str(FIXTURES / source)]
        subprocess.run(command, check=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        save(f"jpeg_exif_{orientation}.jpg", image, exif=exif)


def draw_lossless(image):
    grey = image.convert("L")
    alpha = Image.fromarray(np.asarray(image)[..., 2], "L")
    width, height = image.size
    rgba = image.copy()
    rgba.putalpha(alpha)
    la = Image.merge("LA", (grey, alpha))
    palette = image.quantize(32)
    save = lambda name, picture, **options: picture.save(FIXTURES / name, **options)

    save("png_rgb.png", image)
    save("png_grey.png", grey)
    save("png_rgba.png", rgba)
    save("png_la.png", la)
    save("png_palette.png", palette)
    save("png_palette_transparent.png", palette, transparency=3)
    save("png_palette_4bit.png", image.quantize(9))
    save("png_1bit.png", grey.convert("1"))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save("png_exif_6.png", image, exif=exif)
    rng = np.random.default_rng(5)
    low = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    deep = lambda picture: np.dstack([np.asarray(picture).reshape(height, width, -1), low])
    rows = lambda bands: [
        b"".join(bytes((int(row[x, band]), int(row[x, -1]))) for x in range(width) for band in range(bands))
        for row in deep(image if bands == 3 else grey if bands == 1 else la if bands == 2 else rgba)
    ]
    png(FIXTURES / "png_grey16.png", width, height, 16, 0, rows(1))
    png(FIXTURES / "png_rgb16.png", width, height, 16, 2, rows(3))
    png(FIXTURES / "png_la16.png", width, height, 16, 4, rows(2))
    png(FIXTURES / "png_rgba16.png", width, height, 16, 6, rows(4))
    two_bits = np.asarray(grey) // 64
    two_bits = np.pad(two_bits, ((0, 0), (0, -width % 4)))
    packed = two_bits[:, 0::4] << 6 | two_bits[:, 1::4] << 4 | two_bits[:, 2::4] << 2 | two_bits[:, 3::4]
    png(FIXTURES / "png_grey2.png", width, height, 2, 0, [row.tobytes() for row in packed.astype(np.uint8)])
    save("png_interlaced.png", image)  # Pillow reads Adam7 but does not write it; replaced below.
    write_interlaced(FIXTURES / "png_interlaced.png", np.asarray(image))

    other = ImageOps.mirror(image)
    save("gif_still.gif", image.quantize(64))
    save("gif_animation.gif", image.quantize(64), save_all=True, append_images=[other.quantize(64)], duration=80)
    save("gif_transparent.gif", image.quantize(64), transparency=5)
    save("bmp_rgb.bmp", image)
    save("bmp_palette.bmp", palette)
    save("bmp_grey.bmp", grey)
    save("bmp_1bit.bmp", grey.convert("1"))
    save("bmp_rgba.bmp", rgba)
    save("tiff_rgb.tif", image)
    save("tiff_lzw.tif", image, compression="tiff_lzw")
    save("tiff_deflate.tif", image, compression="tiff_adobe_deflate")
    save("tiff_grey.tif", grey)
    save("tiff_1bit.tif", grey.convert("1"))
    save("tiff_rgba.tif", rgba)
    save("tiff_cmyk.tif", cmyk_of(image))
    save("tiff_orientation_6.tif", image, tiffinfo={ORIENTATION: 6})
    grey16 = (np.asarray(grey).astype(np.uint16) << 8) | low[..., 0]
    save("tiff_grey16.tif", Image.fromarray(grey16))
    save("webp_lossless.webp", image, lossless=True)
    save("webp_lossless_rgba.webp", rgba, lossless=True, exact=True)
    save("webp_lossy.webp", image, quality=80)
    save("webp_lossy_rgba.webp", rgba, quality=80)
    save("webp_animation.webp", image, save_all=True, append_images=[other], lossless=True, duration=80)
    save("webp_exif_8.webp", image, lossless=True, exif=exif_of(8))

    save("tiff_float.tif", Image.fromarray(np.asarray(grey, dtype=np.float32) / 255))
    save("tiff_palette.tif", palette)


def exif_of(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def write_interlaced(path, pixels):
    """An Adam7 PNG of 8-bit RGB."""
    height, width, _ = pixels.shape
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for x, y, dx, dy in passes:
        part = pixels[y::dy, x::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
                     + chunk(b"IEND", b""))


def expected_rgb(path):
    """Pillow's pixels, oriented. 16-bit grey is defined otherwise here, as its upper byte, and floats from 0 to 1 as its levels."""
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):
            upper = (np.asarray(image) >> 8).astype(np.uint8)
            return Image.fromarray(np.dstack([upper] * 3), "RGB")
        if image.mode == "F":
            levels = np.rint(np.asarray(image) * 255).astype(np.uint8)
            return Image.fromarray(np.dstack([levels] * 3), "RGB")
        return ImageOps.exif_transpose(image).convert("RGB")


def crop_centre(image, width, height):
    """torchvision.transforms.functional.center_crop."""
    top = int(round((image.height - height) / 2.0))
    left = int(round((image.width - width) / 2.0))
    return image.crop((left, top, left + width, top + height))


def resized(image, recipe):
    """The 8-bit image that torchvision (shorter side) or Keras's load_img (stretch) hands to normalisation."""
    (width, height), interpolation = recipe["size"], FILTERS[recipe["interpolation"]]
    if recipe["resize"] == "stretch":
        return image.resize((width, height), interpolation)
    short, long = sorted(image.size)
    new_long = int(recipe["shorter_side"] * long / short)
    new_size = (recipe["shorter_side"], new_long) if image.width <= image.height else (new_long, recipe["shorter_side"])
    return crop_centre(image.resize(new_size, interpolation), width, height)


def recipe(size, interpolation, shorter_side=None):
    fields = {"size": list(size), "resize": "shorter-side" if shorter_side else "stretch", "interpolation": interpolation}
    return fields | ({"shorter_side": shorter_side} if shorter_side else {})


RESIZES = [
    # (fixture, recipe)
    ("scene.jpg", recipe((224, 224), "bilinear", 256)),
    ("scene.jpg", recipe((224, 224), "nearest")),
    *[(name, recipe((56, 56), filter_, 64)) for name in ("scene.jpg", "tall.jpg", "small.png", "strip.png")
      for filter_ in FILTERS],
    *[("scene.jpg", recipe((60, 37), filter_)) for filter_ in FILTERS],
    *[("tall.jpg", recipe((50, 60), filter_)) for filter_ in FILTERS],  # Pillow 13: vertical pass first
    *[("scene.jpg", recipe((51, 38), filter_, 63)) for filter_ in ("nearest", "bilinear")],
    ("tall.jpg", recipe((47, 64), "bicubic", 65)),
    ("same.png", recipe((56, 56), "bilinear", 64)),
    ("same.png", recipe((64, 64), "lanczos")),
]

# Each framework's own formula, in float32 and in its own order, for all 256 levels and three channels.
def torchvision_levels(x):
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    x = x / np.float32(255)
    x -= mean
    x /= std
    return x


def keras_caffe_levels(x):
    x = x[..., ::-1].copy()
    x[..., 0] -= 103.939
    x[..., 1] -= 116.779
    x[..., 2] -= 123.68
    return x


def tf_levels(x):
    x = x.copy()
    x /= 127.5
    x -= 1.0
    return x


def levels():
    x = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
    table = {"torchvision": torchvision_levels(x), "keras-caffe": keras_caffe_levels(x), "tf": tf_levels(x)}
    assert all(values.dtype == np.float32 for values in table.values())
    # The shortest decimal that is this float32.
    return {name: [[float(str(v)) for v in values[:, c]] for c in range(3)] for name, values in table.items()}


def photo_record(path, folder):
    image = expected_rgb(path)
    small = np.asarray(resized(image, recipe((224, 224), "bilinear", 256)))
    return {
        "name": path.relative_to(folder).as_posix(),
        "size": list(image.size),
        "rgb_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "resized_channel_sums": [int(s) for s in small.reshape(-1, 3).sum(axis=0, dtype=np.int64)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of real photos; every 40th is recorded")
    arguments = parser.parse_args()

    for folder in (FIXTURES, REFERENCE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    image = scene(61, 47, seed=1)
    draw_jpegs(image)
    draw_lossless(image)
    decoded = sorted(path.name for path in FIXTURES.iterdir())
    for name in decoded:
        expected_rgb(FIXTURES / name).save(REFERENCE / f"{name}.rgb.png", optimize=True)

    scene(400, 300, seed=2, noise=4).save(FIXTURES / "scene.jpg", quality=80)
    scene(131, 330, seed=3, noise=4).save(FIXTURES / "tall.jpg", quality=80)
    scene(31, 27, seed=4).save(FIXTURES / "small.png")
    scene(300, 3, seed=5).save(FIXTURES / "strip.png")
    scene(64, 64, seed=6).save(FIXTURES / "same.png")
    cases = []
    for number, (name, fields) in enumerate(RESIZES):
        expected = f"resize_{number:02}.png"
        resized(expected_rgb(FIXTURES / name), fields).save(REFERENCE / expected, optimize=True)
        cases.append({"image": name, "recipe": fields, "expected": expected})

    reference = {"decoded": decoded, "resized": cases, "levels": levels()}
    text = json.dumps(reference, indent=None, separators=(",", ":"))
    (ROOT / "tests" / "reference" / "images.json").write_text(text + "\n")

    if arguments.photos:
        photos = sorted(arguments.photos.rglob("*.jpg"))[::40]
        records = [photo_record(path, arguments.photos) for path in photos]
        text = json.dumps(records, indent=1)
        (ROOT / "tests" / "reference" / "images_photos.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
