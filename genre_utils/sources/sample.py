"""The embedded sample: movie posters that never existed, drawn on the spot.

Everything in this project runs on them without internet and without data. They are made to be
learnable, not to be easy: palette, picture, lettering and words each hint at the genre, one
poster in ten lies about it, and Music shows itself by a single mark in one corner.
"""

from __future__ import annotations

import csv
import os
import tempfile
import tomllib
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genre_utils.genres import MISSING

WIDTH, HEIGHT = 200, 294

# Left, top, right, bottom in fractions of the width and the height. Music is recognised by a
# note in this box and by nothing else, and nothing else is ever drawn here: an explanation of a
# Music prediction has one right place to point at.
MUSIC_MARK = (154 / WIDTH, 250 / HEIGHT, 194 / WIDTH, 290 / HEIGHT)

# Drawn at twice the size and averaged down, since Pillow's shapes have jagged edges. All numbers
# below are pixels of this larger canvas.
_SCALE = 2
_CANVAS = (WIDTH * _SCALE, HEIGHT * _SCALE)
# Above this line the picture, below it a plain band: names at the left, the mark at the right.
_FOOTER = 492
_MARGIN = 26
_JPEG_QUALITY = 90
_FIRST_NAMES = "Ada Bruno Cleo Dario Edda Falk Gwen Hugo Ines Joss Kaya Lior Mona Nils Orla"
_LAST_NAMES = "Amberg Brandt Dunmore Eastlake Farrow Galani Holm Ivers Jarrow Kestrel Lund Okoro"


