"""A `.keras` file, checked before Keras opens it: a network of ours, or a stranger's trap.

Such a file is a zip archive of a network's description (JSON) and its weights (HDF5). Keras'
`safe_mode` refuses code in the description. But layers that read files, links in HDF5 that lead
to other files, and sizes that fill the memory have got past it before; so nothing passes here but
a config like that of a model folder, and plain arrays.
"""

import io
import json
import math
import zipfile
from pathlib import Path

import h5py
import keras

from genre_utils.networks.arrays import MAX_WEIGHTS, naming
from genre_utils.networks.keras_config import MAX_CONFIG, check_config
from genre_utils.support import DataError

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}

# Where Keras keeps what a training leaves in such a file beside the network; it is not built.
TRAINING = {"keras.losses", "keras.optimizers", "keras.optimizers.schedules"}


def load_network(file: Path) -> keras.Model:
    """Load a `.keras` file after `check_network`, without its optimizer.

    Raises `DataError` for a file of something else, and where this version of Keras cannot read
    it. Nothing in the file is executed.
    """
    check_network(file)
    damage = f"cannot be loaded by Keras {keras.__version__}"
    with naming(file, damage, "Update Keras, or train the model again."):
        return keras.saving.load_model(file, compile=False, safe_mode=True)


def check_network(file: Path) -> None:
    """Raise `DataError` unless a file holds a network of Keras' own layers and plain weights."""
    again = "Copy the model again; a .h5 file, a pickle or a SavedModel has to be trained again."
    with naming(file, "is no whole .keras file", again), zipfile.ZipFile(file) as archive:
        _check_members(archive)
        check_config(json.loads(archive.read(CONFIG)), TRAINING)
        with h5py.File(io.BytesIO(archive.read(WEIGHTS))) as weights:
            _check_weights(weights)


def _check_members(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if strange := sorted({entry.filename for entry in entries} ^ MEMBERS):
        raise DataError(f"{strange[0]!r} is in it and should not be, or is missing")
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(entries) > len(MEMBERS):
        raise DataError("it holds two files of one name")
    if sizes[CONFIG] > MAX_CONFIG or sizes[WEIGHTS] > MAX_WEIGHTS:
        raise DataError("it would unpack to more than any network of this project has")


def _check_weights(weights: h5py.File) -> None:
    declared = 0

    def check(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal declared
        if isinstance(item, h5py.Group):
            if not all(isinstance(item.get(key, getlink=True), h5py.HardLink) for key in item):
                raise DataError(f"its weights {name!r} lead to another file or place")
            return
        # Chunks can be packed, and a packed number stands for a thousand; virtual and external
        # arrays lie in other files. Keras writes none of these.
        if item.external or item.is_virtual or item.chunks or item.dtype.kind not in "fiub":
            raise DataError(f"its weights {name!r} are no plain array of numbers")
        declared += math.prod(item.shape) * max(4, item.dtype.itemsize)
        if declared > MAX_WEIGHTS:
            raise DataError("its weights are more than any network of this project has")

    check("/", weights)
    weights.visititems(check)
