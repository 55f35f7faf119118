import errno
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from genre_utils import evaluation, plots

GENRES = ("Comedy", "Drama", "War")
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], np.int8)
NOTE = "Drawn sample posters, not real ones"


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def title(figure) -> str:
    return figure._suptitle.get_text() if figure._suptitle else figure.axes[0].get_title("left")


def test_titles_say_the_finding_and_the_sample():
    figure = plots.genre_counts(LABELS, GENRES, NOTE)
    text = title(figure)
    assert "67%" in text.replace(" %", "%") and NOTE in text
    for figure in (
        plots.labels_per_poster(LABELS, NOTE),
        plots.co_occurrence(LABELS, GENRES, NOTE),
        plots.picture_sizes(np.array([[440, 300], [450, 300]]), NOTE),
    ):
        assert NOTE in title(figure)


def test_precision_counts_the_genres_that_surely_beat_the_prior():
    def part(value: float | None, low: float, high: float) -> dict:
        return {"support": 9, "average_precision": value, "interval": [low, high]}

    model = {"A": part(0.6, 0.5, 0.7), "B": part(0.3, 0.1, 0.5), "C": part(None, 0, 0)}
    prior = {"A": part(0.2, 0, 0), "B": part(0.2, 0, 0), "C": part(None, 0, 0)}
    assert "1 of 2 genres" in title(plots.genre_precision(model, prior, ""))


def test_best_prediction_stands_on_top(picture):
    figure = plots.prediction(picture, ["Drama", "War"], [0.9, 0.2], "A poster")
    bars = figure.axes[1].patches
    assert max(bars, key=lambda bar: bar.get_y()).get_width() == 0.9


def test_figures_are_saved_as_png_and_svg(tmp_path):
    history = pd.DataFrame({"epoch": [0, 1], "loss": [None, 0.2], "val_macro_map": [0.1, 0.3]})
    figure = plots.history_curves(history, "It learns", NOTE)
    plots.save_figure(figure, tmp_path / "figures", "history")
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == [
        "history.png",
        "history.svg",
    ]


def test_a_figure_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    plots.save_figure(plots.genre_counts(LABELS, GENRES), tmp_path, "counts")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fill(figure, file, **_):
        Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fill)
    with pytest.raises(OSError, match="counts.png cannot be written.*is unharmed"):
        plots.save_figure(plots.genre_counts(LABELS, GENRES), tmp_path, "counts")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_names_in_other_letters_use_the_fonts_at_hand_and_warn_of_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "FONTS", ("No Such Font", "DejaVu Serif"))
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.use_style()
        assert plt.rcParams["font.family"] == ["sans-serif", "DejaVu Serif"]
        figure = plots.genre_counts(LABELS, ("喜劇", "Драма", "حرب"), NOTE)
        plots.save_figure(figure, tmp_path, "counts")


def test_prediction_says_what_was_read_and_how_much_it_moved(picture):
    words = "LET US PREY " * 40
    figure = plots.prediction(picture, ["War"], [0.9], "A poster", NOTE, [0.31], words)
    assert "LET US PREY" in title(figure) and len(title(figure)) < 250
    assert "+0.31 by words" in figure.axes[1].get_yticklabels()[0].get_text()
    assert "read" not in title(plots.prediction(picture, ["War"], [0.9], "A poster"))


def test_reliability_names_the_error():
    bins = (np.array([0.1, 0.5]), np.array([0.2, 0.4]), np.array([5, 5]))
    assert "0.100" in title(plots.reliability(bins, 0.1, NOTE))


SCORES = np.array([[0.9, 0.6, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.5]])


def test_precision_recall_names_the_best_and_the_worst_and_skips_absent_genres():
    text = title(figure := plots.precision_recall(LABELS, SCORES, GENRES, NOTE))
    assert "Drama is predicted best" not in text and NOTE in text
    captions = [ax.get_title() for ax in figure.axes]
    assert any(caption.startswith("Comedy 0.8") for caption in captions)
    assert not any("War" in caption for caption in captions)


def test_confusion_names_the_pair():
    instead = evaluation.confusion(LABELS, SCORES)
    text = title(plots.confusion(instead, LABELS.sum(axis=0), GENRES, NOTE))
    assert "Drama is confused most often: War" in text and "50%" in text
    nothing = plots.confusion(np.zeros_like(instead), LABELS.sum(axis=0), GENRES, NOTE)
    assert "No genre is predicted in place of another" in title(nothing)


