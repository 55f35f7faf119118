"""Make a notebook's machine ready: what is missing is installed, the backend chosen, and said.

Imports nothing but the standard library: it runs before anything else is sure to be there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

# What the notebooks import, and the name under which an index knows it. Keras and its backends
# are not here: where one is preinstalled it fits the machine's accelerator, and another version
# would not.
NEEDED = {
    "h5py": "h5py",
    "matplotlib": "matplotlib",
    "onnxruntime": "onnxruntime",
    "pandas": "pandas",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "rapidocr": "rapidocr",
    "seaborn": "seaborn",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tokenizers": "tokenizers",
    "tqdm": "tqdm",
    "wordninja": "wordninja",
}
BACKENDS = ("tensorflow", "jax", "torch")

# Older ones have known holes that a picture or a model of a stranger reaches: Pillow's decoders
# write out of bounds; Keras follows links out of HDF5 files and runs code despite `safe_mode`;
# Gradio gives out files of the machine. As in requirements.txt and pyproject.toml.
FLOORS = {"pillow": "12.3", "keras": "3.15.1", "gradio": "6.20"}


def prepare() -> str:
    """Install what cannot be imported, choose Keras' backend, and say what will compute.

    Returns one line for a person, such as `"TensorFlow on the CPU (2 cores)"`. Call it before
    Keras is imported: the backend cannot be changed afterwards.
    """
    missing = [package for module, package in NEEDED.items() if not _importable(module)]
    if not any(_importable(backend) for backend in BACKENDS):
        missing.append("tensorflow")
    elif not _importable("keras"):
        missing.append("keras")
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
    choose_backend()
    if warning := outdated():
        print(warning, file=sys.stderr)
    return describe()


def outdated() -> str:
    """Name in one line the installed packages that are older than is safe; empty when none is.

    They are left alone: where one came with the machine, it fits the rest of it.
    """
    old = []
    for package, floor in FLOORS.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(package)
            if _numbers(version) < _numbers(floor):
                old.append(f"{package} {version} (safe from {floor})")
    if not old:
        return ""
    return f"Give no pictures or models from strangers to these old packages: {', '.join(old)}."


def choose_backend() -> None:
    """Choose the first backend that is installed, unless KERAS_BACKEND says which; hush it."""
    present = [backend for backend in BACKENDS if _importable(backend)]
    os.environ.setdefault("KERAS_BACKEND", (present or BACKENDS)[0])
    # TensorFlow prints a page of notices about a machine without a GPU before the first answer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def describe() -> str:
    """Say in one line which backend runs on what: the accelerators' number and kind, or the CPU."""
    import keras

    names = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    backend = names.get(keras.backend.backend(), keras.backend.backend())
    devices = accelerators()
    if devices:
        kind = devices[0].split(":")[0].upper()
        return f"{backend} on {len(devices)} {kind}"
    return (
        f"{backend} on the CPU ({os.cpu_count()} cores). In Colab: Runtime → Change runtime type → "
        "GPU or TPU trains faster."
    )


def accelerators() -> list[str]:
    """List the GPUs and TPUs that Keras' backend sees, such as `["gpu:0"]`; empty on a CPU."""
    import keras

    if keras.backend.backend() == "torch":  # Keras has no list of devices there
        return []
    return [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]


def upload(folder: Path) -> Path | None:
    """Let the user of Colab upload files into `folder`; `None` on any other machine."""
    if not _importable("google.colab"):
        return None
    from google.colab import files

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.upload().items():
        (folder / Path(name).name).write_bytes(content)
    return folder


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a.b, when there is no a
        return False
