import importlib.metadata
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT

from genre_utils import machine
from genre_utils.machine import backend as backends
from genre_utils.machine import colab as colabs
from genre_utils.machine import devices


@pytest.fixture
def pretend(monkeypatch):
    """Pretend that only some packages are installed; collects what pip would be asked for."""
    asked: list[str] = []

    def pretend(*present: str, tpu: bool = False) -> list[str]:
        monkeypatch.setattr(backends, "importable", lambda name: name in present)
        monkeypatch.setattr(backends, "has_tpu", lambda: tpu)
        return asked

    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.extend(command[5:]))
    monkeypatch.setattr(backends, "import_keras", lambda: None)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")
    return pretend


OTHERS = tuple(backends.NEEDED)


def test_nothing_is_installed_where_all_is_there(pretend):
    asked = pretend("tensorflow", "keras", *OTHERS)
    machine.prepare()
    assert asked == [] and os.environ["KERAS_BACKEND"] == "tensorflow"


def test_colab_s_tpu_machine_gets_jax_and_no_tensorflow(pretend):
    asked = pretend("jax", "keras", *OTHERS, tpu=True)
    assert "JAX" in machine.prepare()
    assert asked == [] and os.environ["KERAS_BACKEND"] == "jax"


def test_kaggle_s_tpu_machine_gets_jax_though_it_has_tensorflow(pretend):
    pretend("tensorflow", "jax", "keras", *OTHERS, tpu=True)
    assert "TPU" in machine.prepare()
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_a_bare_tpu_machine_gets_jax_for_tpus(pretend):
    asked = pretend("keras", *OTHERS, tpu=True)
    machine.prepare()
    pretend("keras", "tensorflow", *OTHERS, tpu=True)  # which cannot see it
    machine.prepare()
    pretend("keras", "tensorflow", "libtpu", *OTHERS, tpu=True)  # tensorflow-tpu
    machine.prepare()
    assert asked == ["jax[tpu]"] * 2


def test_only_what_is_missing_is_installed(pretend):
    asked = pretend("jax", *(name for name in OTHERS if name != "seaborn"))
    machine.prepare()
    assert asked == ["seaborn", "keras"]


def test_a_bare_machine_gets_tensorflow(pretend):
    asked = pretend()
    machine.prepare()
    assert "tensorflow" in asked and "jax" not in asked
    assert "keras" not in asked, "TensorFlow brings the one that fits"
    assert {"pillow", "scikit-learn"} < {*asked}, "an index knows them by these names"


