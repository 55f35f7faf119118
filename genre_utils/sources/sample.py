"""The embedded sample: movie posters that never existed, drawn on the spot.

Everything in this project runs on them without internet and without data. They are made to be
learnable, not to be easy: palette, picture, lettering and words each hint at the genre, one
poster in ten lies about it, and Music shows itself by a single mark in one corner.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genre_utils.genres import MISSING

SAMPLE_GENRES = (
    "Action",
    "Animation",
    "Documentary",
    "Horror",
    "Music",
    "Romance",
    "Sci-Fi",
    "Western",
)

WIDTH, HEIGHT = 200, 294

# Left, top, right, bottom in fractions of the width and the height. Music is recognised by a
# note in this box and by nothing else, and nothing else is ever drawn here: an explanation of a
# Music prediction has one right place to point at.
MUSIC_MARK = (154 / WIDTH, 250 / HEIGHT, 194 / WIDTH, 290 / HEIGHT)

# Drawn at twice the size and averaged down, since Pillow's shapes have jagged edges.
_SCALE = 2
_JPEG_QUALITY = 90

# Above this line the picture, below it a plain band: names at the left, the mark at the right.
_FOOTER = 246
_MARGIN = 13
_YELLOW = "#ffe94a"


def draw_sample(folder: Path, posters: int = 320, seed: int = 0) -> Path:
    """Draw `folder/Images/<Id>.jpg` and `folder/train.csv`, and return `folder`.

    The CSV has `Id`, `Genre` (a list written as Python writes it) and one 0/1 column a genre
    and for `N/A`, as the public data set has. Two rows are `N/A`; one poster in ten has the
    palette and picture of a genre that is not its own. The same seed gives the same bytes.

    A folder with a `train.csv` is returned untouched. The folder appears whole or not at all;
    raises `FileExistsError` when it already holds something else.
    """
    folder = Path(folder)
    if (folder / "train.csv").exists():
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files but no train.csv: give an empty or a new folder for the sample."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        # The temporary folder is private to its owner; a folder inside it has usual permissions.
        drawn = Path(temporary) / folder.name
        _draw_all(drawn, posters, seed)
        if folder.exists():
            folder.rmdir()
        os.replace(drawn, folder)
    return folder


def draw_poster(
    genres: Sequence[str], rng: np.random.Generator, style: str | None = None
) -> Image.Image:
    """Draw one fictional poster, RGB, 200 × 294 pixels.

    One of the genres gives the palette, the scenery and the lettering, a second one the emblem;
    all of them give words. `style` draws the poster in the look of that genre and takes only
    the words from `genres`. Music adds its mark and changes no other pixel; with no other
    genre beside it the poster is grey. Raises `ValueError` for a genre outside `SAMPLE_GENRES`.
    """
    for genre in (*genres, *([style] if style else [])):
        if genre not in SAMPLE_GENRES:
            raise ValueError(f"{genre!r} cannot be drawn: choose from {', '.join(SAMPLE_GENRES)}.")
    seen = [_STYLES[genre] for genre in genres if genre != "Music"] or [_NEUTRAL]
    speaking = [seen[i] for i in rng.permutation(len(seen))]
    looks = [_STYLES.get(style, _NEUTRAL)] if style else speaking
    look, emblem = looks[0], looks[min(1, len(looks) - 1)].emblem
    palette = _Palette(*str(rng.choice(look.palettes)).split())

    pen = _Pen(palette.sky)
    x, y, radius = (100, 164, 47) if look.title_on_top else (100, 88, 54)
    look.scene(pen, palette, rng, (x, y))
    emblem(pen, palette, rng, x, y, radius)
    pen.box(0, _FOOTER, WIDTH, HEIGHT, palette.ground)
    _write_title(pen, look, palette, rng, *_invent(speaking, rng))
    _write_cast(pen, palette, rng)
    if "Music" in genres:
        _draw_note(pen)
    return pen.image.reduce(_SCALE)


def _draw_all(folder: Path, posters: int, seed: int) -> None:
    (folder / "Images").mkdir(parents=True)
    columns = sorted((*SAMPLE_GENRES, MISSING))
    unlabelled = {posters // 3, 2 * posters // 3}
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["Id", "Genre", *columns])
        for i in range(posters):
            # One stream a poster: a poster stays the same whatever is drawn before it.
            rng = np.random.default_rng((seed, i))
            name = f"fictional-{i + 1:04d}"
            genres, style = _choose_genres(i, rng)
            picture = draw_poster(genres, rng, style)
            picture.save(folder / "Images" / f"{name}.jpg", quality=_JPEG_QUALITY)
            # A title without an entered genre still looks like something.
            labels = [MISSING] if i in unlabelled else genres
            table.writerow([name, str(labels), *(int(c in labels) for c in columns)])


def _choose_genres(i: int, rng: np.random.Generator) -> tuple[list[str], str | None]:
    """Choose one to three genres in alphabetical order, and the style if it is a foreign one."""
    # The first goes round, so that every genre has its eighth of the posters.
    first = SAMPLE_GENRES[i % len(SAMPLE_GENRES)]
    others = [genre for genre in SAMPLE_GENRES if genre != first]
    # Music alone is grey, and must stay rare, lest grey be learnt in place of the mark.
    chances = (0.1, 0.8, 0.1) if first == "Music" else (0.5, 0.45, 0.05)
    further = rng.choice(others, rng.choice(3, p=chances), replace=False)
    genres = sorted([first, *map(str, further)])
    foreign = [genre for genre in _STYLES if genre not in genres]
    style = str(rng.choice(foreign))
    return genres, style if rng.random() < 0.1 else None


# --- Pen and lettering: coordinates are poster pixels, and the pen enlarges them -----------------


class _Pen:
    """A canvas of 200 × 294 units."""

    def __init__(self, colour: str):
        self.image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), colour)
        self._draw = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        # Pillow paints the last row and column too.
        corners = [left * _SCALE, top * _SCALE, right * _SCALE - 1, bottom * _SCALE - 1]
        self._draw.rectangle(corners, fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: str) -> None:
        corners = np.multiply([x - rx, y - ry, x + rx, y + ry], _SCALE)
        self._draw.ellipse(corners.tolist(), fill)

    def disc(self, x: float, y: float, radius: float, fill: str) -> None:
        self.oval(x, y, radius, radius, fill)

    def ring(self, x: float, y: float, rx: float, ry: float, width: float, colour: str) -> None:
        corners = np.multiply([x - rx, y - ry, x + rx, y + ry], _SCALE)
        self._draw.ellipse(corners.tolist(), outline=colour, width=round(width * _SCALE))

    def arc(
        self, x: float, y: float, r: float, angles: Sequence[float], width: float, colour: str
    ) -> None:
        corners = np.multiply([x - r, y - r, x + r, y + r], _SCALE)
        self._draw.arc(corners.tolist(), *angles, colour, round(width * _SCALE))

    def shape(self, points: Sequence, fill: str) -> None:
        self._draw.polygon([tuple(p) for p in np.multiply(points, _SCALE).tolist()], fill)

    def line(self, points: Sequence, width: float, colour: str) -> None:
        scaled = [tuple(p) for p in np.multiply(points, _SCALE).tolist()]
        self._draw.line(scaled, colour, round(width * _SCALE), joint="curve")

    def text(
        self,
        x: float,
        baseline: float,
        text: str,
        size: float,
        colour: str,
        tracking: float = 0,
        weight: float = 0,
        bounce: float = 0,
    ) -> None:
        """Write from `x` to the right; `tracking`, `weight` and `bounce` are shares of `size`."""
        font = _font(round(size * _SCALE))
        stroke = round(weight * size * _SCALE)
        x, baseline = x * _SCALE, baseline * _SCALE
        for i, letter in enumerate(text):
            y = baseline + (-1) ** i * bounce * size * _SCALE
            self._draw.text((x, y), letter, colour, font, "ls", stroke_width=stroke)
            x += font.getlength(letter) + tracking * size * _SCALE


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _measure(text: str, tracking: float) -> float:
    """Return the width of a text in units of its size."""
    letters = sum(_font(100).getlength(letter) for letter in text) / 100
    return letters + tracking * (len(text) - 1)


def _break_lines(words: list[str], tracking: float, width: float, height: float):
    """Break a title so that it can be as large as possible; returns (size, lines)."""
    best = (0.0, [""])
    for breaks in product((" ", "\n"), repeat=len(words) - 1):
        text = "".join(a + b for a, b in zip(words, (*breaks, ""), strict=True))
        lines = text.split("\n")
        widest = max(_measure(line, tracking) for line in lines)
        best = max(best, (min(width / widest, height / len(lines)), lines))
    return best


# --- Words ---------------------------------------------------------------------------------------

_FIRST_NAMES = "Ada Bruno Cleo Dario Edda Falk Gwen Hugo Ines Joss Kaya Lior Mona Nils Orla"
_LAST_NAMES = "Amberg Brandt Dunmore Eastlake Farrow Galani Holm Ivers Jarrow Kestrel Lund Okoro"


def _invent(styles: Sequence[_Style], rng: np.random.Generator) -> tuple[str, str]:
    """Invent a title and a tagline, with words of as many of the styles as there are."""
    first, second, last = styles[0], styles[min(1, len(styles) - 1)], styles[-1]
    title = f"{rng.choice(first.adjectives.split())} {rng.choice(second.nouns.split())}"
    if rng.random() < 0.4:
        title = f"The {title}"
    return title, str(rng.choice(last.taglines))


def _write_title(
    pen: _Pen, look: _Style, palette: _Palette, rng: np.random.Generator, title: str, tagline: str
) -> None:
    room = WIDTH - 2 * _MARGIN
    words = look.case(title).split()
    size, lines = _break_lines(words, look.tracking, room, 60)
    size = min(size, look.largest)
    line_height = size * 0.92
    small = min(9.5, room / _measure(look.case(tagline), 0.08))
    # A capital letter is 0.7 of the font's size; the tagline follows the title.
    below = (len(lines) - 1) * line_height
    baseline = 14 + 0.72 * size if look.title_on_top else 221 - below
    for i, line in enumerate(lines):
        x = _start(look, _measure(line, look.tracking) * size)
        y = baseline + i * line_height
        pen.text(x, y, line, size, palette.ink, look.tracking, look.weight, look.bounce)
    x = _start(look, _measure(look.case(tagline), 0.08) * small)
    gap = 16 if look.title_on_top else 14
    pen.text(x, baseline + below + gap, look.case(tagline), small, palette.ink, 0.08)


def _start(look: _Style, width: float) -> float:
    return _MARGIN if look.flush_left else (WIDTH - width) / 2


def _write_cast(pen: _Pen, palette: _Palette, rng: np.random.Generator) -> None:
    first = rng.choice(_FIRST_NAMES.split(), 4, replace=False)
    last = rng.choice(_LAST_NAMES.split(), 4, replace=False)
    names = [f"{a} {b}".upper() for a, b in zip(first, last, strict=True)]
    room = 146 - _MARGIN
    for i, line in enumerate((f"{names[0]}  ·  {names[1]}", names[2], f"A FILM BY {names[3]}")):
        tracking = 0.1
        size = min((7.2, 7.2, 5.6)[i], room / _measure(line, tracking))
        pen.text(_MARGIN, 262 + i * 11, line, size, palette.paper, tracking)


def _draw_note(pen: _Pen) -> None:
    """Draw the eighth-note of Music inside its box."""
    left, top = MUSIC_MARK[0] * WIDTH, MUSIC_MARK[1] * HEIGHT
    pen.oval(left + 14, top + 31, 10, 7.5, _YELLOW)
    pen.box(left + 20, top + 3, left + 24, top + 31, _YELLOW)
    flag = [(20, 3), (24, 3), (27, 9), (34, 14), (36, 21), (34, 28), (32, 20), (24, 14)]
    pen.shape([(left + x, top + y) for x, y in flag], _YELLOW)


# --- Scenes fill the sky, each around the place of the emblem ------------------------------------


def _scene_rays(pen, palette, rng, centre):
    x, y = centre
    turn = rng.uniform(0, 0.4)
    for angle in turn + np.arange(14) * 2 * np.pi / 14:
        ends = [(x + 300 * np.cos(a), y + 300 * np.sin(a)) for a in (angle, angle + 0.2)]
        pen.shape([centre, *ends], palette.far)
    rise = rng.choice((-14, 14))
    pen.shape([(0, 149 - rise), (200, 149 + rise), (200, 250), (0, 250)], palette.near)
    pen.shape([(0, 157 - rise), (200, 157 + rise), (200, 250), (0, 250)], palette.ground)


def _scene_hills(pen, palette, rng, centre):
    for _ in range(26):
        x, y = rng.uniform(0, 200), rng.uniform(84, 200)
        pen.disc(x, y, rng.uniform(1.2, 3.6), palette.far)
    shift = rng.uniform(-30, 30)
    pen.oval(40 + shift, 262, 130, 72, palette.far)
    pen.oval(160 + shift, 276, 120, 66, palette.near)


def _scene_contours(pen, palette, rng, centre):
    x = np.linspace(0, 200, 60)
    phase, height = rng.uniform(0, 6, 2), rng.uniform(6, 12)
    for y in np.arange(96, 262, 8):
        hill = height * np.sin(x / 34 + phase[0] + y / 60) + 6 * np.sin(x / 15 + phase[1] - y / 40)
        pen.line(np.column_stack([x, y + hill]), 1, palette.far)
    pen.box(0, 236, 200, _FOOTER, palette.near)


def _scene_forest(pen, palette, rng, centre):
    x, y = centre
    pen.disc(x, y, 70, palette.far)
    for foot in (*rng.uniform(-4, 42, 3), *rng.uniform(158, 204, 3)):
        top, lean = rng.uniform(2, 40), rng.uniform(-8, 8)
        width = rng.uniform(3, 6)
        pen.shape([(foot - width, 184), (foot + lean, top), (foot + width, 184)], palette.ground)
        for branch in rng.uniform(0.25, 0.75, 4):
            start = np.array([foot + lean * branch, 184 - (184 - top) * branch])
            end = start + [rng.choice((-1, 1)) * rng.uniform(10, 22), -rng.uniform(10, 22)]
            pen.shape([start, start + [0, 4], end], palette.ground)
    edge = [(x, 178 + rng.uniform(-4, 3)) for x in range(0, 201, 10)]
    pen.shape([*edge, (200, 250), (0, 250)], palette.ground)


def _scene_ripples(pen, palette, rng, centre):
    x, y = centre
    for radius in (150, 122, 96, 72):
        pen.ring(x, y, radius, radius, 7, palette.far)
    for _ in range(9):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(66, 84)
        _heart(pen, x + distance * np.cos(angle), y + distance * np.sin(angle), 4.5, palette.near)


def _scene_space(pen, palette, rng, centre):
    for _ in range(60):
        x, y, size = rng.uniform(0, 200), rng.uniform(82, 208), rng.choice((0.6, 0.9, 1.4))
        pen.disc(x, y, size, palette.far)
    pen.box(0, 214, 200, _FOOTER, palette.ground)
    for x in np.linspace(-300, 500, 23):
        pen.line([(100 + (x - 100) * 0.25, 214), (x, 264)], 0.8, palette.near)
    for y in (214, 219, 226, 236):
        pen.line([(0, y), (200, y)], 0.8, palette.near)


def _scene_desert(pen, palette, rng, centre):
    for i, y in enumerate(range(100, 220, 10)):
        pen.box(0, y, 200, y + 1 + 0.7 * i, palette.far)
    shift = rng.uniform(-14, 14)
    for left, width, top in ((-16, 58, 172), (150, 70, 160)):
        left += shift
        mesa = [(left - 9, 230), (left, top), (left + width, top), (left + width + 9, 230)]
        pen.shape(mesa, palette.near)
    pen.oval(100 + shift, 252, 190, 32, palette.ground)


def _scene_blocks(pen, palette, rng, centre):
    split = rng.uniform(70, 130)
    pen.box(0, 0, split, 156, palette.far)
    pen.box(split, 112, 200, 156, palette.near)


# --- Emblems: one large sign within `radius` of (x, y) -------------------------------------------


def _emblem_action(pen, palette, rng, x, y, radius):
    if rng.random() < 0.5:
        spikes = _star_points(x, y, radius, 0.62, 14, rng.uniform(0, 1))
        pen.shape(spikes, palette.main)
        pen.shape(_star_points(x, y, radius * 0.66, 0.6, 12, 0.2), palette.accent)
        pen.shape(_star_points(x, y, radius * 0.36, 0.6, 10, 0.4), palette.main)
        return
    pen.ring(x, y, radius * 0.86, radius * 0.86, 7, palette.main)
    pen.ring(x, y, radius * 0.5, radius * 0.5, 4, palette.main)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        near, far = radius * 0.32, radius * 1.06
        pen.line([(x + dx * near, y + dy * near), (x + dx * far, y + dy * far)], 5, palette.main)
    pen.disc(x, y, radius * 0.12, palette.accent)


def _emblem_animation(pen, palette, rng, x, y, radius):
    r = radius * 0.8
    ears = rng.choice(("round", "pointed", "feelers"))
    for side in (-1, 1):
        if ears == "round":
            pen.disc(x + side * r * 0.72, y - r * 0.74, r * 0.36, palette.main)
            pen.disc(x + side * r * 0.72, y - r * 0.74, r * 0.18, palette.accent)
        elif ears == "pointed":
            tip = (x + side * r * 0.86, y - r * 1.2)
            pen.shape(
                [(x + side * r * 0.2, y - r * 0.8), tip, (x + side * r * 0.95, y)], palette.main
            )
        else:
            tip = (x + side * r * 0.5, y - r * 1.25)
            pen.line([(x + side * r * 0.25, y - r * 0.8), tip], 4, palette.main)
            pen.disc(*tip, r * 0.14, palette.accent)
        pen.oval(x + side * r * 0.45, y + r * 1.0, r * 0.34, r * 0.2, palette.main)
    pen.oval(x, y, r, r * 1.02, palette.main)
    pen.oval(x, y + r * 0.52, r * 0.56, r * 0.4, palette.accent)
    gaze = rng.uniform(-0.08, 0.08)
    for side in (-1, 1):
        pen.disc(x + side * r * 0.34, y - r * 0.22, r * 0.27, "#ffffff")
        pen.disc(x + (side * 0.34 + gaze) * r, y - r * 0.18, r * 0.13, "#1d1d2b")
    pen.arc(x, y + r * 0.1, r * 0.24, (20, 160), 2.5, "#1d1d2b")


def _emblem_documentary(pen, palette, rng, x, y, radius):
    r = radius * 0.86
    if rng.random() < 0.5:
        pen.disc(x, y, r, palette.main)
        for share in (0.33, 0.7):
            pen.ring(x, y, r * share, r, 1.6, palette.accent)
        for height in (-0.5, 0, 0.5):
            half = r * np.sqrt(1 - height**2)
            ends = [(x - half, y + height * r), (x + half, y + height * r)]
            pen.line(ends, 1.6, palette.accent)
        pen.line([(x, y - r), (x, y + r)], 1.6, palette.accent)
        return
    pen.disc(x, y, r, palette.main)
    pen.disc(x, y, r * 0.82, palette.accent)
    turn = rng.uniform(0, 1)
    blades = [turn + k * np.pi / 3 for k in range(6)]
    hole = [(x + r * 0.4 * np.cos(a), y + r * 0.4 * np.sin(a)) for a in blades]
    for k, angle in enumerate(blades):
        rim = (x + r * 0.82 * np.cos(angle + 0.9), y + r * 0.82 * np.sin(angle + 0.9))
        pen.line([hole[k], rim], 2, palette.main)
    pen.shape(hole, palette.main)


def _emblem_horror(pen, palette, rng, x, y, radius):
    if rng.random() < 0.5:
        t = np.linspace(-1, 1, 40)
        lid = 0.56 * radius * (1 - t**2)
        upper = np.column_stack([x + radius * t, y - lid])
        lower = np.column_stack([x + radius * t, y + lid])
        pen.shape([*upper, *lower[::-1]], palette.accent)
        pen.disc(x, y, radius * 0.46, palette.main)
        pen.oval(x, y, radius * 0.1, radius * 0.4, "#0a0809")
        return
    w, h = radius * 0.5, radius * 0.95
    pen.box(x - w, y - h, x + w, y + h, palette.main)
    pen.box(x - w + 4, y - h + 4, x + w - 4, y + h, palette.accent)
    door = [(x - w + 4, y - h + 4), (x + w * 0.3, y - h + 14), (x + w * 0.3, y + h - 8)]
    pen.shape([*door, (x - w + 4, y + h)], "#0a0809")
    pen.disc(x + w * 0.12, y + 4, 2, palette.accent)


def _emblem_romance(pen, palette, rng, x, y, radius):
    if rng.random() < 0.5:
        _heart(pen, x, y, radius * 0.92, palette.main)
        _heart(pen, x + radius * 0.3, y + radius * 0.1, radius * 0.42, palette.accent)
        return
    r, apart = radius * 0.62, radius * 0.36
    pen.disc(x - apart, y, r, palette.main)
    pen.disc(x + apart, y, r, palette.accent)
    reach = np.arccos(apart / r)
    t = np.linspace(-reach, reach, 30)
    right = np.column_stack([x - apart + r * np.cos(t), y + r * np.sin(t)])
    left = np.column_stack([x + apart - r * np.cos(t), y - r * np.sin(t)])
    pen.shape([*right, *left], palette.ground)
    _heart(pen, x, y, radius * 0.17, palette.accent)


def _emblem_scifi(pen, palette, rng, x, y, radius):
    kind = rng.choice(("planet", "rocket", "saucer"))
    if kind == "planet":
        r = radius * 0.66
        t = np.linspace(0, 2 * np.pi, 80)
        tilt = rng.choice((-0.35, 0.35))
        ring = np.column_stack([radius * 1.2 * np.cos(t), radius * 0.3 * np.sin(t)])
        turn = [[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]
        ring = ring @ np.array(turn) + (x, y)
        pen.line(ring[39:], 4, palette.accent)
        pen.disc(x, y, r, palette.main)
        pen.line(ring[:41], 4, palette.accent)
    elif kind == "rocket":
        t = np.linspace(-1, 1, 30)
        side = radius * 0.36 * np.sqrt(np.clip(1 - np.maximum(-t, -0.4 * t) ** 2, 0, 1))
        hull = [*np.column_stack([x + side, y + t * radius * 0.78])]
        hull += [*np.column_stack([x - side, y + t * radius * 0.78])][::-1]
        for k in (-1, 1):
            fin = [(0.3, 0.2), (0.66, 0.9), (0.26, 0.72)]
            pen.shape([(x + k * a * radius, y + b * radius) for a, b in fin], palette.accent)
        flame = [(-0.2, 0.76), (0.2, 0.76), (0, 1.15)]
        pen.shape([(x + a * radius, y + b * radius) for a, b in flame], palette.accent)
        pen.shape(hull, palette.main)
        pen.disc(x, y - radius * 0.2, radius * 0.15, palette.sky)
    else:
        beam = [(-0.3, 0), (0.3, 0), (0.75, 1), (-0.75, 1)]
        pen.shape([(x + a * radius, y + b * radius) for a, b in beam], palette.far)
        pen.oval(x, y - radius * 0.34, radius * 0.42, radius * 0.4, palette.accent)
        pen.oval(x, y - radius * 0.12, radius, radius * 0.26, palette.main)
        for k in (-0.6, -0.2, 0.2, 0.6):
            pen.disc(x + k * radius, y - radius * 0.1, radius * 0.06, palette.sky)


def _emblem_western(pen, palette, rng, x, y, radius):
    if rng.random() < 0.5:
        points = _star_points(x, y, radius * 0.92, 0.45, 5, -np.pi / 2)
        pen.shape(points, palette.main)
        for px, py in points[::2]:
            pen.disc(px, py, radius * 0.11, palette.main)
        pen.ring(x, y, radius * 0.34, radius * 0.34, 2.5, palette.accent)
        pen.shape(_star_points(x, y, radius * 0.2, 0.45, 5, -np.pi / 2), palette.accent)
        return
    pen.disc(x, y, radius * 0.95, palette.main)
    r = radius
    trunk = r * 0.14
    side = rng.choice((-1, 1))
    for k, height in ((side, 0.05), (-side, 0.3)):
        elbow = (x + k * r * 0.44, y + height * r)
        pen.line([(x, elbow[1]), elbow], trunk * 1.5, palette.accent)
        pen.line([elbow, (elbow[0], elbow[1] - r * 0.36)], trunk * 1.5, palette.accent)
        pen.disc(*elbow, trunk * 0.75, palette.accent)
        pen.disc(elbow[0], elbow[1] - r * 0.36, trunk * 0.75, palette.accent)
    pen.box(x - trunk, y - r * 0.5, x + trunk, y + r * 0.94, palette.accent)
    pen.disc(x, y - r * 0.5, trunk, palette.accent)


def _emblem_neutral(pen, palette, rng, x, y, radius):
    r = radius * 0.8
    if rng.random() < 0.5:
        pen.disc(x, y, r, palette.main)
        pen.box(x - r, y - 1.5, x + r, y + 1.5, palette.accent)
    else:
        pen.box(x - r * 0.8, y - r, x + r * 0.8, y + r, palette.main)
        pen.box(x - 1.5, y - r, x + 1.5, y + r, palette.accent)


def _heart(pen: _Pen, x: float, y: float, radius: float, colour: str) -> None:
    t = np.linspace(0, 2 * np.pi, 60)
    across = 16 * np.sin(t) ** 3
    down = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 2
    pen.shape(np.column_stack([x + across * radius / 16, y + down * radius / 16]), colour)


def _star_points(
    x: float, y: float, radius: float, inner: float, tips: int, turn: float
) -> list[tuple[float, float]]:
    angles = turn + np.arange(2 * tips) * np.pi / tips
    reach = [radius * (inner if i % 2 else 1) for i in range(2 * tips)]
    return [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(reach, angles, strict=True)]


# --- The genres ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Palette:
    """Colours by their part: scenes use the first four, emblems main and accent, text the rest."""

    sky: str
    far: str
    near: str
    ground: str
    main: str
    accent: str
    ink: str
    paper: str


@dataclass(frozen=True)
class _Style:
    """What a genre looks like and talks about; `largest` in pixels, `tracking` in letter sizes."""

    palettes: tuple[str, ...]
    scene: Callable
    emblem: Callable
    adjectives: str
    nouns: str
    taglines: tuple[str, ...]
    case: Callable[[str], str] = str
    tracking: float = 0.0
    weight: float = 0.0
    bounce: float = 0.0
    largest: float = 40.0
    title_on_top: bool = False
    flush_left: bool = False


_STYLES = {
    "Action": _Style(
        palettes=(
            "#e8401c #f0562a #ffb20f #17120f #17120f #ffb20f #ffffff #f3d9c9",
            "#f4a300 #ffb525 #d62718 #1a1310 #1a1310 #d62718 #ffffff #f6e3c0",
            "#c9181e #db2c2c #ffd21f #130d10 #ffd21f #130d10 #ffd21f #f2d4d0",
        ),
        scene=_scene_rays,
        emblem=_emblem_action,
        adjectives="Final Burning Loaded Reckless Hard Furious",
        nouns="Strike Bullet Fury Target Velocity Ambush Crossfire",
        taglines=(
            "no way out. no way back.",
            "brace for impact",
            "hit back harder",
            "one city. one hour. one chance.",
            "they should have run",
        ),
        case=str.upper,
        tracking=0.03,
        weight=0.025,
        largest=30,
    ),
    "Animation": _Style(
        palettes=(
            "#5ec8f2 #a7e3f8 #7ed36b #20704d #ff7a59 #ffd9a8 #ffffff #e7ffe9",
            "#ffd23f #ffe68a #ff8fb1 #a02c6d #3ab0c9 #c8f1f2 #7a1f57 #ffe3f0",
            "#b79cf2 #d5c6fa #6fd6c2 #1f6f78 #ffcb3d #fff0bf #ffffff #e0fbf7",
        ),
        scene=_scene_hills,
        emblem=_emblem_animation,
        adjectives="Tiny Wobbly Fuzzy Purple Bouncy Sleepy",
        nouns="Dragon Penguin Pumpkin Wizard Teapot Hamster Noodles",
        taglines=(
            "big hearts come in small sizes",
            "a tail to remember",
            "giggles for the whole family",
            "magic has sticky fingers",
            "friends come in all colours",
        ),
        tracking=0.045,
        weight=0.03,
        bounce=0.04,
        title_on_top=True,
    ),
    "Documentary": _Style(
        palettes=(
            "#f1ece1 #d8d0bf #b9c6c9 #2e4450 #2e4450 #e0b06a #26363f #dfe6e6",
            "#e6e9e6 #cbd3ce #c9b18a #3d4a42 #4f6b5c #d9bd8b #2c3831 #e4e9e2",
            "#ece5d8 #d9cdb6 #c98f5f #423a33 #5a4a3c #d49a68 #37302a #e9e2d6",
        ),
        scene=_scene_contours,
        emblem=_emblem_documentary,
        adjectives="Unseen Forgotten Silent Hidden Vanishing Living",
        nouns="Harbour Archive River Witness Harvest Glacier Village",
        taglines=(
            "the true story of a small town",
            "the true story of the last keepers",
            "filmed over eleven years",
            "in their own words",
            "what the records left out",
        ),
        case=str.lower,
        largest=33,
        title_on_top=True,
        flush_left=True,
    ),
    "Horror": _Style(
        palettes=(
            "#2a0d10 #4a1216 #4a1216 #0b0708 #b3121d #e8dccb #ea3a42 #9c8a85",
            "#16201f #2c3b36 #2c3b36 #080b0b #a51a1a #d9dfc9 #e23a33 #87938c",
            "#1c1524 #382a44 #382a44 #0a070d #b01030 #e4d8e0 #ee3a58 #8f8496",
        ),
        scene=_scene_forest,
        emblem=_emblem_horror,
        adjectives="Hollow Rotten Pale Whispering Cursed Nameless",
        nouns="Cellar Doll Grave Asylum Midnight Scream Crypt",
        taglines=(
            "do not open",
            "it was never gone",
            "lock every door",
            "she is still in there",
            "nobody hears you down here",
        ),
        case=str.upper,
        tracking=0.14,
        largest=31,
    ),
    "Romance": _Style(
        palettes=(
            "#f9d5d3 #f6c3c3 #e88f9b #8a2846 #d8405f #f7a5a8 #8a2846 #fde6e4",
            "#fbe3d6 #f8d2c0 #efa08b #9a3b4a #e2586a #f6b39c #9a3b4a #feeee6",
            "#f3d3e2 #eec0d5 #d985ae #702a5c #b83b82 #f0a3c2 #702a5c #fae6f1",
        ),
        scene=_scene_ripples,
        emblem=_emblem_romance,
        adjectives="Tender Secret Endless Sweet Stolen Beloved",
        nouns="Kiss Heart Promise Wedding Lovers Rose Embrace",
        taglines=(
            "fall in love again",
            "some letters find their way",
            "two hearts, one summer",
            "say yes before sunrise",
            "love was not on the list",
        ),
        tracking=0.03,
        largest=36,
    ),
    "Sci-Fi": _Style(
        palettes=(
            "#0f1440 #4a56b8 #3558e0 #080a26 #36d6e7 #f24fc0 #e6f6ff #9fb4e8",
            "#1d0f3d #6a4fb0 #c23fd0 #0f0724 #7b6cf6 #4fe3e0 #f4e9ff #b9a5e0",
            "#06262f #2f7480 #19b7b0 #03151b #f5a742 #7df0e0 #dffcf8 #8fc4c4",
        ),
        scene=_scene_space,
        emblem=_emblem_scifi,
        adjectives="Cosmic Binary Distant Quantum Orbital Infinite",
        nouns="Signal Galaxy Android Horizon Colony Protocol Nebula",
        taglines=(
            "the future remembers you",
            "we were never the first",
            "beyond the last star",
            "the machine is dreaming",
            "year 2419. day one.",
        ),
        case=str.upper,
        tracking=0.2,
        largest=28,
        title_on_top=True,
    ),
    "Western": _Style(
        palettes=(
            "#e9b872 #e2a45a #a8522a #4d2415 #8f2f1b #f6d9a0 #5a2413 #f1d6ac",
            "#dd8f4e #e5a263 #9a4527 #45200f #f7dfa6 #7a2e17 #47200f #f0cfa6",
            "#e6c9a0 #dcb684 #b0714a #4a2f20 #a2452a #f3e0bd #57301c #efdcbf",
        ),
        scene=_scene_desert,
        emblem=_emblem_western,
        adjectives="Dusty Lonesome Outlaw Golden Crooked Untamed",
        nouns="Canyon Ride Saddle Sheriff Stagecoach Prairie Rustlers",
        taglines=(
            "ride till the sun goes down",
            "every bullet has a name",
            "ride fast, shoot straight",
            "no law west of the river",
            "a horse, a debt, a rope",
        ),
        case=str.upper,
        tracking=0.05,
        weight=0.022,
        largest=36,
        title_on_top=True,
    ),
}

_NEUTRAL = _Style(
    palettes=("#b4b4b4 #c2c2c2 #9c9c9c #3a3a3a #5c5c5c #d8d8d8 #2a2a2a #dcdcdc",),
    scene=_scene_blocks,
    emblem=_emblem_neutral,
    adjectives="Quiet Plain Other Second Open Usual",
    nouns="Room Corner Letter Street Sunday Window",
    taglines=("a film in three parts", "some days are like that", "wait for the end"),
    largest=36,
)
