#!/usr/bin/env python3
"""Draws pictures in every way of storing them that Pillow reads, and gives Pillow's pixels: check_pixels.py FOLDER

Writes files, and FOLDER/cases.json: for each its size and the SHA-256 of Pillow's RGB, turned by `ImageOps.exif_transpose`,
or the RGB itself (base64) where a conversion may round otherwise. tests/it/pixels.rs compares. Needs Pillow and NumPy.
"""

import base64
import hashlib
import io
import json
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SSHORT, SLONG, FLOAT, DOUBLE, IFD, LONG8 = 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 16
FORMS = {BYTE: "B", ASCII: "c", SHORT: "H", LONG: "I", RATIONAL: "2I", UNDEFINED: "B", SSHORT: "h", SLONG: "i", FLOAT: "f",
         DOUBLE: "d", IFD: "I", LONG8: "Q"}
ORIENTATION, XMP = 274, 700
folder = Path(sys.argv[1])
cases = []


def scene(width, height):
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 20, (height, width, 3))
    picture = np.dstack([x * 255 // width, y * 255 // height, (x + y) * 200 // (width + height)]) + noise
    picture[3:9, 2:20] = (250, 10, 60)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def case(name, content, levels=0):
    """A file whose pixels are Pillow's, or differ from them by no more than so many levels."""
    path = folder / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                rgb = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:  # Pillow raises what it meets.
            print(f"{name}: Pillow does not read it ({error!r})", file=sys.stderr)
            path.unlink()
            return
    add(name, rgb, levels)


def add(name, rgb, levels=0):
    data = rgb.tobytes()
    found = {"name": name, "size": list(rgb.size), "levels": levels, "sha256": hashlib.sha256(data).hexdigest()}
    if levels:
        found["rgb"] = base64.b64encode(data).decode()
    cases.append(found)


# --- orientation ------------------------------------------------------------------------------------------

def directory(entries, order="<", big=False, start=8, after=0):
    """An IFD at `start`; entries are (tag, type, values), values perhaps bytes. Gives it with the data behind it."""
    count, entry, inline, pointer = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    data_at = start + struct.calcsize(count) + entry * len(entries) + inline
    head, data = struct.pack(order + count, len(entries)), b""
    for tag, kind, values in sorted(entries, key=lambda e: e[0]):
        if isinstance(values, bytes):
            packed, n = values, len(values)
        else:
            form = FORMS[kind]
            per = 2 if kind == RATIONAL else 1
            n = len(values) // per
            packed = struct.pack(order + (f"{len(values)}I" if kind == RATIONAL else f"{len(values)}{form}"), *values)
        head += struct.pack(order + "HH" + pointer, tag, kind, n)
        if len(packed) <= inline:
            head += packed.ljust(inline, b"\0")
        else:
            head += struct.pack(order + pointer, data_at + len(data))
            data += packed + b"\0" * (len(packed) % 2)
    return head + struct.pack(order + pointer, after) + data


def exif(entries, order="<", magic=None):
    return (magic or (b"II*\0" if order == "<" else b"MM\0*")) + struct.pack(order + "I", 8) + directory(entries, order)


def xmp(value, form="attribute"):
    text = f'tiff:Orientation="{value}"' if form == "attribute" else f"><tiff:Orientation>{value}</tiff:Orientation"
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {text}></rdf:Description></x:xmpmeta>'.encode()


def jpeg(image, *segments, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, **options)
    content = file.getvalue()
    extra = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in segments)
    return content[:2] + extra + content[2:]


def png(image, *chunks, behind=()):
    file = io.BytesIO()
    image.save(file, "PNG")
    content = file.getvalue()
    made = lambda chunks: b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
                                   for kind, body in chunks)
    return content[:33] + made(chunks) + content[33:-12] + made(behind) + content[-12:]


def webp(image, **options):
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, **options)
    return file.getvalue()


def tiff(entries, strips, order="<", big=False, tiles=False, after=b""):
    """A TIFF of these tags and compressed strips (or tiles)."""
    head = (b"II" if order == "<" else b"MM") + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    offsets, lengths = (324, 325) if tiles else (273, 279)
    start = len(head)
    for _ in range(2):
        at = start
        places = []
        for strip in strips:
            places.append(at)
            at += len(strip)
        all_entries = [*entries, (offsets, LONG8 if big else LONG, places), (lengths, LONG, [len(s) for s in strips])]
        body = directory(all_entries, order, big, len(head))
        start = len(head) + len(body)
    return head + body + b"".join(strips) + after


