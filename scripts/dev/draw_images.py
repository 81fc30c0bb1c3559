"""Draws small JPEG files for tests of many images: four classes of coloured blots, all different.

    draw_images.py FOLDER COUNT             files, FOLDER/CLASS/000000.jpg
    draw_images.py FOLDER COUNT --shards N  N tar files with a .cls beside each image
"""

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "grey", "red")
TINTS = {"blue": (0, 0, 90), "green": (0, 90, 0), "grey": (0, 0, 0), "red": (90, 0, 0)}


def drawn(number: int, size: tuple[int, int]) -> tuple[str, bytes]:
    """Class and JPEG file of the image with this number; `size` is width and height."""
    name = CLASSES[number % len(CLASSES)]
    blots = np.random.default_rng(number).integers(0, 160, (5, 5, 3)) + TINTS[name]
    picture = Image.fromarray(blots.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return name, file.getvalue()


def write_folder(folder: Path, count: int, size: tuple[int, int]) -> None:
    for number in range(count):
        name, content = drawn(number, size)
        place = folder / name / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def write_shards(folder: Path, count: int, size: tuple[int, int], shards: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"shard-{shard:03}.tar", "w") as tar:
            for number in range(shard * count // shards, (shard + 1) * count // shards):
                name, content = drawn(number, size)
                for ending, data in ((".jpg", content), (".cls", name.encode())):
                    member = tarfile.TarInfo(f"{number:06}{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(80, 60), metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args()
    if arguments.shards:
        write_shards(arguments.folder, arguments.count, tuple(arguments.size), arguments.shards)
    else:
        write_folder(arguments.folder, arguments.count, tuple(arguments.size))
