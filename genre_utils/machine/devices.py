"""The devices and processes of a training, and the precision in which they compute."""

import json
import os
import subprocess
from collections.abc import Mapping

from genre_utils.machine.backend import BACKENDS, has_tpu, importable

# How Keras is told of several hosts; on a TPU pod JAX finds the others by itself.
HOSTS = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
HOST_VARIABLES = (HOSTS, "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID")

# NVIDIA's Ampere (2020) is the first generation that computes in bfloat16.
FIRST_WITH_BFLOAT16 = 8.0


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


def nvidia_capability() -> float:
    """Return the compute capability of the weakest NVIDIA GPU, such as 8.0; 0 without one."""
    try:
        return min(map(float, _nvidia("compute_cap").split()))
    except ValueError:
        return 0.0


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
    if importable("google.colab"):
        return "; in Colab: Runtime → Change runtime type"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "; in Kaggle: Settings → Accelerator"
    return ""
