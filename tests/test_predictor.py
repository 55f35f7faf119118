import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from genre_utils import networks, saved_model
from genre_utils.images import PosterError
from genre_utils.ocr import Line, WordCache, hash_file
from genre_utils.predictor import Prediction, Predictor, list_posters, prediction_table
from genre_utils.saved_model import load_model
from genre_utils.sources.sample import MUSIC_MARK, draw_poster
from genre_utils.support import DataError, progress
from genre_utils.text import NgramModel


@pytest.fixture
def poster():
    return draw_poster(["Horror"], np.random.default_rng(7))


def test_table_has_one_row_a_poster_and_rank(predictor, poster):
    table = predictor.predict([poster, poster], top=3)
    assert table.columns.tolist() == ["poster", "rank", "genre", "score", "error"]
    assert table["rank"].tolist() == [1, 2, 3] * 2
    assert table["score"][:3].is_monotonic_decreasing and table["score"].between(0, 1).all()
    assert table["error"].isna().all()
    assert len(predictor.predict(poster, top=99)) == len(predictor.genres)


def test_order_of_genres_is_the_model_s_own(predictor, poster):
    wide = predictor.predict_all(poster)
    assert wide.columns.tolist() == ["poster", *predictor.genres, "error"]
    best = predictor.predict(poster, top=1)
    scores = wide[list(predictor.genres)].iloc[0].astype(float)
    assert scores.idxmax() == best["genre"][0]
    assert scores.max() == pytest.approx(best["score"][0])


def test_a_bad_file_is_one_row_and_stops_nothing(predictor, poster, tmp_path):
    poster.save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no picture")
    (tmp_path / "c d é.PNG").write_bytes(b"")
    poster.save(tmp_path / "z.webp")
    table = predictor.predict(tmp_path, top=2)
    assert table["poster"].tolist() == ["a.jpg", "a.jpg", "b.jpg", "c d é.PNG", "z.webp", "z.webp"]
    bad = table[table["error"].notna()]
    assert bad[["rank", "genre", "score"]].isna().all(axis=None)
    assert bad["error"].str.contains("not a picture|empty").all()


def test_any_mix_of_sources_gives_the_same_scores(predictor, poster, tmp_path):
    path = tmp_path / "poster.png"
    poster.save(path)
    sources = [path, str(path), path.read_bytes(), poster, np.asarray(poster)]
    scores = predictor.predict_all(sources)[list(predictor.genres)].to_numpy()
    np.testing.assert_allclose(scores, np.repeat(scores[:1], len(sources), axis=0), atol=1e-5)
    assert predictor.predict_all(sources)["poster"][0] == str(path)
    assert len(predictor.predict_all(iter(sources))) == len(sources)


def test_an_open_file_or_stream_is_one_poster(poster, tmp_path):
    poster.save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert [source for _, source in list_posters(file)] == [file]
        assert len(list(list_posters([file, memoryview(b"")]))) == 2
    assert len(list(list_posters(io.BytesIO(b"a\nb\n")))) == 1
    for content in (memoryview(b"ab"), bytearray(b"ab")):
        assert len(list(list_posters(content))) == 1


def test_batches_do_not_change_scores(predictor, poster):
    other = draw_poster(["Western"], np.random.default_rng(1))
    alone = predictor.predict_all(poster)[list(predictor.genres)].to_numpy()
    many = predictor.predict_all([other] * 40 + [poster])[list(predictor.genres)].to_numpy()
    np.testing.assert_allclose(many[-1], alone[0], atol=1e-5)


def test_rows_that_a_network_adds_to_a_batch_are_no_posters(predictor):
    rows = np.arange(8.0)[:, None]  # as of two devices, each of which computes all four
    network = SimpleNamespace(predict_on_batch=lambda pixels: rows)
    padded = Predictor(replace(predictor.model, network=network))
    outputs = padded.picture_outputs(np.zeros((3, 4, 4, 3), np.uint8))
    np.testing.assert_array_equal(outputs, rows[:3])


def test_empty_folder_and_wrong_top_are_said(predictor, tmp_path):
    assert predictor.predict(tmp_path)["error"].notna().all()
    assert (predictor.predict_all(tmp_path)[[*predictor.genres]].dtypes == "float64").all()
    for top in (0, 2.5):
        with pytest.raises(ValueError, match="1 or more"):
            predictor.predict(tmp_path, top=top)


