"""The joint head: one part more, on the features of the networks of picture and words."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from small_model import GENRES, TEXTS, make_small_model

from genre_utils import models
from genre_utils.apps.export import to_int8
from genre_utils.fusion import LogisticFusion
from genre_utils.networks import (
    RuntimeNetwork,
    read_card,
    run_on_words,
    tokenize,
    with_features,
)
from genre_utils.ocr import Line
from genre_utils.predictor import Predictor
from genre_utils.saved_model import JOINT_FILES, TEXT_FILES, load_model, save_model
from genre_utils.support import DataError, sha256_of

SIZE, CHANNELS = (96, 80), (6, 10)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
AT = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.2), (0.1, 0.2))
LINES = [[Line(TEXTS[0], 0.9, AT)], [], [Line(TEXTS[1], 0.9, AT)]]


def picture(channels: int) -> keras.Model:
    """Build a network of a backbone and a head, as the pretrained ones are."""
    layers = keras.layers
    given = keras.Input((*SIZE, 3))
    maps = layers.Conv2D(channels, 3, strides=4, activation="relu")(
        layers.Rescaling(1 / 255)(given)
    )
    backbone = keras.Model(given, layers.GlobalAveragePooling2D()(maps), name="backbone")
    pixels = keras.Input((*SIZE, 3), name="pixels")
    head = models.build_head(channels, len(GENRES))
    return keras.Model(pixels, head(backbone(pixels)), name=f"picture{channels}")


def save(folder, small, width: int = sum(CHANNELS)) -> None:
    keras.utils.set_random_seed(0)
    words = load_model(small).words
    head = models.build_head(width + words.network.get_layer("encoder").output_shape[-1], 3)
    head.name = "joint"
    parts = ("picture", "sentence", "ngrams", "joint")
    known = {"picture": parts[:1], "words": parts[1:3], "both": parts[:3], "joint": parts}
    fusions = {
        name: LogisticFusion(dict.fromkeys(some, np.ones(3)), np.zeros(3))
        for name, some in known.items()
    }
    network = models.average_models(*map(picture, CHANNELS))
    words = replace(words, joint=head)
    save_model(folder, network, words, fusions, GENRES, np.full(3, 0.5), [], {})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "model"
    save(folder, small)
    return folder


def answer(predictor: Predictor) -> np.ndarray:
    return predictor.combine(predictor.picture_outputs(PIXELS), LINES)[0]


def without_head(model) -> Predictor:
    return Predictor(replace(model, words=replace(model.words, joint=None)))


def test_keras_and_onnx_runtime_compute_the_joint_head_alike(folder):
    fast, plain = (load_model(folder, runtime=runtime) for runtime in (True, False))
    assert isinstance(fast.words.joint, RuntimeNetwork)
    scores = answer(Predictor(fast))
    np.testing.assert_allclose(scores, answer(Predictor(plain)), atol=2e-3)
    beside = answer(without_head(fast))
    assert (np.abs(scores - beside)[[0, 2]].max(axis=1) > 0.01).all()
    np.testing.assert_array_equal(scores[1], beside[1])  # no words, no joint head


def test_features_stand_behind_the_logits_in_the_order_of_the_networks(folder):
    network = load_model(folder).network
    wide = with_features(network).predict_on_batch(PIXELS)
    np.testing.assert_allclose(wide[:, :3], network.predict_on_batch(PIXELS), atol=1e-5)
    start = 3
    for part, channels in zip(("first", "second"), CHANNELS, strict=True):
        backbone = network.get_layer(part).get_layer("backbone")
        features = backbone.predict_on_batch(PIXELS)
        np.testing.assert_allclose(wide[:, start : start + channels], features, atol=1e-5)
        start += channels
    assert wide.shape == (3, start)


def test_the_joint_head_gets_the_picture_s_features_before_the_words(folder):
    words = load_model(folder).words
    features = np.random.default_rng(0).random((2, sum(CHANNELS)), np.float32)
    tokens = tokenize(TEXTS[:2], words.tokenizer)
    of_words = run_on_words(words.network_with_features, tokens, 64)[:, len(GENRES) :]
    expected = words.joint.predict_on_batch(np.hstack([features, of_words]))
    found = words.logits(TEXTS[:2], features)["joint"]
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-5)


def test_a_network_that_hands_out_no_features_is_added_up_without_the_head(folder):
    model = load_model(folder, runtime=True)

    class Exported:
        """An exported network."""

        output_shape = (None, 3)
        predict_on_batch = staticmethod(model.network.predict_on_batch)

    found = answer(Predictor(replace(model, network=Exported())))
    np.testing.assert_allclose(found, answer(without_head(model)), atol=1e-6)


def test_eight_bits_keep_the_joint_head(folder, tmp_path):
    copy = tmp_path / "model"
    for file in folder.iterdir():
        copy.mkdir(exist_ok=True)
        (copy / file.name).write_bytes(file.read_bytes())
    to_int8(copy)
    found = answer(Predictor(load_model(copy, runtime=True)))
    np.testing.assert_allclose(
        found, answer(Predictor(load_model(folder, runtime=True))), atol=0.02
    )
    assert (copy / JOINT_FILES[1]).stat().st_size < (folder / JOINT_FILES[1]).stat().st_size


@pytest.mark.parametrize("runtime", [True, False])
def test_a_joint_head_for_other_networks_is_refused(small, tmp_path, runtime):
    save(tmp_path, small, width=sum(CHANNELS) + 1)
    with pytest.raises(DataError, match="contradict each other"):
        load_model(tmp_path, runtime=runtime)


def test_a_joint_head_that_is_missing_or_another_is_refused(small, tmp_path):
    save(tmp_path, small)
    config, weights = (tmp_path / name for name in JOINT_FILES)
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(DataError, match=r"joint.safetensors is missing"):
        load_model(tmp_path)
    weights.write_bytes(content[:-8])
    with pytest.raises(DataError, match="its SHA-256 differs"):
        load_model(tmp_path)
    weights.write_bytes(content)
    config.write_text(config.read_text("utf-8").replace("Dense", "Lambda"), "utf-8")
    card = json.loads((tmp_path / "model.json").read_text("utf-8"))
    card["sha256"][config.name] = sha256_of(config)
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(DataError, match="no layer of Keras, or holds code"):
        load_model(tmp_path)
    assert load_model(tmp_path, has_text=False).words is None
    del card["sha256"][config.name], card["sha256"][weights.name]
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(DataError, match="contradict each other"):
        load_model(tmp_path)


def test_a_joint_head_without_its_text_model_is_left_out(small, tmp_path):
    save(tmp_path, small)
    card = read_card(tmp_path)
    card["sha256"] = {name: card["sha256"][name] for name in {*card["sha256"]} - {*TEXT_FILES}}
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    assert load_model(tmp_path).words is None


@pytest.mark.parametrize("name", ["picture", "words", "both", "joint"])
def test_sums_of_other_parts_are_refused(small, tmp_path, name):
    save(tmp_path, small)
    card = read_card(tmp_path)
    weights = card["sums"][name]["weights"]
    weights["other"] = weights.pop(next(iter(weights)))
    (tmp_path / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(DataError, match="contradict each other"):
        load_model(tmp_path, runtime=True)


def test_a_joint_head_of_other_genres_is_refused(folder, tmp_path):
    model = load_model(folder)
    head = models.build_head(model.words.joint.input_shape[-1], 2)
    words = replace(model.words, joint=head)
    save_model(tmp_path, model.network, words, model.fusions, GENRES, model.thresholds, [], {})
    with pytest.raises(DataError, match="contradict each other"):
        load_model(tmp_path, runtime=True)