def raw_profile(data):
    return b"\nexif\n%8d\n" % len(data) + data.hex().encode() + b"\n"


def orientations():
    image = scene(23, 17)
    prefix, xap = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
    for value in range(0, 10):
        short = [(ORIENTATION, SHORT, [value])]
        case(f"jpeg_short_{value}.jpg", jpeg(image, prefix + exif(short)))
        case(f"jpeg_long_{value}.jpg", jpeg(image, prefix + exif([(ORIENTATION, LONG, [value])], ">")))
        case(f"jpeg_xmp_{value}.jpg", jpeg(image, xap + xmp(value)))
        case(f"png_exif_{value}.png", png(image, (b"eXIf", exif(short))))
        case(f"png_profile_{value}.png", png(image, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(prefix + exif(short))))))
        case(f"png_xmp_{value}.png", png(image, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(value, "element"))))
        case(f"webp_exif_{value}.webp", webp(image, exif=exif(short)))
        case(f"webp_xmp_{value}.webp", webp(image, xmp=xmp(value)))
        pixels = image.tobytes()
        tags = [(256, SHORT, [23]), (257, SHORT, [17]), (258, SHORT, [8] * 3), (262, SHORT, [2]), (277, SHORT, [3])]
        case(f"tiff_short_{value}.tif", tiff([*tags, (ORIENTATION, SHORT, [value])], [pixels]))
        case(f"tiff_long_{value}.tif", tiff([*tags, (ORIENTATION, LONG, [value])], [pixels], ">", big=False))
        case(f"tiff_xmp_{value}.tif", tiff([*tags, (XMP, BYTE, xmp(value))], [pixels]))
        case(f"tiff_big_{value}.tif", tiff([*tags, (ORIENTATION, LONG8, [value])], [pixels], big=True))
    six = lambda kind, values: exif([(ORIENTATION, kind, values)])
    for name, body in {
        "byte": six(BYTE, [6]), "ascii": six(ASCII, b"6\0"), "undefined": six(UNDEFINED, [6]), "sshort": six(SSHORT, [6]),
        "slong": six(SLONG, [6]), "negative": six(SSHORT, [-6]), "float": six(FLOAT, [6.0]), "double": six(DOUBLE, [6.0]),
        "half": six(FLOAT, [6.5]), "rational": six(RATIONAL, [6, 1]), "reduced": six(RATIONAL, [12, 2]), "ifd": six(IFD, [6]),
        "two": six(SHORT, [6, 3]), "many": six(SHORT, [6, 3, 1, 1, 1]), "none": six(SHORT, []), "long8": six(LONG8, [6]),
        "large": six(LONG, [65542]), "unknown_type": six(99, b"\6\0\0\0") , "twice": exif([(ORIENTATION, SHORT, [6]), (ORIENTATION, SHORT, [3])]),
        "behind_bad": exif([(270, ASCII, b"a" * 40), (ORIENTATION, SHORT, [6])])[:-8] + b"",
        "swapped_magic": exif([(ORIENTATION, SHORT, [6])], magic=b"II\0*"), "swapped_mm": exif([(ORIENTATION, SHORT, [6])], ">", magic=b"MM*\0"),
        "empty": b"", "cut": six(SHORT, [6])[:18], "prefix_twice": prefix + six(SHORT, [6]),
        "other_first": exif([(256, LONG, [4]), (ORIENTATION, SHORT, [6]), (305, ASCII, b"a program\0")], ">"),
    }.items():
        case(f"jpeg_{name}.jpg", jpeg(image, prefix + body))
        case(f"jpeg_{name}_and_xmp.jpg", jpeg(image, prefix + body, xap + xmp(8)))
        if body:
            case(f"webp_{name}.webp", webp(image, exif=body))
    case("jpeg_two_exif.jpg", jpeg(image, prefix + exif([(ORIENTATION, SHORT, [6])])[:14], prefix + exif([(ORIENTATION, SHORT, [6])])[14:]))
    case("jpeg_two_xmp.jpg", jpeg(image, xap + xmp(6), xap + xmp(3)))
    case("jpeg_xmp_first.jpg", jpeg(image, xap + xmp(6), prefix + exif([(ORIENTATION, SHORT, [3])])))
    case("jpeg_xmp_spaced.jpg", jpeg(image, xap + b'<x tiff:Orientation = "6" a="1"/>'))
    case("jpeg_xmp_second.jpg", jpeg(image, xap + b'<x tiff:Orientation/> <tiff:Orientation>8'))
    case("jpeg_xmp_long_number.jpg", jpeg(image, xap + b'<tiff:Orientation>61'))
    short = [(ORIENTATION, SHORT, [6])]
    case("png_exif_behind.png", png(image, behind=[(b"eXIf", exif(short))]))
    case("png_exif_over_profile.png", png(image, (b"tEXt", b"Raw profile type exif\0" + raw_profile(exif([(ORIENTATION, SHORT, [3])]))), (b"eXIf", exif(short))))
    case("png_profile_text.png", png(image, (b"tEXt", b"Raw profile type exif\0" + raw_profile(prefix + exif(short)))))
    case("png_profile_itxt.png", png(image, (b"iTXt", b"Raw profile type exif\0\0\0\0\0" + raw_profile(prefix + exif(short)))))
    case("png_profile_app1.png", png(image, (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(raw_profile(prefix + exif(short))))))
    case("png_xmp_packed.png", png(image, (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(8)))))
    case("png_xmp_behind.png", png(image, behind=[(b"iTXt", b"XML:com.adobe.xmp\0\0\0en\0\0" + xmp(8))]))
    case("png_exif_prefixed.png", png(image, (b"eXIf", prefix + exif(short))))
    case("png_two_exif.png", png(image, (b"eXIf", exif([(ORIENTATION, SHORT, [3])])), (b"eXIf", exif(short))))