def test_recall_by_words_names_the_best_part_where_it_is_clearly_best():
    recalls = evaluation.recall(LABELS, SCORES)
    table = evaluation.recall_by_word_count(
        [0, 3, 9], {"both": recalls, "picture alone": recalls}, parts=2
    )
    assert "Does the number of words matter?" in title(plots.recall_by_words(table, NOTE))
    columns = {"words": ["0", "1–5"], "recall": [0.9, 0.5], "error": [0.1, 0.2], "posters": 20}
    few = pd.DataFrame(columns | {"system": "both"})
    assert "on the posters predicted best: 0" in title(plots.recall_by_words(few, NOTE))
    few["posters"] = 1
    assert "best" not in title(plots.recall_by_words(few, NOTE))
    few["posters"], few["error"] = 20, 0.3
    assert "best" not in title(plots.recall_by_words(few, NOTE))
    assert "best" not in title(plots.recall_by_words(few[:1], NOTE))


def test_the_overlay_glows_where_it_is_hot_and_fits_any_poster(picture):
    heat = np.zeros((8, 8), np.float32)
    heat[:4] = 1
    laid = plots.overlay(picture, heat)
    assert laid.shape == picture.shape and laid.dtype == np.uint8
    top, bottom = laid[:20].mean() - picture[:20].mean(), laid[40:].mean() - picture[40:].mean()
    assert top > bottom and bottom < 0
    cold = 0.6 * 255 * np.array(plt.colormaps["inferno"](0.0)[:3])
    assert np.abs(laid[45:] - (0.4 * picture[45:] + cold)).max() < 1
    figure = plots.grad_cam(picture, heat[None], ["War"], "Where it looked", NOTE)
    assert [ax.get_title() for ax in figure.axes] == ["the poster", "War"]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_hotter_place_is_brighter_on_any_poster(grey):
    poster = np.full((8, 256, 3), grey, np.uint8)
    laid = plots.overlay(poster, np.tile(np.linspace(0, 1, 256), (8, 1)))
    brightness = np.array(Image.fromarray(laid).convert("L"), int)[0]
    assert (np.diff(brightness) >= -1).all() and brightness[-1] - brightness[0] > 100


def test_a_genre_s_name_is_no_formula(tmp_path):
    plots.use_style()
    names = ["a $\\foo$ b", "$tar $tudio_1", "War"]
    for figure in (
        plots.genre_counts(LABELS, names),
        plots.co_occurrence(LABELS, names),
        plots.confusion(np.eye(3), [5, 5, 5], names),
        plots.prediction(np.zeros((9, 6, 3), np.uint8), names, [0.9, 0.5, 0.1]),
    ):
        plots.save_figure(figure, tmp_path, "figure")
        assert "$tar $tudio_1" in " ".join(
            label.get_text() for ax in figure.axes for label in ax.get_yticklabels()
        )


def test_many_genres_and_long_names_have_room():
    picture, few = np.zeros((9, 6, 3), np.uint8), [f"genre {i}" for i in range(24)]
    figure = plots.prediction(picture, few, np.linspace(1, 0, 24), "", "", [0.1] * 24, "WORDS")
    assert (
        figure.get_figheight() > 2 * plots.prediction(picture, few[:3], [1, 1, 1]).get_figheight()
    )
    for figure in (
        plots.co_occurrence(LABELS, ["A", "B", "a name of a genre that nobody would read"]),
        plots.confusion(np.eye(3), [5, 5, 5], ["A", "B", "a name of a genre that is too long" * 2]),
    ):
        figure.canvas.draw()
        width, height = figure.axes[0].get_window_extent().size / figure.dpi
        assert min(width, height) > 0.9  # inches, for three rows and columns


