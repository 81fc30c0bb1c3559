"""Synthetic training images of the demo network: 32 classes of shapes, patterns and simple objects.

None of them is a class of `cnncodes demo` (fish, flower, house, sailboat, drawn by src/demo/draw.rs): the network has to
transfer what it learned here. An image is a list of filled polygons in a square of half-width 1, placed at random on
a random background; polygons that share a role share a fill.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64
SUPERSAMPLING = 2


def ellipse(x, y, rx, ry=None, start=0.0, stop=2 * np.pi, corners=28):
    angle = np.linspace(start, stop, corners)
    return np.stack([x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], 1)


def box(x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def regular(corners, radius=1.0, turn=-np.pi / 2):
    angle = turn + np.arange(corners) * 2 * np.pi / corners
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def star(points, inner, outer=1.0):
    angle = -np.pi / 2 + np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def band(x, y, radius, width, start=0.0, stop=2 * np.pi):
    """An arc of a circle with a thickness; a ring when it goes all the way round."""
    outer = ellipse(x, y, radius, start=start, stop=stop, corners=36)
    return np.concatenate([outer, ellipse(x, y, radius - width, start=start, stop=stop, corners=36)[::-1]])


def stroke(line, width):
    """A polyline with a thickness, as quadrilaterals with round joints."""
    line = np.asarray(line, float)
    parts = [ellipse(x, y, width / 2, corners=10) for x, y in line]
    for a, b in zip(line[:-1], line[1:]):
        along = (b - a) / max(np.hypot(*(b - a)), 1e-9)
        normal = np.array([-along[1], along[0]]) * width / 2
        parts.append(np.array([a + normal, b + normal, b - normal, a - normal]))
    return parts


def plain(polygons):
    """Polygons that share one fill."""
    return [(0, polygon) for polygon in polygons]


def stripes(rng):
    count = rng.integers(4, 9)
    edges = np.linspace(-1.8, 1.8, 2 * count + 1)
    return plain(box(-1.8, a, 1.8, b) for a, b in zip(edges[0::2], edges[1::2]))


def checker(rng):
    step = rng.uniform(0.3, 0.6)
    cells = np.arange(-1.8, 1.8, step)
    return plain(
        box(x, y, x + step, y + step) for i, x in enumerate(cells) for j, y in enumerate(cells) if (i + j) % 2
    )


def dots(rng):
    step = rng.uniform(0.4, 0.7)
    radius = step * rng.uniform(0.2, 0.38)
    places = np.arange(-1.8, 1.8, step)
    return plain(ellipse(x, y, radius, corners=14) for x in places for y in places)


def bricks(rng):
    height = rng.uniform(0.25, 0.45)
    gap, width = height * 0.2, height * 2.2
    return plain(
        box(x + (j % 2) * width / 2, y, x + (j % 2) * width / 2 + width - gap, y + height - gap)
        for j, y in enumerate(np.arange(-1.8, 1.8, height))
        for x in np.arange(-2.2, 1.8, width)
    )


def waves(rng):
    step, swing = rng.uniform(0.35, 0.6), rng.uniform(0.08, 0.2)
    x = np.linspace(-1.8, 1.8, 30)
    wave = swing * np.sin(x * rng.uniform(4, 9))
    return plain(
        np.concatenate([np.stack([x, y + wave], 1), np.stack([x, y + step * 0.45 + wave], 1)[::-1]])
        for y in np.arange(-1.8, 1.8, step)
    )


def concentric(rng):
    step = rng.uniform(0.25, 0.4)
    return plain(band(0, 0, radius, step * 0.5) for radius in np.arange(step, 1.5, step))


def spiral(rng):
    turn = np.linspace(0.5, rng.uniform(2.0, 3.0) * 2 * np.pi, 40)
    line = np.stack([np.cos(turn), np.sin(turn)], 1) * (turn / turn[-1])[:, None]
    return plain(stroke(line, 0.16))


def scattered_sticks(rng):
    parts = []
    for _ in range(rng.integers(8, 16)):
        x, y, turn = *rng.uniform(-1.2, 1.2, 2), rng.uniform(0, np.pi)
        dx, dy = 0.3 * np.cos(turn), 0.3 * np.sin(turn)
        parts += stroke([(x - dx, y - dy), (x + dx, y + dy)], 0.09)
    return plain(parts)


def heart(_):
    t = np.linspace(0, 2 * np.pi, 40)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return plain([np.stack([np.sin(t) ** 3, -y / 16], 1)])


def crescent(rng):
    inner = rng.uniform(0.35, 0.6)
    outer = ellipse(0, 0, 1, start=-1.2, stop=1.2 + np.pi / 8)
    return plain([np.concatenate([outer, ellipse(-0.15, 0, inner + 0.3, 0.93, -1.2, 1.2 + np.pi / 8)[::-1]])])


def gear(rng):
    teeth = rng.integers(7, 11)
    parts = [(0, band(0, 0, 0.8, 0.45))]
    for angle in np.arange(teeth) * 2 * np.pi / teeth:
        c, s = np.cos(angle), np.sin(angle)
        parts.append((0, box(0.7, -0.14, 1.0, 0.14) @ np.array([(c, s), (-s, c)])))
    return parts


def mug(rng):
    handle = band(0.6, 0.05, 0.42, 0.16, -np.pi / 2, np.pi / 2)
    body = box(-0.7, -0.75, 0.6, 0.8)
    return [(0, handle), (0, body), (1, ellipse(-0.05, -0.75, 0.65, 0.17)), (2, box(-0.7, 0.1, 0.6, rng.uniform(0.2, 0.5)))]


def tree(rng):
    parts = [(0, box(-0.14, 0.2, 0.14, 1.0))]
    if rng.random() < 0.5:
        return parts + [(1, np.array([(-w, y), (w, y), (0, y - 0.75)])) for w, y in ((0.75, 0.5), (0.6, 0.1), (0.45, -0.3))]
    return parts + [(1, ellipse(x, y, 0.48)) for x, y in ((-0.4, -0.1), (0.4, -0.1), (0, -0.5))]


def car(_):
    cabin = np.array([(-0.55, -0.1), (-0.3, -0.5), (0.35, -0.5), (0.6, -0.1)])
    wheels = [(2, ellipse(x, 0.35, 0.24)) for x in (-0.55, 0.55)]
    window = np.array([(-0.4, -0.12), (-0.23, -0.4), (0.27, -0.4), (0.45, -0.12)])
    return [(0, cabin), (0, box(-1, -0.1, 1, 0.35)), (1, window)] + wheels


def umbrella(_):
    hook = [(2, part) for part in stroke([(0, -0.1), (0, 0.75), (0.1, 0.88), (0.25, 0.85)], 0.1)]
    return hook + [(0, ellipse(0, 0, 0.95, 0.85, np.pi, 2 * np.pi)), (1, ellipse(0, 0, 0.35, 0.85, np.pi, 2 * np.pi))]


def key(_):
    teeth = [(0, box(x, 0, x + 0.14, 0.38)) for x in (0.55, 0.82)]
    return [(0, band(-0.6, 0, 0.4, 0.19)), (0, box(-0.25, -0.09, 1, 0.09))] + teeth


def snowman(_):
    body = [(0, ellipse(0, 0.5, 0.5)), (0, ellipse(0, -0.2, 0.36)), (0, ellipse(0, -0.7, 0.25))]
    return body + [(1, box(-0.24, -1.1, 0.24, -0.85)), (2, ellipse(-0.08, -0.72, 0.05)), (2, ellipse(0.1, -0.72, 0.05))]


def mushroom(rng):
    spots = [(2, ellipse(x, y, 0.1, corners=12)) for x, y in ((-0.4, -0.2), (0.05, -0.45), (0.45, -0.15))]
    return [(1, box(-0.22, 0, 0.22, 0.85)), (0, ellipse(0, 0, 0.9, rng.uniform(0.65, 0.9), np.pi, 2 * np.pi))] + spots


def bottle(_):
    neck = [(0, box(-0.13, -1, 0.13, -0.4)), (2, box(-0.16, -1.1, 0.16, -0.9))]
    return neck + [(0, ellipse(0, -0.3, 0.36, 0.3)), (0, box(-0.36, -0.3, 0.36, 0.95)), (1, box(-0.36, 0.1, 0.36, 0.6))]


def butterfly(_):
    wings = [(0, ellipse(side * 0.5, -0.35, 0.45, 0.4)) for side in (-1, 1)]
    wings += [(1, ellipse(side * 0.38, 0.35, 0.34, 0.38)) for side in (-1, 1)]
    return wings + [(2, ellipse(0, 0, 0.1, 0.65))]


def face(rng):
    features = [(1, ellipse(x, -0.25, 0.13)) for x in (-0.32, 0.32)]
    return [(0, ellipse(0, 0, 0.95))] + features + [(1, band(0, 0.1, 0.5, 0.13, 0.15, np.pi - 0.15))]


def traffic_light(rng):
    lamps = [(1 + i % 2, ellipse(0, y, 0.22)) for i, y in enumerate((-0.6, 0, 0.6))]
    return [(0, box(-0.38, -1, 0.38, 1))] + lamps


def ladder(rng):
    rungs = [(0, box(-0.4, y, 0.4, y + 0.1)) for y in np.linspace(-0.85, 0.75, rng.integers(4, 7))]
    return [(0, box(-0.5, -1.1, -0.36, 1.1)), (0, box(0.36, -1.1, 0.5, 1.1))] + rungs


def glyph_letter(line):
    return lambda rng: plain(part for stretch in line for part in stroke(stretch, rng.uniform(0.22, 0.36)))


CLASSES = {
    "triangle": lambda rng: plain([regular(3)]),
    "square": lambda rng: plain([regular(4, 1.1, np.pi / 4)]),
    "hexagon": lambda rng: plain([regular(6)]),
    "disc": lambda rng: plain([ellipse(0, 0, 0.9)]),
    "star": lambda rng: plain([star(5, rng.uniform(0.35, 0.5))]),
    "burst": lambda rng: plain([star(rng.integers(9, 14), rng.uniform(0.5, 0.7))]),
    "ring": lambda rng: plain([band(0, 0, 0.95, rng.uniform(0.2, 0.45))]),
    "cross": lambda rng: plain([box(-0.3, -1, 0.3, 1), box(-1, -0.3, 1, 0.3)]),
    "arrow": lambda rng: plain([box(-1, -0.18, 0.3, 0.18), np.array([(0.2, -0.6), (1, 0), (0.2, 0.6)])]),
    "heart": heart,
    "crescent": crescent,
    "gear": gear,
    "stripes": stripes,
    "checker": checker,
    "dots": dots,
    "bricks": bricks,
    "waves": waves,
    "concentric": concentric,
    "spiral": spiral,
    "sticks": scattered_sticks,
    "mug": mug,
    "tree": tree,
    "car": car,
    "umbrella": umbrella,
    "key": key,
    "snowman": snowman,
    "mushroom": mushroom,
    "bottle": bottle,
    "butterfly": butterfly,
    "face": face,
    "traffic_light": traffic_light,
    "ladder": ladder,
    "letter_e": glyph_letter([[(0.5, -0.8), (-0.5, -0.8), (-0.5, 0.8), (0.5, 0.8)], [(-0.5, 0), (0.4, 0)]]),
    "letter_k": glyph_letter([[(-0.5, -0.9), (-0.5, 0.9)], [(0.6, -0.9), (-0.45, 0), (0.6, 0.9)]]),
    "letter_z": glyph_letter([[(-0.6, -0.8), (0.6, -0.8), (-0.6, 0.8), (0.6, 0.8)]]),
    "letter_t": glyph_letter([[(-0.7, -0.85), (0.7, -0.85)], [(0, -0.85), (0, 0.9)]]),
}


def ramp(rng, colour, spread, side):
    """A flat colour that drifts linearly across the picture by up to `spread` levels."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    slope = rng.uniform(-spread, spread, (2, 3)).astype(np.float32)
    return colour + axis[None, :, None] * slope[0] + axis[:, None, None] * slope[1]


