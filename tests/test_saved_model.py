"""Model folders, from strangers too: what is not ours is refused with a sentence, nothing runs."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_model import GENRES, TEXTS, make_small_model

from genre_utils import models, networks
from genre_utils.fusion import LogisticFusion
from genre_utils.networks import RuntimeNetwork, int8, read_card
from genre_utils.networks.keras_config import to_arrays, to_config
from genre_utils.saved_model import (
    JOINT_FILES,
    KNOWN_FILES,
    PICTURE_FILES,
    add_metrics,
    load_model,
    reads_text,
    save_model,
)
from genre_utils.support import DataError, sha256_of
from genre_utils.text import NgramModel

CONFIG, WEIGHTS = PICTURE_FILES
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 96, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def stranger(small, tmp_path) -> Path:
    return shutil.copytree(small, tmp_path / "model")


def sign(folder: Path, **changes) -> None:
    """Write the true sums of all files into the card, as whoever made them would."""
    card = json.loads((folder / "model.json").read_text("utf-8"))
    sums = {name: sha256_of(folder / name) for name in card["sha256"]}
    (folder / "model.json").write_text(json.dumps({**card, "sha256": sums, **changes}))


def refuse(folder: Path, sentence: str, *, runtimes=(False, True)) -> None:
    for runtime in runtimes:
        with pytest.raises(DataError, match=sentence) as caught:
            load_model(folder, has_text=False, runtime=runtime)
        assert "\n" not in str(caught.value)


def change_config(folder: Path, change) -> None:
    content = json.loads((folder / CONFIG).read_text("utf-8"))
    change(content)
    (folder / CONFIG).write_text(json.dumps(content))
    sign(folder)


def change_arrays(folder: Path, **changes) -> None:
    """Replace arrays of the picture's network by name; `None` leaves one out."""
    arrays = {**load_file(folder / WEIGHTS), **changes}
    save_file({k: v for k, v in arrays.items() if v is not None}, folder / WEIGHTS)
    sign(folder)


def scores(model):
    parts = {"picture": np.asarray(model.network.predict_on_batch(PIXELS))}
    return model.fusions["both"].scores(parts | model.words.logits(TEXTS[:5]))


def save(folder: Path, network, **options) -> Path:
    """Save a network of the picture alone."""
    fusions = {"picture": LogisticFusion({"picture": np.ones(3)}, np.zeros(3))}
    save_model(folder, network, None, fusions, GENRES, np.full(3, 0.5), [], {}, **options)
    return folder


def test_a_card_counts_its_own_posters_and_not_those_of_its_start(tmp_path):
    network = models.build_model("seed_cnn", (96, 80), GENRES)
    fusions = {"picture": LogisticFusion({"picture": np.ones(3)}, np.zeros(3))}
    start = {"training_ids": ["aaaaaaaaaaaa"] * 9, "training_pictures": []}
    parts = network, None, fusions, GENRES, np.full(3, 0.5)
    save_model(tmp_path, *parts, ["p1", "p2"], {"seed": 0}, started_from=start)
    card = read_card(tmp_path)
    assert card["training"] == {"posters": 2, "seed": 0} and len(card["training_ids"]) == 3


