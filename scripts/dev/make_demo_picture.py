"""Draws docs/demo.png: pictures that the demo's head has never seen, each with its answer.

    python scripts/dev/make_demo_picture.py --program target/debug/cnncodes

Runs `cnncodes demo` in a scratch folder, draws pictures with another seed, classifies them, and puts the first four of
each class on one sheet, with the answer in red where it is wrong.
"""

import argparse
import csv
import pathlib
import subprocess
import tempfile

from PIL import Image, ImageDraw, ImageFont

ACROSS, SEED, GAP, CAPTION = 4, 1_000_000, 8, 18
ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", default="target/debug/cnncodes")
    args = parser.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        run = lambda folder, *arguments: subprocess.run(
            [program, *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout
        run(work, "demo")
        run(work, "demo", "--dir", "unseen", "--seed", str(SEED), "--per-class", "50")
        answers = list(csv.DictReader(
            run(work / "cnncodes-demo", "classify", "../unseen/data", "--top", "1", "--format", "csv").splitlines()
        ))
        right = sum(pathlib.Path(answer["image"]).parent.name == answer["class"] for answer in answers)
        print(f"{right} of {len(answers)} unseen pictures are classified rightly")
        sheet(work / "cnncodes-demo", answers).save(ROOT / "docs" / "demo.png", optimize=True)


def sheet(folder, answers):
    classes = sorted({pathlib.Path(answer["image"]).parent.name for answer in answers})
    width, height = 160 + GAP, 120 + CAPTION + GAP
    picture = Image.new("RGB", (ACROSS * width + GAP, len(classes) * height + GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for row, name in enumerate(classes):
        chosen = [answer for answer in answers if pathlib.Path(answer["image"]).parent.name == name][:ACROSS]
        for column, answer in enumerate(chosen):
            left, top = GAP + column * width, GAP + row * height
            picture.paste(Image.open(folder / answer["image"]), (left, top))
            text = f"{answer['class']} {float(answer['probability']):.0%}"
            draw.text((left + 80, top + 122), text, "black" if answer["class"] == name else "red", font, anchor="ma")
    return picture.quantize(128)


if __name__ == "__main__":
    main()