def distant_colour(rng, others, distance=90.0):
    """A random colour that stands off from all `others` (Euclidean, in RGB levels)."""
    while True:
        colour = rng.uniform(10, 245, 3).astype(np.float32)
        if all(np.linalg.norm(colour - other) > distance for other in others):
            return colour
        distance *= 0.97


def paste(picture, polygons, fill):
    side = picture.shape[0]
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for polygon in polygons:
        pen.polygon([tuple(point) for point in polygon], fill=255)
    inside = np.asarray(mask, dtype=bool)
    picture[inside] = fill[inside] if fill.ndim == 3 else fill


def background(rng, side):
    colour = distant_colour(rng, [])
    picture = ramp(rng, colour, 50, side)
    if rng.random() < 0.5:
        ground = distant_colour(rng, [colour], 40)
        y = side * rng.uniform(0.4, 0.9, 2)
        paste(picture, [np.array([(0, y[0]), (side, y[1]), (side, side), (0, side)])], ramp(rng, ground, 40, side))
    for _ in range(rng.integers(0, 7)):
        blob = regular(rng.integers(3, 9), side * rng.uniform(0.02, 0.1), rng.uniform(0, 6))
        paste(picture, [blob * rng.uniform(0.5, 1, 2) + rng.uniform(0, side, 2)], distant_colour(rng, [colour], 40))
    return picture, colour


