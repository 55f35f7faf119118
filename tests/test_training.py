from types import SimpleNamespace

import keras
import numpy as np
import pytest

from genre_utils import runs, training
from genre_utils.batches import PosterBatches, WordBatches
from genre_utils.runs import parameters


def test_batches_name_their_posters(posters):
    cache, paths, labels = posters
    batches = PosterBatches(cache, paths, labels, 8, seed=1)
    for batch in range(len(batches)):
        shown = [f"{paths.index(p)}.png" for p in batches.paths[batches.rows[batch]]]
        assert batches.posters(batch) == shown
    tokens = [np.full(i + 1, i) for i in range(24)]
    texts = WordBatches(tokens, paths, labels, 8, 1, 0)
    for batch in range(len(texts)):
        rows, _ = texts[batch]
        assert texts.posters(batch) == [f"{row[0]}.png" for row in rows]


def test_features_that_are_no_numbers_stop_with_a_sentence(posters):
    cache, paths, _ = posters
    broken = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    broken.add(keras.layers.Rescaling(np.inf))
    with pytest.raises(ValueError, match=r"no numbers for 24 train posters, such as 0\.png"):
        training.frozen_features(broken, cache, {"train": paths}, splits=["train"])


def test_epochs_follow_the_hardware():
    assert runs.choose_epochs(-1, "efficientnet_lite2", accelerated=False) == 0
    assert runs.choose_epochs(-1, "efficientnet_lite2", accelerated=True) == 8
    assert runs.choose_epochs(-1, "seed_cnn", accelerated=False) == 20
    assert runs.choose_epochs(3, "efficientnet_lite2", accelerated=False) == 3
    for epochs, model in ((-2, "efficientnet_lite2"), (0, "seed_cnn"), (1.5, "seed_cnn")):
        with pytest.raises(ValueError, match="give"):
            runs.choose_epochs(epochs, model, accelerated=False)
    assert [runs.choose_epochs(-1, None, accelerated) for accelerated in (False, True)] == [0, 4]
    assert runs.choose_epochs(0, None, accelerated=True) == 0
    with pytest.raises(ValueError, match="WORD_EPOCHS is -2: give"):
        runs.choose_epochs(-2, None, accelerated=True)


def test_a_forecast_counts_an_epoch_s_steps_three_times(monkeypatch):
    monkeypatch.setattr(parameters, "seconds_a_poster", lambda network: network)
    words = "The networks take 200 ms a poster here: about"
    told = runs.forecast([0.15, 0.05], fit=600, held_out=100, epochs=0)
    assert told == f"{words} 2.3 minutes for 600 posters."
    told = runs.forecast([0.15, 0.05], fit=600, held_out=100, epochs=2)
    assert told == f"{words} 15.0 minutes for 600 posters and 2 epochs of fine-tuning."