def test_a_card_says_what_was_saved_and_the_model_knows_its_posters(tmp_path, small):
    folder = tmp_path / "model"
    (folder / ".saving").mkdir(parents=True)
    (folder / ".saving" / "text.json").touch()  # what a killed process left
    pictures = [tmp_path / f"{i}.jpg" for i in range(2)]
    for picture in pictures:
        picture.write_text(picture.name)
    fusions = {"picture": LogisticFusion({"picture": np.ones(3)}, np.zeros(3))}
    parts = models.build_model("seed_cnn", (96, 80), GENRES), None, fusions, GENRES
    ids, thresholds = ["tt0000002", "tt0000001", "2"], [0.1234567, 0.5, 0.9]
    shown = [*pictures, pictures[0]]
    save_model(folder, *parts, thresholds, ids, {"seed": 0}, shown, kept={"metrics": {"a": {}}})
    card = read_card(folder)
    assert card["training"] == {"posters": 2, "seed": 0} and card["metrics"] == {"a": {}}
    assert card["image_size"] == [96, 80] and card["thresholds"] == [0.123457, 0.5, 0.9]
    assert card["training_pictures"] == sorted(sha256_of(picture)[:12] for picture in pictures)
    assert card["training_ids"] == sorted(card["training_ids"])
    joined = "\n".join(sorted(ids)).encode()
    assert card["training_ids_sha256"] == hashlib.sha256(joined).hexdigest()
    assert sorted(os.listdir(folder)) == ["model.json", CONFIG, WEIGHTS]
    model = load_model(folder)
    assert model.words is None and model.thresholds.tolist() == card["thresholds"]
    assert model.was_trained_on(["1", "TT0000002.jpg", "3"]) == ["1", "TT0000002.jpg"]
    known = model.was_trained_on("xyz", [pictures[1], tmp_path / "gone.jpg", folder / CONFIG])
    assert known == ["x"]
    add_metrics(folder, {"all, test": {"macro_map": 0.5, "per_genre": {"Horror": 1}}})
    assert read_card(folder) == card | {"metrics": {"all, test": {"macro_map": 0.5}}}
    assert reads_text(small) and not reads_text(folder)


def test_n_grams_of_other_genres_are_refused(stranger):
    labels = np.tile(np.eye(2, dtype=np.int8), (6, 1))
    NgramModel.fit(TEXTS, labels).save(stranger / "ngrams.npz")
    sign(stranger)
    with pytest.raises(DataError, match="contradict each other"):
        load_model(stranger, runtime=True)


def test_a_text_model_of_other_genres_is_refused(small, tmp_path):
    model = load_model(small)
    encoder = model.words.network.get_layer("encoder")
    words = replace(model.words, network=models.build_words_model(encoder, GENRES[:2]))
    save_model(tmp_path, model.network, words, model.fusions, GENRES, model.thresholds, [], {})
    with pytest.raises(DataError, match="contradict each other"):
        load_model(tmp_path, runtime=True)


def convolutions() -> keras.Model:
    """Build a network of the kinds of layers that those of the release have, all of them drawn."""
    from keras import layers

    pixels = x = keras.Input((96, 80, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-1)(x)
    for channels in (8, 16):
        x = layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False)(x)
        x = shortcut = layers.ReLU(max_value=6)(layers.BatchNormalization()(x))
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
        x = layers.Add()([shortcut, x])
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    head = keras.Sequential([keras.Input((32,)), layers.Dense(64, "relu"), layers.Dense(3)])
    network = keras.Model(pixels, head(layers.Concatenate()(pooled)))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):  # negative factors, too
            count = layer.gamma.shape[0]
            layer.set_weights([*rng.normal(size=(3, count)), rng.uniform(0.5, 2, count)])
    return network


def test_onnx_runtime_and_keras_compute_a_folder_alike(small):
    fast, plain = load_model(small, runtime=True), load_model(small)
    assert isinstance(fast.network, RuntimeNetwork)
    assert isinstance(fast.words.network, RuntimeNetwork)
    np.testing.assert_allclose(scores(fast), scores(plain), atol=1e-3)


