#!/usr/bin/env python3
"""Draws the fixtures of HEIC, AVIF, JPEG XL and arithmetic JPEG, and records what Pillow and its plugins make of them.

    python -m venv place && place/bin/pip install -r scripts/reference/requirements-modern.txt
    place/bin/python scripts/reference/make_modern_reference.py

Writes tests/fixtures/images_modern and tests/reference/images_modern. HEIC's pixels are pillow-heif's (libheif), AVIF's
Pillow's (libavif with libyuv), JPEG XL's pillow-jxl-plugin's (libjxl). What only other encoders write, grids as of phones,
turns and crops, is put together here from encoded parts.
"""

import io
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401, registers itself
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures/images_modern"
REFERENCE = ROOT / "tests/reference/images_modern"
pillow_heif.register_heif_opener()


def scene(width, height, seed=7):
    y, x = np.mgrid[0:height, 0:width]
    picture = np.dstack([x * 255 // width, y * 255 // height, (x + y) * 200 // (width + height)])
    picture[height // 4:height // 2, width // 5:width // 2] = (250, 10, 60)
    picture = picture + np.random.default_rng(seed).integers(0, 12, picture.shape)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# --- a container put together from encoded parts -------------------------------------------------------------

def boxes(data):
    """(kind, body) of each box."""
    at, found = 0, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        found.append((kind, data[at + 8:at + length]))
        at += length
    return found


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def part_of(file):
    """The coded picture of a file of one, and its properties."""
    top = dict(boxes(file))
    meta = dict(boxes(top[b"meta"][4:]))
    properties = [(kind, body) for kind, body in boxes(dict(boxes(meta[b"iprp"]))[b"ipco"])]
    return top[b"mdat"], properties


def container(files, kind, brand, columns=1, size=None, transforms=()):
    """A file of one picture, or of a grid of them, shown with `transforms`."""
    parts = [part_of(file) for file in files]
    is_grid = len(parts) > 1
    wanted = (b"hvcC", b"av1C", b"ispe", b"colr", b"pixi")
    shared = [entry for entry in parts[0][1] if entry[0] in wanted]
    properties = [box(kind, body) for kind, body in shared]
    tile_uses = list(range(1, len(properties) + 1))
    items, data = [], []
    for number, (coded, _) in enumerate(parts, start=1):
        items.append((number, kind, tile_uses if is_grid else []))
        data.append(coded)
    if is_grid:
        primary = len(parts) + 1
        rows = len(parts) // columns
        data.append(struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size))
        properties.append(box(b"ispe", struct.pack(">III", 0, *size)))
        uses = [len(properties)] + [n for n in tile_uses if shared[n - 1][0] in (b"colr", b"pixi")]
        items.append((primary, b"grid", uses))
    else:
        primary, uses = 1, list(tile_uses)
        items[0] = (1, kind, uses)
    for transform in transforms:
        properties.append(transform)
        uses.append(len(properties) | 0x80)
    entries = b"".join(box(b"infe", struct.pack(">IHH4sB", 2 << 24, number, 0, kind, 0)) for number, kind, _ in items)
    associations = b"".join(struct.pack(">HB", number, len(uses)) + bytes(uses) for number, _, uses in items)
    references = box(b"iref", struct.pack(">I", 0), box(b"dimg", struct.pack(f">HH{len(parts)}H", primary, len(parts), *range(1, len(parts) + 1)))) if is_grid else b""

    def whole(start):
        places, at = b"", start
        for (number, *_), coded in zip(items, data):
            places += struct.pack(">HHHII", number, 0, 1, at, len(coded))
            at += len(coded)
        meta = box(
            b"meta", struct.pack(">I", 0),
            box(b"hdlr", struct.pack(">II4s12xB", 0, 0, b"pict", 0)),
            box(b"pitm", struct.pack(">IH", 0, primary)),
            box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)), places),
            box(b"iinf", struct.pack(">IH", 0, len(items)), entries),
            references,
            box(b"iprp", box(b"ipco", *properties), box(b"ipma", struct.pack(">II", 0, len(items)), associations)),
        )
        return box(b"ftyp", brand, struct.pack(">I", 0), b"mif1", brand, b"miaf") + meta

    head = whole(0)
    return whole(len(head) + 8) + box(b"mdat", *data)


def irot(turns):
    return box(b"irot", bytes([turns]))


def imir(axis):
    return box(b"imir", bytes([axis]))


def clap(width, height, left, top, whole):
    """A crop; its middle is given from the middle of the whole, in halves."""
    across, down = 2 * left + width - whole[0], 2 * top + height - whole[1]
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, across, 2, down, 2))


# --- the fixtures ------------------------------------------------------------------------------------------

