from pathlib import Path

import keras
import numpy as np
import pytest

from genre_utils import models
from genre_utils.networks import VARIANTS, build_efficientnet_lite

REFERENCES = Path(__file__).parent / "references"
GENRES = ("Comedy", "Drama", "War")


@pytest.mark.parametrize("name", VARIANTS)
def test_backbone_gives_the_features_of_the_original(name):
    with np.load(REFERENCES / f"{name}.npz") as reference:
        image, expected = reference["image"], reference["pooled"]
    features = build_efficientnet_lite(name, image.shape[:2]).predict(image[None], verbose=0)[0]
    # Weights in half precision cost 0.001 on average; with the original float32 arrays, where
    # they are at hand, the port agrees to 0.00001 (genre_utils/weights/README.md).
    error = np.abs(features[: len(expected)] - expected)
    assert error.mean() < 0.002
    assert error.max() < 0.03


@pytest.mark.parametrize("name", models.OFFLINE)
def test_models_take_bytes_or_floats_and_give_one_logit_a_genre(name):
    keras.utils.set_random_seed(0)
    model = models.build_model(name, (96, 80), GENRES)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 80, 3), dtype=np.uint8)
    logits = model.predict(pixels, verbose=0)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(model.predict(pixels.astype("float32"), verbose=0), logits, 1e-5)
    # A logit turns with the last layer's weights; a probability would become 1 - p.
    last = (model.layers[-1].layers if name != "seed_cnn" else model.layers)[-1]
    last.set_weights([-weights for weights in last.get_weights()])
    np.testing.assert_allclose(model.predict(pixels, verbose=0), -logits, 1e-5)


def test_a_side_means_a_square():
    assert models.build_model("seed_cnn", 80, GENRES).input_shape == (None, 80, 80, 3)


def test_seed_cnn_is_the_published_network():
    model = models.build_model("seed_cnn", 250, GENRES)
    parts = [part.get_config() for part in model.layers]
    assert [part["filters"] for part in parts if "filters" in part] == [16, 32, 64, 64]
    assert [part["rate"] for part in parts if "rate" in part] == [0.25] * 4 + [0.5] * 2
    assert [part["units"] for part in parts if "units" in part] == [128, 64, 3]
    assert parts[0]["scale"] == 1 / 255
    activations = [part["activation"] for part in parts if "activation" in part]
    assert activations == ["relu"] * 6 + ["linear"]
    # Valid convolutions and pooling leave 11 × 11 of 250 × 250.
    assert (None, 11 * 11 * 64) in [part.output.shape for part in model.layers]


def test_unknown_names_and_sizes_are_one_sentence():
    with pytest.raises(ValueError, match="give one of seed_cnn, efficientnet_lite0"):
        models.build_model("resnet9000", 250, GENRES)
    with pytest.raises(ValueError, match="MODEL is .* Did you mean 'efficientnet_lite2'"):
        models.choose_networks("efficientnet_lit2", "", 272)
    with pytest.raises(ValueError, match="SECOND_MODEL is .* Did you mean 'efficientnet_lite0'"):
        models.choose_networks("efficientnet_lite2", "efficientnetlite0", 272)
    with pytest.raises(ValueError, match="at least 76 pixels"):
        models.build_model("seed_cnn", 64, GENRES)
    with pytest.raises(ValueError, match=r"at least 76 pixels a side, not \(100, 75\)"):
        models.build_model("seed_cnn", (100, 75), GENRES)
    assert models.build_model("seed_cnn", 76, GENRES).output_shape == (None, 3)
    with pytest.raises(ValueError, match="MODEL is 'resnet'"):
        models.choose_networks("resnet", "", 272)
    alone = models.choose_networks("efficientnet_lite2", "", 272)
    assert alone == {"picture": "efficientnet_lite2"}
    for name in ("efficientnet_lite0", "convnext_tiny"):
        with pytest.raises(ValueError, match="is taken"):
            models.register_network(name, models.seed_cnn)


