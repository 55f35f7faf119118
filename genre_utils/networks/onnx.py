"""A network without Keras: ONNX Runtime computes what `export` wrote."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np


def available() -> bool:
    """Say whether ONNX Runtime is installed; without it, Keras computes."""
    return importlib.util.find_spec("onnxruntime") is not None


def open_session(file: Path, threads: int = 0) -> tuple[Any, Any]:
    """Load an ONNX file; gives its session, and the options that each of its runs takes.

    With these the memory of a run is given back after it: left to the C library, the layers of
    pictures of many sizes or of long texts would stay, more than a gigabyte. `threads` is how many
    cores one run may use, 0 for all. Raises what ONNX Runtime raises.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that wait for work by spinning would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It would keep a plan a size of its inputs, each with a block of its own.
    options.enable_mem_pattern = False
    # A path, not its bytes: the file would be in memory twice.
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    each_run = onnxruntime.RunOptions()
    each_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return session, each_run


# How ONNX names the file of a weight that lies outside; in ours the word stands nowhere. What is
# around it can be written in several ways.
OTHER_FILE = b"location"


class RuntimeNetwork:
    """An `.onnx` file at work; it is asked as its Keras twin is, and answers the same.

    `input_shape` and `output_shape` have `None` where any size goes, such as `(None, 24)`.
    Raises `ValueError` for weights in another file, and what ONNX Runtime raises for a file that is
    no network.
    """

    def __init__(self, file: Path):
        if OTHER_FILE in file.read_bytes():
            raise ValueError("it takes weights from another file, which no export of ours does")
        self.session, self.each_run = open_session(file)
        self.name = file.stem
        (given,), (answer,) = self.session.get_inputs(), self.session.get_outputs()
        self.input = given.name
        self.dtype = np.int32 if given.type == "tensor(int32)" else np.float32
        self.input_shape, self.output_shape = (
            tuple(side if isinstance(side, int) else None for side in node.shape)
            for node in (given, answer)
        )

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Give the logits, float32 `(n, genres)`, of pixels or tokens."""
        given = {self.input: inputs.astype(self.dtype, copy=False)}
        (answer,) = self.session.run(None, given, self.each_run)
        return answer
