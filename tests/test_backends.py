"""One code on TensorFlow, JAX and PyTorch: the same results, and each step compiled once."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT

from genre_utils import models, runs
from genre_utils.networks import load_folder_network, save_folder_network

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]


def needs(backend: str):
    """Skip where a backend is not installed: PyTorch's packages are some gigabytes."""
    absent = importlib.util.find_spec(backend) is None
    return pytest.param(backend, marks=pytest.mark.skipif(absent, reason=f"without {backend}"))


def run_on(backend: str, *command: str | Path, **variables: str) -> str:
    """Run Python in a fresh process on a backend; gives what it printed."""
    run = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend, **variables},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout


SCORES = """
import sys, numpy as np
from genre_utils.predictor import Predictor
predictor = Predictor.load(sys.argv[1], read_text=False, runtime=False)
table = predictor.predict_all(sys.argv[2])
np.save(sys.argv[3], table[list(predictor.genres)].to_numpy(float))
"""


def scores(backend: str, model: Path, posters: Path, file: Path) -> np.ndarray:
    """Score a folder of posters with a saved model on a backend."""
    run_on(backend, "-c", SCORES, model, posters, file)
    return np.load(file)


@pytest.fixture(scope="module")
def few_posters(tmp_path_factory, sample_folder) -> Path:
    folder = tmp_path_factory.mktemp("few")
    for picture in sorted((sample_folder / "Images").iterdir())[:6]:
        (folder / picture.name).write_bytes(picture.read_bytes())
    return folder


@pytest.mark.parametrize("backend", [needs(name) for name in OTHERS])
def test_a_saved_model_predicts_the_same_on_another_backend(
    tmp_path, trained, predictor, few_posters, backend
):
    here = predictor.predict_all(few_posters)[list(predictor.genres)].to_numpy(float)
    there = scores(backend, trained, few_posters, tmp_path / "scores.npy")
    assert here.std() > 0.1
    np.testing.assert_allclose(there, here, atol=1e-3)


COMPILATIONS = """
import runpy, sys
import jax
compiled, after_epoch = 0, []
def count(event, seconds, **_):
    global compiled
    compiled += event.endswith("backend_compile_duration")
jax.monitoring.register_event_duration_secs_listener(count)
from genre_utils import runs
plain = runs.Checkpoints.on_epoch_end
def noted(self, epoch, logs=None):
    plain(self, epoch, logs)
    after_epoch.append(compiled)
runs.Checkpoints.on_epoch_end = noted
done = runpy.run_path("tests/train_small.py")
model, batches = done["model"], done["batches_of"]
kinds = ("trainable", "non_trainable", "optimizer", "metrics")
state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
step = jax.jit(model.train_step).lower(state, batches(0)[0]).as_text()
print(after_epoch)
print(len(step) > 10_000, "callback" in step)
"""


@pytest.mark.parametrize("devices", [{}, EIGHT], ids=["one device", "eight devices"])
def test_jax_compiles_in_the_first_epoch_only_and_calls_nothing_back(tmp_path, devices):
    batch = "1" if devices else "8"
    *_, counts, step = run_on(
        "jax", "-c", COMPILATIONS, tmp_path / "run", "3", batch, **devices
    ).splitlines()
    first, *later = json.loads(counts)
    assert first > 0 and later == [first, first]
    assert step == "True False"


@pytest.fixture
def small_model() -> keras.Model:
    model = models.build_model("seed_cnn", 80, ("dark", "bright"))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


