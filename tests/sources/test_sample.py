"""The drawn sample: whole or absent, the same every time, and as learnable as it claims."""

from __future__ import annotations

import ast
import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from genre_utils.genres import IMDB_GENRES
from genre_utils.sources import sample
from genre_utils.sources.sample import MUSIC_MARK, SAMPLE_GENRES, draw_poster, draw_sample

OTHERS = [genre for genre in SAMPLE_GENRES if genre != "Music"]
COLUMNS = sorted([*SAMPLE_GENRES, "N/A"])


def pixels(*genres: str, seed: int = 0, style: str | None = None) -> np.ndarray:
    return np.asarray(draw_poster(genres, np.random.default_rng(seed), style)).astype(int)


def in_mark(shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask, True for the pixels inside the box of the Music mark."""
    height, width = shape[:2]
    left, top, right, bottom = np.multiply(MUSIC_MARK, (width, height, width, height)).round()
    mask = np.zeros((height, width), bool)
    mask[int(top) : int(bottom), int(left) : int(right)] = True
    return mask


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "train.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample as everyone gets it."""
    return draw_sample(tmp_path_factory.mktemp("sample") / "drawn")


def test_every_row_has_its_picture_and_nothing_else_is_there(drawn):
    rows = read_rows(drawn)
    assert len(rows) == 320
    assert list(rows[0]) == ["Id", "Genre", *COLUMNS]
    assert {f"Images/{row['Id']}.jpg" for row in rows} | {"train.csv"} == set(contents(drawn))
    assert [path.name for path in drawn.parent.iterdir()] == ["drawn"]
    for row in rows[::40]:
        with Image.open(drawn / "Images" / f"{row['Id']}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (200, 294))


def test_one_hot_columns_agree_with_the_genre_lists(drawn):
    for row in read_rows(drawn):
        names = ast.literal_eval(row["Genre"])
        assert names == [column for column in COLUMNS if row[column] == "1"]
        assert {row[column] for column in COLUMNS} == {"0", "1"}


def test_labels_are_as_many_as_training_needs(drawn):
    rows = read_rows(drawn)
    counts = {column: sum(row[column] == "1" for row in rows) for column in COLUMNS}
    assert counts.pop("N/A") == 2
    assert min(counts.values()) >= 25
    assert 1.5 <= sum(counts.values()) / len(rows) <= 1.75


def test_same_seed_same_bytes_other_seed_other_posters(tmp_path):
    first, again, other = (
        contents(draw_sample(tmp_path / name, posters=12, seed=seed))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_more_posters_leave_the_earlier_ones_as_they_were(tmp_path, drawn):
    few = contents(draw_sample(tmp_path / "few", posters=9))
    few.pop("train.csv")
    assert few.items() <= contents(drawn).items()


def test_about_one_poster_in_ten_wears_a_foreign_style():
    choices = [sample._choose_genres(i, np.random.default_rng((0, i))) for i in range(320)]
    foreign = [(genres, style) for genres, style in choices if style]
    assert 0.06 <= len(foreign) / len(choices) <= 0.14
    assert all(style not in genres for genres, style in foreign)


def test_music_is_rarely_alone_lest_grey_be_learned_in_place_of_its_mark():
    genres = [sample._choose_genres(i, np.random.default_rng((0, i)))[0] for i in range(320)]
    assert genres.count(["Music"]) <= 8


@pytest.mark.parametrize("exists", [False, True])
def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch, exists):
    target = tmp_path / "sample"
    if exists:
        target.mkdir()
    calls = itertools.count()

    def interrupted(*arguments):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return draw_poster(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sample, "draw_poster", interrupted)
        with pytest.raises(KeyboardInterrupt):
            draw_sample(target, posters=10)
    assert next(calls) == 6
    assert [path.name for path in tmp_path.iterdir()] == (["sample"] if exists else [])
    assert not contents(tmp_path)
    assert len(read_rows(draw_sample(target, posters=10))) == 10


def test_complete_sample_is_returned_untouched(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    assert draw_sample(tmp_path) == tmp_path
    assert contents(tmp_path) == {"train.csv": b"mine"}


def test_of_two_drawings_at_once_the_first_to_end_counts(tmp_path, monkeypatch):
    def other_was_first(drawn, folder):
        folder.mkdir()
        (folder / "train.csv").write_text("theirs")
        raise OSError("Directory not empty")

    monkeypatch.setattr(sample.os, "replace", other_was_first)
    assert draw_sample(tmp_path / "sample", posters=1) == tmp_path / "sample"
    assert contents(tmp_path) == {"sample/train.csv": b"theirs"}


def test_folder_with_other_files_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files but no train\.csv"):
        draw_sample(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("companions", [[], ["Western"], ["Horror", "Romance"]])
@pytest.mark.parametrize("style", [None, "Sci-Fi"])
def test_music_changes_its_mark_and_no_other_pixel(companions, style):
    for seed in range(3):
        without = pixels(*companions, seed=seed, style=style)
        with_music = pixels(*companions, "Music", seed=seed, style=style)
        changed = (without != with_music).any(axis=2)
        assert changed.any()
        assert not changed[~in_mark(changed.shape)].any()


def test_music_mark_is_large_bright_and_in_the_lower_right_corner():
    left, top, right, bottom = MUSIC_MARK
    assert 0.5 < left < right <= 1
    assert 0.5 < top < bottom <= 1
    assert right - left == pytest.approx(0.2)
    for genre in OTHERS:
        poster = pixels(genre, "Music")
        box = poster[in_mark(poster.shape)].sum(axis=1)
        # Of a bold sign a good part of the box is light; the band behind it never is.
        assert 0.15 < (box > 450).mean() < 0.6


@pytest.mark.parametrize("genre", OTHERS)
def test_no_other_genre_draws_in_the_box_of_the_mark(genre):
    for seed in range(6):
        poster = pixels(genre, seed=seed)
        assert len(np.unique(poster[in_mark(poster.shape)], axis=0)) == 1


def test_every_genre_looks_different():
    # The mean colour over every palette: even the nearest two genres differ visibly.
    tones = {g: np.mean([pixels(g, seed=s).mean((0, 1)) for s in range(12)], 0) for g in OTHERS}
    tones["Music"] = pixels("Music").mean((0, 1))
    for one, other in itertools.combinations(SAMPLE_GENRES, 2):
        assert np.linalg.norm(tones[one] - tones[other]) > 12, (one, other)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(OTHERS, 2)))
def test_titles_and_cast_stay_on_the_poster(one, other, monkeypatch):
    boxes = []
    write = ImageDraw.ImageDraw.text

    def note(draw, xy, text, fill, font, anchor, stroke_width=0):
        box = draw.textbbox(xy, text, font, anchor, stroke_width=stroke_width)
        boxes.append((*np.divide(box, 2), xy[1] / 2 > 246))
        write(draw, xy, text, fill, font, anchor, stroke_width=stroke_width)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    for seed in range(4):
        pixels(one, other, seed=seed)
    assert len(boxes) == 4 * 6
    for left, top, right, bottom, is_cast in boxes:
        assert left >= 10
        assert right <= (148 if is_cast else 190)
        assert top >= (246 if is_cast else 4)
        assert bottom <= (290 if is_cast else 246)


def test_foreign_style_takes_the_look_and_keeps_the_words(monkeypatch):
    titles = []
    monkeypatch.setattr(
        sample, "_write_title", lambda draw, look, colours, *words: titles.append((look, words))
    )
    draw_poster(["Western"], np.random.default_rng(0), style="Romance")
    [(look, (_, noun, tagline))] = titles
    assert look is sample._STYLES["Romance"]
    assert noun in sample._STYLES["Western"].nouns.split()
    assert tagline in sample._STYLES["Western"].taglines


def test_words_name_their_genre_and_no_other():
    for one, other in itertools.permutations(sample._STYLES.values(), 2):
        for words in ("adjectives", "nouns"):
            assert not set(getattr(one, words).split()) & set(getattr(other, words).split())
        assert not set(one.taglines) & set(other.taglines)


def test_genres_are_real_ones_in_order():
    assert set(SAMPLE_GENRES) <= set(IMDB_GENRES)
    assert list(SAMPLE_GENRES) == sorted(SAMPLE_GENRES)


@pytest.mark.parametrize("arguments", [(["Drama"],), (["Action"], "Drama")])
def test_unknown_genre_is_refused_by_name(arguments):
    genres, *style = arguments
    with pytest.raises(ValueError, match="'Drama' cannot be drawn: choose from Action"):
        draw_poster(genres, np.random.default_rng(0), *style)
