import importlib.metadata
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


def test_old_packages_are_named_in_one_line_and_left_alone(machine, monkeypatch, capsys):
    versions = {"pillow": "12.2.9", "keras": "3.15.1.post1"}

    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    asked = machine("tensorflow", "keras", *OTHERS)
    environment.prepare()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pillow 12.2.9 (safe from 12.3)" in said
    assert "keras" not in said and "gradio" not in said and asked == []
    versions["pillow"] = "13.0"
    assert environment.outdated() == ""


def test_requirements_ask_for_what_is_safe():
    wanted = (ROOT / "requirements.txt").read_text().split()
    optional = (ROOT / "pyproject.toml").read_text()
    for package, floor in environment.FLOORS.items():
        line = f"{package}>={floor}"
        # The page is an extra of its own, where there is one.
        assert line in wanted or line in optional or package not in optional


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
