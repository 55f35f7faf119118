"""This machine: Keras' backend, its devices and processes, memory, Colab and Kaggle.

Imports nothing but the standard library and `support`: it runs before anything else is sure to be
there, and before Keras, whose backend cannot be changed once it is imported.
"""

import ctypes
import functools
import gc
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from genre_utils.support import did_you_mean

# What the notebooks import, and the name under which an index knows it where that is another.
# Keras and its backends are not here: where one is preinstalled it fits the machine's accelerator,
# and another version would not.
NEEDED = {
    *("PIL", "filelock", "h5py", "matplotlib", "onnxruntime", "pandas", "rapidocr"),
    *("safetensors", "scipy", "seaborn", "sklearn", "tokenizers", "tqdm", "wordninja"),
}
INDEX_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}
# Where Colab mounts the user's Drive.
DRIVE = Path("/content/drive/MyDrive")
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}

# How Keras is told of several hosts; on a TPU pod JAX finds the others by itself.
HOSTS = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
HOST_VARIABLES = (HOSTS, "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID")

# NVIDIA's Ampere (2020) is the first generation that computes in bfloat16.
FIRST_WITH_BFLOAT16 = 8.0

ROOT = Path(__file__).parents[2]  # of a clone

# Older ones have known holes that a picture or a model of a stranger reaches: Pillow's decoders
# write out of bounds; Keras follows links out of HDF5 files and runs code despite `safe_mode`;
# Gradio gives out files of the machine. As in requirements.txt and pyproject.toml.
FLOORS = {"pillow": "12.3", "keras": "3.15.1", "gradio": "6.20"}

ARENA_MAX = -8  # glibc's name for the number of heaps, in malloc.h


def prepare() -> str:
    """Install what cannot be imported, choose Keras' backend, and say which and why.

    In a clone the working folder becomes the repository's: Jupyter starts in `notebooks`, and data
    and outputs are one up. Raises `ValueError` for a backend that cannot be had. Call it before
    Keras is imported.
    """
    if Path.cwd() == ROOT / "notebooks":
        os.chdir(ROOT)
    missing = [INDEX_NAMES.get(name, name) for name in sorted(NEEDED) if not _importable(name)]
    # TensorFlow sees a TPU only in a build that brings libtpu along.
    if has_tpu() and not (_importable("jax") or _importable("libtpu")):
        missing.append("jax[tpu]")
    elif not any(map(_importable, BACKENDS)):
        missing.append("tensorflow")
    if not _importable("keras") and "tensorflow" not in missing:
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
    present = [backend for backend in BACKENDS if _importable(backend)]
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


def connect() -> str:
    """Spread training over all accelerators, choose the precision that suits them, and say so.

    Returns one line for a person, such as `"TPU v5 lite, 8 devices, JAX backend, bfloat16"`. On
    JAX the devices share each batch by `keras.distribution.DataParallel`, and several hosts find
    each other; on TensorFlow by a strategy of `tf.distribute`; PyTorch uses one device. Call it
    before the first network is built. Raises `ValueError` for what Keras cannot do.
    """
    import keras

    backend = keras.backend.backend()
    check_hosts(backend, os.environ)
    connections = {"jax": _connect_jax, "tensorflow": _connect_tensorflow, "torch": _connect_torch}
    kind, count = connections[backend]()
    precision = choose_precision(kind)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    devices = f"{count} devices" if count > 1 else "1 device"
    line = f"{kind}, {devices}, {BACKENDS[backend]} backend, {precision}"
    return ". ".join([line, *advice(backend, kind, count)])


def replicas() -> int:
    """Return the number of devices, on all hosts, that share the batch of a training step."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    return len(keras.distribution.list_devices()) if keras.backend.backend() == "jax" else 1


def accelerated() -> bool:
    """Say whether Keras' backend computes on a GPU or TPU."""
    import keras

    if keras.backend.backend() == "torch":
        return _torch_device() != "cpu"
    return not keras.distribution.list_devices()[0].startswith("cpu")


