"""A network's arrays as a model folder holds them: a checked safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_WEIGHTS = 2_000_000_000  # bytes; the largest network of this project has 50 million weights
SCALE = ".scale"
# What a file may hold, and how each is called in it.
DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I8": np.dtype("i1")}
# Weights that share a scale: 16 keep a table of a thousand columns from being as coarse as its
# widest one, and cost an eighth of the file.
BLOCK = 16
FEWEST_WEIGHTS = 2048  # smaller tables stay in half precision


class ModelError(ValueError):
    """A model that is missing, incomplete, damaged, or not one of ours."""


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
        blocks, sides = [], []
        for side, count in zip(self.values.shape, self.scale.shape, strict=True):
            blocks += [count, side // count]
            sides += [count, 1]
        wide = self.values.reshape(blocks) * self.scale.astype(np.float32).reshape(sides)
        return wide.reshape(self.values.shape)

    @classmethod
    def half(cls, values: np.ndarray) -> Array:
        """Round to half precision; what is too large for it stays as it is."""
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        return cls(half if np.isfinite(half).all() else values.astype(np.float32))

    @classmethod
    def int8(cls, values: np.ndarray, blocks: tuple[int, ...]) -> Array:
        """Round to 255 steps of a scale that a block of numbers shares; `blocks` is its shape."""
        sides, counts = [], []
        for side, block in zip(values.shape, blocks, strict=True):
            sides += [side // block, block]
            counts.append(side // block)
        table = values.reshape(sides)
        inner = tuple(range(1, 2 * values.ndim, 2))
        scale = (np.abs(table).max(axis=inner, keepdims=True) / 127).astype(np.float16)
        scale[scale == 0] = 1
        steps = np.clip(np.round(table / scale.astype(np.float32)), -127, 127).astype(np.int8)
        return cls(steps.reshape(values.shape), scale.reshape(counts))


class Arrays(Mapping[str, Array]):
    """The arrays of a file by name; `offsets` says where each begins, and how long it is."""

    def __init__(self, arrays: dict[str, Array], offsets: dict[str, tuple[int, int]]):
        self._arrays, self.offsets = arrays, offsets

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def save_arrays(arrays: Mapping[str, Array], file: Path) -> None:
    """Write a safetensors file; the scale of `name` is called `name.scale`."""
    from safetensors.numpy import save

    plain = {name: array.values for name, array in arrays.items()}
    scales = {name: array.scale for name, array in arrays.items() if array.scale is not None}
    plain |= {f"{name}{SCALE}": scale for name, scale in scales.items()}
    content = save({name: np.ascontiguousarray(array) for name, array in plain.items()})
    # Written by Python: the library has an error of its own for a full disk, and its files are
    # readable by their owner alone.
    file.write_bytes(content)


def load_arrays(file: Path) -> Arrays:
    """Open a safetensors file; its arrays are read from the disk where they are used.

    Raises `ModelError` unless it is whole, of a size and types that networks of ours have, and
    holds finite numbers only.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if file.stat().st_size > MAX_WEIGHTS:
            raise ModelError("it is larger than any file of this project")
        with safe_open(file, "numpy"):  # checks that arrays fill the file without gap or overlap
            pass
        with open(file, "rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(length))
        header.pop("__metadata__", None)
        found, offsets = {}, {}
        for name, entry in header.items():
            if entry["dtype"] not in DTYPES:
                raise ModelError(f"{name} has the type {entry['dtype']}, not F16, F32 or I8")
            begin, end = entry["data_offsets"]
            offsets[name] = 8 + length + begin, end - begin
            shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
            if not end - begin:
                raise ModelError(f"{name} is empty")
            found[name] = np.memmap(file, dtype, "r", offsets[name][0], shape)
            if dtype.kind == "f" and not np.isfinite(found[name]).all():
                raise ModelError(f"{name} holds what is no number")
        return Arrays(_join_scales(found), offsets)
    except ModelError as error:
        raise ModelError(f"{file} is not loaded: {error}.") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{file} is no whole safetensors file ({str(error)[:200]}). Copy the model again."
        ) from None


def _join_scales(found: dict[str, np.ndarray]) -> dict[str, Array]:
    arrays = {}
    for name, values in found.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in found:
                raise ModelError(f"{name} belongs to no array")
            continue
        scale = found.get(f"{name}{SCALE}")
        if (values.dtype == np.int8) != (scale is not None):
            raise ModelError(f"{name} and its scale do not fit each other")
        if scale is not None:
            fits = scale.ndim == values.ndim and scale.dtype != np.int8
            if not fits or any(v % s for v, s in zip(values.shape, scale.shape, strict=True)):
                raise ModelError(f"{name} and its scale do not fit each other")
        arrays[name] = Array(values, scale)
    return arrays