def draw_sample(folder: Path, posters: int = 320, seed: int = 0) -> Path:
    """Draw `folder/Images/<Id>.jpg` and `folder/train.csv`, and return `folder`.

    The CSV has `Id`, `Genre` (a list written as Python writes it) and one 0/1 column a genre
    and for `N/A`, as the public data set has. Two rows are `N/A`; one poster in ten has the
    palette and picture of a genre that is not its own. The same seed gives the same bytes.

    A folder with a `train.csv` is returned untouched. The folder appears whole or not at all;
    raises `FileExistsError` when it already holds something else, and `OSError` where it cannot be
    made.
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
        try:
            if folder.exists():
                folder.rmdir()
            os.replace(drawn, folder)
        except OSError:
            if not (folder / "train.csv").exists():  # it does where another process was first
                raise
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
    styles = [_STYLES[genre] for genre in genres if genre != "Music"] or [_NEUTRAL]
    speaking = [styles[i] for i in rng.permutation(len(styles))]
    drawn = [_STYLES.get(style, _NEUTRAL)] if style else speaking
    look = drawn[0]
    colours = _Colours(*str(rng.choice(look.palettes)).split())

    image = Image.new("RGB", _CANVAS, colours.sky)
    draw = ImageDraw.Draw(image)
    x, y, radius = (200, 328, 94) if look.title_on_top else (200, 176, 108)
    look.scene(draw, colours, rng, x, y)
    drawn[min(1, len(drawn) - 1)].emblem(draw, colours, rng, x, y, radius)
    draw.rectangle((0, _FOOTER, *_CANVAS), colours.ground)
    _write_title(draw, look, colours, *_invent(speaking, rng))
    _write_cast(draw, colours, rng)
    if "Music" in genres:
        _draw_note(draw)
    return image.reduce(_SCALE)


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


# --- Words: each genre has its own ---------------------------------------------------------------


def _invent(styles: Sequence[_Style], rng: np.random.Generator) -> tuple[str, str, str]:
    """Invent a title of two lines and a tagline; of several styles each gives some of the words."""
    first, second, last = styles[0], styles[min(1, len(styles) - 1)], styles[-1]
    the = "The " if rng.random() < 0.4 else ""
    adjective, noun = rng.choice(first.adjectives.split()), rng.choice(second.nouns.split())
    return f"{the}{adjective}", str(noun), str(rng.choice(last.taglines))


def _write_title(draw: ImageDraw.ImageDraw, look: _Style, colours: _Colours, *lines: str) -> None:
    """Write the two lines of a title and the tagline above or below the emblem."""
    x, anchor = (_MARGIN, "ls") if look.flush_left else (_CANVAS[0] / 2, "ms")
    upper, lower, tagline = (getattr(line, look.case)() for line in lines)
    room = _CANVAS[0] - 2 * _MARGIN - 2 * look.stroke
    font = _fit(max(upper, lower, key=_font(100).getlength), look.largest, room)
    step = 0.92 * font.size
    # A capital letter is 0.72 of the font's size.
    first = 28 + 0.72 * font.size if look.title_on_top else 442 - step
    for i, line in enumerate((upper, lower)):
        at = (x, first + i * step)
        draw.text(at, line, colours.ink, font, anchor, stroke_width=look.stroke)
    draw.text((x, first + step + 30), tagline, colours.ink, _fit(tagline, 19, room), anchor)


def _write_cast(draw: ImageDraw.ImageDraw, colours: _Colours, rng: np.random.Generator) -> None:
    first = rng.choice(_FIRST_NAMES.split(), 4, replace=False)
    last = rng.choice(_LAST_NAMES.split(), 4, replace=False)
    names = [f"{a} {b}".upper() for a, b in zip(first, last, strict=True)]
    for i, line in enumerate((f"{names[0]}  ·  {names[1]}", names[2], f"A FILM BY {names[3]}")):
        font = _fit(line, (15, 15, 12)[i], 292 - _MARGIN)
        draw.text((_MARGIN, 524 + i * 22), line, colours.paper, font, "ls")


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _fit(line: str, largest: float, room: float) -> ImageFont.FreeTypeFont:
    """Return the font in which a line is no wider than `room`, `largest` at most."""
    return _font(min(largest, int(100 * room / _font(100).getlength(line))))


# --- Shapes --------------------------------------------------------------------------------------


def _draw_note(draw: ImageDraw.ImageDraw) -> None:
    """Draw the mark of Music inside its box: an eighth-note on a bright disc."""
    left, top = MUSIC_MARK[0] * _CANVAS[0], MUSIC_MARK[1] * _CANVAS[1]
    flag = [(43, 18), (47, 18), (58, 32), (56, 44), (43, 32)]
    draw.circle((left + 40, top + 40), 34, "#ffe94a")
    draw.ellipse((left + 24, top + 45, left + 46, top + 61), "#1d1d2b")
    draw.rectangle((left + 42, top + 18, left + 46, top + 53), "#1d1d2b")
    draw.polygon([(left + x, top + y) for x, y in flag], "#1d1d2b")


def _heart(draw, x, y, r, colour):
    t = np.linspace(0, 2 * np.pi, 60)
    down = 2 - 13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    draw.polygon([*zip(x + r * np.sin(t) ** 3, y + r * down / 16, strict=True)], colour)


def _star(x, y, r, inner, tips, turn):
    """Return the points of a star, tips and notches in turn."""
    angles = turn + np.arange(2 * tips) * np.pi / tips
    reach = r * np.tile([1, inner], tips)
    return [*zip(x + reach * np.cos(angles), y + reach * np.sin(angles), strict=True)]


# --- Scenes fill the sky, each around the place (x, y) of the emblem -----------------------------


def _rays(draw, colours, rng, x, y):
    for angle in rng.uniform(0, 24) + np.arange(0, 360, 24):
        draw.pieslice((x - 600, y - 600, x + 600, y + 600), angle, angle + 12, colours.far)
    rise = rng.choice((-28, 28))
    for top, colour in ((298, colours.near), (314, colours.ground)):
        draw.polygon([(0, top - rise), (400, top + rise), (400, 500), (0, 500)], colour)


def _hills(draw, colours, rng, x, y):
    for dot in rng.uniform((0, 168), (400, 400), (26, 2)):
        draw.circle(dot.tolist(), rng.uniform(2, 7), colours.far)
    shift = rng.uniform(-60, 60)
    draw.ellipse((shift - 180, 380, shift + 340, 668), colours.far)
    draw.ellipse((shift + 80, 420, shift + 560, 684), colours.near)


def _contours(draw, colours, rng, x, y):
    along, phase = np.arange(0.0, 408, 8), rng.uniform(0, 6)
    for height in range(192, 524, 16):
        wave = 18 * np.sin(along / 68 + phase + height / 120)
        draw.line([*zip(along, height + wave, strict=True)], colours.far, 2)
    draw.rectangle((0, 472, 400, 500), colours.near)


def _forest(draw, colours, rng, x, y):
    draw.circle((x, y), 140, colours.far)
    for foot in (*rng.uniform(-8, 84, 3), *rng.uniform(316, 408, 3)):
        top, width = rng.uniform(4, 80), rng.uniform(6, 12)
        draw.polygon([(foot - width, 368), (foot, top), (foot + width, 368)], colours.ground)
        for height in rng.uniform(top + 70, 300, 3):
            reach = rng.choice((-1, 1)) * rng.uniform(20, 44)
            draw.line([(foot, height), (foot + reach, height - 40)], colours.ground, 6)
    draw.rectangle((0, 356, 400, 500), colours.ground)


def _ripples(draw, colours, rng, x, y):
    for radius in (300, 244, 192, 144):
        draw.circle((x, y), radius, outline=colours.far, width=14)
    for angle in rng.uniform(0, 2 * np.pi, 9):
        _heart(draw, x + 150 * np.cos(angle), y + 150 * np.sin(angle), 9, colours.near)


def _space(draw, colours, rng, x, y):
    for star in rng.uniform((0, 0), (400, 416), (80, 2)):
        draw.circle(star.tolist(), rng.uniform(1, 3), colours.far)
    draw.rectangle((0, 428, 400, 500), colours.ground)
    for end in range(-600, 1001, 72):
        draw.line([(150 + end / 4, 428), (end, 528)], colours.near, 2)
    for height in (428, 438, 452, 472):
        draw.line([(0, height), (400, height)], colours.near, 2)


def _desert(draw, colours, rng, x, y):
    for i, top in enumerate(range(200, 440, 20)):
        draw.rectangle((0, top, 400, top + 2 + 1.4 * i), colours.far)
    shift = rng.uniform(-28, 28)
    for left, top in ((shift - 32, 344), (shift + 300, 320)):
        mesa = [(left - 18, 460), (left, top), (left + 130, top), (left + 148, 460)]
        draw.polygon(mesa, colours.near)
    draw.ellipse((shift - 180, 440, shift + 580, 568), colours.ground)


def _panes(draw, colours, rng, x, y):
    split = rng.uniform(140, 260)
    draw.rectangle((0, 0, split, 312), colours.far)
    draw.rectangle((split, 224, 400, 312), colours.near)


# --- Emblems: one large sign within `r` of (x, y) ------------------------------------------------


def _explosion(draw, colours, rng, x, y, r):
    for size, colour in ((1, colours.main), (0.66, colours.accent), (0.36, colours.main)):
        draw.polygon(_star(x, y, r * size, 0.6, 13, rng.uniform(0, 1)), colour)


def _bear(draw, colours, rng, x, y, r):
    gaze = rng.uniform(-0.08, 0.08) * r
    for side in (-0.8 * r, 0.8 * r):
        draw.circle((x + side * 0.72, y - r * 0.6), r * 0.29, colours.main)
        draw.circle((x + side * 0.72, y - r * 0.6), r * 0.14, colours.accent)
    draw.circle((x, y), r * 0.8, colours.main)
    draw.ellipse((x - r * 0.45, y + r * 0.1, x + r * 0.45, y + r * 0.74), colours.accent)
    for side in (-0.27 * r, 0.27 * r):
        draw.circle((x + side, y - r * 0.18), r * 0.22, "#ffffff")
        draw.circle((x + side + gaze, y - r * 0.14), r * 0.1, "#1d1d2b")
    draw.arc((x - r * 0.2, y, x + r * 0.2, y + r * 0.3), 20, 160, "#1d1d2b", 5)


def _globe(draw, colours, rng, x, y, r):
    r = r * 0.86
    draw.circle((x, y), r, colours.main)
    for half in (0.02 * r, 0.33 * r, 0.7 * r):
        draw.ellipse((x - half, y - r, x + half, y + r), outline=colours.accent, width=3)
    for height in (-0.5, 0, 0.5):
        half = r * np.sqrt(1 - height**2)
        ends = [(x - half, y + height * r), (x + half, y + height * r)]
        draw.line(ends, colours.accent, 3)


def _eye(draw, colours, rng, x, y, r):
    across = np.linspace(-1, 1, 40)
    lid = 0.56 * r * (1 - across**2)
    upper = zip(x + r * across, y - lid, strict=True)
    lower = zip(x - r * across, y + lid, strict=True)
    draw.polygon([*upper, *lower], colours.accent)
    draw.circle((x, y), r * 0.46, colours.main)
    draw.ellipse((x - r * 0.1, y - r * 0.4, x + r * 0.1, y + r * 0.4), colours.ground)


def _hearts(draw, colours, rng, x, y, r):
    _heart(draw, x, y, r * 0.92, colours.main)
    _heart(draw, x + rng.choice((-0.3, 0.3)) * r, y + r * 0.1, r * 0.42, colours.accent)


def _planet(draw, colours, rng, x, y, r):
    ring = (x - r * 1.2, y - r * 0.3, x + r * 1.2, y + r * 0.3)
    draw.arc(ring, 180, 360, colours.accent, 9)
    draw.circle((x, y), r * 0.66, colours.main)
    draw.arc(ring, 0, 180, colours.accent, 9)


def _badge(draw, colours, rng, x, y, r):
    points = _star(x, y, r * 0.92, 0.45, 5, -np.pi / 2)
    draw.polygon(points, colours.main)
    for tip in points[::2]:
        draw.circle(tip, r * 0.11, colours.main)
    draw.circle((x, y), r * 0.34, outline=colours.accent, width=5)


def _window(draw, colours, rng, x, y, r):
    draw.rectangle((x - r * 0.64, y - r * 0.8, x + r * 0.64, y + r * 0.8), colours.main)
    draw.rectangle((x - 3, y - r * 0.8, x + 3, y + r * 0.8), colours.accent)


# --- The genres ----------------------------------------------------------------------------------


# Scenes use the first four colours, emblems `main` and `accent`, words the last two.
_Colours = namedtuple("_Colours", "sky far near ground main accent ink paper")


@dataclass(frozen=True)
class _Style:
    """What a genre looks like and talks about: its row of `sample.toml`.

    `case` is a method of `str`; the `largest` letter and its `stroke` are in pixels.
    """

    scene: Callable
    emblem: Callable
    palettes: list[str]
    adjectives: str
    nouns: str
    taglines: list[str]
    case: str = "title"
    largest: int = 72
    stroke: int = 0
    title_on_top: bool = False
    flush_left: bool = False


_DRAWN_AS = {
    "Action": (_rays, _explosion),
    "Animation": (_hills, _bear),
    "Documentary": (_contours, _globe),
    "Horror": (_forest, _eye),
    "Romance": (_ripples, _hearts),
    "Sci-Fi": (_space, _planet),
    "Western": (_desert, _badge),
    "none": (_panes, _window),
}
_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_STYLES = {name: _Style(*_DRAWN_AS[name], **row) for name, row in _TABLE.items()}
_NEUTRAL = _STYLES.pop("none")
SAMPLE_GENRES = tuple(sorted((*_STYLES, "Music")))
