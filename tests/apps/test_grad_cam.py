"""Grad-CAM points at what the networks were shown to look at."""

import keras
import numpy as np
import pytest

from genre_utils import models
from genre_utils.apps import grad_cam
from genre_utils.images import resize_poster
from genre_utils.saved_model import load_model
from genre_utils.sources import sample

GENRES = ("Drama", "War")


def heat_of_music(predictor, others: list[str], seed: int) -> tuple[np.ndarray, tuple]:
    """Return the heat map of Music on a drawn poster, and the slices of its mark's box."""
    poster = sample.draw_poster(["Music", *others], np.random.default_rng(seed))
    height, width = predictor.model.image_size
    pixels = resize_poster(np.asarray(poster), (height, width))
    cam = grad_cam.GradCam(predictor.model.network)
    left, top, right, bottom = sample.MUSIC_MARK
    rows, columns = slice(int(top * height), int(bottom * height)), slice(int(left * width), width)
    return cam.heat(pixels, [predictor.genres.index("Music")])[0], (rows, columns)


def test_music_lights_up_in_the_corner_of_its_mark(predictor):
    for seed in range(4):
        heat, (rows, columns) = heat_of_music(predictor, [], seed)
        assert heat.min() >= 0 and heat.max() == pytest.approx(1)
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert y >= rows.start and x >= columns.start, "the hottest place is elsewhere"


def test_music_lights_up_beside_another_genre_too(predictor):
    share = []
    for seed, other in enumerate(["Horror", "Western", "Sci-Fi", "Action"]):
        heat, corner = heat_of_music(predictor, [other], seed)
        share.append(heat[corner].mean() / heat.mean())
    # 1 is what a map that knows nothing of places would give.
    assert np.median(share) > 3 and min(share) > 1.5


def network(seen: int) -> keras.Model:
    """Build a network whose first logit grows with the brightness of one colour and nothing else.

    It pools what it sees as our backbones do, beside a coarser map that does not matter.
    """
    pixels = keras.Input((32, 16, 3))
    fine = keras.layers.Conv2D(3, 1, use_bias=False)(pixels)
    coarse = keras.layers.AveragePooling2D(8)(pixels)
    pooled = [keras.layers.GlobalAveragePooling2D()(x) for x in (fine, coarse)]
    backbone = keras.Model(pixels, keras.layers.Concatenate()(pooled), name="backbone")
    backbone.set_weights([np.eye(3)[None, None] / 255])
    head = models.build_head(6, len(GENRES))
    first, second = (np.zeros(w.shape) for w in head.get_weights()[::2])
    first[seen, 0], second[0, 0] = 1, 5
    head.set_weights([first, np.zeros(512), second, np.zeros(2)])
    inputs = keras.Input((32, 16, 3))
    return keras.Model(inputs, head(backbone(inputs)))


def poster() -> np.ndarray:
    """Black, with a red square at the top left and a green one at the bottom right."""
    pixels = np.zeros((32, 16, 3), np.uint8)
    pixels[:8, :8, 0] = pixels[24:, 8:, 1] = 255
    return pixels


def test_what_does_not_speak_for_a_genre_stays_dark():
    red = grad_cam.GradCam(network(seen=0)).heat(poster(), [0, 1])
    assert red.shape == (2, 32, 16) and red.dtype == np.float32
    assert red[0, :8, :8].min() > 0.9 and red[0, 12:].max() < 0.1
    assert not red[1].any(), "nothing speaks for the second genre"


def test_the_hottest_place_of_each_genre_is_one():
    both = network(seen=0)
    weights = both.layers[-1].get_weights()
    weights[2][0, 1] = 1  # the second genre grows with red, too, and less than the first
    both.layers[-1].set_weights(weights)
    strong, weak = grad_cam.GradCam(both).heat(poster(), [0, 1])
    assert weak.max() == pytest.approx(1)
    np.testing.assert_allclose(weak, strong, atol=1e-5)


def test_an_averaged_model_shows_what_both_networks_saw():
    both = models.average_models(network(seen=0), network(seen=1))
    heat = grad_cam.GradCam(both).heat(poster(), [0])[0]
    assert heat[:8, :8].min() > 0.9 and heat[24:, 8:].min() > 0.9 and heat[12:20].max() < 0.1


def test_a_coarse_map_covers_its_place_in_the_poster():
    red = grad_cam.GradCam(network(seen=3)).heat(poster(), [0])[0]
    assert red[:3, :3].min() > 0.7 and red[12:].max() < 0.1 and red[:, 12:].max() < 0.1