def draw(name, rng):
    """One image of the class, 64 x 64 x 3 uint8."""
    side = SIZE * SUPERSAMPLING
    picture, behind = background(rng, side)
    turn = rng.normal(0, 0.3)
    c, s = np.cos(turn), np.sin(turn)
    stretch = rng.uniform(0.75, 1.25, 2) * (rng.choice([-1, 1]), 1)
    scale = side * rng.uniform(0.2, 0.46)
    place = side / 2 + (side / 2 - scale * 0.8) * rng.uniform(-0.7, 0.7, 2)
    fills = []
    for _ in range(3):
        fills.append(distant_colour(rng, [behind] + fills))
    drawn = [ramp(rng, fill, 45 if rng.random() < 0.5 else 0, side) for fill in fills]
    by_run = []
    for role, polygon in CLASSES[name](rng):
        placed = (polygon * stretch) @ np.array([(c, s), (-s, c)]) * scale + place
        if by_run and by_run[-1][0] == role:
            by_run[-1][1].append(placed)
        else:
            by_run.append((role, [placed]))
    for role, polygons in by_run:
        paste(picture, polygons, drawn[role])
    small = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).reduce(SUPERSAMPLING)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    noisy = np.asarray(small, dtype=np.float32) + rng.normal(0, rng.uniform(0, 14), (SIZE, SIZE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def dataset(per_class, seed):
    """Images (n x 64 x 64 x 3 uint8) and labels (n), class by class; every image has its own random stream."""
    names = list(CLASSES)
    images = np.empty((len(names) * per_class, SIZE, SIZE, 3), np.uint8)
    for row in range(len(images)):
        images[row] = draw(names[row // per_class], np.random.default_rng([seed, row]))
    return images, np.repeat(np.arange(len(names)), per_class)
