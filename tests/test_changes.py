"""What a newcomer changes in one place, to the end: train, kill, resume, save, load, predict."""

import json
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import jupytext
import keras
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import ROOT

from genre_utils import models, networks
from genre_utils.genres import IMDB_GENRES
from genre_utils.networks.arrays import Array
from genre_utils.networks.keras_config import from_config, to_arrays, to_config

OWN_NETWORK = """
import keras

from genre_utils import models


def builder(image_size, n_genres):
    return keras.Sequential(
        [
            keras.Input((*image_size, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 5, strides=4),
            keras.layers.LeakyReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(n_genres),
        ]
    )


models.register_network("mine", builder)
"""
OWN_LOSS = "loss = keras.losses.BinaryFocalCrossentropy(from_logits=True)"
SMALL = {"DATA": "sample", "LIMIT": 60, "EPOCHS": 2, "READ_TEXT": "no", "OUTPUT_DIR": "model"}


def notebook_with(folder: Path, cell: str = "", loss: str = "") -> Path:
    """Write a copy of the train notebook with a cell above `size = ...`, or with another loss."""
    notebook = jupytext.read(ROOT / "notebooks" / "train.py")
    for place, before in enumerate(list(notebook.cells)):
        if loss and before.source.startswith("loss = "):
            before.source = loss
        if cell and "\nsize = images" in before.source:
            notebook.cells.insert(place, nbformat.v4.new_code_cell(cell))
    file = folder / "train.ipynb"
    jupytext.write(notebook, file)
    return file


def start(notebook: Path, **parameters) -> psutil.Popen:
    """Start a notebook as a user does, in its own folder."""
    command = [sys.executable, "-m", "papermill", notebook, notebook.with_name("out.ipynb")]
    command += ["--kernel", "python3", "--cwd", notebook.parent]
    for name, value in (SMALL | parameters).items():
        command += ["-p", name, str(value)]
    log = open(notebook.with_suffix(".log"), "a")  # noqa: SIM115 - of the process
    return psutil.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def kill_after_an_epoch(training: psutil.Popen, folder: Path) -> None:
    """Kill a training and its kernel when one epoch is kept and the next has begun."""
    while not list(folder.glob("picture/checkpoints/epoch-001.keras")):
        assert training.poll() is None, (folder.parent / "train.log").read_text("utf-8")
        time.sleep(0.01)
    for process in [*training.children(recursive=True), training]:
        process.kill()
    training.wait()


def finish(notebook: Path, **parameters) -> dict:
    """Run a notebook to its end; returns the metrics."""
    assert start(notebook, **parameters).wait() == 0, notebook.with_suffix(".log").read_text(
        "utf-8"
    )
    return json.loads((notebook.parent / "model" / "metrics.json").read_text("utf-8"))