@pytest.mark.parametrize("family", ["MobileNetV3Large", "EfficientNetV2B0"])
def test_maps_that_only_weigh_channels_are_not_looked_at(family):
    build = getattr(keras.applications, family)
    backbone = build(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    backbone.name = "backbone"
    pixels = keras.Input((64, 64, 3))
    head = models.build_head(backbone.output_shape[-1], len(GENRES))
    cam = grad_cam.GradCam(keras.Model(pixels, head(backbone(pixels))))
    ((_, classifier),) = cam._halves
    assert len(classifier.inputs) == 1
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert cam.heat(noise, [0, 1]).any()


def test_the_network_without_a_backbone_is_explained_too():
    flat = models.seed_cnn((80, 80), len(GENRES))
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    assert grad_cam.GradCam(flat).heat(pixels, [1, 0]).shape == (2, 80, 80)


def test_a_network_of_ones_own_is_explained_too():
    pixels = keras.Input((32, 16, 3))
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(pixels / 255)
    x = keras.layers.GlobalMaxPooling2D()(x)
    heat = grad_cam.GradCam(keras.Model(pixels, keras.layers.Dense(2)(x))).heat(poster(), [0, 1])
    assert heat.shape == (2, 32, 16)


def tokens(x) -> keras.KerasTensor:
    """Patches as a transformer has them, and the mean of what they become."""
    x = keras.layers.Reshape((8, 6))(keras.layers.Conv2D(6, 8, strides=8)(x))
    x = keras.layers.MultiHeadAttention(2, 3)(x, x)
    return keras.layers.GlobalAveragePooling1D()(x)


def last_convolution(x) -> keras.KerasTensor:
    """A convolution over the whole map instead of pooling."""
    x = keras.layers.Conv2D(6, 8, strides=8)(x)
    return keras.layers.Reshape((5,))(keras.layers.Conv2D(5, (4, 2))(x))


def model_of_two_inputs(x) -> keras.KerasTensor:
    """A model within a model that takes a tensor and what is computed from it."""
    first, second = keras.Input((5,)), keras.Input((5,))
    gate = keras.Model([first, second], keras.layers.Multiply()([first, second]))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(x))
    return gate([x, keras.layers.Dense(5)(x)])


def two_outputs(x) -> keras.KerasTensor:
    """A model within a model whose two outputs come from one layer."""
    pixels, pool = keras.Input((32, 16, 3)), keras.layers.GlobalAveragePooling2D()
    relu = keras.layers.ReLU()
    fine = relu(keras.layers.Conv2D(5, 3, strides=2)(pixels))
    both = keras.Model(pixels, [fine, relu(keras.layers.Conv2D(6, 3, strides=2)(fine)), pixels])
    return keras.layers.Concatenate()([pool(one) for one in both(x / 255)[:2]])


def test_a_network_that_keras_does_not_compute_is_refused():
    with pytest.raises(TypeError, match=r"load_model\(folder, has_text=False\).network"):
        grad_cam.GradCam(load_model(has_text=False, runtime=True).network)


def test_the_halves_of_a_network_are_the_network():
    pixels = keras.Input((32, 16, 3))
    network = keras.Model(pixels, keras.layers.Dense(3)(two_outputs(pixels)))
    ((feature_extractor, classifier),) = grad_cam.GradCam(network)._halves
    maps = feature_extractor(poster()[None])
    assert [tuple(one.shape[1:3]) for one in maps] == [(15, 7), (7, 3)]
    logits = [
        keras.ops.convert_to_numpy(one) for one in (classifier(maps), network(poster()[None]))
    ]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_a_map_that_no_logit_grows_with_stays_dark():
    pixels = keras.Input((32, 16, 3))
    fine = keras.layers.Conv2D(4, 3)(pixels)
    gate = keras.ops.stop_gradient(keras.layers.GlobalAveragePooling2D()(fine))
    coarse = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, strides=4)(pixels))
    network = keras.Model(pixels, keras.layers.Dense(3)(coarse + gate))
    heat = grad_cam.GradCam(network).heat(poster(), [0, 1])
    assert heat.shape == (2, 32, 16) and np.isfinite(heat).all()


def prepared_pixels(x) -> keras.KerasTensor:
    """A backbone as `keras.applications` has them, behind what its pixels need."""
    pixels = keras.Input((32, 16, 3))
    fine = keras.layers.Conv2D(5, 3, strides=2, activation="relu")(pixels)
    coarse = keras.layers.Conv2D(5, 3, strides=2)(fine)
    backbone = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(coarse))
    return backbone(x / 127.5 - 1)


@pytest.mark.parametrize(
    ("layers", "places"),
    (
        (tokens, (4, 2)),
        (last_convolution, (4, 2)),
        (model_of_two_inputs, (30, 14)),
        (prepared_pixels, (7, 3)),
    ),
)
def test_networks_that_pool_otherwise_are_explained_too(layers, places):
    pixels = keras.Input((32, 16, 3))
    cam = grad_cam.GradCam(keras.Model(pixels, keras.layers.Dense(3)(layers(pixels))))
    assert cam.heat(poster(), [0, 2]).shape == (2, 32, 16)
    ((feature_extractor, _),) = cam._halves
    (of_map,) = keras.tree.flatten(feature_extractor.output)
    assert of_map.shape[1:3] == places


@pytest.mark.parametrize("kind", ["sequential backbone", "model within", "sequence of models"])
def test_a_network_of_models_has_heat_maps(kind):
    layers = keras.layers
    convolutions = [keras.Input((32, 16, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
    backbone = keras.Sequential(convolutions, name="backbone")
    if kind == "model within":
        backbone = keras.Model(backbone.inputs, backbone.outputs, name="within")
    head = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="head")
    pixels = keras.Input((32, 16, 3))
    network = keras.Model(pixels, head(backbone(pixels)))
    if kind == "sequence of models":
        network = keras.Sequential([pixels, backbone, head])
    poster = np.random.default_rng(0).integers(0, 256, (32, 16, 3)).astype(np.uint8)
    heat = grad_cam.GradCam(network).heat(poster, [0, 1])
    assert heat.shape == (2, 32, 16) and heat.max() == pytest.approx(1) and heat.std() > 0