def test_a_notebook_works_in_the_folder_of_its_clone(pretend, monkeypatch, tmp_path):
    pretend("tensorflow", "keras", *OTHERS)
    monkeypatch.setattr(backends, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    machine.prepare()
    assert Path.cwd() == tmp_path
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    machine.prepare()
    assert Path.cwd() == tmp_path / "elsewhere"


def test_a_tpu_is_known_by_its_device_files(monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "Path", lambda place: tmp_path / place.lstrip("/"))
    places = "dev/accel0", "dev/vfio/0", "sys/bus/pci/devices/0000:00:04.0/vendor"
    device, vfio, vendor = (tmp_path / place for place in places)
    for file in (device, vfio, vendor):
        file.parent.mkdir(parents=True, exist_ok=True)
    vfio.touch()
    vendor.write_text("0x10de\n")
    assert not backends.has_tpu(), "another maker's device stands behind vfio, too"
    vendor.write_text("0x1ae0\n")
    assert backends.has_tpu()
    vfio.unlink()
    assert not backends.has_tpu()
    device.touch()
    assert backends.has_tpu()


def test_a_part_of_a_package_that_is_missing_is_missing():
    assert not backends.importable("no_such_package.part")


def test_the_user_s_choice_of_backend_stands(pretend, monkeypatch):
    pretend("tensorflow", "jax", "keras", *OTHERS)
    assert "KERAS_BACKEND=jax" in machine.prepare()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "as KERAS_BACKEND says" in machine.prepare()
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_tensorflow_s_notices_are_off_unless_somebody_asks_for_them(pretend, monkeypatch):
    pretend("tensorflow", "keras", *OTHERS)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    machine.prepare()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    machine.prepare()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_old_packages_are_named_in_one_line_and_left_alone(pretend, monkeypatch, capsys):
    versions = {"pillow": "12.2.9", "keras": "3.15.1.post1"}

    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    asked = pretend("tensorflow", "keras", *OTHERS)
    machine.prepare()
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "pillow 12.2.9 (safe from 12.3)" in printed
    assert "keras" not in printed and "gradio" not in printed and asked == []
    versions["pillow"] = "13.0"
    assert machine.outdated() == ""
    versions["gradio"] = "6.9.1"
    assert "gradio 6.9.1 (safe from 6.20)" in machine.outdated()


def test_tensorboard_s_logs_need_tensorflow_too(pretend):
    pretend("tensorboard")
    machine.check_tensorboard(False)
    with pytest.raises(ValueError, match="and tensorflow cannot be imported: pip install tens"):
        machine.check_tensorboard(True)


def test_onnx_runtime_is_told_in_both_ways_to_report_nothing(monkeypatch):
    told = []
    runtime = types.ModuleType("onnxruntime")
    runtime.disable_telemetry_events = lambda: told.append(os.environ["ORT_DISABLE_TELEMETRY"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert machine.import_onnxruntime() is runtime and told == ["1"]


def test_requirements_ask_for_what_is_safe():
    wanted = (ROOT / "requirements.txt").read_text().split()
    optional = (ROOT / "pyproject.toml").read_text()
    for package, floor in backends.FLOORS.items():
        line = f"{package}>={floor}"
        # The page is an extra of its own, where there is one.
        assert line in wanted or line in optional or package not in optional


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        ("teano", "give one of tensorflow, jax, torch"),
        ("pytorch", "Did you mean 'torch'"),
        ("torch", "'torch', which is not installed: `pip install torch`, or give one of jax"),
    ],
)
def test_a_backend_that_cannot_be_had_is_a_sentence(pretend, monkeypatch, backend, sentence):
    pretend("jax", "keras", *OTHERS)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(ValueError, match=sentence):
        machine.choose_backend()


def test_a_backend_chosen_too_late_says_to_restart(monkeypatch):
    import keras

    (other,) = {"tensorflow", "jax"} - {keras.backend.backend()} or {"torch"}
    monkeypatch.setattr(backends, "importable", lambda _: True)
    monkeypatch.setenv("KERAS_BACKEND", other)
    with pytest.raises(ValueError, match=f"{keras.backend.backend()} already.*Restart session"):
        machine.choose_backend()


def cluster(*workers: str) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"index": 0}})}


def test_tf_config_of_several_machines_names_the_way_of_jax():
    with pytest.raises(ValueError, match="KERAS_BACKEND=jax and KERAS_DISTRIBUTION"):
        devices.check_hosts("tensorflow", cluster("10.0.0.1:1", "10.0.0.2:1"))
    devices.check_hosts("tensorflow", cluster("10.0.0.1:1"))  # as clouds set it
    for other in ("no JSON", "[]", "{}", '{"cluster": null}', '{"cluster": {"worker": 3}}'):
        devices.check_hosts("tensorflow", {"TF_CONFIG": other})


def test_several_hosts_need_jax():
    hosts = {devices.HOSTS: "10.0.0.1:1"}
    with pytest.raises(ValueError, match="PyTorch trains on one"):
        devices.check_hosts("torch", hosts)
    devices.check_hosts("jax", hosts)


@pytest.mark.parametrize(
    ("kind", "capability", "precision"),
    [
        ("TPU v5 lite", 0.0, "bfloat16"),
        ("NVIDIA H100", 9.0, "bfloat16"),
        ("NVIDIA A100", 8.0, "bfloat16"),
        ("Tesla T4", 7.5, "float32"),
        ("CPU", 9.0, "float32"),  # of a backend that does not see the GPU
    ],
)
def test_precision_follows_the_hardware(monkeypatch, kind, capability, precision):
    monkeypatch.setattr(devices, "nvidia_capability", lambda: capability)
    assert devices.choose_precision(kind) == precision