def predict(folder: Path, posters: Path) -> pd.DataFrame:
    """Predict with a saved model in a fresh process."""
    command = [sys.executable, "-m", "genre_utils", "predict", posters, "--model", folder]
    command += ["--no-text", "--all-genres", "--csv", folder / "predicted.csv"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return pd.read_csv(folder / "predicted.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        ({"cell": OWN_NETWORK}, {"MODEL": "mine", "IMG_SIZE": 64}),
        ({"loss": OWN_LOSS}, {"MODEL": "efficientnet_lite0", "SECOND_MODEL": "", "IMG_SIZE": 64}),
    ],
    ids=["own network", "own loss"],
)
def test_a_change_in_one_cell_works_to_the_end(tmp_path, sample_folder, change, parameters):
    notebook = notebook_with(tmp_path, **change)
    folder = tmp_path / "model"
    kill_after_an_epoch(start(notebook, **parameters), folder)
    first = pd.read_csv(folder / "picture" / "history.csv")
    metrics = finish(notebook, **parameters)
    history = pd.read_csv(folder / "picture" / "history.csv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["seconds"][1] == first["seconds"][1], "the epoch that was kept is done again"
    assert "damaged" not in (tmp_path / "out.ipynb").read_text("utf-8")
    if "loss" in change:
        assert metrics["settings"]["loss"]["name"] == "binary_focal_crossentropy"
        curve = pd.read_csv(folder / "picture" / "head.csv")["loss"]
        assert curve.iloc[-1] < curve.iloc[0]
    some = sorted((sample_folder / "Images").iterdir())[:3]
    posters = tmp_path / "posters"
    posters.mkdir()
    for picture in some:
        (posters / picture.name).write_bytes(picture.read_bytes())
    table = predict(folder, posters)
    assert len(table) == 3 and table["error"].isna().all()
    scores = table.drop(columns=["poster", "error"]).to_numpy()
    assert scores.std() > 0 and ((scores > 0) & (scores < 1)).all()


@pytest.mark.slow
def test_a_genre_more_is_a_word_in_the_table(tmp_path, sample_folder):
    table = pd.read_csv(sample_folder / "train.csv")
    more = [g.replace("]", ", 'Telenovela']") for g in table["Genre"]]
    table["Genre"] = [
        new if i % 4 == 0 else old
        for i, (old, new) in enumerate(zip(table["Genre"], more, strict=True))
    ]
    table.to_csv(tmp_path / "more.csv", index=False)
    (tmp_path / "Images").symlink_to(sample_folder / "Images")
    notebook = notebook_with(tmp_path)
    given = {"DATA": tmp_path / "more.csv", "MODEL": "seed_cnn", "IMG_SIZE": 80, "LIMIT": 0}
    finish(notebook, **given)
    genres = json.loads((tmp_path / "model" / "model.json").read_text("utf-8"))["genres"]
    known = [genre for genre in IMDB_GENRES if genre in genres]
    assert genres == [*known, "Telenovela"]


@pytest.mark.slow
def test_the_published_network_learns_alone_and_says_so(tmp_path):
    notebook = notebook_with(tmp_path)
    metrics = finish(notebook, MODEL="seed_cnn", IMG_SIZE=80)
    assert "SECOND_MODEL is left out" in (tmp_path / "out.ipynb").read_text("utf-8")
    assert {"seed_cnn, validation", "seed_cnn, test"} <= set(metrics["results"])


def test_layers_may_have_the_names_of_the_project_s_own_parts(monkeypatch):
    monkeypatch.setattr(models, "_registered", {})

    def builder(image_size, n_genres):
        inputs = keras.Input((*image_size, 3))
        x = keras.layers.Conv2D(4, 3, strides=4, name="first")(inputs)
        x = keras.layers.Conv2D(4, 3, strides=4, name="second")(x)
        encoder = keras.Sequential([keras.layers.GlobalMaxPooling2D()], name="encoder")
        return keras.Model(inputs, keras.layers.Dense(n_genres)(encoder(x)))

    models.register_network("mine", builder)
    network = models.build_model("mine", 64, ("a", "b"))
    assert not models.is_pretrained(network)
    models.freeze_for_fine_tuning(network)
    assert all(layer.trainable for layer in network.layers)
    assert networks.averaged_networks(network) == [network]


def test_a_second_network_is_left_out_beside_one_without_a_backbone(monkeypatch, capsys):
    monkeypatch.setattr(models, "_registered", {})
    for name in ("seed_cnn", "mine"):
        models.register_network("mine", models.seed_cnn)
        assert models.choose_networks(name, "efficientnet_lite0", 96) == {"picture": name}
        assert f"{name} learns alone" in capsys.readouterr().out
    both = models.choose_networks("efficientnet_lite2", "efficientnet_lite0", 96)
    assert both == {"picture": "efficientnet_lite2", "second": "efficientnet_lite0"}
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="SECOND_MODEL is 'mine': give one of efficientnet_lite0"):
        models.choose_networks("efficientnet_lite2", "mine", 96)


@pytest.mark.parametrize(
    "prepare",
    [
        keras.applications.resnet.preprocess_input,
        lambda x: x[:, 8:-8, ::2] - np.array([[[[1.0, 2.0, 3.0]]]], np.float32),
    ],
)
def test_pixels_may_be_sliced_and_shifted_by_constants(monkeypatch, prepare):
    monkeypatch.setattr(models, "_registered", {})

    def builder(size, n):
        pixels = keras.Input((*size, 3))
        x = keras.layers.Conv2D(4, 5, strides=4)(prepare(pixels))
        return keras.Model(pixels, keras.layers.Dense(n)(keras.layers.GlobalMaxPooling2D()(x)))

    models.register_network("mine", builder)
    network = models.build_model("mine", 64, ("a", "b"))
    loaded = from_config(to_config(network), {n: Array(a) for n, a in to_arrays(network).items()})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    logits = [one.predict_on_batch(pixels.astype(np.float32)) for one in (network, loaded)]
    np.testing.assert_allclose(*logits, rtol=1e-5)