def test_weights_stand_in_a_folder_once_and_are_rounded_to_half_precision(small):
    weights = load_model(small).words.network.count_params()
    assert (small / "text.safetensors").stat().st_size < 2.01 * weights
    arrays = load_file(small / "text.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert arrays["encoder/layer0_attention/query/kernel"].shape == (384, 12, 32)
    files = {file.name for file in small.iterdir()}
    assert files == {*KNOWN_FILES, "model.json"} - {*JOINT_FILES}


def test_eight_bits_are_half_of_the_weights_and_close_to_them(small, tmp_path):
    model = load_model(small)
    parts = model.network, model.words, model.fusions
    save_model(tmp_path, *parts, GENRES, np.full(3, 0.5), [], {}, int8=True)
    assert read_card(tmp_path)["training"] == {}  # nobody gave the posters' ids
    sizes = [(folder / "text.safetensors").stat().st_size for folder in (small, tmp_path)]
    assert sizes[1] < 0.6 * sizes[0]
    for runtime in (False, True):
        found = scores(load_model(tmp_path, runtime=runtime))
        np.testing.assert_allclose(found, scores(model), atol=2e-2)


def test_convolutions_in_eight_bits_are_close_to_the_network_that_they_were(tmp_path):
    network = convolutions()
    save(tmp_path / "half", network)
    save(tmp_path / "int8", network, int8=True, calibration=PIXELS)
    arrays = load_file(tmp_path / "int8" / WEIGHTS)
    assert [a.dtype for name, a in arrays.items() if a.ndim == 4 and "scale" not in name] == [
        np.int8
    ] * 4
    before = network.predict_on_batch(PIXELS)
    for name, tolerance in (("half", 0.005), ("int8", 0.05)):
        for runtime in (False, True):
            model = load_model(tmp_path / name, runtime=runtime)
            assert isinstance(model.network, RuntimeNetwork) == runtime
            found = model.network.predict_on_batch(PIXELS)
            np.testing.assert_allclose(found, before, atol=tolerance * np.abs(before).max())


def test_rounding_moves_the_mean_of_no_channel(tmp_path):
    network = convolutions()
    config, arrays = to_config(network), to_arrays(network)
    first, norm = (next(n for n in arrays if n.endswith(end)) for end in ("kernel", "moving_mean"))
    arrays[norm] = np.zeros_like(arrays[norm])
    rounded, _ = int8.to_int8(config, arrays, PIXELS)
    error = (rounded[first].wide() - arrays[first]).sum(axis=(0, 1))
    mean = (PIXELS / 128 - 1).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(rounded[norm].wide(), mean @ error, rtol=0.01, atol=1e-6)
    assert np.abs(mean @ error).max() > 1e-5


@pytest.mark.parametrize(
    ("layer", "moved"),
    [
        (keras.layers.Conv2D(6, 3), lambda mean, error: mean @ error),
        (keras.layers.DepthwiseConv2D(3), lambda mean, error: mean * error[:, 0]),
        (keras.layers.Conv2D(6, 3, groups=3), lambda mean, error: np.zeros(6)),  # it is left
    ],
)
def test_a_mean_that_rounding_moves_is_taken_back_by_the_bias(layer, moved):
    pixels = keras.Input((96, 80, 3))
    x = layer(keras.layers.Rescaling(1 / 128)(pixels))
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    arrays, name = to_arrays(network), f"{layer.name}/kernel"
    rounded, ranges = int8.to_int8(to_config(network), arrays, PIXELS)
    error = (rounded[name].wide() - arrays[name]).sum(axis=(0, 1))
    expected = -moved((PIXELS / 128).mean(axis=(0, 1, 2)), error)
    bias = rounded[f"{layer.name}/bias"].wide()
    np.testing.assert_allclose(bias, expected, rtol=0.01, atol=1e-6)
    assert int8.to_int8(to_config(network), arrays, PIXELS[::-1])[1] == ranges


def test_only_large_tables_of_whole_blocks_are_rounded_to_eight_bits():
    shapes = {"small": (8, 16), "odd": (1000, 3), "large": (128, 16), "attention": (24, 12, 16)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    rounded, _ = int8.to_int8(to_config(network), arrays)
    assert [rounded[name].values.dtype for name in shapes] == [np.float16] * 2 + [np.int8] * 2


def test_a_layer_that_onnx_has_no_form_for_is_left_to_keras(tmp_path):
    pixels = keras.Input((96, 80, 3))
    x = keras.layers.Conv2D(4, 3)(pixels)
    x = keras.layers.SpatialDropout2D(0.1)(keras.layers.GroupNormalization(2)(x))
    network = keras.Model(pixels, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(x)))
    model = load_model(save(tmp_path, network), runtime=True)
    np.testing.assert_allclose(
        model.network.predict_on_batch(PIXELS), network.predict_on_batch(PIXELS), rtol=0.01
    )


def test_a_layer_that_none_of_ours_has_is_saved_and_loaded(tmp_path):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.LeakyReLU(0.2), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input((96, 80, 3)), *layers, keras.layers.Dense(3)])
    before = network.predict_on_batch(PIXELS)
    save(tmp_path, network)
    for runtime in (False, True):
        found = load_model(tmp_path, runtime=runtime).network.predict_on_batch(PIXELS)
        np.testing.assert_allclose(found, before, atol=0.01 * np.abs(before).max())