def test_an_accelerator_that_is_not_used_is_said(monkeypatch):
    monkeypatch.setattr(devices, "has_tpu", lambda: True)
    assert "KERAS_BACKEND=jax" in devices.advice("tensorflow", "CPU", 1)[0]
    assert devices.advice("jax", "TPU v5 lite", 8) == []
    monkeypatch.setattr(devices, "has_tpu", lambda: False)
    monkeypatch.setattr(devices, "nvidia_capability", lambda: 8.0)
    assert "without CUDA" in devices.advice("tensorflow", "CPU", 1)[0]
    monkeypatch.setattr(devices, "nvidia_capability", lambda: 0.0)
    monkeypatch.setattr(devices, "importable", lambda name: name == "google.colab")
    assert "Runtime → Change runtime type" in devices.advice("jax", "CPU", 1)[0]
    assert devices.advice("jax", "CPU", 8) == []
    monkeypatch.setattr(devices, "importable", lambda name: False)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert "Settings → Accelerator" in devices.advice("jax", "CPU", 1)[0]
    monkeypatch.setattr(devices, "_nvidia", lambda field: "0\n1")
    assert "KERAS_BACKEND=jax uses all" in devices.advice("torch", "NVIDIA A100", 1)[0]


def test_the_weakest_gpu_decides_and_a_driver_that_hangs_has_none(monkeypatch):
    answers = iter(["9.0\n7.5", ""])

    def ask(command, **_):
        answer = next(answers, None)
        if answer is None:
            raise subprocess.TimeoutExpired(command, 20)
        return subprocess.CompletedProcess(command, 0, answer)

    monkeypatch.setattr(subprocess, "run", ask)
    assert [devices.nvidia_capability() for _ in range(3)] == [7.5, 0, 0]


def test_what_computes_in_bfloat16_keeps_its_weights_in_float32(monkeypatch):
    import keras

    for backend in backends.BACKENDS:
        monkeypatch.setattr(devices, f"_connect_{backend}", lambda: ("TPU v5 lite", 8))
    monkeypatch.setattr(devices, "advice", lambda *_: ["Restart the session"])
    before = keras.config.dtype_policy()
    try:
        line = machine.connect()
        assert line.startswith("TPU v5 lite, 8 devices, ")
        assert line.endswith(", bfloat16. Restart the session")
        layer = keras.layers.Dense(2)
        assert (layer.variable_dtype, layer.compute_dtype) == ("float32", "bfloat16")
    finally:
        keras.config.set_dtype_policy(before)


def run_on(backend: str, code: str, **variables: str) -> str:
    """Run code in a fresh process on a backend; gives what it printed."""
    path = {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **path, **variables},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_tensorflow_spreads_over_gpus_and_tpus(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    seen, chosen = {"TPU": [], "GPU": []}, []
    for listing in ("list_physical_devices", "list_logical_devices"):
        monkeypatch.setattr(tf.config, listing, seen.__getitem__)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", chosen.append)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda _: None)
    resolver = tf.distribute.cluster_resolver
    monkeypatch.setattr(resolver, "TPUClusterResolver", lambda tpu: f"resolver of {tpu}")
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: "TPU strategy")
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    monkeypatch.setattr(tf.distribute, "experimental_set_strategy", chosen.append)
    monkeypatch.setattr(devices, "_nvidia", lambda _: "Tesla T4\nTesla T4")
    assert devices._connect_tensorflow() == ("CPU", 1) and chosen == []
    seen["GPU"] = ["GPU:0"]
    assert devices._connect_tensorflow() == ("Tesla T4", 1) and chosen == []
    seen["GPU"] = ["GPU:0", "GPU:1"]
    assert devices._connect_tensorflow() == ("Tesla T4", 2) and chosen == ["mirrored"]
    seen["TPU"] = ["TPU:0"] * 8
    assert devices._connect_tensorflow() == ("TPU", 8)
    assert chosen[1:] == ["resolver of local", "TPU strategy"]
    seen |= {"TPU": [], "GPU": ["GPU:0"]}
    monkeypatch.setattr(devices, "_nvidia", lambda _: "")  # another maker's
    assert devices._connect_tensorflow() == ("GPU", 1)


