"""Exported networks against the Keras networks that they were made from."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_model import GENRES, TEXTS, make_small_model

from genre_utils.__main__ import main
from genre_utils.apps.export import to_int8
from genre_utils.dataset import load_dataset
from genre_utils.fusion import LogisticFusion
from genre_utils.networks import FORMAT, RuntimeNetwork, open_session, read_card
from genre_utils.predictor import Predictor
from genre_utils.saved_model import load_model
from genre_utils.sources import find_data
from genre_utils.sources.sample import draw_poster
from genre_utils.support import DataError, only_writer, write_json


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_small_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def exported(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(plain, folder)
    assert main(["export", "--int8", "--model", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def posters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posters")
    for i in range(5):
        draw_poster([GENRES[i % 3]], np.random.default_rng(i)).save(folder / f"{i}.jpg")
    return folder


def scores(model, texts=TEXTS[:5]):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 96, 80, 3), dtype=np.uint8)
    parts = {"picture": model.network.predict_on_batch(pixels), **model.words.logits(texts)}
    return model.fusions["both"].scores(parts)


def test_onnx_files_stand_alone_and_give_the_scores_of_keras(exported, tmp_path):
    for name, part in (("picture", "network"), ("text", "words")):
        shutil.copy(exported / f"{name}.onnx", tmp_path)
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
        session, each = open_session(tmp_path / f"{name}.onnx")
        model = load_model(exported)
        network = model.network if part == "network" else model.words.network
        given = session.get_inputs()[0]
        rng = np.random.default_rng(0)
        if name == "picture":
            batch = rng.integers(0, 256, (2, 96, 80, 3)).astype(np.float32)
        else:
            batch = rng.integers(1, 30_000, (2, 32)).astype(np.int32)
        (found,) = session.run(None, {given.name: batch}, each)
        np.testing.assert_allclose(found, network.predict_on_batch(batch), atol=1e-3)


def test_the_model_itself_is_in_eight_bits(exported, plain):
    sizes = [(folder / "text.safetensors").stat().st_size for folder in (plain, exported)]
    assert sizes[1] < 0.6 * sizes[0]
    np.testing.assert_allclose(scores(load_model(exported)), scores(load_model(plain)), atol=0.02)
    before, after = read_card(plain), read_card(exported)
    assert {**before, "sha256": 0} == {**after, "sha256": 0}


def test_eight_bits_keep_the_figures_and_the_training_posters_of_a_card(plain, tmp_path):
    model = shutil.copytree(plain, tmp_path / "model")
    known = {"metrics": {"net, test": {"posters": 9}}, "training_ids_sha256": "0" * 64}
    known |= {"training_ids": ["0123456789ab"], "training_pictures": ["123456789abc"]}
    write_json(model / "model.json", read_card(model) | known)
    to_int8(model)
    card = read_card(model)
    assert {name: card[name] for name in known} == known


def test_exported_files_are_never_loaded(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "picture.onnx").write_bytes(b"evil")
    load_model(folder, runtime=True)
    assert "picture.onnx" not in read_card(folder)["sha256"]


def loaded(code: str) -> set[str]:
    """Return the top-level packages that a fresh Python has loaded after some code."""
    told = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_prediction_imports_no_framework(exported, posters, tmp_path):
    command = f"['predict', {str(posters)!r}, '--model', {str(exported)!r}"
    run = "from genre_utils.__main__ import main; assert main({}) == 0"
    frameworks = {"keras", "tensorflow", "jax", "torch", "h5py"}
    alone = loaded(run.format(command + ", '--no-text']"))
    assert "onnxruntime" in alone
    assert not alone & (frameworks | {"pandas", "sklearn", "scipy", "tokenizers", "rapidocr"})
    csv = f", '--csv', {str(tmp_path / 'table.csv')!r}]"
    reading = loaded(run.format(command + csv))
    assert {"rapidocr", "tokenizers"} <= reading
    assert not reading & (frameworks | {"sklearn", "scipy", "pandas"})


def test_eight_bits_say_what_they_cost(plain, sample_folder, tmp_path, capsys):
    shutil.copytree(plain, tmp_path / "model")
    arguments = ["export", "--int8", "--model", str(tmp_path / "model")]
    (tmp_path / "none.jsonl").touch()
    arguments += ["--data", str(sample_folder), "--words", str(tmp_path / "none.jsonl")]
    assert main(arguments) == 0
    assert "validation posters, 0 of them with words, macro mAP" in capsys.readouterr().out


def write_posters(folder, genres):
    """Write twenty pictures with genres in turn; returns the folder."""
    (folder / "Images").mkdir(parents=True)
    for i in range(20):
        draw_poster([GENRES[i % 3]], np.random.default_rng(i)).save(folder / f"Images/{i:03d}.jpg")
    rows = [f"{i:03d}.jpg,{genres[i % 2]}" for i in range(20)]
    (folder / "train.csv").write_text("\n".join(["Id,Genre", *rows]))
    return folder


def test_what_cannot_be_scored_is_told_before_a_model_is_rewritten(plain, tmp_path, capsys):
    model = shutil.copytree(plain, tmp_path / "model")
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    other = write_posters(tmp_path / "other", ("Foo", "Bar"))
    ours = write_posters(tmp_path / "ours", GENRES[:2])
    words = str(tmp_path / "nowhere.jsonl")
    for options, why in (
        (["--data", str(other)], "has a genre of the model, whose genres are Horror, Romance"),
        (["--data", str(ours), "--words", words], "--words is .*nowhere.jsonl: there is no such"),
        (["--words", words], "--words holds the words on the posters of --data"),
        (["--convert", str(model)], "--convert rewrites a folder and does nothing else"),
    ):
        assert main(["export", "--int8", "--model", str(model), *options]) == 2
        assert re.search(why, capsys.readouterr().err)
    assert main(["export", "--convert", str(tmp_path)]) == 2
    assert "holds no model: there is no model.json" in capsys.readouterr().err
    (other / "model.json").write_text(json.dumps({"format": FORMAT, "sha256": {}}))
    assert main(["export", "--model", str(other)]) == 2
    assert "model.json cannot be understood" in capsys.readouterr().err
    options = ("--format", "litert"), ("--model", "a"), ("--data", "a"), ("--words", "a")
    for more in (*options, ("--int8",)):
        assert main(["export", "--convert", str(model), *more]) == 2
        assert "--convert rewrites a folder and does nothing else" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before


def test_eight_bits_are_not_taken_back_unsaid(plain, tmp_path, capsys):
    model = shutil.copytree(plain, tmp_path / "model")
    data = write_posters(tmp_path / "ours", GENRES[:2])
    (tmp_path / "none.jsonl").touch()
    arguments = ["export", "--int8", "--model", str(model)]
    words = ["--words", str(tmp_path / "none.jsonl")]
    assert main([*arguments, "--data", str(data), *words]) == 0
    before = (model / "picture.safetensors").read_bytes()
    assert main(arguments) == 2
    assert "are in 8 bits already, for which posters are needed" in capsys.readouterr().err
    assert (model / "picture.safetensors").read_bytes() == before


@pytest.fixture
def steps(monkeypatch):
    """What an export does with a model, without doing it: each step's arguments by its name."""
    from genre_utils.apps import export

    done = {}

    def noted(name, answer):
        def step(*arguments):
            done[name] = arguments
            return answer

        return step

    answers = {"calibration_pixels": "pixels", "to_int8": None, "export_model": ()}
    for name, answer in (answers | {"load_exported": "exported", "compare": "told"}).items():
        monkeypatch.setattr(export, name, noted(name, answer))
    return done