def test_a_layer_that_is_called_twice_keeps_both_answers(tmp_path):
    pixels = keras.Input((96, 80, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", activation="relu")
    pool = keras.layers.GlobalAveragePooling2D()
    network = keras.Model(pixels, keras.layers.Dense(3)(pool(conv(conv(pixels)))))
    before = network.predict_on_batch(PIXELS)
    found = load_model(save(tmp_path, network), runtime=True).network
    assert isinstance(found, RuntimeNetwork)
    np.testing.assert_allclose(found.predict_on_batch(PIXELS), before, rtol=0.01)


def test_a_network_with_a_layer_of_ones_own_is_not_saved(tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    network = keras.Sequential([keras.Input((96, 80, 3)), Mine(), keras.layers.Flatten()])
    with pytest.raises(DataError, match="Mine is no layer of Keras"):
        save(tmp_path, network)


def test_nothing_is_written_that_keras_3_13_refuses(small):
    for name in ("picture.json", "text.json"):
        config = (small / name).read_text("utf-8")
        for key in ("renorm", "input_axes", "output_axes", "compile_config"):
            assert f'"{key}' not in config


# Configs


LETTER = {"value": ["a"], "dtype": "U100000000"}  # one letter, of which NumPy makes 400 MB
LISTED = {"value": [1.0], "dtype": ["float32"]}


def layer(kind: str, module: str = "keras.layers", registered: str | None = None, **config) -> dict:
    config = {"name": "evil", **config}
    return {"class_name": kind, "module": module, "config": config, "registered_name": registered}


@pytest.mark.parametrize(
    "part",
    [
        layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wAA"}}),
        layer("TFSMLayer", filepath="evil"),
        layer("TorchModuleWrapper", "keras.src.utils.torch_utils", module_bytes="gASV"),
        layer("StringLookup", vocabulary="passwd"),
        layer("IntegerLookup", vocabulary="passwd"),
        layer("IndexLookup", vocabulary="passwd"),
        layer("TextVectorization", vocabulary="passwd"),
        layer("FeatureSpace"),
        layer("JaxLayer"),
        layer("FlaxLayer"),
        layer("TorchModuleWrapper"),
        layer("Dense", "keras.src.utils", units=3),
        layer("Dense", "keras.src.applications.convnext", units=3),
        layer("Dense", units=3, activation={"class_name": "__typespec__", "module": "keras"}),
        layer("Dense", units=3, activation={"class_name": "__bytes__", "module": "keras"}),
        layer("system", "os", command="touch evil"),
        layer("get_file", "keras.utils", origin="evil"),
        layer("Dense", "evil.layers", units=3),
        layer("Dense", "keras_evil", units=3),
        layer("Dense", registered="evil>Dense", units=3),
        layer("Dense", units=3, activation={"class_name": "function", "config": "eval"}),
        layer("Dense", units=3, activation={"class_name": "__tensor__", "config": {}}),
        layer("Dense", units=3, activation={"class_name": "__numpy__", "config": LETTER}),
        layer("Dense", units=3, activation={"class_name": "__numpy__", "config": None}),
        layer("Dense", units=3, activation={"class_name": "__tensor__", "config": LISTED}),
        layer("Dense", units=3, activation={"class_name": "__slice__", "config": {}, "more": 1}),
        layer("Dense", units=3, kernel_initializer={"class_name": "Lambda", "config": {}}),
    ],
)
def test_layers_with_code_or_files_and_foreign_ones_are_refused(stranger, part):
    change_config(stranger, lambda content: content["network"]["config"]["layers"].append(part))
    refuse(stranger, "is no layer of Keras, or holds code or files")


def test_what_looks_like_a_file_is_refused(stranger):
    part = layer("Embedding", input_dim=3, output_dim=3, weights="/etc/passwd")
    change_config(stranger, lambda content: content["network"]["config"]["layers"].append(part))
    refuse(stranger, "may be a file")
    name = {"name": "/" * 1000}
    change_config(stranger, lambda content: content["network"]["config"].update(name))
    with pytest.raises(DataError, match="may be a file") as caught:
        load_model(stranger, has_text=False)
    assert len(str(caught.value)) < 300 + len(str(stranger))


def test_code_that_got_past_our_own_checks_is_not_run_by_keras(stranger, tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    evil = keras.layers.Lambda(eval(f"lambda x: open({str(mark)!r}, 'w') and x"))
    part = keras.saving.serialize_keras_object(evil)
    change_config(stranger, lambda content: content["network"]["config"]["layers"].append(part))
    monkeypatch.setattr("genre_utils.networks.keras_config.check_config", lambda _: None)
    refuse(stranger, "cannot be built by Keras")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"network": {}, "ranges": {}}',
        '{"network": [], "ranges": {}}',
        '{"network": {"class_name": "Functional", "config": {}}, "ranges": {}}',
        '{"network": {"class_name": "Sequential", "config": {}}, "ranges": {}}',
        '{"network": {"class_name": "Sequential"}, "ranges": {"a": [0, "b"]}}',
        '{"network": {"class_name": "Sequential"}, "ranges": {"a": [0, Infinity]}}',
        '{"network": {"class_name": "Sequential"}, "ranges": {"a": [2, 1]}}',
    ],
)
def test_configs_that_describe_no_network_are_refused(stranger, content):
    (stranger / CONFIG).write_text(content)
    sign(stranger)
    refuse(stranger, r"(is not loaded|is no config).* Copy the model again\.$")


def test_a_config_without_end_is_refused_before_it_is_read(stranger, monkeypatch):
    monkeypatch.setattr("genre_utils.networks.keras_config.MAX_CONFIG", 1000)
    refuse(stranger, "larger than any config")


# Arrays


def header(folder: Path, change) -> None:
    """Change the header of a safetensors file, and leave the numbers as they are."""
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + length])
    head = json.dumps(change(head) or head).encode()
    new = len(head).to_bytes(8, "little") + head + content[8 + length :]
    (folder / WEIGHTS).write_bytes(new)
    sign(folder)


