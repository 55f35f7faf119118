import json
import shutil

import pytest

from genre_utils.apps.model_card import model_card, write_model_card
from genre_utils.saved_model import RELEASED
from genre_utils.support import DataError


def test_the_released_model_s_card_is_the_generated_one():
    written = (RELEASED / "MODEL_CARD.md").read_text("utf-8")
    assert written == model_card(RELEASED), "run: python -m genre_utils card"


def test_it_has_the_model_s_own_figures_with_intervals_and_baselines():
    text = model_card(RELEASED)
    measured = json.loads((RELEASED / "metrics.json").read_text("utf-8"))["results"]
    for name, result in measured.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"{result['macro_map']:.3f}" in row and f"{result['micro_map']:.3f}" in row
        if interval := result.get("macro_map_interval"):
            assert f"({interval[0]:.3f}–{interval[1]:.3f})" in row
    drama = next(r for name, r in measured.items() if "words, test" in name)["per_genre"]["Drama"]
    assert f"| Drama | {drama['support']} | {drama['average_precision']:.3f} |" in text


def test_rare_genres_and_the_licence_are_named():
    text = model_card(RELEASED)
    rare = next(line for line in text.splitlines() if "hardly measured" in line)
    assert "News" in rare and "Drama" not in rare
    assert "Apache-2.0" in text


def test_a_model_of_the_sample_says_so_first(trained):
    text = model_card(trained)
    assert "scores mean nothing for real posters" in text
    assert "Trained with start imagenet, loss binary_crossentropy, epochs 0, batch size" in text
    assert "MODEL_CARD.md" in [file.name for file in trained.iterdir()], "train writes it"


def test_a_network_without_a_backbone_has_no_start(trained, tmp_path):
    shutil.copy(trained / "model.json", tmp_path)
    (tmp_path / "picture.json").write_text('{"network": {}}', "utf-8")
    assert "Trained with loss binary_crossentropy" in model_card(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text("utf-8"))
    card["training"] |= {"read_text": True, "word_epochs": 4, "encoder": "MiniLM"}
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    text = model_card(tmp_path)
    assert "Trained with encoder MiniLM, loss" in text
    assert "word epochs 4" in text


def test_without_metrics_the_genres_own_figures_are_left_out(tmp_path):
    shutil.copy(RELEASED / "model.json", tmp_path)
    text = write_model_card(tmp_path).read_text("utf-8")
    assert "| Drama |" not in text and "macro mAP" in text


def test_a_last_fit_names_what_learned_from_validation(trained, trained_on_words, tmp_path):
    assert "trained again" not in model_card(trained)
    assert "After that, the text models were trained again" in model_card(trained_on_words)
    shutil.copy(trained_on_words / "model.json", tmp_path)
    card = json.loads((tmp_path / "model.json").read_text("utf-8"))
    card["training"]["epochs"] = 1
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    assert "the picture's networks and the text models were trained again" in model_card(tmp_path)


def test_a_genre_of_any_name_is_text_in_a_card(tmp_path):
    (tmp_path / "metrics.json").write_text((RELEASED / "metrics.json").read_text("utf-8"), "utf-8")
    for name in ("model.json", "metrics.json"):
        content = (RELEASED / name).read_text("utf-8")
        (tmp_path / name).write_text(content.replace('"Drama"', '"<b>War|Peace"'), "utf-8")
    text = model_card(tmp_path)
    assert "<b>" not in text and "| &lt;b>War\\|Peace | " in text


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no trained model"):
        write_model_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_card_tells_of_the_posters_that_its_model_learned_from(tmp_path):
    shutil.copy(RELEASED / "model.json", tmp_path)
    card = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert "titles, names and genres" in model_card(tmp_path) and "1980 to 2015" in model_card(
        tmp_path
    )
    own = {"public": False, "posters_of": {"Drama": 12}, "size": [600, 400], "posters": 40}
    (tmp_path / "model.json").write_text(json.dumps(card | {"training": own}), "utf-8")
    text = model_card(tmp_path)
    assert "Drama on 12" in text and "600 × 400" in text and "40 for training" in text
    assert "1980" not in text and "American" not in text
    started = card | {"training": own | {"start": "posters"}}
    (tmp_path / "model.json").write_text(json.dumps(started), "utf-8")
    others = f"{len(card['training_ids']) - 40:,} other posters"
    assert others in (text := model_card(tmp_path)) and "40 for training" in text
    started["training_ids"] = card["training_ids"][:40]  # nothing of the release was in it
    (tmp_path / "model.json").write_text(json.dumps(started), "utf-8")
    assert "Parts of it began" not in model_card(tmp_path)
    public = json.dumps(card | {"training": {"public": True}})
    (tmp_path / "model.json").write_text(public, "utf-8")
    assert "1980 to 2015" in model_card(tmp_path) and "titles" not in model_card(tmp_path)