def test_each_system_has_its_own_marker():
    recalls = {name: np.full(3, 0.5) for name in ("both", "picture alone", "words alone")}
    table = evaluation.recall_by_word_count([0, 3, 9], recalls, parts=2)
    axes = plots.recall_by_words(table).axes[0]
    lines = [container.lines[0] for container in axes.containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 3


def test_without_intervals_bars_have_no_length_of_error():
    scored = evaluation.evaluate(LABELS, SCORES, GENRES, resamples=0)["per_genre"]
    (bars,) = plots.genre_precision(scored, scored).axes[0].containers[-1:]
    lengths = [np.ptp(line[:, 0]) for line in bars.errorbar.lines[2][0].get_segments()]
    assert len(lengths) == 2 and not any(lengths)


def lengths(figure, axes: int = 0) -> dict[str, float]:
    """Return the length of each bar of a figure by its name, from the lowest."""
    names = [label.get_text() for label in figure.axes[axes].get_yticklabels()]
    return dict(zip(names, (bar.get_width() for bar in figure.axes[axes].patches), strict=True))


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_each_bar_has_its_own_number(picture):
    labels = np.repeat([[1, 0, 0], [1, 1, 0], [0, 1, 1]], [2, 5, 1], axis=0)
    counts = plots.genre_counts(labels, GENRES)
    assert list(lengths(counts).items()) == [("War", 1), ("Drama", 6), ("Comedy", 7)]
    assert texts(counts.axes[0]) == ["1", "6", "7"]
    assert title(counts) == "Comedy is on 88% of the posters"
    of_poster = plots.labels_per_poster(labels)
    axes = of_poster.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    assert [bar.get_height() for bar in axes.patches] == [2, 6] and texts(axes) == ["2", "6"]
    assert title(of_poster) == "A poster has 1.75 genres on average"
    predicted = plots.prediction(picture, ["War", "Drama"], [0.7, 0.2], "", "", [-0.3, 0.1], "WAR")
    assert lengths(predicted, 1) == {"Drama\n+0.10 by words": 0.2, "War\n-0.30 by words": 0.7}
    assert texts(predicted.axes[1]) == ["0.20", "0.70"]


def test_co_occurrence_is_a_share_of_the_row_s_posters():
    rows = [[1, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1]]
    figure = plots.co_occurrence(np.repeat(rows, [10, 10, 20, 4], axis=0), GENRES)
    # All four posters of War are comedies, too: few, of which the title claims nothing.
    assert title(figure) == "50% of Drama posters are also Comedy"
    shares = figure.axes[0].collections[0].get_array().filled(np.nan)
    expected = [[np.nan, 10 / 34, 4 / 34], [0.5, np.nan, 0], [1, 0, np.nan]]
    np.testing.assert_allclose(np.reshape(shares, (3, 3)), expected)
    few = plots.co_occurrence(np.repeat([[1, 0, 0], [0, 1, 1]], [30, 2], axis=0), GENRES)
    assert title(few) == "100% of Drama posters are also War"
    assert few.axes[1].get_ylabel() == "share of the row's posters"
    none = plots.co_occurrence(np.eye(3, dtype=int), GENRES)
    assert title(none) == "No poster has two genres"


def test_each_picture_of_a_grid_has_its_own_caption():
    posters = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 6, 4, 3), np.uint8)
    figure = plots.poster_grid(posters, "abc", "Three", columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", ""]
    assert [ax.images[0].get_array().max() for ax in figure.axes[:3]] == [0, 1, 2]
    figure = plots.genre_posters({"War": posters[1:], "Drama": posters[:1]}, "Few")
    assert [ax.get_title() for ax in figure.axes] == ["War", "Drama"]
    war, drama = (ax.images[0].get_array() for ax in figure.axes)
    assert (war[:, :4] == 1).all() and (war[:, 8:12] == 2).all()
    assert (drama[:, :4] == 0).all() and (drama[:, 4:] == 255).all()


def test_sizes_are_shown_by_width_and_height():
    sizes = np.array([[150, 100], [600, 200], [160, 100]])
    figure = plots.picture_sizes(sizes)
    assert title(figure) == "The median poster is 1.60 times as high as wide"
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_offsets(), sizes[:, ::-1])


def test_curves_mark_the_best_epoch_and_are_saved_by_network(tmp_path):
    figures = [0.1, 0.3, 0.2]
    curve = pd.DataFrame({"epoch": [0, 1, 2], "loss": [3, 2, 1], "val_macro_map": figures})
    plots.save_curves({"picture": curve, "words": curve}, "fine_tuning", tmp_path)
    assert len(list(tmp_path.glob("picture_fine_tuning.*"))) == 2
    assert len(list(tmp_path.glob("words_fine_tuning.*"))) == 2
    figure = plt.gcf()
    assert title(figure) == "words, fine-tuning: macro mAP 0.300 at the best epoch"
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [3, 2, 1]
    assert right.lines[0].get_ydata().tolist() == figures
    assert right.collections[0].get_offsets().tolist() == [[1, 0.3]]