def posters_at_once() -> int:
    """Return how many posters a network is to predict in a batch that this host's devices share.

    On a CPU more than 4 are no faster and cost memory: Keras on PyTorch keeps the output of every
    layer until a batch is done, 350 MB for a poster of 400 × 400.
    """
    return (32 if accelerated() else 4) * replicas() // processes()[1]


def processes() -> tuple[int, int]:
    """Return this process' number, from 0, and how many there are: one a host, on JAX."""
    import keras

    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def choose_precision(kind: str) -> str:
    """Choose what a device of this kind computes in: `"bfloat16"` or `"float32"`.

    bfloat16 on TPUs and on NVIDIA's GPUs since Ampere, whose weights stay float32 (Keras'
    `mixed_bfloat16`). float32 elsewhere, on a CPU too; `benchmarks/steps.py` tells how fast
    a machine is in either.
    """
    if kind == "CPU":
        return "float32"
    modern = kind.startswith("TPU") or nvidia_capability() >= FIRST_WITH_BFLOAT16
    return "bfloat16" if modern else "float32"


def check_hosts(backend: str, variables: Mapping[str, str]) -> None:
    """Raise `ValueError` where several hosts are asked for in a way that Keras cannot do.

    Only JAX trains on several: Keras 3 does not work with TensorFlow's strategy for it
    (keras-team/keras#20585). A TF_CONFIG of one worker, as some clouds set it, is no mistake.
    """
    try:
        cluster = json.loads(variables.get("TF_CONFIG") or "{}")["cluster"]
        workers = sum(map(len, cluster.values()))
    except (ValueError, KeyError, TypeError, AttributeError):  # it names no cluster
        workers = 0
    if workers > 1:
        raise ValueError(
            "TF_CONFIG asks for several machines, which Keras 3 cannot do on TensorFlow: unset "
            f"it, and set KERAS_BACKEND=jax and {', '.join(HOST_VARIABLES)} on each machine."
        )
    if variables.get(HOSTS) and backend != "jax":
        raise ValueError(
            f"{HOSTS} asks for several machines, and {BACKENDS[backend]} trains on one: set "
            "KERAS_BACKEND=jax."
        )


def advice(backend: str, kind: str, count: int) -> list[str]:
    """Say in sentences what would make this machine train faster; none where all is used."""
    found = []
    if has_tpu() and not kind.startswith("TPU"):
        found.append(
            f"The TPU of this machine is not used: {BACKENDS[backend]} does not see it. Restart "
            "the session, and set KERAS_BACKEND=jax before Keras is imported"
        )
    elif kind == "CPU" and nvidia_capability():
        found.append(
            f"The GPU of this machine is not used: {BACKENDS[backend]} is installed without CUDA. "
            "Install it with CUDA, or restart with a KERAS_BACKEND that has it"
        )
    elif kind == "CPU" and count == 1:
        found.append(f"Training is faster on a GPU or TPU{_menu()}")
    if backend == "torch" and _nvidia("index").count("\n") > 0:
        found.append("PyTorch uses one of several GPUs here; KERAS_BACKEND=jax uses all")
    return found


def has_tpu() -> bool:
    """Say whether this machine has a TPU, by its device files; no backend is imported."""
    if any(Path("/dev").glob("accel[0-9]*")):
        return True
    # From v5e on TPUs stand behind vfio, as other devices may: Google's number tells.
    makers = Path("/sys/bus/pci/devices").glob("*/vendor")
    behind_vfio = any(Path("/dev/vfio").glob("[0-9]*"))
    return behind_vfio and any("0x1ae0" in file.read_text() for file in makers)


def nvidia_capability() -> float:
    """Return the compute capability of the weakest NVIDIA GPU, such as 8.0; 0 without one."""
    try:
        return min(map(float, _nvidia("compute_cap").split()))
    except ValueError:
        return 0.0