def test_eight_bits_are_set_on_training_posters_and_scored_on_validation_ones(
    plain, tmp_path, steps
):
    data = write_posters(tmp_path / "data", GENRES[1::-1])  # Romance first, and no Western
    (tmp_path / "none.jsonl").touch()
    words = ["--words", str(tmp_path / "none.jsonl")]
    options = ["--int8", "--model", str(plain), "--data", str(data)]
    assert main(["export", *options, *words]) == 0
    part = load_dataset(find_data(str(data))).part
    assert list(steps["calibration_pixels"][0]) == part("train")["path"].tolist()
    assert steps["to_int8"] == (plain, "pixels")
    _, after, paths, labels, _ = steps["compare"]
    validation = part("validation")
    assert after == "exported" and paths == validation["path"].tolist()
    np.testing.assert_array_equal(labels[:, :2], validation[list(GENRES[:2])])
    assert not labels[:, 2].any()


def test_litert_files_in_eight_bits_leave_the_model_as_it_is(plain, steps, capsys):
    assert main(["export", "--format", "litert", "--int8", "--model", str(plain)]) == 0
    assert "to_int8" not in steps and steps["export_model"] == (plain, "litert", True)
    assert "to see how much the 8 bits cost" in capsys.readouterr().err


def test_two_commands_do_not_write_into_one_model(plain, steps, capsys):
    with only_writer(plain):
        for command in ("card", "export"):
            assert main([command, "--model", str(plain)]) == 2
            assert "Another command is writing" in capsys.readouterr().err
    assert not steps