SEEDS = count()  # each network is adapted to other data


def adapted(pixels, n, wrap=lambda layer: layer, shape=(64, 64, 3)):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(next(SEEDS)).uniform(0, 255, (3, *shape)))
    return keras.layers.Dense(n)(keras.layers.GlobalAveragePooling2D()(wrap(layer)(pixels)))


def wrapped(pixels, n):
    return adapted(pixels, n, keras.layers.TimeDistributed, (64, 3))


def both_ways(pixels, n):
    rows = keras.layers.Reshape((64, 64 * 3))(pixels)
    return keras.layers.Dense(n)(keras.layers.Bidirectional(keras.layers.LSTM(4))(rows))


def of_keras(pixels, n):
    network = keras.applications.EfficientNetB0(False, None, None, pixels.shape[1:], "avg")
    return keras.layers.Dense(n)(network(pixels))


@pytest.mark.parametrize("layers", [adapted, wrapped, both_ways, of_keras])
def test_a_network_of_any_layers_of_keras_is_the_same_from_a_file(monkeypatch, tmp_path, layers):
    def builder(size, n):
        pixels = keras.Input((*size, 3))
        return keras.Model(pixels, layers(pixels, n))

    monkeypatch.setattr(models, "_registered", {})
    models.register_network("mine", builder)
    network = models.build_model("mine", 64, ("a", "b"))
    networks.save_weights(network, tmp_path / "weights.safetensors")
    networks.save_folder_network(network, tmp_path / "picture.json")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    resumed = models.build_model("mine", 64, ("a", "b"))
    resumed.predict_on_batch(pixels)  # which compiles it
    networks.load_weights(resumed, tmp_path / "weights.safetensors")
    loaded = networks.load_folder_network(tmp_path / "picture.json")
    trained, *others = (one.predict_on_batch(pixels) for one in (network, resumed, loaded))
    for logits in others:
        np.testing.assert_allclose(logits, trained, rtol=1e-2, atol=1e-2)


def test_an_unknown_network_tells_of_the_cell_that_registers_one():
    with pytest.raises(ValueError, match="'mine': give one of .*register_network"):
        models.build_model("mine", 64, ("a", "b"))


def test_networks_that_could_not_be_loaded_again_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(models, "_registered", {})

    @keras.saving.register_keras_serializable("theirs")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def network(*layers: keras.Layer) -> keras.Model:
        return keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Flatten(), *layers])

    class OfANotebook(Doubled):
        pass

    OfANotebook.__module__ = "__main__"  # for whose classes Keras writes no module
    lambdas = keras.layers.Lambda(lambda x: x), keras.layers.Dense(4, activation=lambda x: 2 * x)
    for strange in (*lambdas, Doubled(), OfANotebook()):
        models.register_network(
            "mine", lambda size, n, s=strange: network(s, keras.layers.Dense(n))
        )
        with pytest.raises(
            ValueError, match="could be trained, and not be loaded.*Keras' own"
        ) as refused:
            models.build_model("mine", 64, ("a", "b"))
        reason = "activation function" if strange is lambdas[1] else type(strange).__name__
        assert reason in str(refused.value) and len(str(refused.value)) < 300
    models.register_network("mine", lambda size, n: network(keras.layers.Dense(n + 1)))
    with pytest.raises(ValueError, match=r"'mine' turns .* give logits \(None, 2\)"):
        models.build_model("mine", 64, ("a", "b"))
    models.register_network("mine", lambda size, n: models.seed_cnn((80, 96), n))
    with pytest.raises(ValueError, match=r"it should take pixels \(None, 96, 80, 3\)"):
        models.build_model("mine", (96, 80), ("a", "b"))
    sigmoid = keras.layers.Dense(2, activation="sigmoid")
    inside = keras.Sequential([keras.Input((2,)), sigmoid], name="head")
    dropped = keras.Sequential([keras.Input((2,)), sigmoid, keras.layers.Dropout(0.1)])
    shaped = keras.Sequential([keras.Input((2,)), sigmoid, keras.layers.Reshape((2,))])
    ends = (
        sigmoid,
        inside,
        dropped,
        shaped,
        keras.layers.Softmax(),
        keras.layers.Dense(2, "hard_sigmoid"),
    )
    for last in (*ends, keras.layers.ReLU()):
        models.register_network("mine", lambda *_, s=last: network(keras.layers.Dense(2), s))
        with pytest.raises(ValueError, match="ends in .*: leave it out. The loss .* take logits"):
            models.build_model("mine", 64, ("a", "b"))

    def activated(size, n):
        logits = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(n)])
        pixels = keras.Input((*size, 3))
        scores = keras.ops.sigmoid(logits(pixels))
        return keras.Model(pixels, keras.layers.Activation("linear", dtype="float32")(scores))

    models.register_network("mine", activated)
    with pytest.raises(ValueError, match="ends in Sigmoid: leave it out"):
        models.build_model("mine", 64, ("a", "b"))

    def named(size, n):
        pixels = keras.Input((*size, 3))
        return keras.Model(pixels, {"a": network(keras.layers.Dense(n))(pixels)})

    models.register_network("mine", named)
    with pytest.raises(ValueError, match="gives a dict: give its logits alone"):
        models.build_model("mine", 64, ("a", "b"))
    models.register_network("mine", lambda size, n: keras.Sequential([keras.layers.Dense(n)]))
    with pytest.raises(ValueError, match=r"begin it with keras.Input\(\(\*image_size, 3\)\)"):
        models.build_model("mine", 64, ("a", "b"))
    models.register_network("mine", lambda size, n: "a network")
    with pytest.raises(ValueError, match="not a keras.Model"):
        models.build_model("mine", 64, ("a", "b"))
    for name in ("seed_cnn", "", " ", 7, ["mine"]):
        with pytest.raises(ValueError, match="is taken or no text"):
            models.register_network(name, models.seed_cnn)
    for builder in (None, "mine", lambda size: None, lambda size, n, more: None):
        with pytest.raises(ValueError, match=r"not called as builder\(image_size, n_genres\)"):
            models.register_network("mine", builder)


