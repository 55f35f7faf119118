"""Exported networks against the Keras networks that they were made from."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from small_model import GENRES, TEXTS, make_small_model

from genre_utils.__main__ import main
from genre_utils.networks import RuntimeNetwork
from genre_utils.saved_model import ModelError, load_model, read_card
from genre_utils.sources.sample import draw_poster

pytest.importorskip("onnx", reason="pip install 'poster-genres[export]'")
pytest.importorskip("tf2onnx", reason="pip install 'poster-genres[export]'")


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
    towers = {"picture": model.network.predict_on_batch(pixels), **model.words.logits(texts)}
    return model.sums["both"].scores(towers)


def test_onnx_scores_are_those_of_keras(plain, exported):
    fast = load_model(exported, runtime=True)
    assert isinstance(fast.network, RuntimeNetwork)
    assert isinstance(fast.words.network, RuntimeNetwork)
    np.testing.assert_allclose(scores(fast), scores(load_model(plain)), atol=1e-2)


def test_weights_in_another_file_are_refused(exported, tmp_path):
    import onnx

    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    network = onnx.load(folder / "model.onnx")
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(network, folder / "model.onnx", **outside)
    card = json.loads((folder / "model.json").read_text("utf-8"))
    card["sha256"]["model.onnx"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(ModelError, match="another file"):
        load_model(folder, runtime=True)


def test_the_name_of_another_file_is_seen_however_it_is_written(exported, tmp_path):
    # The length of a key in protocol buffers may be written in more bytes than it needs.
    hidden = (exported / "model.onnx").read_bytes() + b"\n\x88\x00location"
    (tmp_path / "model.onnx").write_bytes(hidden)
    with pytest.raises(ValueError, match="another file"):
        RuntimeNetwork(tmp_path / "model.onnx")


def test_eight_bits_are_stored_and_half_precision_without(exported, plain, tmp_path):
    shutil.copytree(plain, tmp_path / "half")
    assert main(["export", "--model", str(tmp_path / "half")]) == 0
    half, int8 = (
        (folder / "words.onnx").stat().st_size for folder in (tmp_path / "half", exported)
    )
    weights = load_model(plain).words.network.count_params()
    assert int8 < 1.2 * weights < 1.9 * weights < half < 2.2 * weights


def test_a_model_without_exported_files_runs_on_keras(plain):
    assert not isinstance(load_model(plain, runtime=True).network, RuntimeNetwork)


def test_damaged_or_missing_files_are_refused(exported, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1])
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(folder, runtime=True)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_model(folder, runtime=True)
    assert load_model(folder).genres == GENRES  # Keras' own files are still whole


def test_a_model_saved_anew_forgets_the_files_of_the_one_before(exported, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    make_small_model(folder)
    assert not (folder / "model.onnx").exists()
    assert "model.onnx" not in read_card(folder)["sha256"]


def loaded(code: str) -> set[str]:
    """Give the top-level packages that a fresh Python has loaded after some code."""
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


def test_another_backend_is_told_what_to_do(plain, monkeypatch, capsys):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    monkeypatch.setattr("genre_utils.machine.environment.choose_backend", lambda: "")
    assert main(["export", "--model", str(plain)]) == 2
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--int8"]])
def test_litert_s_own_interpreter_gives_the_scores_of_keras(plain, tmp_path, options):
    from genre_utils.apps.export import load_exported

    shutil.copytree(plain, tmp_path / "model")
    assert main(["export", "--format", "litert", *options, "--model", str(tmp_path / "model")]) == 0
    found = scores(load_exported(tmp_path / "model", "litert"))
    np.testing.assert_allclose(found, scores(load_model(plain)), atol=1e-2)