def name_of(folder: Path, end: str = "kernel") -> str:
    return next(name for name in load_file(folder / WEIGHTS) if name.endswith(end))


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_cut_off_weights_are_refused(stranger, cut):
    (stranger / WEIGHTS).write_bytes((stranger / WEIGHTS).read_bytes()[:cut])
    sign(stranger)
    refuse(stranger, "no whole safetensors file")


def test_weights_with_more_behind_them_are_refused(stranger):
    with open(stranger / WEIGHTS, "ab") as file:
        file.write(b"evil")
    sign(stranger)
    refuse(stranger, "no whole safetensors file")


@pytest.mark.parametrize("length", [2**63, 2**40, 0])
def test_a_header_of_a_false_length_is_refused(stranger, length):
    content = (stranger / WEIGHTS).read_bytes()
    (stranger / WEIGHTS).write_bytes(length.to_bytes(8, "little") + content[8:])
    sign(stranger)
    refuse(stranger, "no whole safetensors file")


@pytest.mark.parametrize("offsets", [[0, 10**12], [10**12, 10**12 + 8], [-8, 0], [8, 0]])
def test_places_outside_the_file_are_refused(stranger, offsets):
    name = name_of(stranger)
    header(stranger, lambda head: head[name].update(data_offsets=offsets))
    refuse(stranger, "no whole safetensors file")


