"""From a trained model to files for other programs, and for `predict`, which then needs no Keras.

Keras' own `export` writes them, from its TensorFlow backend. ONNX is what `predict` uses: ONNX
Runtime is there for the words anyway. LiteRT is for phones.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from genre_utils.saved_model import (
    PICTURE_FILE,
    WORDS_FILE,
    SavedModel,
    load_model,
    read_card,
    sha256_of,
)
from genre_utils.support import replacing, write_json

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
NEEDED = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "litert": ()}

# Weights that share a scale: 16 keep a table of a thousand columns from being as coarse as its
# widest one, and cost an eighth of the file.
BLOCK = 16
FEWEST_WEIGHTS = 2048  # smaller tables stay as they are


class ExportError(ValueError):
    """A model that cannot be exported here; the message says what to do."""


def export_model(folder: Path, kind: str = "onnx", int8: bool = False) -> list[Path]:
    """Write a model's networks as `.onnx` or `.tflite` beside its `.keras` files; gives the paths.

    `kind` is `"onnx"` or `"litert"`. Weights are stored in half precision, and with `int8` those
    of dense layers and embeddings in 8 bits. ONNX files are entered into `model.json`, and from
    then on used by `predict`. Raises `ExportError` and `ModelError`.
    """
    check_tools(kind)
    model = load_model(folder)
    networks = {PICTURE_FILE: model.network}
    if model.words:
        networks[WORDS_FILE] = model.words.network
    write = _write_onnx if kind == "onnx" else _write_litert
    files = []
    for name, network in networks.items():
        file = (folder / name).with_suffix(SUFFIXES[kind])
        with replacing(file) as temporary:
            write(network, temporary, int8)
        files.append(file)
    if kind == "onnx":
        card = read_card(folder)
        card["sha256"] |= {file.name: sha256_of(file) for file in files}
        write_json(folder / "model.json", card)
    return files


def check_tools(kind: str) -> None:
    """Raise `ExportError` for an unknown kind, another backend, or a missing package."""
    if kind not in SUFFIXES:
        raise ExportError(f"The format {kind!r} is unknown: give one of {', '.join(SUFFIXES)}.")
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()} here, and a model is exported from "
            "TensorFlow: set KERAS_BACKEND=tensorflow. A model trained on any backend will do."
        )
    missing = [name for name in NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{', '.join(missing)} must be installed for this: pip install 'poster-genres[export]'."
        )


def compare(
    folder: Path, kind: str, paths: Sequence[str], labels: np.ndarray, cache: Any
) -> dict[str, float]:
    """Score posters by Keras and by the exported files.

    `labels` are `(n, genres)`, `cache` has the posters' words, where they were read. Gives the
    numbers of posters scored and of those with words, both macro mAPs, and the largest difference
    of two scores.
    """
    from genre_utils.evaluation import macro_average_precision
    from genre_utils.predictor import Predictor

    scores = []
    for model in (load_model(folder), load_exported(folder, kind)):
        found = list(Predictor(model, None, cache).stream(paths))
        readable = np.array([one.error is None for one in found])
        scores.append(np.array([one.scores for one in found if one.error is None]))
    before, after = (macro_average_precision(labels[readable], one) for one in scores)
    return {
        "posters": int(readable.sum()),
        "with_words": sum(bool(one.lines) for one in found),
        "keras": before,
        "exported": after,
        "difference": float(np.abs(scores[0] - scores[1]).max()),
    }


def load_exported(folder: Path, kind: str) -> SavedModel:
    """Load a model with the networks that `export_model` wrote as `kind`."""
    if kind == "onnx":
        return load_model(folder, runtime=True)
    model = load_model(folder)
    words = model.words and replace(
        model.words, network=LitertNetwork((folder / WORDS_FILE).with_suffix(".tflite"))
    )
    picture = LitertNetwork((folder / PICTURE_FILE).with_suffix(".tflite"))
    return replace(model, network=picture, words=words)


class LitertNetwork:
    """A `.tflite` file at work in TensorFlow's own interpreter; it is asked as a network is."""

    def __init__(self, file: Path):
        import tensorflow as tf

        self.interpreter = tf.lite.Interpreter(str(file), num_threads=os.cpu_count())
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.output_shape = tuple(self.output["shape_signature"])

    def predict_on_batch(self, inputs: np.ndarray) -> np.ndarray:
        """Give the logits, float32 `(n, genres)`, of pixels or tokens."""
        self.interpreter.resize_tensor_input(self.input["index"], inputs.shape)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.input["index"], inputs.astype(self.input["dtype"]))
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"])


