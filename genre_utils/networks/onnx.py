"""A network without Keras: ONNX Runtime computes it, from the config and arrays of its folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from genre_utils import machine
from genre_utils.networks.arrays import Array
from genre_utils.networks.onnx_graph import Graph
from genre_utils.support import printable


def open_session(
    model: Path | bytes, threads: int = 0, folder: Path | None = None
) -> tuple[Any, Any]:
    """Load an ONNX model; returns its session, and the options that each of its runs takes.

    `model` is a file, or its content with the large tables in a file of `folder`. With the options
    of runs their memory is given back: left to the C library, the layers of pictures of many sizes
    or of long texts would stay, more than a gigabyte. `threads` is how many cores one run may use,
    0 for all. Raises what ONNX Runtime raises.
    """
    onnxruntime = machine.import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that wait for work by spinning would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Processors without VNNI add two products of 8 bits in 16, which overflows; this option keeps
    # them from it. The others add in 32, and it would more than halve their speed.
    options.add_session_config_entry("session.x64quantprecision", str(int(not has_vnni())))
    if folder is not None:
        where = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(where, str(folder.resolve()))
    # It would keep a plan a size of its inputs, each with a block of its own.
    options.enable_mem_pattern = False
    # A path, not its bytes, where there is one: the file would be in memory twice.
    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    each_run = onnxruntime.RunOptions()
    each_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return session, each_run


def has_vnni() -> bool:
    """Say whether the processor has instructions for 8 bits, as far as Linux tells."""
    try:
        with open("/proc/cpuinfo") as info:
            return "vnni" in info.read(8192)  # the first core's
    except OSError:
        return False


class RuntimeNetwork:
    """A network at work in ONNX Runtime, with `predict_on_batch` as its Keras twin has it.

    `input_shape` and `output_shape` have `None` where any size goes, such as `(None, 24)`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        arrays: Mapping[str, Array],
        file: Path,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ):
        """Compute the network of `config` with the `arrays` of `file`; see `Graph`.

        Raises `NotImplementedError` for a network that is left to Keras.
        """
        file = file.resolve()  # ONNX Runtime follows no link out of a folder
        graph = Graph(arrays, ranges, file.name).write(config, features=True)
        try:
            self.session, self.each_run = open_session(graph, folder=file.parent)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # ONNX Runtime has many
            reason = printable(str(error))[:200]
            print(
                f"{file}: ONNX Runtime cannot compute it, Keras does ({reason}).", file=sys.stderr
            )
            raise NotImplementedError(reason) from None
        (given,), (answer, *self._features) = self.session.get_inputs(), self.session.get_outputs()
        self._outputs = [answer.name]
        self.input = given.name
        self.dtype = np.int32 if given.type == "tensor(int32)" else np.float32
        self.input_shape, self.output_shape = (
            tuple(side if isinstance(side, int) else None for side in node.shape)
            for node in (given, answer)
        )

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Return the logits, float32 `(n, genres)`, of pixels or tokens, and features behind them.

        These come from a network of `with_features` only.
        """
        given = {self.input: inputs.astype(self.dtype, copy=False)}
        answers = self.session.run(self._outputs, given, self.each_run)
        return answers[0] if len(answers) == 1 else np.hstack(answers)

    def with_features(self) -> RuntimeNetwork:
        """Return this network with the inputs of its heads behind the logits."""
        wide = copy(self)
        for output in self._features:
            wide._outputs = [*self._outputs, output.name]
            wide.output_shape = (None, self.output_shape[1] + output.shape[1])
        return wide