def test_two_arrays_in_one_place_are_refused(stranger):
    first, second = (name_of(stranger, end) for end in ("kernel", "bias"))
    header(stranger, lambda head: head[first].update(head[second]))
    refuse(stranger, "no whole safetensors file")


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8, np.bool_])
def test_other_types_are_refused(stranger, dtype):
    change_arrays(stranger, **{name_of(stranger, "bias"): np.ones(16, dtype)})
    refuse(stranger, "not F16, F32 or I8")


@pytest.mark.parametrize(
    ("value", "part"), [(np.nan, "kernel"), (np.inf, "kernel"), (-np.inf, "bias")]
)
def test_what_is_no_number_is_refused(stranger, value, part):
    name = name_of(stranger, part)
    array = load_file(stranger / WEIGHTS)[name].copy()
    array.flat[3] = value
    change_arrays(stranger, **{name: array})
    refuse(stranger, "holds what is no number")


def test_missing_and_strange_arrays_are_refused(stranger):
    change_arrays(stranger, evil=np.ones(3, np.float16))
    refuse(stranger, "'evil' belongs to no layer")
    change_arrays(stranger, evil=None, **{name_of(stranger): None})
    refuse(stranger, "is missing")


def test_arrays_of_other_shapes_are_refused(stranger):
    change_arrays(stranger, **{name_of(stranger, "bias"): np.ones(7, np.float16)})
    refuse(stranger, "has the shape")


def test_scales_must_fit_their_steps(stranger):
    name = name_of(stranger, "bias")
    steps, scale = np.ones(16, np.int8), np.ones(3, np.float16)
    change_arrays(stranger, **{name: steps})
    refuse(stranger, "do not fit each other")
    change_arrays(stranger, **{name: steps, f"{name}.scale": scale})
    refuse(stranger, "do not fit each other")
    for needless in (scale, np.ones(4, np.float16)):
        change_arrays(stranger, **{name: np.ones(16, np.float16), f"{name}.scale": needless})
        refuse(stranger, "do not fit each other")
    change_arrays(stranger, **{f"{name}.scale": None, "evil.scale": scale})
    refuse(stranger, "belongs to no array")


def test_remarks_in_a_file_of_weights_are_no_array(stranger):
    save_file(load_file(stranger / WEIGHTS), stranger / WEIGHTS, metadata={"by": "somebody"})
    sign(stranger)
    load_model(stranger, has_text=False, runtime=True)


def test_weights_larger_than_any_of_ours_are_refused(stranger, monkeypatch):
    monkeypatch.setattr("genre_utils.networks.arrays.MAX_WEIGHTS", 1000)
    refuse(stranger, "larger than any file")
    monkeypatch.undo()
    monkeypatch.setattr("genre_utils.networks.card.MAX_WEIGHTS", 1000)
    refuse(stranger, "larger than any file")


# Folders


def test_a_folder_of_the_format_before_is_converted(small, tmp_path, capsys):
    model, folder = load_model(small), tmp_path / "old"
    folder.mkdir()
    model.network.save(folder / "model.keras")
    model.words.network.save(folder / "words.keras")
    for name in ("ngrams.npz", "tokenizer.json"):
        shutil.copy(small / name, folder / name)
    files = {file.name: sha256_of(file) for file in folder.iterdir()}
    card = {**read_card(small), "format": 2, "sha256": files}
    del card["training_pictures"]  # which older cards did not list
    from genre_utils.__main__ import main

    another = files | {"tokenizer.json": "0" * 64}
    for sums, why in ((None, "names no files"), (another, "tokenizer.json is not the file")):
        (folder / "model.json").write_text(json.dumps({**card, "sha256": sums}))
        assert main(["export", "--convert", str(folder)]) == 2
        assert why in capsys.readouterr().err
    (folder / "model.json").write_text(json.dumps(card))
    refuse(folder, f"poster-genres export --convert {folder}")
    assert main(["export", "--convert", str(folder)]) == 0
    files = {file.name for file in folder.iterdir()}
    assert files == {*KNOWN_FILES, "model.json"} - {*JOINT_FILES}
    np.testing.assert_allclose(scores(load_model(folder)), scores(model), atol=1e-6)
    assert main(["export", "--convert", str(folder)]) == 2
    assert "holds no model of format 2: nothing to convert" in capsys.readouterr().err