def test_an_architecture_is_the_same_whenever_it_is_built():
    built = [networks.architecture(models.seed_cnn((80, 80), n)) for n in (2, 2, 3)]
    assert built[0] == built[1] != built[2] and len(built[0]) == 12


def test_what_is_called_backbone_and_head_must_be_the_whole_network(monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    layers = keras.layers

    def build(size, n, kind):
        features = [keras.Input((*size, 3)), layers.Rescaling(1 / 255), layers.Flatten()]
        backbone = keras.Sequential([*features, layers.Dense(8)], name="backbone")
        head = keras.Sequential([keras.Input((8,)), layers.Dense(n)], name="head")
        pixels = x = keras.Input((*size, 3))
        if kind == "pixels changed before":
            x = layers.Rescaling(1 / 255)(x)
        if kind == "head a layer":
            head = layers.Dense(n, name="head")
        logits = head(backbone(x))
        return keras.Model(pixels, layers.Dense(n)(logits) if kind == "more behind" else logits)

    for kind in ("pixels changed before", "head a layer", "more behind"):
        models.register_network("mine", lambda size, n, kind=kind: build(size, n, kind))
        with pytest.raises(ValueError, match="is more than the head on the backbone"):
            models.build_model("mine", 64, ("a", "b"))
    models.register_network("mine", lambda size, n: build(size, n, "whole"))
    assert models.has_backbone(models.build_model("mine", 64, ("a", "b")))


@pytest.mark.slow
def test_a_backbone_that_takes_one_size_alone_is_trained_to_the_end(tmp_path):
    cell = """
import keras

from genre_utils import models


def builder(image_size, n_genres):
    pixels = keras.Input((64, 64, 3))
    flat = [keras.Input((64, 64, 3)), keras.layers.AveragePooling2D(8), keras.layers.Flatten()]
    backbone = keras.Sequential(flat, name="backbone")
    head = keras.Sequential([keras.Input((192,)), keras.layers.Dense(n_genres)], name="head")
    return keras.Model(pixels, head(backbone(pixels)))


models.register_network("mine", builder)
"""
    finish(notebook_with(tmp_path, cell), MODEL="mine", IMG_SIZE=64, IMG_SHAPE="square", EPOCHS=1)
    card = json.loads((tmp_path / "model" / "model.json").read_text("utf-8"))
    assert card["image_size"] == [64, 64]
