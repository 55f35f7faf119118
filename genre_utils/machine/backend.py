"""Keras' backend: what is installed, which is chosen, and an import without notices."""

import importlib.metadata
import importlib.util
import logging
import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from genre_utils.support import did_you_mean

# What the notebooks import, and the name under which an index knows it where that is another.
# Keras and its backends are not here: where one is preinstalled it fits the machine's accelerator,
# and another version would not.
NEEDED = {
    *("PIL", "filelock", "h5py", "matplotlib", "onnx", "onnxruntime", "pandas", "rapidocr"),
    *("safetensors", "scipy", "seaborn", "sklearn", "tokenizers", "tqdm", "wordninja"),
}
INDEX_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}

ROOT = Path(__file__).parents[2]  # of a clone

# Older ones have known holes that a picture or a model of a stranger reaches: Pillow's decoders
# write out of bounds; Keras follows links out of HDF5 files and runs code despite `safe_mode`;
# Gradio gives out files of the machine. As in requirements.txt and pyproject.toml.
FLOORS = {"pillow": "12.3", "keras": "3.15.1", "gradio": "6.20"}


def prepare() -> str:
    """Install what cannot be imported, choose Keras' backend, and say which and why.

    In a clone the working folder becomes the repository's: Jupyter starts in `notebooks`, and data
    and outputs are one up. Raises `ValueError` for a backend that cannot be had. Call it before
    Keras is imported.
    """
    if Path.cwd() == ROOT / "notebooks":
        os.chdir(ROOT)
    missing = [INDEX_NAMES.get(name, name) for name in sorted(NEEDED) if not importable(name)]
    # TensorFlow sees a TPU only in a build that brings libtpu along.
    if has_tpu() and not (importable("jax") or importable("libtpu")):
        missing.append("jax[tpu]")
    elif not any(map(importable, BACKENDS)):
        missing.append("tensorflow")
    if not importable("keras") and "tensorflow" not in missing:
        missing.append("keras")
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
        importlib.invalidate_caches()
    if warning := outdated():
        print(warning, file=sys.stderr)
    chosen = choose_backend()
    import_keras()
    return chosen


def outdated() -> str:
    """Return one line that names the installed packages with known holes; empty without any.

    They are left alone: where one came with the machine, it fits the rest of it.
    """
    old = []
    for package, floor in FLOORS.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(package)
            if _numbers(version) < _numbers(floor):
                old.append(f"{package} {version} (safe from {floor})")
    warning = "Give no pictures or models from strangers to these old packages: "
    return f"{warning}{', '.join(old)}." if old else ""


def choose_backend() -> str:
    """Choose Keras' backend from what is installed, unless KERAS_BACKEND says which; say why.

    On a TPU it is JAX, on which Keras is tested there, else the first of TensorFlow, JAX and
    PyTorch. Raises `ValueError` for one that is unknown or not installed, or when Keras runs
    on another already.
    """
    present = [backend for backend in BACKENDS if importable(backend)]
    asked = os.environ.get("KERAS_BACKEND")
    if asked and asked not in BACKENDS:
        question = did_you_mean(asked, BACKENDS)
        raise ValueError(
            f"KERAS_BACKEND is {asked!r}: give one of {', '.join(BACKENDS)}.{question}"
        )
    if asked and asked not in present:
        others = f", or give one of {', '.join(present)}" if present else ""
        raise ValueError(
            f"KERAS_BACKEND is {asked!r}, which is not installed: `pip install {asked}`{others}."
        )
    if asked:
        chosen, why = asked, "as KERAS_BACKEND says"
    elif has_tpu() and "jax" in present:
        chosen, why = "jax", "because this machine has a TPU, which Keras uses best through JAX"
    else:
        chosen, why = present[0] if present else "tensorflow", "which is installed"
        others = " or ".join(present[1:])
        if others:
            why += f"; KERAS_BACKEND={others}, set before Keras is imported, changes that"
    os.environ["KERAS_BACKEND"] = chosen
    # TensorFlow prints a page of notices about a machine without a GPU before the first answer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keras = sys.modules.get("keras")
    if keras and keras.backend.backend() != chosen:
        raise ValueError(
            f"Keras runs on {keras.backend.backend()} already, and cannot change to {chosen}: "
            "restart the session (in Colab: Runtime → Restart session; in Kaggle: Run → Restart "
            "& clear cell outputs), and begin with this cell."
        )
    return f"Keras runs on {BACKENDS[chosen]}, {why}."


def import_keras() -> None:
    """Import Keras without the notices that its backend's C++ prints meanwhile.

    TensorFlow prints some before it reads its own switch for them. If the import fails, all are
    printed.
    """
    with tempfile.TemporaryFile() as notices:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(notices.fileno(), 2)
        try:
            import keras  # noqa: F401

            # TensorFlow warns when one notebook compiles several networks, as ours do.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, which reports to its makers unless it is told not to, and return it.

    Its packages do so since 1.29, with the machine, the paths and the errors of what they run.
    """
    # Read as it is imported, and never again; Windows has a switch of its own.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def check_tensorboard(wanted: bool) -> None:
    """Raise `ValueError` where TensorBoard's logs are wanted and cannot be written.

    Keras imports what it needs for them only when the training begins.
    """
    missing = [name for name in ("tensorflow", "tensorboard") if not importable(name)]
    if wanted and missing:
        raise ValueError(
            f"TENSORBOARD is True, and {' and '.join(missing)} cannot be imported: pip install "
            f"{' '.join(missing)}, or give TENSORBOARD=False."
        )


def has_tpu() -> bool:
    """Say whether this machine has a TPU, by its device files; no backend is imported."""
    if any(Path("/dev").glob("accel[0-9]*")):
        return True
    # From v5e on TPUs stand behind vfio, as other devices may: Google's number tells.
    makers = Path("/sys/bus/pci/devices").glob("*/vendor")
    behind_vfio = any(Path("/dev/vfio").glob("[0-9]*"))
    return behind_vfio and any("0x1ae0" in file.read_text() for file in makers)


def importable(module: str) -> bool:
    """Say whether a module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a.b, when there is no a
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