def test_ctrl_c_waits_for_no_poster_that_is_not_begun(predictor, poster, monkeypatch):
    begun, stopped = [], threading.Event()

    def interrupted(source, name):
        begun.append(name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        if len(begun) > 2:
            stopped.wait(60)
        return np.asarray(source)

    monkeypatch.setattr("genre_utils.predictor.read_poster", interrupted)
    monkeypatch.setattr(progress, "bar", lambda **_: SimpleNamespace(close=stopped.set))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        list(predictor.stream([poster] * 30))
    assert len(begun) < 10


def test_what_should_not_matter_leaves_the_answer(predictor, poster, tmp_path):
    genres = list(predictor.genres)
    names = {"a.jpg": 95, "Western Music.jpg": 95, "soft.jpg": 70}
    for name, quality in names.items():
        poster.save(tmp_path / name, quality=quality)
    scores = predictor.predict_all([tmp_path / name for name in names])[genres].to_numpy()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0], scores[2], atol=0.15)
    assert scores[0].argmax() == scores[2].argmax() == predictor.genres.index("Horror")


def test_an_unrelated_file_beside_it_changes_nothing(predictor, poster, tmp_path):
    poster.save(tmp_path / "a.png")
    alone = predictor.predict_all(tmp_path)
    (tmp_path / "notes.txt").write_text("Western, surely")
    draw_poster(["Western"], np.random.default_rng(2)).save(tmp_path / "b.png")
    beside = predictor.predict_all(tmp_path).set_index("poster").loc[["a.png"]].reset_index()
    genres = list(predictor.genres)
    np.testing.assert_allclose(beside[genres], alone[genres], atol=1e-5)