def check_tensorboard(wanted: bool) -> None:
    """Raise `ValueError` where TensorBoard's logs are wanted and cannot be written.

    Keras imports what it needs for them only when the training begins.
    """
    missing = [name for name in ("tensorflow", "tensorboard") if not _importable(name)]
    if wanted and missing:
        raise ValueError(
            f"TENSORBOARD is True, and {' and '.join(missing)} cannot be imported: pip install "
            f"{' '.join(missing)}, or give TENSORBOARD=False."
        )


def persistent_path(path: str) -> Path:
    """Return a path of outputs in Colab's Drive, where it outlives a disconnect; elsewhere itself.

    Absolute paths stay as they are. Colab asks once whether Drive may be used; where it may not, a
    sentence says what that means.
    """
    if Path(path).is_absolute() or not _importable("google.colab"):
        return Path(path)
    if refusal := _mount_drive():
        print(f"Drive is not used ({refusal}): when Colab disconnects, {path} is lost.")
        return Path(path)
    return DRIVE / "poster-genres" / path


@functools.cache
def _mount_drive() -> str:
    """Mount Colab's Drive; returns why not, or an empty text."""
    if DRIVE.is_dir():
        return ""
    try:
        from google.colab import drive

        drive.mount(str(DRIVE.parent))
    except Exception as error:  # a refusal is an error of whatever kind
        return str(error) or type(error).__name__
    return ""


def upload(folder: Path) -> Path | None:
    """Let the user of Colab upload files into `folder`, and return it.

    `None` outside Colab, and when nothing was uploaded. If the browser blocks the upload, a
    sentence says how to bring the files in by hand.
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


def share_heap() -> None:
    """Let all threads that come share one heap; call it before there are any.

    glibc lets threads have heaps of their own, which keep what was freed. The commands work in many
    threads, and would keep hundreds of megabytes (`benchmarks/page.py` and `prediction.py` tell
    their memory). With another C library nothing happens.
    """
    _call_glibc("mallopt", ARENA_MAX, 1)


def trim_heap() -> None:
    """Collect reference cycles, then give back to the system all memory that is free."""
    gc.collect()
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library, such as musl
            getattr(ctypes.CDLL(None), function)(*arguments)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _connect_jax() -> tuple[str, int]:
    import keras

    if os.environ.get(HOSTS):
        print(f"Waiting for the other hosts of this training, 5 minutes at most: {HOSTS} is set.")
        keras.distribution.initialize()
    import jax

    devices = jax.local_devices()
    if len(devices) > 1:
        names = [f"{device.platform}:{device.id}" for device in devices]
        spread = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        keras.distribution.set_distribution(spread)
    kind = devices[0].device_kind
    return "CPU" if kind == "cpu" else kind, jax.device_count()


def _connect_tensorflow() -> tuple[str, int]:
    import tensorflow as tf

    distribute = tf.distribute
    if tpus := tf.config.list_physical_devices("TPU"):
        # "local": this process runs on the TPU's own host, so that Python may make the batches;
        # a TPU across the network could call back to neither a generator nor a py_function.
        resolver = distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        distribute.experimental_set_strategy(distribute.TPUStrategy(resolver))
        return "TPU", len(tpus)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        distribute.experimental_set_strategy(distribute.MirroredStrategy())
    return _gpu_name() if gpus else "CPU", max(1, len(gpus))


def _connect_torch() -> tuple[str, int]:
    device = _torch_device()
    return {"cpu": "CPU", "cuda": _gpu_name()}.get(device, device.upper()), 1


def _torch_device() -> str:
    """Return where Keras computes on PyTorch, of whose devices it has no list."""
    import keras

    return keras.ops.zeros(1).device.type


def _gpu_name() -> str:
    return (_nvidia("name").splitlines() or ["GPU"])[0]


def _nvidia(field: str) -> str:
    """Ask NVIDIA's driver, which knows its GPUs whether or not a backend does."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _menu() -> str:
    if _importable("google.colab"):
        return "; in Colab: Runtime → Change runtime type"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "; in Kaggle: Settings → Accelerator"
    return ""


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a.b, when there is no a
        return False