def change_card(folder: Path, **changes) -> None:
    (folder / "model.json").write_text(json.dumps({**read_card(folder), **changes}))


def test_a_changed_file_is_refused(stranger):
    content = bytearray((stranger / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (stranger / WEIGHTS).write_bytes(content)
    refuse(stranger, "SHA-256 differs")


@pytest.mark.parametrize("name", ["model.h5", "../picture.json", "/etc/passwd", "model.pkl"])
def test_a_card_may_name_known_files_only(stranger, name):
    sums = read_card(stranger)["sha256"]
    change_card(stranger, sha256={**sums, name: "0" * 64})
    with pytest.raises(DataError, match="names a file that no model has"):
        load_model(stranger)


@pytest.mark.parametrize("name", ["picture.json", "picture.safetensors", "text.json", "ngrams.npz"])
def test_no_file_is_opened_without_its_sum(stranger, name):
    sums = read_card(stranger)["sha256"]
    change_card(stranger, sha256={file: sums[file] for file in sums if file != name})
    with pytest.raises(DataError, match=f"{name}.* is missing"):
        load_model(stranger)


@pytest.mark.parametrize("name", ["model.json", CONFIG, WEIGHTS])
def test_pipes_and_folders_in_place_of_files_are_refused(stranger, name):
    (stranger / name).unlink()
    os.mkfifo(stranger / name)
    with pytest.raises(DataError, match="no model.json|is missing"):
        load_model(stranger, has_text=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"genres": ["Drama"] * 3},
        {"genres": [f"g{i}" for i in range(2)]},
        {"genres": list(range(3))},
        {"genres": ["Horror", "Romance", ""]},
        {"genres": None},
        {"thresholds": [0.5] * 2},
        {"thresholds": [float("nan")] * 3},
        {"thresholds": [2.0] * 3},
        {"thresholds": [-0.5] * 3},
        {"thresholds": "high"},
        {"thresholds": ["0.5"] * 3},
        {"image_size": [400]},
        {"image_size": [96.0, 80.0]},
        {"image_size": [400, 10**9]},
        {"image_size": [400, -272]},
        {"image_size": [0, 80]},
        {"sums": {}},
        {"sums": {"picture": {"weights": {"picture": [1.0]}, "bias": [0.0]}}},
        {"sums": {"picture": {"weights": {"picture": [float("inf")] * 3}, "bias": [0.0] * 3}}},
        {"sha256": {}},
        {"sha256": [CONFIG]},
        {"training_ids": [1, 2]},
        {"training_ids": None},
        {"training_pictures": [1, 2]},
        {"training": []},
        {"metrics": {"test": []}},
        {"format": 99},
        {"format": 1},
    ],
)
def test_a_card_that_contradicts_itself_is_refused_before_a_network_is_built(
    stranger, changes, monkeypatch
):
    built = lambda *_: pytest.fail("built a network")  # noqa: E731
    monkeypatch.setattr(networks, "load_folder_network", built)
    change_card(stranger, **changes)
    with pytest.raises(DataError):
        load_model(stranger, has_text=False)


def test_a_card_without_one_of_its_keys_is_refused(stranger):
    card = read_card(stranger)
    for key in card:
        lacking = {name: value for name, value in card.items() if name != key}
        (stranger / "model.json").write_text(json.dumps(lacking))
        with pytest.raises(DataError, match="model.json"):
            load_model(stranger, has_text=False)