def test_names_that_are_no_text_are_predicted_and_written(predictor, poster, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    poster.save(tmp_path / name)
    table = predictor.predict([tmp_path / name, tmp_path / ("x" * 300)], top=1)
    assert table["poster"][0].endswith("caf\\xe9.png") and table["error"].notna().tolist() == [
        False,
        True,
    ]
    table.to_csv(tmp_path / "table.csv")


def test_the_planted_mark_moves_its_genre(predictor):
    music = predictor.genres.index("Music")
    moved = []
    for seed in range(12):
        style = ["Western", "Romance", "Sci-Fi"][seed % 3]
        without = draw_poster([style], np.random.default_rng(seed))
        with_mark = without.copy()
        marked = draw_poster([style, "Music"], np.random.default_rng(seed))
        box = tuple(
            round(share * side) for share, side in zip(MUSIC_MARK, without.size * 2, strict=True)
        )
        with_mark.paste(marked.crop(box), box)
        scores = predictor.predict_all([without, with_mark])[list(predictor.genres)].to_numpy()
        moved.append(scores[1, music] - scores[0, music])
    assert np.median(moved) > 0.1 and min(moved) > 0


@pytest.fixture
def copy(trained, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.json", "picture.json", "picture.safetensors"):
        shutil.copy(trained / name, folder / name)
    return folder


def test_a_folder_needs_nothing_else(copy, predictor, poster):
    moved = Predictor.load(copy)
    assert not moved.reader, "words that no part of the model takes are not read"
    pd.testing.assert_frame_equal(moved.predict(poster), predictor.predict(poster))


def test_card_says_what_the_model_is(copy):
    card = json.loads((copy / "model.json").read_text("utf-8"))
    assert card["image_size"] == [192, 128]
    assert card["training"]["model"] == "efficientnet_lite0" and card["training"]["sample"]
    assert len(card["genres"]) == len(card["thresholds"])
    assert {"macro_map", "top3_recall"} <= set(card["metrics"]["genre prior, test"])


def test_weights_are_stored_in_half_precision(copy, predictor):
    weights = predictor.model.network.count_params()
    assert (copy / "picture.safetensors").stat().st_size < 2.3 * weights
    kernel = predictor.model.network.get_layer("head").get_weights()[0]
    np.testing.assert_array_equal(kernel, kernel.astype(np.float16).astype(np.float32))


def test_saved_network_holds_nothing_that_keras_3_13_refuses(copy):
    config = (copy / "picture.json").read_text("utf-8")
    for key in ("renorm", "input_axes", "output_axes", "compile_config"):
        assert f'"{key}' not in config


def test_damaged_or_foreign_folders_are_refused(copy, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="holds no trained model"):
        load_model(tmp_path)
    card = json.loads((copy / "model.json").read_text("utf-8"))
    (copy / "model.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(DataError, match="does not say that it has format"):
        load_model(copy)
    (copy / "model.json").write_text(json.dumps(card | {"genres": card["genres"][1:]}))
    with pytest.raises(DataError, match="sums or sizes do not fit each other"):
        load_model(copy)
    twisted = {"genres": ["poster", *card["genres"][1:]]}, {"training": None}, {"metrics": {"a": 1}}
    for part in twisted:
        (copy / "model.json").write_text(json.dumps(card | part))
        with pytest.raises(DataError, match="contradicts itself"):
            load_model(copy)
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="larger than any"):
        monkeypatch.setattr("genre_utils.networks.card.MAX_WEIGHTS", 1000)
        load_model(copy)
    monkeypatch.undo()
    content = bytearray((copy / "picture.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "picture.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="SHA-256"):
        load_model(copy)
    (copy / "picture.safetensors").unlink()
    with pytest.raises(DataError, match="is missing"):
        load_model(copy)


def test_training_posters_are_known_by_their_ids(predictor):
    known = predictor.model.was_trained_on(["fictional-0001", "tt0000001"])
    assert "tt0000001" not in known
    ids = [f"fictional-{i:04d}" for i in range(400)]
    assert 240 < len(predictor.model.was_trained_on(ids)) < 290


def test_failed_save_leaves_the_old_model(copy, predictor, monkeypatch):
    before = {file.name: file.read_bytes() for file in copy.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(networks, "save_folder_network", full)
    model = predictor.model
    with pytest.raises(OSError, match="No space"):
        saved_model.save_model(
            copy, model.network, None, model.fusions, model.genres, model.thresholds, [], {}
        )
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


@pytest.fixture(scope="module")
def reading_predictor(trained_on_words):
    return Predictor.load(trained_on_words)


def test_words_move_the_scores_and_can_be_left_out(reading_predictor, trained_on_words, poster):
    (found,) = reading_predictor.stream(poster)
    assert found.lines and np.abs(found.text_effect).max() > 0.01
    (alone,) = Predictor.load(trained_on_words, read_text=False).stream(poster)
    assert not alone.lines and not alone.text_effect.any()
    np.testing.assert_allclose(found.scores - found.text_effect, alone.scores, atol=1e-6)


def test_other_words_on_the_same_picture_change_the_answer(reading_predictor, poster):
    logits = reading_predictor.picture_outputs(np.zeros((2, 96, 64, 3), np.uint8))
    (found,) = reading_predictor.stream(poster)
    (other,) = reading_predictor.stream(draw_poster(["Romance"], np.random.default_rng(3)))
    scores, _ = reading_predictor.combine(logits, [found.lines, other.lines])
    horror, romance = (reading_predictor.genres.index(g) for g in ("Horror", "Romance"))
    assert scores[0, horror] > scores[1, horror]
    assert scores[0, romance] < scores[1, romance]


def test_a_poster_without_words_gets_the_picture_s_answer(
    reading_predictor, trained_on_words, poster
):
    blank = np.full((300, 200, 3), 128, np.uint8)
    (found,) = reading_predictor.stream(blank)
    (alone,) = Predictor.load(trained_on_words, read_text=False).stream(blank)
    assert not found.lines
    np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
    beside, _ = reading_predictor.stream([blank, poster])
    assert not beside.text_effect.any(), "the words of another poster are not its own"


def test_without_a_reader_the_picture_answers_and_a_line_says_so(
    trained_on_words, poster, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    (found,) = Predictor.load(trained_on_words).stream(poster)
    assert found.error is None and not found.lines
    assert "rapidocr" in capsys.readouterr().err


def test_without_a_reader_known_words_are_used_and_a_line_says_so(
    trained_on_words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    Predictor.load(trained_on_words, cache=WordCache(tmp_path / "words.jsonl"))
    assert "Only words read before are used." in capsys.readouterr().err
    Predictor.load(trained_on_words)
    assert "The picture alone is used." in capsys.readouterr().err


@pytest.mark.parametrize("kind", [PosterError, lambda name, why: ImportError(f"{name}: {why}")])
def test_a_reading_that_fails_is_named_and_the_picture_answers(
    trained_on_words, poster, tmp_path, capsys, kind
):
    class Failing:
        def read(self, rgb, name):
            raise kind(name, "its words cannot be read (too dark).")

    poster.save(tmp_path / "dark\x1b[2J.png")
    predictor = Predictor(load_model(trained_on_words, runtime=True), Failing())
    (found,) = predictor.stream(tmp_path)
    assert found.error is None and not found.lines
    printed = "dark\\x1b[2J.png: its words cannot be read (too dark); the picture alone is used."
    assert printed in capsys.readouterr().err


def test_words_that_no_part_of_the_model_takes_are_not_read(predictor, poster):
    reader = SimpleNamespace(read=lambda *_: pytest.fail("they are read"))
    (found,) = Predictor(predictor.model, reader).stream(poster)
    assert found.error is None and not found.lines


@pytest.mark.parametrize(
    "told", [[], [Line("SADDLE UP", 1.0, ((0, 0), (1, 0), (1, 0.1), (0, 0.1)))]]
)
def test_known_words_are_taken_from_the_cache(trained_on_words, poster, tmp_path, told):
    poster.save(tmp_path / "a.png")
    cache = WordCache(tmp_path / "words.jsonl")
    cache.put(hash_file(tmp_path / "a.png"), told, "a test")
    predictor = Predictor.load(trained_on_words, cache=cache)
    found, no_file = predictor.stream([tmp_path / "a.png", poster])
    assert found.lines == told and no_file.lines not in ([], told)


@pytest.mark.parametrize("name", ["text.json", "text.safetensors", "ngrams.npz", "tokenizer.json"])
def test_damaged_or_missing_word_files_are_refused(trained_on_words, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(trained_on_words, folder, ignore=shutil.ignore_patterns("cache", "figures"))
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(DataError, match="SHA-256"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match="missing"):
        load_model(folder)
    assert Predictor.load(folder, read_text=False), "the picture alone needs none of them"


def text_for_numbers(tables: dict) -> None:
    tables["idf0"] = tables["idf0"].astype("U8")


def no_number(tables: dict) -> None:
    tables["bias"][0] = np.nan


def too_much(tables: dict) -> None:
    tables["idf0"] = np.zeros(70_000_000, np.float64)


def code(tables: dict) -> None:
    tables["bias"] = np.array([print] * len(tables["bias"]), object)


@pytest.mark.parametrize("twist", [text_for_numbers, no_number, too_much, code])
def test_tables_of_words_that_are_none_of_ours_are_refused(twist, trained_on_words, tmp_path):
    tables = dict(np.load(trained_on_words / "ngrams.npz"))
    twist(tables)
    np.savez_compressed(tmp_path / "ngrams.npz", **tables)
    with pytest.raises(ValueError):
        NgramModel.load(tmp_path / "ngrams.npz")


def test_a_tokenizer_of_other_words_is_refused(tmp_path):
    known = json.loads(networks.TOKENIZER.read_text("utf-8"))
    known["model"]["vocab"] |= {"strange": len(known["model"]["vocab"])}
    (tmp_path / "tokenizer.json").write_text(json.dumps(known), "utf-8")
    networks.check_tokenizer(networks.TOKENIZER)
    with pytest.raises(ValueError, match="vectors end"):
        networks.check_tokenizer(tmp_path / "tokenizer.json")


def test_a_card_lists_training_ids_and_pictures_as_hashes(tmp_path, monkeypatch):
    def save(network, file, *_):
        for suffix in (".json", ".safetensors"):
            file.with_suffix(suffix).write_bytes(b"net")

    monkeypatch.setattr(networks, "save_folder_network", save)
    (tmp_path / "a.jpg").write_bytes(b"a picture")
    network = SimpleNamespace(input_shape=(None, 96, 80, 3))
    sha256 = hashlib.sha256(b"another").hexdigest()
    for pictures in ((), (tmp_path / "a.jpg", sha256)):
        arguments = (tmp_path / "model", network, None, {}, ("a",), (0.5,), ["86001.0", "Film.JPG"])
        saved_model.save_model(*arguments, {}, pictures)
        card = networks.read_card(tmp_path / "model")
        model = saved_model.SavedModel(network, None, {}, ("a",), (0.5,), (96, 80), card)
        assert model.was_trained_on(["tt0086001", "0086001", "film", "86002"]) == [
            *("tt0086001", "0086001", "film"),
        ]
    ids = iter(["x/a/1.jpg", "x/b/1.jpg", "x/tt0086001.jpg", "2.jpg", "2.png"])
    saved_model.save_model(*arguments[:-1], ids, {}, pictures)
    card = networks.read_card(tmp_path / "model")
    model = saved_model.SavedModel(network, None, {}, ("a",), (0.5,), (96, 80), card)
    known = ["x/a/1.jpg", "X\\A\\1.jpg", "86001", "tt0000002"]
    assert model.was_trained_on(["x/c/1.jpg", "1", *known]) == known, (
        "folders count where they must"
    )
    expected = [hashlib.sha256(b"a picture").hexdigest()[:12], sha256[:12]]
    assert card["training_pictures"] == sorted(expected)
    assert model.was_trained_on(["new", "newer"], [tmp_path / "a.jpg", __file__]) == ["new"]
    assert not model.was_trained_on(["gone"], [tmp_path / "gone.jpg"])


def test_a_table_of_predictions_says_what_the_words_did():
    scores = np.array([0.1, 0.9, 0.5])
    effect = np.array([0.0, 0.2, -0.1])
    line = Line("words", 1.0, ((0, 0), (1, 0), (1, 1), (0, 1)))
    found = [
        Prediction("read.jpg", scores, [line], effect, None),
        Prediction("silent.jpg", scores, [], np.zeros(3), None),
        Prediction("blank.jpg", scores, [line._replace(text=" ")], np.zeros(3), None),
        Prediction("bad.jpg", None, [], None, "damaged"),
    ]
    table = prediction_table(found, ("a", "b", "c"), 2)
    assert table.columns.tolist() == ["poster", "rank", "genre", "score", "by words", "error"]
    assert table["genre"].tolist()[:4] == ["b", "c", "b", "c"]
    assert table["by words"].tolist()[:2] == [0.2, -0.1] and table["by words"][2:].isna().all()
    assert table["error"].tolist()[6] == "damaged"


def test_an_array_of_paths_is_many_posters():
    paths = np.array(["a.jpg", "b.jpg"])
    assert list(list_posters(paths)) == list(list_posters(paths.astype(object)))
    assert [name for name, _ in list_posters(paths)] == ["a.jpg", "b.jpg"]
    assert list(list_posters(np.array("a.jpg"))) == [("a.jpg", "a.jpg")]


def test_of_several_folders_each_poster_is_named_with_its_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(b"")
    both = [str(tmp_path / folder) for folder in ("a", "b")]
    assert [name for name, _ in list_posters(both[0])] == ["1.jpg"]
    assert [name for name, _ in list_posters(both[0], several=True)] == [f"{both[0]}/1.jpg"]
    assert [name for name, _ in list_posters(iter(both[:1]))] == ["1.jpg"]
    names = [name for name, _ in list_posters(iter(both))]
    assert names == [os.path.join(folder, "1.jpg") for folder in both]


def test_an_array_of_pictures_is_many_posters():
    pictures = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    listed = list(list_posters(pictures))
    assert [name for name, _ in listed] == ["image 1", "image 2", "image 3"]
    np.testing.assert_array_equal([picture for _, picture in listed], pictures)
    assert len(list(list_posters(pictures[0]))) == 1


def test_onnx_runtime_reports_nothing_to_its_makers(tmp_path):
    program = (
        "from genre_utils.predictor import Predictor\n"
        "assert Predictor.load().reader, 'the reader and the networks are loaded'"
    )
    # Without the variables by which it knows a CI, where it is silent anyway. Elsewhere it notes an
    # id of the machine at home as it starts.
    bare = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    bare["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", program], env=bare, check=True, timeout=200)
    assert not [file.name for file in tmp_path.rglob("*") if "onnxruntime" in file.name]