def test_on_tensorflow_the_devices_of_its_strategy_share_a_batch(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    import keras

    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    assert machine.replicas() == 4


EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def test_eight_devices_share_a_batch_on_jax():
    code = (
        "from genre_utils import machine; print(machine.connect());"
        "import keras; model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]);"
        "print(machine.replicas(), len(model.weights[0].value.sharding.device_set))"
    )
    line, devices = run_on("jax", code, **EIGHT).splitlines()
    assert line == "CPU, 8 devices, JAX backend, float32" and devices == "8 8"


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """Pretend to be in Colab, where `google.colab` mounts and uploads as it is told."""
    module = types.ModuleType("google.colab")
    module.drive, module.files = types.SimpleNamespace(), types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(colabs, "importable", lambda name: name == "google.colab")
    monkeypatch.setattr(colabs, "DRIVE", tmp_path / "drive" / "MyDrive")
    colabs._mount_drive.cache_clear()
    yield module
    colabs._mount_drive.cache_clear()


def refuse(*_):
    raise ValueError("mount failed")


def refuse_silently(*_):
    raise KeyError


def test_outputs_go_to_colab_s_drive_or_a_sentence_says_that_they_are_lost(colab, capsys):
    colab.drive.mount = lambda where: Path(where, "MyDrive").mkdir(parents=True)
    assert machine.persistent_path("outputs/model") == colabs.DRIVE / "poster-genres/outputs/model"
    assert machine.persistent_path("/tmp/model").as_posix() == "/tmp/model"
    colabs._mount_drive.cache_clear()
    colab.drive.mount = refuse  # what is mounted is not mounted again
    assert machine.persistent_path("outputs/model") == colabs.DRIVE / "poster-genres/outputs/model"
    colabs.DRIVE.rmdir()
    for mount, reason in ((refuse, "mount failed"), (refuse_silently, "KeyError")):
        colabs._mount_drive.cache_clear()
        colab.drive.mount = mount
        assert machine.persistent_path("outputs/model").as_posix() == "outputs/model"
        assert f"Drive is not used ({reason})" in capsys.readouterr().out


def test_elsewhere_outputs_stay_where_they_are_and_nothing_is_uploaded(tmp_path, capsys):
    assert machine.persistent_path("outputs/model").as_posix() == "outputs/model"
    assert machine.upload(tmp_path / "up") is None
    assert not (tmp_path / "up").exists() and capsys.readouterr().out == ""


def test_posters_are_uploaded_in_colab_and_a_blocked_upload_has_a_fallback(colab, tmp_path, capsys):
    colab.files.upload = lambda: {"../poster.jpg": b"picture"}
    assert machine.upload(tmp_path / "up") == tmp_path / "up"
    assert (tmp_path / "up" / "poster.jpg").read_bytes() == b"picture"
    colab.files.upload = dict
    assert machine.upload(tmp_path / "up") is None
    colab.files.upload = refuse
    assert machine.upload(tmp_path / "up") is None
    line = capsys.readouterr().out
    assert f"did not work (mount failed). Drag your posters into {tmp_path / 'up'}/" in line
    assert f"write {str(tmp_path / 'up')!r} into POSTERS" in line


def test_importing_keras_is_quiet_and_a_failure_is_not(tmp_path):
    code = "from genre_utils import machine; machine.choose_backend();"
    code += "machine.import_keras(); import os; os.write(2, b'what comes later')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "what comes later")
    (tmp_path / "keras.py").write_text(
        "import os; os.write(2, b'a library is missing'); raise ImportError"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert done.returncode and "a library is missing" in done.stderr


def test_importing_the_package_imports_no_backend():
    code = "import sys, genre_utils; assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_line_of_pytorch():
    sources = [*(ROOT / "genre_utils").rglob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    lines = [line for file in sources for line in Path(file).read_text("utf-8").splitlines()]
    assert not [line for line in lines if "import torch" in line or "from torch" in line]


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


def test_an_accelerator_is_told_from_a_cpu(monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for device, is_fast in (("cpu:0", False), ("gpu:0", True), ("tpu:0", True)):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda device=device: [device])
        assert machine.accelerated() is is_fast


def test_a_host_predicts_as_many_posters_at_once_as_its_own_devices_take(monkeypatch):
    monkeypatch.setattr(devices, "replicas", lambda: 8)  # of all hosts
    monkeypatch.setattr(devices, "processes", lambda: (1, 2))
    for accelerated, posters in ((False, 16), (True, 128)):
        monkeypatch.setattr(devices, "accelerated", lambda is_fast=accelerated: is_fast)
        assert machine.posters_at_once() == posters
