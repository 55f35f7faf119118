import os
import subprocess
import sys

import pytest
from conftest import ROOT

from genre_utils import environment


@pytest.fixture
def machine(monkeypatch):
    """Pretend that only some packages are installed; collects what pip would be asked for."""
    asked: list[str] = []

    def machine(*present: str) -> list[str]:
        monkeypatch.setattr(environment, "_importable", lambda name: name in present)
        return asked

    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.extend(command[5:]))
    monkeypatch.setattr(environment, "describe", lambda: "")
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")
    return machine


OTHERS = tuple(environment.NEEDED)


def test_nothing_is_installed_where_all_is_there(machine):
    asked = machine("tensorflow", "keras", *OTHERS)
    environment.prepare()
    assert asked == [] and os.environ["KERAS_BACKEND"] == "tensorflow"


def test_colab_s_tpu_machine_gets_jax_and_no_tensorflow(machine):
    asked = machine("jax", "keras", *OTHERS)
    environment.prepare()
    assert asked == [] and os.environ["KERAS_BACKEND"] == "jax"


def test_only_what_is_missing_is_installed(machine):
    asked = machine("jax", *(name for name in OTHERS if name != "seaborn"))
    environment.prepare()
    assert asked == ["seaborn", "keras"]


def test_a_bare_machine_gets_tensorflow(machine):
    asked = machine()
    environment.prepare()
    assert "tensorflow" in asked and "jax" not in asked


def test_the_user_s_choice_of_backend_stands(machine, monkeypatch):
    machine("tensorflow", "jax", "keras", *OTHERS)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    environment.prepare()
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_importing_the_package_imports_no_backend():
    code = "import sys, genre_utils; assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_colab_s_keras_loads_the_released_model(tmp_path):
    """Keras 3.13, as Colab and Kaggle have it, installed beside the environment's own."""
    target = str(tmp_path / "keras")
    install = ["-m", "pip", "install", "-q", "--no-deps", "--target", target, "keras==3.13.*"]
    subprocess.run([sys.executable, *install], check=True)
    code = (
        "import keras, numpy as np; assert keras.__version__.startswith('3.13');"
        "from genre_utils.predictor import Predictor;"
        "print(Predictor.load().predict(np.full((300, 200, 3), 9, np.uint8)))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([target, str(ROOT)])}
    subprocess.run([sys.executable, "-c", code], check=True, env=path, cwd=tmp_path)