def heics(image):
    options = {"quality": 80}
    rgba = image.copy()
    rgba.putalpha(image.convert("L"))
    exif = Image.Exif()
    exif[274] = 6
    save = lambda picture, **more: encoded(picture, "HEIF", **(options | more))
    yield "heic_420.heic", save(image)
    yield "heic_422.heic", save(image, chroma=422)
    yield "heic_444.heic", save(image, chroma=444)
    yield "heic_grey.heic", save(image.convert("L"))
    yield "heic_rgba.heic", save(rgba)
    yield "heic_lossless.heic", save(image, quality=-1, chroma=444, matrix_coefficients=0)
    yield "heic_limited.heic", save(image, full_range_flag=0)
    yield "heic_709.heic", save(image, matrix_coefficients=1)
    # The container's word counts, not EXIF's, which pillow-heif writes without turning.
    yield "heic_exif_6.heic", save(image, exif=exif)
    deep = io.BytesIO()
    pixels = (np.asarray(image).astype(np.uint16) << 8) | 77
    pillow_heif.encode("RGB;16", image.size, pixels.tobytes(), deep, quality=80)
    yield "heic_10bit.heic", deep.getvalue()
    whole = scene(64, 64)
    tiles = [save(scene(64, 64, seed)) for seed in range(6)]
    yield "heic_grid.heic", container(tiles, b"hvc1", b"heic", 3, (180, 110))
    yield "heic_grid_turned.heic", container(tiles[:4], b"hvc1", b"heic", 2, (128, 101), [irot(3)])
    for turns in (1, 2, 3):
        yield f"heic_irot_{turns}.heic", container([save(whole)], b"hvc1", b"heic", transforms=[irot(turns)])
    for axis in (0, 1):
        yield f"heic_imir_{axis}.heic", container([save(whole)], b"hvc1", b"heic", transforms=[imir(axis)])
    yield "heic_irot_imir.heic", container([save(whole)], b"hvc1", b"heic", transforms=[irot(1), imir(1)])
    yield "heic_clap.heic", container([save(whole)], b"hvc1", b"heic", transforms=[clap(40, 30, 8, 20, (64, 64))])


def avifs(image):
    rgba = image.copy()
    rgba.putalpha(image.convert("L"))
    save = lambda picture, **more: encoded(picture, "AVIF", **({"quality": 80, "speed": 8} | more))
    yield "avif_420.avif", save(image)
    yield "avif_422.avif", save(image, subsampling="4:2:2")
    yield "avif_444.avif", save(image, subsampling="4:4:4")
    yield "avif_grey.avif", save(image.convert("L"))
    yield "avif_rgba.avif", save(rgba)
    yield "avif_limited.avif", save(image, range="limited")
    yield "avif_limited_grey.avif", save(image.convert("L"), range="limited")
    yield "avif_even.avif", save(scene(60, 44))
    yield "avif_animation.avif", save(image, save_all=True, append_images=[ImageOps.mirror(image)])
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[274] = orientation
        yield f"avif_turned_{orientation}.avif", save(image, exif=exif)
    tiles = [save(scene(64, 64, seed), subsampling="4:4:4") for seed in range(4)]
    yield "avif_grid.avif", container(tiles, b"av01", b"avif", 2, (128, 128))
    yield "avif_grid_cut.avif", container(tiles, b"av01", b"avif", 2, (110, 100), [irot(1)])


def jxls(image):
    rgba = image.copy()
    rgba.putalpha(image.convert("L"))
    save = lambda picture, **more: encoded(picture, "JXL", **more)
    yield "jxl_lossless.jxl", save(image, lossless=True)
    yield "jxl_lossy.jxl", save(image, quality=85)
    yield "jxl_grey.jxl", save(image.convert("L"), lossless=True)
    yield "jxl_grey_alpha.jxl", save(rgba.convert("LA"), lossless=True)
    yield "jxl_rgba.jxl", save(rgba, quality=85)
    grey16 = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256 + 200)
    yield "jxl_grey16.jxl", save(grey16, lossless=True)
    exif = Image.Exif()
    exif[274] = 6
    # The plugin repacks a JPEG that is open as a file, and no other.
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        image.save(file.name, quality=85, exif=exif)
        with Image.open(file.name) as jpeg:
            yield "jxl_of_jpeg.jxl", save(jpeg, lossless_jpeg=True)


def expected(path):
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):
            upper = (np.asarray(image) >> 8).astype(np.uint8)
            return Image.fromarray(upper).convert("RGB")
        return ImageOps.exif_transpose(image).convert("RGB")


def main():
    for folder in (FIXTURES, REFERENCE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    image = scene(61, 47)
    for name, content in [*heics(image), *avifs(image), *jxls(image)]:
        (FIXTURES / name).write_bytes(content)
        expected(FIXTURES / name).save(REFERENCE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
