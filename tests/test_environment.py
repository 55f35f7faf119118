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


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """Pretend to be in Colab, where `google.colab` mounts and uploads as it is told."""
    import types

    module = types.ModuleType("google.colab")
    module.drive, module.files = types.SimpleNamespace(), types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(environment, "_importable", lambda name: name == "google.colab")
    monkeypatch.setattr(environment, "DRIVE", tmp_path / "drive" / "MyDrive")
    environment._mount_drive.cache_clear()
    yield module
    environment._mount_drive.cache_clear()


def refuse(*_):
    raise ValueError("mount failed")


def test_outputs_go_to_colab_s_drive_or_a_sentence_says_that_they_are_lost(colab, capsys):
    colab.drive.mount = lambda where: environment.DRIVE.mkdir(parents=True)
    assert environment.lasting("outputs/model") == environment.DRIVE / "poster-genres/outputs/model"
    assert environment.lasting("/tmp/model").as_posix() == "/tmp/model"
    environment.DRIVE.rmdir()
    environment._mount_drive.cache_clear()
    colab.drive.mount = refuse
    assert environment.lasting("outputs/model").as_posix() == "outputs/model"
    assert "mount failed" in capsys.readouterr().out


def test_elsewhere_outputs_stay_where_they_are():
    assert environment.lasting("outputs/model").as_posix() == "outputs/model"


def test_posters_are_uploaded_in_colab_and_a_blocked_upload_has_a_fallback(colab, tmp_path, capsys):
    colab.files.upload = lambda: {"../poster.jpg": b"picture"}
    assert environment.upload(tmp_path / "up") == tmp_path / "up"
    assert (tmp_path / "up" / "poster.jpg").read_bytes() == b"picture"
    colab.files.upload = dict
    assert environment.upload(tmp_path / "up") is None
    colab.files.upload = refuse
    assert environment.upload(tmp_path / "up") is None
    assert "write" in capsys.readouterr().out


def test_importing_keras_is_quiet_and_a_failure_is_not(tmp_path):
    code = "from genre_utils import environment; environment.choose_backend();"
    code += "environment.import_keras()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "keras.py").write_text(
        "import os; os.write(2, b'a library is missing'); raise ImportError"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert done.returncode and "a library is missing" in done.stderr


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