def _write_onnx(network: keras.Model, file: Path, int8: bool) -> None:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        plain, folded = Path(folder) / "plain.onnx", Path(folder) / "folded.onnx"
        _teach_erfc()
        network.export(
            str(plain), format="onnx", verbose=False, input_signature=_signature(network)
        )
        # The converter keeps some weights twice, once for their shape: ONNX Runtime folds them.
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
        content = onnx.load(folded)
    _store_small(content.graph, int8)
    onnx.save(content, file)


def _write_litert(network: keras.Model, file: Path, int8: bool) -> None:
    import tensorflow as tf

    settings: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if not int8:
        settings["target_spec"] = {"supported_types": [tf.float16]}
    network.export(str(file), format="litert", verbose=False, **settings)


def _signature(network: keras.Model) -> list[keras.InputSpec]:
    # Keras finds it by itself only in a network that was called, which a loaded one was not.
    (given,) = network.inputs
    return [keras.InputSpec(shape=given.shape, dtype=given.dtype, name=given.name)]


def _teach_erfc() -> None:
    """Teach tf2onnx the operation that TensorFlow makes of an exact gelu: erfc(x) is 1 - erf(x)."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            shapes, dtypes = node.output_shapes, node.output_dtypes
            outputs, inputs = list(node.output), list(node.input)
            ctx.remove_node(node.name)
            erf = ctx.make_node("Erf", inputs, shapes=shapes, dtypes=dtypes)
            one = ctx.make_const(f"{node.name}_one", np.float32(1))
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                outputs=outputs,
                shapes=shapes,
                dtypes=dtypes,
            )


def _store_small(graph: Any, int8: bool) -> None:
    """Store large float32 tables in half precision, or those of dense layers in 8 bits.

    Nodes that widen them come first in the graph; ONNX Runtime computes these once, while it
    loads, so that all arithmetic is that of float32 on every machine.
    """
    from onnx import TensorProto, numpy_helper

    wideners = []
    for table in list(graph.initializer):
        weights = numpy_helper.to_array(table)
        if table.data_type != TensorProto.FLOAT or weights.size < FEWEST_WEIGHTS:
            continue
        users = {node.op_type for node in graph.node if table.name in node.input}
        # A convolution's few weights are used at every pixel: eight bits are felt there.
        if int8 and "Conv" not in users and weights.size % BLOCK == 0:
            wideners += _as_int8(graph, table, weights)
        else:
            wideners += _as_half(table, weights)
    nodes = [*wideners, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _as_half(table: Any, weights: np.ndarray) -> list[Any]:
    from onnx import TensorProto, helper, numpy_helper

    name, half = table.name, f"{table.name}_half"
    table.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), half))
    return [helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT)]


def _as_int8(graph: Any, table: Any, weights: np.ndarray) -> list[Any]:
    """Round weights to 255 steps of a scale that `BLOCK` neighbours share."""
    from onnx import TensorProto, helper, numpy_helper

    blocks = weights.reshape(-1, BLOCK)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    scale[scale == 0] = 1
    steps = np.clip(np.round(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    name = table.name
    table.CopyFrom(numpy_helper.from_array(steps, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    shape = np.array(weights.shape, np.int64)
    graph.initializer.append(numpy_helper.from_array(shape, f"{name}_shape"))
    return [
        helper.make_node("Cast", [f"{name}_int8"], [f"{name}_steps"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}_scale"], [f"{name}_wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_steps", f"{name}_wide"], [f"{name}_blocks"]),
        helper.make_node("Reshape", [f"{name}_blocks", f"{name}_shape"], [name]),
    ]