def test_each_genre_has_its_own_interval_and_prior():
    def part(support: int, value: float, *interval: float) -> dict:
        return {"support": support, "average_precision": value, "interval": list(interval)}

    model = {"B": part(9, 0.6, 0.3, 0.7), "A": part(7, 0.3, 0.2, 0.5)}
    figure = plots.genre_precision(model, {"B": part(9, 0.4), "A": part(7, 0.1)})
    assert list(lengths(figure).items()) == [("A (7)", 0.3), ("B (9)", 0.6)]
    assert title(figure).startswith("In 1 of 2 genres the whole interval is above")
    axes = figure.axes[0]
    (bars,) = (one for one in axes.containers if hasattr(one, "patches"))
    ends = [line[:, 0] for line in bars.errorbar.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.2, 0.5], [0.3, 0.7]])
    offsets = next(one for one in axes.collections if len(one.get_offsets()) == 2).get_offsets()
    np.testing.assert_allclose(offsets[:, 0], [0.1, 0.4])


def test_a_reliability_curve_goes_from_scores_to_what_came_true():
    bins = (np.array([0.1, 0.9]), np.array([0.2, 0.95]), np.array([5, 5]))
    axes = plots.reliability(bins, 0.123).axes[0]
    assert [line.tolist() for line in axes.lines[1].get_data()] == [[0.1, 0.9], [0.2, 0.95]]
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)


def test_precision_recall_names_no_genre_of_few_posters_and_marks_chance():
    labels = np.zeros((20, 4), int)
    labels[:10, 0] = labels[5:15, 1] = labels[3, 2] = labels[19, 3] = 1
    falling = np.linspace(1, 0, 20)
    scores = np.stack([np.roll(falling, 1), falling, labels[:, 2], falling], axis=1)
    figure = plots.precision_recall(labels, scores, ["A", "B", "C", "D"])
    assert title(figure).startswith("A is predicted best, B worst")
    shares = [ax.lines[1].get_ydata()[0] for ax in figure.axes]
    assert shares == [0.5, 0.5, 0.05, 0.05]
    recall, precision = figure.axes[3].lines[0].get_data()
    assert recall[0] == 1 and precision[0] == 0.05
    few = plots.precision_recall(labels[:, 2:], scores[:, 2:], ["C", "D"])
    assert title(few).startswith("C is predicted best, D worst")


def test_confusion_leaves_out_rows_of_few_posters_and_names_its_own():
    instead = np.array([[0, 0.1, 0], [0.9, 0, 0], [0, 0.5, 0]])
    figure = plots.confusion(instead, [6, 2, 8], GENRES)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Comedy (6)", "War (8)"]
    shares = np.reshape(figure.axes[0].collections[0].get_array(), (2, 3))
    np.testing.assert_array_equal(shares, instead[[0, 2]])
    assert title(figure).startswith("War is confused most often: Drama is predicted in its")
    few = plots.confusion(instead, [1, 2, 0], GENRES)
    assert title(few).startswith("Drama is confused most often: Comedy")


def test_recall_stands_over_its_own_range_and_the_first_system_names_the_best():
    columns = {"words": ["5–9", "10–20"] * 2, "recall": [0.9, 0.5, 0.3, 0.4]}
    columns |= {"system": ["both"] * 2 + ["alone"] * 2, "error": [0.1, 0.05] * 2, "posters": 20}
    figure = plots.recall_by_words(pd.DataFrame(columns))
    assert title(figure) == "Number of words on the posters predicted best: 5–9"
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5–9\n(20)", "10–20\n(20)"]
    first, second = axes.containers
    assert first.lines[0].get_ydata().tolist() == [0.9, 0.5]
    assert (first.lines[0].get_xdata() < second.lines[0].get_xdata()).all()
    np.testing.assert_allclose(first.lines[2][0].get_segments()[0][:, 1], [0.8, 1])
