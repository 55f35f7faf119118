"""A network's arrays as a model folder holds them: a checked safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genre_utils.support import DataError

MAX_WEIGHTS = 2_000_000_000  # bytes; the largest network of this project has 50 million weights
SCALE = ".scale"
# What a file may hold, and how each is called in it.
DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I8": np.dtype("i1")}
# Weights that share a scale: 16 keep a table of a thousand columns from being as coarse as its
# widest one, and cost an eighth of the file.
BLOCK = 16
FEWEST_WEIGHTS = 2048  # smaller tables stay in half precision
AGAIN = "Copy the model again."  # what to do about a damaged file, unless its reader says more


@contextmanager
def naming(file: Path, damage: str, advice: str = AGAIN) -> Iterator[None]:
    """Turn what is wrong with a file into a `DataError` that names it and says what to do.

    A `DataError` says itself what is wrong; other exceptions are of the kind `damage`.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{file} is not loaded: {error}. {advice}") from None
    except Exception as error:  # JSON, zip, HDF5, each layer and each backend have their own
        raise DataError(f"{file} {damage} ({str(error)[:200]}). {advice}") from None


@dataclass(frozen=True)
class Array:
    """An array of float32 or float16; or of int8 steps, whose `scale` blocks of them share.

    `scale` has the rank of `values`, and each of its sides divides theirs.
    """

    values: np.ndarray
    scale: np.ndarray | None = None

    def wide(self) -> np.ndarray:
        """Return the numbers, float32."""
        if self.scale is None:
            return self.values.astype(np.float32)
        counts = self.scale.shape
        scale = _in_blocks(self.scale.astype(np.float32), counts)
        return (_in_blocks(self.values, counts) * scale).reshape(self.values.shape)

    @classmethod
    def half(cls, values: np.ndarray) -> Array:
        """Round to half precision; what is too large for it stays as it is."""
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        return cls(half if np.isfinite(half).all() else values.astype(np.float32))

    @classmethod
    def int8(cls, values: np.ndarray, blocks: tuple[int, ...]) -> Array:
        """Round to 255 steps of a scale that a block of numbers shares; `blocks` is its shape."""
        counts = [side // block for side, block in zip(values.shape, blocks, strict=True)]
        table = _in_blocks(values, counts)
        inner = tuple(range(1, table.ndim, 2))
        scale = (np.abs(table).max(axis=inner, keepdims=True) / 127).astype(np.float16)
        scale[scale == 0] = 1
        steps = np.clip(np.round(table / scale.astype(np.float32)), -127, 127).astype(np.int8)
        return cls(steps.reshape(values.shape), scale.reshape(counts))


def _in_blocks(array: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Split each axis in two: its `counts` of blocks, and what is in one."""
    sides = zip(array.shape, counts, strict=True)
    return array.reshape([side for total, count in sides for side in (count, total // count)])


def save_arrays(arrays: Mapping[str, Array], file: Path) -> None:
    """Write a safetensors file; the scale of `name` is called `name.scale`."""
    from safetensors.numpy import save

    plain = {name: array.values for name, array in arrays.items()}
    plain |= {f"{name}{SCALE}": a.scale for name, a in arrays.items() if a.scale is not None}
    # `np.ascontiguousarray` would make a list of a single number.
    content = save({name: np.asarray(array, order="C") for name, array in plain.items()})
    # Written by Python: the library has an error of its own for a full disk, and its files are
    # readable by their owner alone.
    file.write_bytes(content)


def load_arrays(file: Path, advice: str = AGAIN) -> dict[str, Array]:
    """Open a safetensors file; its arrays are read from the disk where they are used.

    Raises `DataError`, which ends with `advice`, unless the file is whole, of a size and types that
    networks of ours have, and holds finite numbers only.
    """
    from safetensors import safe_open

    with naming(file, "is no whole safetensors file", advice):
        if file.stat().st_size > MAX_WEIGHTS:
            raise DataError("it is larger than any file of this project")
        with safe_open(file, "numpy"):  # checks that arrays fill the file without gap or overlap
            pass
        with open(file, "rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(length))
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            if entry["dtype"] not in DTYPES:
                raise DataError(f"{name} has the type {entry['dtype']}, not F16, F32 or I8")
            shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
            if 0 in shape:
                raise DataError(f"{name} is empty")
            place = 8 + length + entry["data_offsets"][0]
            found[name] = np.memmap(file, dtype, "r", place, shape)
            if dtype.kind == "f" and not np.isfinite(found[name]).all():
                raise DataError(f"{name} holds what is no number")
        return _join_scales(found)


def _join_scales(found: dict[str, np.ndarray]) -> dict[str, Array]:
    arrays = {}
    for name, values in found.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in found:
                raise DataError(f"{name} belongs to no array")
            continue
        scale = found.get(f"{name}{SCALE}")
        fits = (values.dtype == np.int8) == (scale is not None)
        if fits and scale is not None:
            fits = scale.ndim == values.ndim and scale.dtype != np.int8
            fits = fits and not any(v % s for v, s in zip(values.shape, scale.shape, strict=True))
        if not fits:
            raise DataError(f"{name} and its scale do not fit each other")
        arrays[name] = Array(values, scale)
    return arrays