@pytest.mark.parametrize("name", ["ngrams.npz", "tokenizer.json"])
def test_damaged_word_parts_with_right_sums_are_refused(stranger, name, monkeypatch):
    (stranger / name).write_bytes(b"{}")
    sign(stranger)
    network = SimpleNamespace(input_shape=(None, 96, 80, 3), output_shape=(None, 3))
    monkeypatch.setattr(networks, "load_folder_network", lambda *_: network)
    with pytest.raises(DataError, match="cannot be understood"):
        load_model(stranger)


def test_genres_and_size_must_fit_the_network(stranger):
    height, width = 96, 80

    class Network:
        input_shape, output_shape = (None, height, width, 3), (None, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_folder_network", lambda *_: Network)
        with pytest.raises(DataError, match="contradict"):
            load_model(stranger, has_text=False)
        Network.output_shape = (None, 3)
        load_model(stranger, has_text=False)
        Network.input_shape = (None, width, height, 3)
        with pytest.raises(DataError, match="contradict"):
            load_model(stranger, has_text=False)


def test_other_things_than_folders_of_ours_are_refused(tmp_path):
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "saved_model.pb").write_bytes(b"\n\x0b")
    with pytest.raises(DataError, match="is a file, and a model is a folder"):
        load_model(tmp_path / "old.h5")
    with pytest.raises(DataError, match="no model.json"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("[1]")
    with pytest.raises(DataError, match="does not say that it has format"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="cannot be read"):
        load_model(tmp_path)


def test_tables_of_n_grams_must_be_plain_and_fit(tmp_path):
    names = np.frombuffer(b"a\nb", np.uint8)
    good = {"names0": names, "names1": names, "idf0": np.ones(2), "idf1": np.ones(2)}
    good |= {"weights": np.zeros((4, 3)), "bias": np.zeros(3)}
    np.savez(tmp_path / "a.npz", **good)
    assert NgramModel.load(tmp_path / "a.npz").logits(["a"]).shape == (1, 3)
    for wrong in (
        {"weights": np.zeros((5, 3))},
        {"bias": np.zeros(4)},
        {"weights": np.array([print], object)},
        {"weights": np.zeros((4, 3), int)},
        {"weights": np.full((4, 3), np.nan)},
        {"bias": np.full(3, np.inf)},
        {"idf1": np.full(2, np.nan)},
        {"idf0": np.ones(3), "weights": np.zeros((5, 3))},
    ):
        np.savez(tmp_path / "b.npz", **good | wrong)
        with pytest.raises(ValueError):
            NgramModel.load(tmp_path / "b.npz")


def test_a_genre_named_as_a_column_of_the_results_is_refused(stranger):
    change_card(stranger, genres=["Drama", "War", "score"])
    with pytest.raises(DataError, match="contradicts itself"):
        load_model(stranger, has_text=False)


@pytest.mark.parametrize("ends", [[0, float("inf")], [-float("inf"), 0], [2, 1]])
def test_ranges_without_two_ends_are_refused(stranger, ends):
    change_config(stranger, lambda content: content["ranges"].update(a=ends))
    refuse(stranger, "has no two ends")


def test_a_path_of_windows_is_refused(stranger):
    change_config(stranger, lambda content: content["network"]["config"].update(name="C:\\file"))
    refuse(stranger, "may be a file")


def test_empty_arrays_and_scales_in_steps_are_refused(stranger):
    name = name_of(stranger, "bias")
    change_arrays(stranger, **{name: np.ones(16, np.int8), f"{name}.scale": np.ones(2, np.int8)})
    refuse(stranger, "do not fit each other")
    change_arrays(stranger, **{name: np.ones((0, 3), np.float16), f"{name}.scale": None})
    refuse(stranger, "is empty")


def test_pictures_of_the_start_are_known_by_their_bytes(tmp_path):
    network = models.build_model("seed_cnn", (96, 80), GENRES)
    start = {"training_ids": [], "training_pictures": ["a" * 12]}
    save(tmp_path, network, started_from=start, training_pictures=["b" * 64])
    assert read_card(tmp_path)["training_pictures"] == ["a" * 12, "b" * 12]