def test_failed_download_names_what_works_offline(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://example.org: None")

    monkeypatch.setattr(keras.applications, "ConvNeXtTiny", fail)
    with pytest.raises(ConnectionError, match=r"downloaded \(URL fetch .*efficientnet_lite2"):
        models.build_model("convnext_tiny", 250, GENRES)


def test_a_network_of_keras_begins_with_its_weights_and_its_own_mistakes_are_said(monkeypatch):
    def build(**options):
        assert options == {
            "include_top": False,
            "weights": "imagenet",
            "input_shape": (96, 80, 3),
            "pooling": "avg",
        }
        raise ValueError("no memory")

    monkeypatch.setattr(keras.applications, "ConvNeXtTiny", build)
    with pytest.raises(ValueError, match="no memory"):
        models.build_model("convnext_tiny", (96, 80), GENRES)


def test_a_head_has_two_layers_and_drops_features():
    layers = [layer.get_config() for layer in models.build_head(8, 3).layers]
    assert [layer.get("rate") for layer in layers] == [0.3, None, 0.5, None]
    assert [layer.get("units") for layer in layers] == [None, 512, None, 3]
    assert [layer.get("activation") for layer in layers] == [None, "relu", None, "linear"]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        networks = models.build_head(8, 3), models.seed_cnn((80, 80), 3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert [network.layers[-1].compute_dtype for network in networks] == ["float32"] * 2


def test_a_backbone_of_any_size_or_with_states_can_be_fine_tuned():
    pixels = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(pixels))
    x, _ = keras.layers.GRU(4, return_state=True)(keras.layers.Reshape((-1, 4))(x))
    backbone = keras.Model(pixels, x, name="backbone")
    head = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="head")
    given = keras.Input((16, 12, 3))
    models.freeze_for_fine_tuning(keras.Model(given, head(backbone(given))))
    frozen = [layer for layer in backbone.layers if layer.weights and not layer.trainable]
    assert [type(layer).__name__ for layer in frozen] == ["BatchNormalization"]


def test_fine_tuning_moves_the_top_and_nothing_that_was_frozen():
    keras.utils.set_random_seed(0)
    model = models.build_model("efficientnet_lite0", 64, GENRES)
    backbone = model.get_layer("backbone")
    models.freeze_for_fine_tuning(model)
    heights = {part.output.shape[1] for part in backbone.layers if part.trainable}
    assert heights & {2, 4, 8, 16, 32} == {2, 4, 8}, "maps of a quarter of the height stay"
    before = {part.name: part.get_weights() for part in backbone.layers if part.weights}
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(from_logits=True))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    model.fit(pixels, np.eye(4, 3), verbose=0)
    moved = {
        name
        for name, old in before.items()
        if any(
            (a != b).any() for a, b in zip(old, backbone.get_layer(name).get_weights(), strict=True)
        )
    }
    assert "top_conv" in moved and "block14_project_conv" in moved
    assert "stem_conv" not in moved and not any(name.endswith("_norm") for name in moved)


def test_the_average_of_two_networks_is_the_mean_of_their_logits():
    networks = [models.build_model("seed_cnn", 80, ("a", "b")) for _ in range(2)]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)).astype("uint8")
    expected = np.mean([network.predict_on_batch(pixels) for network in networks], axis=0)
    joined = models.average_models(*networks)
    np.testing.assert_allclose(joined.predict_on_batch(pixels), expected, atol=1e-5)
    assert [part.name for part in networks] == ["first", "second"]
    assert joined.get_layer("first") is networks[0]
    assert models.average_models(networks[0]) is networks[0]


def test_a_resized_network_has_the_weights_of_the_old_one():
    small = models.build_model("efficientnet_lite0", (96, 64), GENRES)
    large = models.join_networks({"a": small}, {"a": "efficientnet_lite0"}, (192, 128), GENRES)
    assert large.input_shape == (None, 192, 128, 3)
    for old, new in zip(small.get_weights(), large.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("size", [0, -8, 64.0, "64", (64,), (64, 0)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="The size is .*: give a side, or"):
        models.build_model("efficientnet_lite0", size, ("a", "b"))


def test_a_side_may_be_a_number_of_numpy():
    assert models.build_model("seed_cnn", np.int64(80), ("a", "b")).input_shape == (None, 80, 80, 3)
