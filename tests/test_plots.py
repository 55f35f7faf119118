import errno
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

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
    assert "Posters with 0 words are predicted best" in title(plots.recall_by_words(few, NOTE))
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
    figure = plots.grad_cam(picture, heat[None], ["War"], "Where it looked", NOTE)
    assert [ax.get_title() for ax in figure.axes] == ["the poster", "War"]


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
