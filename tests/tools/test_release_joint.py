"""What the last stage of the release changes, and what it leaves as it is."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from genre_utils import models, networks
from genre_utils.genres import IMDB_GENRES
from genre_utils.networks.arrays import load_arrays
from genre_utils.saved_model import load_model

torch = pytest.importorskip("torch", reason="the release is made with PyTorch: pip install torch")
ROOT = Path(__file__).resolve().parents[2]
HELD_OUT, TRAIN = 30, 300


@pytest.fixture
def joint(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "release"))
    return importlib.import_module("joint")


def logits_of(file, features):
    """Return the logits of each network in a `picture.json`, from its features."""
    logits, start = [], 0
    for part in networks.averaged_networks(networks.load_folder_network(file)):
        head = part.get_layer("head")
        width = head.input_shape[-1]
        logits.append(np.asarray(head(features[:, start : start + width])))
        start += width
    return logits


@pytest.mark.parametrize("parts", [["efficientnet_lite0"], ["efficientnet_lite2"] * 2])
def test_second_heads_leave_everything_else_as_it_is(joint, tmp_path, parts):
    built = [models.build_model(name, (64, 64), IMDB_GENRES) for name in parts]
    file, folder = tmp_path / "picture.json", tmp_path / "wide"
    folder.mkdir()
    networks.save_folder_network(models.average_models(*built), file)
    width = sum(one.get_layer("head").input_shape[-1] for one in built)
    draw = np.random.default_rng(0)
    labels = (draw.random((HELD_OUT + TRAIN, 24)) < 0.2).astype(np.float32)
    # The features tell the labels, and have scales of their own.
    shown = labels @ draw.normal(size=(24, width)) * draw.uniform(0.01, 3, width) + 1
    features, train = shown.astype(np.float16), np.arange(HELD_OUT, len(labels))
    joint.widen_heads(file, folder, features, torch.from_numpy(labels), train)

    places = file, folder / file.name
    before, after = (load_arrays(place.with_suffix(".safetensors")) for place in places)
    changed = {
        name for name in after if not np.array_equal(before[name].values, after[name].values)
    }
    assert changed and all("/head/" in f"/{name}" for name in changed)
    held_out = features[:HELD_OUT].astype(np.float32)
    for old, both in zip(
        logits_of(file, held_out), logits_of(folder / file.name, held_out), strict=True
    ):
        new = 2 * both - old
        assert new.std() == pytest.approx(old.std(), rel=0.05)
        right = labels[:HELD_OUT] == 1
        assert new[right].mean() > new[~right].mean() + new.std()
    with pytest.raises(SystemExit, match="has a second head already"):
        joint.widen_heads(folder / file.name, folder, features, torch.from_numpy(labels), train)


def test_the_text_model_in_pytorch_is_the_saved_one(joint):
    model = load_model(runtime=True)
    texts = ["the last exorcism", "LOVE ACTUALLY hugh grant", "a film by nobody at all"]
    tokens = [list(row) for row in networks.tokenize(texts, model.words.tokenizer)]
    expected = networks.run_on_words(networks.with_features(model.words.network), tokens, 4)
    network = joint.torch_network(ROOT / "genre_utils" / "released" / "text.json")
    vectors = joint.vectors_of(network, tokens)
    np.testing.assert_allclose(vectors, expected[:, 24:], atol=1e-3)
    with torch.no_grad():
        logits = network.head(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(logits, expected[:, :24], atol=1e-3)


def test_a_model_of_other_posters_is_refused(joint):
    model = load_model(has_text=False, runtime=True)
    validation = (ROOT / "genre_utils/splits/imdb_validation_ids.txt").read_text().split()
    data = joint.ReleaseData({}, {}, {}, [], ["tt9999999"], validation)
    with pytest.raises(SystemExit, match="other posters"):
        joint.check_posters(model, data)
    joint.check_posters(model, joint.ReleaseData({}, {}, {}, [], [], validation))
    learned = json.loads((ROOT / "genre_utils/released/model.json").read_text())["training_ids"]
    model.card["training_ids"] = [*learned, joint.short_hash(joint.normal_id(validation[0]))]
    with pytest.raises(SystemExit, match="other posters"):
        joint.check_posters(model, joint.ReleaseData({}, {}, {}, [], [], validation))