class Noise(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((4, 80, 80, 3), i, np.uint8), np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's graphs")
def test_tensorflow_traces_in_the_first_epoch_only_and_calls_nothing_back(tmp_path, small_model):
    import tensorflow as tf

    traces = []
    step = small_model.train_step
    small_model.train_step = lambda data: (traces.append(data), step(data))[1]
    run = runs.open_run(tmp_path, {"seed": 0})
    run.begin()
    after_epoch = []
    validation = np.zeros((4, 80, 80, 3), np.uint8), np.eye(2)[[0, 1, 0, 1]]
    some = runs.epochs(run, small_model, lambda _: Noise(), 4, validation, patience=9)
    for fitted, data, options in some:
        fitted.fit(data, **options)
        after_epoch.append(len(traces))
    assert len(after_epoch) == 4 and len(set(after_epoch)) == 1 and traces
    batch = [tf.constant(part) for part in Noise()[0]]
    graph = tf.function(step).get_concrete_function(tuple(batch)).graph.as_graph_def()
    nodes = [*graph.node, *(node for body in graph.library.function for node in body.node_def)]
    assert len(nodes) > 100 and not [node.op for node in nodes if "PyFunc" in node.op]


def test_a_network_trained_in_bfloat16_is_saved_to_compute_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.build_model("seed_cnn", 80, ("dark", "bright"))
    finally:
        keras.config.set_dtype_policy(before)
    assert network.layers[1].compute_dtype == "bfloat16" and network.outputs[0].dtype == "float32"
    save_folder_network(network, tmp_path / "picture.json")
    saved = load_folder_network(tmp_path / "picture.json")
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)).astype(np.uint8)
    answers = [np.asarray(one.predict_on_batch(pixels), float) for one in (network, saved)]
    np.testing.assert_allclose(*answers, atol=0.02)


TWO_ON_TENSORFLOW = """
import sys
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
tf.distribute.experimental_set_strategy(strategy)
import runpy
from genre_utils import machine
machine.connect = lambda: f"{machine.replicas()} devices"
runpy.run_path("tests/train_small.py")
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow")
def test_two_devices_of_tensorflow_train_as_one_does(tmp_path):
    two = run_on("tensorflow", "-c", TWO_ON_TENSORFLOW, tmp_path / "two", "2", "4")
    assert two.startswith("2 devices")
    run_on("tensorflow", "tests/train_small.py", tmp_path / "one", "2", "8")
    one, two = (runs.Run(tmp_path / name, {}).history()["loss"][1:] for name in ("one", "two"))
    # Each device draws its own dropout, so that the curves are alike but not the same.
    np.testing.assert_allclose(two, one, atol=0.15)


NOTEBOOK = {
    "DATA": "sample",
    "MODEL": "efficientnet_lite0",
    "SECOND_MODEL": "efficientnet_lite0",
    "IMG_SIZE": 64,
    "EPOCHS": 2,
    "READ_TEXT": "no",
}


def train_on(backend: str, folder: Path, batch: int, **variables: str) -> float:
    """Run the train notebook on a backend; gives the test macro mAP."""
    command = ["-m", "papermill", "notebooks/train.ipynb", f"{folder}.ipynb", "--kernel", "python3"]
    for name, value in {**NOTEBOOK, "BATCH_SIZE": batch, "OUTPUT_DIR": folder}.items():
        command += ["-p", name, str(value)]
    run_on(backend, *command, **variables)
    results = json.loads((folder / "metrics.json").read_text("utf-8"))["results"]
    return results["efficientnet_lite0 + efficientnet_lite0, test"]["macro_map"]


@pytest.mark.slow
def test_the_train_notebook_reaches_the_same_on_every_backend(tmp_path, few_posters):
    reached = {"tensorflow": train_on("tensorflow", tmp_path / "tensorflow", 16)}
    reached["jax"] = train_on("jax", tmp_path / "jax", 2, **EIGHT)  # 2 posters on each of 8
    if importlib.util.find_spec("torch"):
        reached["torch"] = train_on("torch", tmp_path / "torch", 16)
    for backend, score in reached.items():
        assert score == pytest.approx(reached["tensorflow"], abs=0.05), reached
        model = tmp_path / backend
        all_scores = [
            scores(other, model, few_posters, tmp_path / f"{backend}-{other}.npy")
            for other in reached
        ]
        assert np.ptp(all_scores, axis=0).max() < 1e-3