@pytest.mark.parametrize("key", ["training", "metrics", "genres", "image_size", "sums"])
def test_a_damaged_card_is_named(tmp_path, key):
    card = json.loads((RELEASED / "model.json").read_text("utf-8"))
    del card[key]
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(DataError, match="has files from which no card can be written"):
        write_model_card(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"results": {"both, test": {}}}'])
def test_damaged_metrics_are_named(tmp_path, content):
    shutil.copy(RELEASED / "model.json", tmp_path)
    (tmp_path / "metrics.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match="cannot be read|no card can be written"):
        write_model_card(str(tmp_path))


@pytest.fixture
def card_of(tmp_path):
    """Return the card of the released model with other entries, and with metrics beside it."""

    def card_of(results=None, **entries) -> str:
        card = json.loads((RELEASED / "model.json").read_text("utf-8")) | entries
        (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
        if results:
            (tmp_path / "metrics.json").write_text(json.dumps({"results": results}), "utf-8")
        return model_card(tmp_path)

    return card_of


def test_a_model_without_words_says_nothing_of_words(card_of):
    text = card_of(training={"public": True, "epochs": 2, "last_fit": True})
    assert "does not read its words" in text and "Latin letters" not in text
    assert "the picture's networks were trained again" in text
    assert "\n\n\n" not in text, "a title or a paragraph that is empty leaves no gap"


def test_a_model_without_a_joint_head_has_none_in_its_card(card_of):
    films = {"films": 12_000}
    assert "A joint head" in card_of(training=films)
    assert "12,000 entries" in (text := card_of(training=films, sums={})) and "joint" not in text


@pytest.mark.parametrize("kind", [{"sample": True, "public": True}, {"public": True}, {}])
def test_a_model_that_began_as_another_says_so_whatever_its_posters_are(card_of, kind):
    text = card_of(training=kind | {"posters": 40})
    assert "Parts of it began as those of the released model" in text
    assert ("scores mean nothing" in text) == ("sample" in kind)
    assert ("1980 to 2015" in text) == (kind == {"public": True})


def test_posters_of_a_split_are_counted_by_the_end_of_a_system_s_name(card_of):
    systems = {"test net, validation": {"posters": 1234}, "test net, test": {"posters": 9}}
    assert "for training, 1,234 for validation, 9 for test." in card_of(metrics=systems)
    assert "Not measured." in card_of(metrics={})


def test_a_genre_whose_posters_nobody_counted_has_no_number(card_of):
    text = card_of(genres=["Drama", "War"], training={"posters_of": {"Drama": 12}})
    assert "(Drama on 12, War)" in text


def test_genres_are_rare_by_the_whole_model_s_test_posters(card_of):
    def figures(war: int) -> dict:
        counts = {"Drama": 20, "War": war}
        return {
            "per_genre": {
                genre: {"support": count, "average_precision": 0.5}
                for genre, count in counts.items()
            }
        }

    systems = {"both, validation": figures(0), "both, test": figures(19), "alone, test": figures(1)}
    text = card_of(systems)
    assert "hardly measured: War." in text and "| War | 19 | 0.500 |  |" in text
    assert "| War |" not in card_of({"both, validation": figures(0)})