def test_a_folder_of_links_is_a_model(plain, posters, tmp_path):
    (tmp_path / "links").mkdir()
    for file in plain.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    linked = load_model(tmp_path / "links", runtime=True)
    assert isinstance(linked.network, RuntimeNetwork)
    np.testing.assert_array_equal(scores(linked), scores(load_model(plain, runtime=True)))


def test_another_backend_is_told_what_to_do(plain, monkeypatch, capsys):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    monkeypatch.setattr("genre_utils.machine.choose_backend", lambda: "")
    arguments = ["export", "--format", "litert", "--model", str(plain)]
    assert main(arguments) == 2
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--int8"]])
def test_litert_s_own_interpreter_gives_the_scores_of_keras(plain, tmp_path, options):
    from genre_utils.apps.export import load_exported

    shutil.copytree(plain, tmp_path / "model")
    assert main(["export", "--format", "litert", *options, "--model", str(tmp_path / "model")]) == 0
    found = scores(load_exported(tmp_path / "model", "litert"))
    np.testing.assert_allclose(found, scores(load_model(plain)), atol=1e-2)


def test_posters_that_cannot_be_read_calibrate_nothing(posters, tmp_path):
    from genre_utils.apps.export import calibration_pixels

    good, bad = str(posters / "0.jpg"), str(tmp_path / "none.jpg")
    assert calibration_pixels([bad, good, bad], (96, 80)).shape == (1, 96, 80, 3)
    with pytest.raises(DataError, match="None of the training posters can be read"):
        calibration_pixels([bad], (96, 80))


def test_a_comparison_says_which_way_it_went_on_what_can_be_read(plain, tmp_path):
    from genre_utils.apps.export import compare

    before = load_model(plain, has_text=False, runtime=True)
    opposite = LogisticFusion({"picture": -np.ones(3)}, np.zeros(3))
    after = replace(before, fusions={"picture": opposite})
    paths = [str(tmp_path / "none.jpg")]
    paths += sorted(map(str, (write_posters(tmp_path / "data", GENRES) / "Images").iterdir()))
    found = Predictor(before).predict_all(paths)[list(GENRES)].to_numpy()
    labels = found > np.nanmedian(found, axis=0)
    labels[0] = True  # of the poster that is missing
    told = compare(before, after, paths, labels.astype(int), None)
    assert told.startswith("On 20 validation posters, 0 of them with words, macro mAP is 0.")
    assert re.search(r"and 1.0000 before \(-0.\d+\)", told)
    difference = np.nanmax(np.abs(2 * found - 1))  # the opposite of a score is 1 less it
    assert float(told.split()[-3]) == pytest.approx(difference, abs=1e-4)
    with pytest.raises(DataError, match="nothing is scored"):
        compare(before, after, paths[:1], labels[:1].astype(int), None)


def test_what_is_written_is_what_it_is_compared_with(plain):
    from genre_utils.apps.export import export_model, load_exported

    assert isinstance(load_exported(plain, "onnx").network, RuntimeNetwork)
    with pytest.raises(DataError, match="The format 'tflite' is unknown: give one of onnx, litert"):
        export_model(plain, "tflite")


@pytest.mark.parametrize("count", [1, 59, 60, 119, 179, 1000])
def test_posters_that_calibrate_are_spread_over_all(monkeypatch, count):
    from genre_utils.apps import export

    read = []
    monkeypatch.setattr(export, "read_poster", read.append)
    monkeypatch.setattr(export, "resize_poster", lambda *_: np.zeros((2, 2, 3)))
    pixels = export.calibration_pixels([*range(count)], (2, 2))
    assert len(pixels) == len(set(read)) == min(count, export.CALIBRATION)
    assert read[0] == 0 and read[-1] == count - 1
    assert max(np.diff(read), default=0) <= count / (export.CALIBRATION - 1) + 1
