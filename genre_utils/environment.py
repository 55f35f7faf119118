"""Make a notebook's machine ready: what is missing is installed, the backend chosen, and said.

Imports nothing but the standard library: it runs before anything else is sure to be there.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
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
}
# Where Colab mounts the user's Drive.
DRIVE = Path("/content/drive/MyDrive")
BACKENDS = ("tensorflow", "jax", "torch")


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
    import_keras()
    return describe()


def choose_backend() -> None:
    """Choose the first backend that is installed, unless KERAS_BACKEND says which; hush it."""
    present = [backend for backend in BACKENDS if _importable(backend)]
    os.environ.setdefault("KERAS_BACKEND", (present or BACKENDS)[0])
    # TensorFlow prints a page of notices about a machine without a GPU before the first answer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def import_keras() -> None:
    """Import Keras without the notices that its backend's C++ prints meanwhile.

    TensorFlow's come before its own switch for them is looked at. Should the import fail, they
    are printed after all.
    """
    with tempfile.TemporaryFile() as notices:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(notices.fileno(), 2)
        try:
            import keras  # noqa: F401

            # It warns of every network that is compiled in the same notebook as others.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


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


def lasting(path: str) -> Path:
    """Give a path of outputs in Colab's Drive, where it outlives a disconnect; elsewhere itself.

    Absolute paths stay as they are. Colab asks once whether Drive may be used; where it may not, a
    sentence says what that means.
    """
    if Path(path).is_absolute() or not _importable("google.colab"):
        return Path(path)
    refusal = _mount_drive()
    if refusal:
        print(f"Drive is not used ({refusal}): when Colab disconnects, {path} is lost.")
        return Path(path)
    return DRIVE / "poster-genres" / path


@functools.cache
def _mount_drive() -> str:
    """Mount Colab's Drive; gives why not, or an empty text."""
    if not DRIVE.is_dir():
        try:
            from google.colab import drive

            drive.mount(str(DRIVE.parent))
        except Exception as error:  # a refusal is an error of whatever kind
            return str(error) or type(error).__name__
    return ""


def upload(folder: Path) -> Path | None:
    """Let the user of Colab upload files into `folder`; `None` where nothing came.

    That is every other machine, and a browser that blocks the upload: then a sentence says how to
    bring the files in by hand.
    """
    if not _importable("google.colab"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from google.colab import files

        uploaded = files.upload()
    except Exception as error:  # blocked cookies, a closed dialogue, a notebook run headless
        print(
            f"The upload did not work ({error}). Drag your posters into {folder}/ in the file "
            f"browser at the left, write {str(folder)!r} into POSTERS, and run on from there."
        )
        return None
    for name, content in uploaded.items():
        (folder / Path(name).name).write_bytes(content)
    return folder if uploaded else None


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a.b, when there is no a
        return False