def test_a_poster_s_seconds_are_measured_when_the_network_is_compiled(monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def predict(pixels, **_):
        clock.now += 4.0 if clock.now else 100.0  # the first call compiles
        assert pixels.shape == (32, 9, 6, 3)

    monkeypatch.setattr(parameters.time, "perf_counter", lambda: clock.now)
    network = SimpleNamespace(input_shape=(None, 9, 6, 3), predict=predict)
    assert parameters.seconds_a_poster(network) == 4 / 32


def test_features_are_the_backbone_s_in_the_order_of_the_posters(posters):
    cache, paths, _ = posters
    backbone = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    found = training.frozen_features(backbone, cache, {"a": paths, "b": paths[5:]}, ["a", "b"])
    expected = cache.pixels(paths).mean(axis=(1, 2))
    np.testing.assert_allclose(found["a"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["b"], expected[5:], rtol=1e-5)
    halves = keras.Sequential([keras.Input((80, 80, 3))])
    halves.add(keras.layers.GlobalAveragePooling2D(dtype="bfloat16"))
    found = training.frozen_features(halves, cache, {"a": paths}, ["a"])
    assert found["a"].dtype == np.float32  # which a run can keep; NumPy has no bfloat16
    np.testing.assert_allclose(found["a"], expected, rtol=0.02)


def test_only_the_posters_without_numbers_are_counted(posters):
    cache, paths, _ = posters
    bright = np.flatnonzero(cache.pixels(paths).mean(axis=(1, 2, 3)) > 170.2)
    backbone = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    # Where a poster is bright, one of its three features is too large for float32.
    backbone.add(keras.layers.Rescaling([2e36, 1.0, 1.0]))
    what = rf"no numbers for {len(bright)} train posters, such as {bright[0]}\.png"
    with pytest.raises(ValueError, match=what):
        training.frozen_features(backbone, cache, {"train": paths}, splits=["train"])


def test_whole_posters_are_larger_for_networks_fine_tuned_on_crops_alone():
    assert training.shown_size((400, 272), True, 8) == (464, 320)
    assert training.shown_size((400, 272), True, 0) == (400, 272)
    assert training.shown_size((400, 272), False, 8) == (400, 272)


def test_a_network_gets_the_optimizer_of_its_kind():
    def network(*layers):
        return SimpleNamespace(layers=[SimpleNamespace(**layer) for layer in layers])

    word = SimpleNamespace(name="word")
    picture = network({"name": "backbone"}, {"name": "head"})
    words = network({"name": "encoder", "layers": [word]}, {"name": "head"})
    plain = training.choose_optimizer(network({"name": "conv"}), 100, 9 * 32)
    assert type(plain) is keras.optimizers.Adam
    assert float(plain.learning_rate) == pytest.approx(3e-3)
    for pretrained, tuned_at in ((picture, 16), (words, 32)):
        optimizer = training.choose_optimizer(pretrained, 100, 9 * tuned_at)
        assert type(optimizer) is keras.optimizers.AdamW and optimizer.weight_decay == 0.01
        rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
        np.testing.assert_allclose(rates, [0, 7.5e-5, 1.5e-4, 7.5e-5, 0], atol=1e-8)
    training.choose_optimizer(picture, 0, 16)


def test_an_epoch_is_scored_by_its_macro_average_precision():
    labels = np.eye(2)[np.arange(12) % 2]
    scored = training.ValidationScore(labels, labels)
    scored.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Activation("linear")]))
    logs = {"loss": 0.5}
    scored.on_epoch_end(0, logs)
    assert logs == {"loss": 0.5, "val_macro_map": 1}


def test_devices_share_rows_evenly(monkeypatch):
    rows, batch = training.even_rows(7, 4)
    assert rows.tolist() == [*range(7)] and batch == 4
    monkeypatch.setattr(training.machine, "replicas", lambda: 6)
    monkeypatch.setattr(training.machine, "processes", lambda: (1, 2))  # three of them are here
    rows, batch = training.even_rows(7, 4)
    assert rows.tolist() == [*range(7), 0, 1] and batch == 6
    assert training.even_rows(9, 3)[0].tolist() == [*range(9)]


def test_logits_stand_in_the_order_of_features_pictures_and_texts(posters):
    cache, paths, labels = posters
    double = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(2, dtype="bfloat16")])
    features = np.random.default_rng(0).integers(0, 100, (70, 2)).astype(np.float32)
    found = training.predict_logits(double, features)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, 2 * features)
    means = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.GlobalAveragePooling2D()])
    batches = PosterBatches(cache, paths, labels, batch_size=10)  # the last has four posters
    found = training.predict_logits(means, batches)
    np.testing.assert_allclose(found, cache.pixels(paths).mean(axis=(1, 2)), rtol=1e-5)

    def total(tokens):
        return tokens.sum(axis=1, keepdims=True)

    texts = [np.full(length, 5, np.int32) for length in (3, 1, 40, 2)]
    network = SimpleNamespace(output_shape=(None, 1), predict_on_batch=total)
    assert training.predict_logits(network, texts).ravel().tolist() == [15, 5, 200, 10]