# --- TIFF -------------------------------------------------------------------------------------------------

def packed(values, bits):
    """Rows of small numbers, each padded to a byte."""
    height, width = values.shape
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((values[..., None] >> shifts & 1).reshape(height, width * bits).astype(np.uint8), axis=1).tobytes()


def tiffs():
    width, height = 45, 38
    image = scene(width, height)
    rgb = np.asarray(image)
    grey = np.asarray(image.convert("L"))
    rng = np.random.default_rng(3)
    size = [(256, SHORT, [width]), (257, LONG, [height])]
    form = lambda bits, photometric, samples, *more: [*size, (258, SHORT, [bits] * samples), (262, SHORT, [photometric]), (277, SHORT, [samples]), *more]

    def save(name, picture, levels=0, **options):
        file = io.BytesIO()
        picture.save(file, "TIFF", **options)
        case(name, file.getvalue(), levels)

    for bits in (1, 2, 4, 8):
        indices = (grey >> (8 - bits)).astype(np.uint8)
        colours = rng.integers(0, 65536, 3 << bits).tolist()
        rows = packed(indices, bits)
        for order in "<>":
            case(f"palette_{bits}{order == '>'}.tif", tiff(form(bits, 3, 1, (320, SHORT, colours)), [rows], order))
            case(f"grey_{bits}{order == '>'}.tif", tiff(form(bits, 1, 1), [rows], order))
            case(f"white_is_zero_{bits}{order == '>'}.tif", tiff(form(bits, 0, 1), [rows], order))
        case(f"palette_{bits}_big.tif", tiff(form(bits, 3, 1, (320, SHORT, colours)), [rows], big=True))
        flipped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in rows)
        case(f"fill_order_{bits}.tif", tiff(form(bits, 1, 1, (266, SHORT, [2])), [flipped]))
        case(f"palette_fill_order_{bits}.tif", tiff(form(bits, 3, 1, (266, SHORT, [2]), (320, SHORT, colours)), [flipped]))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate"):
        save(f"palette_{compression}.tif", image.quantize(50), compression=compression)
        save(f"rgb_{compression}.tif", image, compression=compression)
        save(f"ycbcr_{compression}.tif", image.convert("YCbCr"), 1, compression=compression, tiffinfo={530: (1, 1)})
        save(f"cmyk_{compression}.tif", Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8), "CMYK"), compression=compression)
        save(f"float_{compression}.tif", Image.fromarray(rgb[..., 0].astype(np.float32)), compression=compression)
    for predictor in (1, 2):
        save(f"palette_predictor_{predictor}.tif", image.quantize(50), compression="tiff_lzw", tiffinfo={317: predictor})
    bilevel = image.convert("1")
    save("fax4.tif", bilevel, compression="group4")
    save("fax4_black.tif", bilevel, compression="group4", tiffinfo={262: 0})
    save("fax4_fill_order.tif", bilevel, compression="group4", tiffinfo={266: 2})
    for quality in (60, 95):
        save(f"jpeg_rgb_{quality}.tif", image, compression="jpeg", quality=quality)
        save(f"jpeg_grey_{quality}.tif", image.convert("L"), compression="jpeg", quality=quality)
        save(f"jpeg_ycbcr_{quality}.tif", image.convert("YCbCr"), compression="jpeg", quality=quality)
    save("jpeg_strips.tif", scene(61, 333), compression="jpeg", strip_size=4096)
    save("jpeg_ycbcr_strips.tif", scene(61, 333).convert("YCbCr"), compression="jpeg", strip_size=4096)
    save("big.tif", image, big_tiff=True)
    save("big_lzw.tif", image, big_tiff=True, compression="tiff_lzw")
    save("big_palette.tif", image.quantize(30), big_tiff=True)
    save("pages.tif", image, save_all=True, append_images=[image.rotate(90, expand=True)])
    inks = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    case("cmyk.tif", tiff(form(8, 5, 4), [inks.tobytes()]))
    case("cmyk_extra.tif", tiff(form(8, 5, 5, (338, SHORT, [0])), [np.dstack([inks, grey]).tobytes()]))
    deep_inks = rng.integers(0, 65536, (height, width, 4), dtype=np.uint16)
    case("cmyk16.tif", tiff(form(16, 5, 4), [deep_inks.tobytes()]))
    ycbcr = np.asarray(image.convert("YCbCr"))
    case("ycbcr.tif", tiff(form(8, 6, 3, (530, SHORT, [1, 1])), [ycbcr.tobytes()]), 1)
    case("ycbcr_noise.tif", tiff(form(8, 6, 3, (530, SHORT, [1, 1])), [rng.integers(0, 256, (height, width, 3), dtype=np.uint8).tobytes()]), 1)
    case("rgb16.tif", tiff(form(16, 2, 3), [(rgb.astype(np.uint16) * 257 ^ 99).tobytes()]))
    case("rgb16_mm.tif", tiff(form(16, 2, 3), [(rgb.astype(">u2") * 257 ^ 99).astype(">u2").tobytes()], ">"))
    alpha = rng.integers(0, 256, (height, width, 1), dtype=np.uint8)
    rgba = np.dstack([rgb, alpha])
    below = np.dstack([rgb // 3 + alpha // 3, alpha])
    for kind in (0, 1, 2):
        case(f"rgba_{kind}.tif", tiff(form(8, 2, 4, (338, SHORT, [kind])), [below.tobytes()]))
        case(f"rgba16_{kind}.tif", tiff(form(16, 2, 4, (338, SHORT, [kind])), [(below.astype(np.uint16) * 256 + 77).tobytes()]))
    for kind in (0, 2):
        case(f"grey_alpha_{kind}.tif", tiff(form(8, 1, 2, (338, SHORT, [kind])), [np.dstack([grey, alpha]).tobytes()]))
        case(f"palette_alpha_{kind}.tif", tiff(form(8, 3, 2, (338, SHORT, [kind]), (320, SHORT, rng.integers(0, 65536, 768).tolist())), [np.dstack([grey, alpha]).tobytes()]))
    case("rgba_undeclared.tif", tiff(form(8, 2, 4), [rgba.tobytes()]))
    case("rgbaxx.tif", tiff(form(8, 2, 6, (338, SHORT, [2, 0, 0])), [np.dstack([rgba, grey, grey]).tobytes()]))
    planes = [rgb[..., channel].tobytes() for channel in range(3)]
    case("planar.tif", tiff(form(8, 2, 3, (284, SHORT, [2])), planes))
    case("planar_strips.tif", tiff(form(8, 2, 3, (284, SHORT, [2]), (278, SHORT, [20])), [part for plane in planes for part in (plane[:20 * width], plane[20 * width:])]))
    case("strips.tif", tiff(form(8, 2, 3, (278, SHORT, [7])), [rgb[row:row + 7].tobytes() for row in range(0, height, 7)]))
    tile = lambda pixels: [np.pad(pixels[y:y + 16, x:x + 16], ((0, max(0, y + 16 - height)), (0, max(0, x + 16 - width)), (0, 0))[:pixels.ndim]).tobytes()
                           for y in range(0, height, 16) for x in range(0, width, 16)]
    tiling = [(322, SHORT, [16]), (323, SHORT, [16])]
    case("tiles.tif", tiff(form(8, 2, 3, *tiling), tile(rgb), tiles=True))
    case("tiles_palette.tif", tiff(form(8, 3, 1, *tiling, (320, SHORT, rng.integers(0, 65536, 768).tolist())), tile(grey), tiles=True))
    case("tiles_big_deflate.tif", tiff(form(8, 2, 3, (259, SHORT, [8]), *tiling), [zlib.compress(part) for part in tile(rgb)], tiles=True, big=True))
    case("float_levels.tif", tiff(form(32, 1, 1, (339, SHORT, [3])), [(grey * 0.99 + 0.3).astype("<f4").tobytes()]))
    case("float_levels_mm.tif", tiff(form(32, 1, 1, (339, SHORT, [3])), [(grey * 0.99 + 0.3).astype(">f4").tobytes()], ">"))

    # What Pillow reads otherwise, or not at all; the levels are those that were drawn.
    def own(name, content, levels):
        (folder / name).write_bytes(content)
        add(name, Image.fromarray(np.ascontiguousarray(levels)).convert("RGB"))

    own("float_unit.tif", tiff(form(32, 1, 1, (339, SHORT, [3])), [(grey / 255).astype("<f4").tobytes()]), grey)
    own("float64_unit.tif", tiff(form(64, 1, 1, (339, SHORT, [3])), [(grey / 255).astype("<f8").tobytes()]), grey)
    own("float16_levels.tif", tiff(form(16, 1, 1, (339, SHORT, [3])), [grey.astype("<f2").tobytes()]), grey)
    own("float_rgb_unit.tif", tiff(form(32, 2, 3, (339, SHORT, [3] * 3)), [(rgb / 255).astype("<f4").tobytes()]), rgb)
    own("grey16.tif", tiff(form(16, 1, 1), [(grey.astype("<u2") * 256 + 200).tobytes()]), grey)
    own("white_is_zero16.tif", tiff(form(16, 0, 1), [(grey.astype("<u2") * 256 + 200).tobytes()]), 255 - grey)
    own("big_mm.tif", tiff(form(8, 2, 3), [rgb.tobytes()], ">", big=True), rgb)


# --- JPEG -------------------------------------------------------------------------------------------------

def segments(content):
    """Segments of a JPEG: (marker, bytes), a scan with its data."""
    found, at = [], 2
    while content[at + 1] != 0xd9:
        marker, end = content[at + 1], at + 2 + int.from_bytes(content[at + 2:at + 4], "big")
        if marker == 0xda:
            while not (content[end] == 0xff and content[end + 1] not in (0, *range(0xd0, 0xd8))):
                end += 1
        found.append((marker, content[at:end]))
        at = end
    return found


def jpegs():
    image = scene(90, 70)
    whole = jpeg(image)
    end = whole[:-2]
    case("trailer_text.jpg", end + b"a phone writes this behind its photo, and forgets the end mark")
    case("trailer_zeros.jpg", end + bytes(200))
    case("trailer_noise.jpg", end + bytes(np.random.default_rng(1).integers(0, 255, 300, dtype=np.uint8)) + b"SEFT")
    case("trailer_app.jpg", end + b"\xff\xe1\0\x10" + b"a" * 14)
    case("trailer_behind_end.jpg", whole + b"\0\0 more " * 9)
    case("trailer_restart.jpg", jpeg(image, restart_marker_blocks=2)[:-2] + b"a trailer of some other program")
    case("trailer_grey.jpg", jpeg(image.convert("L"))[:-2] + b"a trailer of some other program")
    case("two_jpegs.jpg", whole + jpeg(image.rotate(180)))
    case("gap_before_end.jpg", end + b"\0" * 9 + whole[-2:])
    progressive = jpeg(image, progressive=True)
    parts = segments(progressive)
    scans = [index for index, (marker, _) in enumerate(parts) if marker == 0xda]
    join = lambda parts: progressive[:2] + b"".join(part for _, part in parts) + b"\xff\xd9"
    assert join(parts) == progressive
    for number, at in enumerate(scans):
        tables = at
        while parts[tables - 1][0] == 0xc4:
            tables -= 1
        again = parts[tables:at + 1]
        twice = join(parts[:at + 1] + again + parts[at + 1:])
        # Pillow gives garbage for a repeated refinement of coefficients, and the program refuses it.
        if np.array_equal(*(Image.open(io.BytesIO(content)).convert("RGB") for content in (twice, progressive))):
            case(f"scan_{number}_twice.jpg", twice)


folder.mkdir(parents=True, exist_ok=True)
orientations()
tiffs()
jpegs()
(folder / "cases.json").write_text(json.dumps(cases))
