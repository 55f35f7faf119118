"""A network's ONNX graph, made from its Keras config and its arrays, without Keras.

ONNX Runtime is all that prediction needs: the graph is built in memory each time a model is loaded,
so a model folder holds no graph that could contradict its weights or name other files.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from genre_utils.networks.arrays import Array

OPSET, IR_VERSION = 20, 9
# The types that stand in our graphs.
TYPES = {
    name: helper.np_dtype_to_tensor_dtype(np.dtype(name))
    for name in ("float32", "uint8", "int8", "int32", "int64", "bool", "float16")
}
MODELS = ("Functional", "Sequential")
HEAD = "head"  # the part that turns features into logits
PARTS = ("first", "second")  # what the networks of a mean are called
HEADS = (HEAD, *(f"{part}/{HEAD}" for part in PARTS))  # where a head may stand
MASKED = -1e9  # what attention adds to a place that it must not see
PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu"}


@dataclass
class Value:
    """A tensor of the graph, channels first."""

    name: str
    rank: int
    dtype: str = "float32"


@dataclass(kw_only=True)
class Conv(Value):
    """What a convolution gives; it waits for the normalisation and ReLU that it can contain."""

    source: str
    kernel: np.ndarray  # (out, in / groups, height, width), in steps of `scale`
    scale: np.ndarray  # (out,)
    bias: np.ndarray  # (out,)
    attributes: dict[str, Any]
    top: float | None = None  # of a ReLU, infinite for a plain one
    written: Value | None = field(default=None, init=False)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise NotImplementedError(f"{what} has no ONNX form here")


class Graph:
    """Nodes and tables of a graph that is being written."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        ranges: Mapping[str, Sequence[float]] | None = None,
        location: str = "",
    ):
        """Begin the graph of a network with the arrays of a `picture.safetensors`.

        `ranges` are the least and greatest value of feature maps by name: between them, maps are
        rounded to 8 bits. Large tables are taken from the file `location` beside the model; without
        one they are part of it.
        """
        self.arrays, self.ranges, self.location = arrays, ranges or {}, location
        self.nodes: list[NodeProto] = []
        self.tables: list[TensorProto] = []
        self.maps: dict[str, None] = {}  # feature maps that may be rounded, in their order
        self.step_widths: dict[str, float] = {}  # the width of a rounding step, by tensor
        self.names: dict[str, int] = {}  # how many numbered copies each name has
        self.used: set[str] = set()  # of the arrays
        self.features: dict[str, int] = {}  # what enters the heads, and its width
        # By a convolution's path: the map that it takes, and the normalisation that follows it.
        self.sources: dict[str, str] = {}
        self.norms: dict[str, str] = {}

    def write(
        self, config: Mapping[str, Any], observe: bool = False, features: bool = False
    ) -> bytes:
        """Return the ONNX model of a `picture.json`; with `observe` each map is an output as well.

        With `features` the concatenated inputs of its heads are a second output. Raises
        `NotImplementedError` for a layer that is not known here: Keras computes it.
        """
        try:
            return self._write(config, observe, features)
        except NotImplementedError:
            raise
        except Exception as error:  # what plain dictionaries and NumPy say of a strange config
            raise NotImplementedError(f"its config has no ONNX form here ({error!r})") from None

    def _write(self, config: Mapping[str, Any], observe: bool, features: bool) -> bytes:
        layers = (layer for _, layer in layers_of(config))
        given = next(one["config"] for one in layers if one["class_name"] == "InputLayer")
        shape, dtype = given["batch_shape"], given["dtype"]
        source = first = Value(self.name("input"), len(shape), dtype)
        if len(shape) == 4:
            _refuse(dtype != "float32", f"a picture in {dtype}")
            first = self.add("Transpose", source, perm=[0, 3, 1, 2])
        answer = self.settle(self.model(config, [first], ""))
        if set(self.arrays) != self.used:
            raise NotImplementedError("an array belongs to no layer")
        self.node("Identity", [answer.name], "logits")
        sides = ["n", *(side or f"side{i}" for i, side in enumerate(shape[1:]))]
        of_floats = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
        outputs = [of_floats("logits", shape=["n", "outputs"])]
        if features and self.features:
            name = self.name("features")
            self.node("Concat", list(self.features), name, axis=1)
            outputs += [of_floats(name, shape=["n", sum(self.features.values())])]
        if observe:
            outputs += [of_floats(name, shape=["n", "c", "h", "w"]) for name in self.maps]
        inputs = [helper.make_tensor_value_info(source.name, TYPES[dtype], sides)]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, self.tables)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return model.SerializeToString()

    # Nodes and tables

    def name(self, wish: str) -> str:
        name = wish
        while name in self.names:
            self.names[wish] += 1
            name = f"{wish}_{self.names[wish]}"
        self.names[name] = 0
        return name

    def add(self, kind: str, *inputs: Value | str, name: str = "", **attributes: Any) -> Value:
        """Append a node; returns its output, of the rank and type of its first input."""
        settled = [self.settle(x) if isinstance(x, Value) else x for x in inputs]
        names = [x.name if isinstance(x, Value) else x for x in settled]
        output = self.name(name or kind.lower())
        self.node(kind, names, output, **attributes)
        first = next((x for x in settled if isinstance(x, Value)), Value("", 2))
        return replace(first, name=output)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        # `make_node` would leave it out, and ONNX Runtime would take its default.
        _refuse(None in attributes.values(), f"an attribute of {kind} that is None")
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def cast(self, x: Value | str, dtype: str) -> Value:
        return replace(self.add("Cast", x, to=TYPES[dtype]), dtype=dtype)

    def constant(self, values: Any, dtype: str = "float32") -> str:
        array = np.asarray(values, dtype)
        return self._tensor("constant", array, array.shape, "")

    def table(self, name: str, shape: Sequence[int]) -> str:
        """Return a large table in float32 and a shape; ONNX Runtime widens it once, on loading."""
        array = self.array(name)
        if array.scale is None:
            wide = self._tensor(name, array.values, shape, self.location)
            return self.cast(wide, "float32").name if array.values.dtype == "f2" else wide
        blocks = array.scale.size
        steps, scale = self.steps(name, (blocks, array.values.size // blocks), (blocks, 1))
        wide = self.add("Mul", self.cast(steps, "float32"), self.cast(scale, "float32"))
        return self.add("Reshape", wide, self.constant(shape, "int64")).name

    def steps(self, name: str, shape: Sequence[int], scale_shape: Sequence[int]) -> tuple[str, str]:
        """Return a large table of 8 bits as it is stored: its steps and their scale."""
        array = self.array(name)
        return (
            self._tensor(name, array.values, shape, self.location),
            self._tensor(f"{name}.scale", array.scale, scale_shape, self.location),
        )

    def _tensor(self, name: str, array: np.ndarray, shape: Sequence[int], location: str) -> str:
        tensor = TensorProto(name=self.name(name), dims=shape, data_type=TYPES[str(array.dtype)])
        if location:
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": location, "offset": array.offset, "length": array.nbytes}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
        else:
            tensor.raw_data = array.tobytes()
        self.tables.append(tensor)
        return tensor.name

    # Rounding to 8 bits, and convolutions

    def rounded(self, value: Value) -> Value:
        """Round a feature map to 8 bits, where its range is known."""
        self.maps[value.name] = None
        if value.name not in self.ranges:
            return value
        low, high = (float(end) for end in self.ranges[value.name])
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.float32(max(high - low, 1e-6) / 255)
        ends = self.constant(step), self.constant(round(-low / step), "uint8")
        answer = self.add("DequantizeLinear", self.add("QuantizeLinear", value, *ends), *ends)
        self.step_widths[answer.name] = step
        return answer

    def settle(self, value: Value) -> Value:
        """Write a convolution that has waited; any other value stays as it is."""
        if not isinstance(value, Conv):
            return value
        if value.written is None:
            kernel, bias = self._kernel(value)
            name = self.name(value.name)
            high = self.ranges.get(name, (0, math.inf))[1]
            # Between the ends of its 8 bits a map that is rounded is cut off anyway.
            cut = value.top is not None and not (name in self.ranges and high <= value.top)
            out = self.name(f"{name}/conv") if cut else name
            self.node("Conv", [value.source, kernel, bias], out, **value.attributes)
            if cut:
                ends = self.constant(0.0), self.constant(min(value.top, 3e38))
                self.node("Clip", [out, *ends], name)
            value.written = self.rounded(Value(name, 4))
        return value.written

    def _kernel(self, conv: Conv) -> tuple[str, str]:
        step = self.step_widths.get(conv.source)
        if conv.kernel.dtype != np.int8 or step is None:
            wide = conv.kernel * conv.scale[:, None, None, None]
            return self.constant(wide), self.constant(conv.bias)
        # Steps so narrow that the bias would not fit into 32 bits of them are widened.
        wider = np.maximum(np.abs(conv.bias) / (conv.scale * step * 2**30), 1)
        scale, kernel = conv.scale * wider, conv.kernel
        if wider.max() > 1:
            kernel = np.round(kernel / wider[:, None, None, None])
        return (
            self._steps(kernel, scale, "int8"),
            self._steps(np.round(conv.bias / (scale * step)), scale * step, "int32"),
        )

    def _steps(self, steps: np.ndarray, scale: np.ndarray, dtype: str) -> str:
        ends = self.constant(scale), self.constant(np.zeros(len(scale)), dtype)
        return self.add("DequantizeLinear", self.constant(steps, dtype), *ends, axis=0).name

    # Models and layers

    def model(self, config: Mapping[str, Any], inputs: list[Value], path: str) -> Value:
        """Write a Functional or Sequential model; returns its one output."""
        inner = config["config"]
        if config["class_name"] == "Sequential":
            (x,) = inputs
            for layer in inner["layers"]:
                x = self.layer(layer, path, x)
            return x
        _refuse(config["class_name"] != "Functional", f"the layer {config['class_name']}")
        layers = {layer["name"]: layer for layer in inner["layers"]}
        values = dict(zip(_histories(inner["input_layers"]), inputs, strict=True))

        def value_at(place: tuple) -> Value:
            _refuse(place[2] != 0, f"the second output of {place[0]}")
            if place not in values:
                node = layers[place[0]]["inbound_nodes"][place[1]]
                kwargs = {key: value_of(arg) for key, arg in node["kwargs"].items()}
                args = map(value_of, node["args"])
                values[place] = self.layer(layers[place[0]], path, *args, **kwargs)
            return values[place]

        def value_of(arg: Any) -> Any:
            if isinstance(arg, list):
                return [value_of(one) for one in arg]
            if isinstance(arg, dict) and arg.get("class_name") == "__keras_tensor__":
                return value_at(tuple(arg["config"]["keras_history"]))
            return arg

        for layer in inner["layers"]:  # in this order the recursion stays flat
            for i in range(len(layer["inbound_nodes"])):
                value_at((layer["name"], i, 0))
        (place,) = _histories(inner["output_layers"])
        return value_at(place)

    def layer(self, layer: Mapping[str, Any], path: str, *args: Any, **kwargs: Any) -> Value:
        kind, config = layer["class_name"], layer["config"]
        path = f"{path}{config['name']}"
        if kind in MODELS:
            (given,) = args
            if path in HEADS and kind == "Sequential":
                shape = config["layers"][0]["config"].get("batch_shape", ())
                if len(shape) == 2 and shape[1] and given.dtype == "float32":
                    self.features[self.settle(given).name] = shape[1]
            return self.model(layer, given if isinstance(given, list) else [given], f"{path}/")
        _refuse(kind not in LAYERS, f"the layer {kind}")
        _refuse(config.get("data_format") == "channels_first", f"{kind} with channels first")
        more = {key: value for key, value in kwargs.items() if value not in (None, False)}
        options = [key for key, value in more.items() if not isinstance(value, (Value, list))]
        _refuse(bool(options), f"{kind} with {', '.join(options)}")
        return LAYERS[kind](self, config, path, *args, **more)

    def array(self, path: str, *shape: int | None) -> Array:
        """Return an array of a shape, where `None` is any side; raises `NotImplementedError`."""
        self.used.add(path)
        array = self.arrays[path]
        found = array.values.shape
        sides = tuple(found[i] if side is None else side for i, side in enumerate(shape))
        if shape and sides != found:
            raise NotImplementedError(f"{path} has the shape {found}, not {shape}")
        return array

    def weights(self, path: str, *shape: int) -> np.ndarray:
        return self.array(path, *shape).wide()

    def linear(
        self, x: Value, path: str, shape: Sequence[int], bias: Sequence[int] | None
    ) -> Value:
        """Multiply by the kernel of a layer, taken as `shape`, and add its bias of shape `bias`."""
        x = self.add("MatMul", x, self.table(f"{path}/kernel", shape))
        if bias is None:
            return x
        return self.add("Add", x, self.constant(self.weights(f"{path}/bias", *bias).reshape(-1)))

    def activate(self, x: Value, kind: Any) -> Value:
        if kind == "linear":
            return x
        if kind in ("relu", "relu6"):
            return self.relu(x, 6.0 if kind == "relu6" else math.inf, x.name)
        if kind in ("silu", "swish"):
            return self.add("Mul", x, self.add("Sigmoid", x))
        if kind == "softmax" and x.rank == 2:
            return self.add("Softmax", x, axis=-1)
        _refuse(kind not in ACTIVATIONS, f"the activation {kind!r}")
        return self.add(ACTIVATIONS[kind], x)

    def relu(self, x: Value, top: float, path: str) -> Value:
        if isinstance(x, Conv) and x.top is None:
            return replace(x, name=path, top=top)
        if top == math.inf:
            return self.add("Relu", x)
        return self.add("Clip", x, self.constant(0.0), self.constant(top))


def _rescaling(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    scale, offset = (np.asarray(config[key], np.float32) for key in ("scale", "offset"))
    _refuse(scale.ndim or offset.ndim, "Rescaling with a scale a channel")
    x = graph.add("Mul", x, graph.constant(scale))
    return graph.add("Add", x, graph.constant(offset)) if offset else x


def _conv(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(set(config["dilation_rate"]) != {1}, "a dilated convolution")
    x = graph.settle(x)
    if x.name not in graph.maps and x.name not in graph.step_widths:
        x = graph.rounded(x)
    deep = "depth_multiplier" in config
    outputs = config["depth_multiplier"] if deep else config["filters"]
    stored = graph.array(f"{path}/kernel", *config["kernel_size"], None, outputs)
    height, width, inputs, _ = stored.values.shape
    if deep:
        kernel = stored.values.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
    else:
        kernel = stored.values.transpose(3, 2, 0, 1)
    scale, bias = np.ones(len(kernel), np.float32), np.zeros(len(kernel), np.float32)
    if stored.scale is not None:
        scale = stored.scale.astype(np.float32).reshape(-1)
        _refuse(len(scale) != len(kernel), "a kernel without a scale a channel")
    if config["use_bias"]:
        bias = graph.weights(f"{path}/bias", len(kernel))
    graph.sources[path] = x.name
    attributes = {
        "group": inputs if deep else config["groups"],
        "strides": list(config["strides"]),
        "kernel_shape": [height, width],
        "auto_pad": _padding(config, (height, width), config["strides"]),
    }
    arrays = {"kernel": kernel, "scale": scale, "bias": bias}
    waiting = Conv(path, 4, source=x.name, **arrays, attributes=attributes)
    return graph.activate(waiting, config["activation"])


def _batch_norm(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    is_channels = config["axis"] in (-1, 3) or (x.rank == 2 and config["axis"] == 1)
    _refuse(not is_channels, "BatchNormalization of this axis")
    shape = x.bias.shape if isinstance(x, Conv) else (None,)
    factor = 1 / np.sqrt(graph.weights(f"{path}/moving_variance", *shape) + config["epsilon"])
    if config["scale"]:
        factor = factor * graph.weights(f"{path}/gamma", *factor.shape)
    offset = -graph.weights(f"{path}/moving_mean", *factor.shape) * factor
    if config["center"]:
        offset = offset + graph.weights(f"{path}/beta", *factor.shape)
    if isinstance(x, Conv) and x.top is None:
        graph.norms[x.name] = path
        # A negative factor turns the signs of a kernel in 8 bits: steps are never negative.
        sign = np.sign(factor).astype(x.kernel.dtype)[:, None, None, None]
        scale = x.scale * np.maximum(np.abs(factor), 1e-12)
        bias = x.bias * factor + offset
        return replace(x, name=path, kernel=x.kernel * sign, scale=scale, bias=bias)
    shape = (1, -1, 1, 1) if x.rank == 4 else (-1,)
    x = graph.add("Mul", x, graph.constant(factor.reshape(shape)))
    return graph.add("Add", x, graph.constant(offset.reshape(shape)))


def _relu(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(config["threshold"], "ReLU with a threshold")
    if config["negative_slope"]:
        _refuse(config["max_value"] is not None, "ReLU with a slope and an end")
        return LAYERS["LeakyReLU"](graph, config, path, x)
    top = math.inf if config["max_value"] is None else float(config["max_value"])
    return graph.relu(x, top, path)


def _join(kind: str) -> Callable:
    """Return what writes a sum or the like of two tensors, or of one and a number."""

    def write(graph: Graph, config: Mapping, path: str, *args: Any, **_: Any) -> Value:
        args = args[0] if isinstance(args[0], list) else args
        tensors = [arg for arg in args if isinstance(arg, Value)]
        _refuse(len({x.rank for x in tensors}) > 1, f"{kind} of tensors of several ranks")
        _refuse(any(x.dtype != "float32" for x in tensors), f"{kind} of whole numbers")
        x, *rest = (arg if isinstance(arg, Value) else graph.constant(arg) for arg in args)
        for i, other in enumerate(rest, start=1):
            x = graph.add(kind, x, other, name=path if i == len(rest) else "")
        return graph.rounded(x) if x.rank == 4 and kind == "Add" else x

    return write


def _node_of(kind: str, attributes: Callable[[Mapping, int], dict] = lambda *_: {}) -> Callable:
    """Return what writes a layer as one node, whose attributes its config and its rank give."""

    def write(graph: Graph, config: Mapping, path: str, x: Value | list[Value], **_: Any) -> Value:
        xs = x if isinstance(x, list) else [x]
        return graph.add(kind, *xs, **attributes(config, xs[0].rank))

    return write


def _average(graph: Graph, config: Mapping, path: str, xs: Any, **_: Any) -> Value:
    _refuse(not isinstance(xs, list), "the average over an axis")  # of `keras.ops`
    _refuse(len({x.rank for x in xs}) > 1, "the average of tensors of several ranks")
    return graph.add("Mean", *xs)


def _pooling(config: Mapping, rank: int) -> dict[str, Any]:
    size, strides = config["pool_size"], config["strides"] or config["pool_size"]
    padding = _padding(config, size, strides)
    return {"kernel_shape": list(size), "strides": list(strides), "auto_pad": padding}


def _padding(config: Mapping, sides: Sequence[int], strides: Sequence[int]) -> str:
    """Return what ONNX calls a padding; it refuses negative ones, which Keras takes for none."""
    if max(sides) == 1:
        return PADDING["valid"]
    jumps = any(stride > side for stride, side in zip(strides, sides, strict=True))
    _refuse(jumps and config["padding"] == "same", "a stride larger than its window")
    return PADDING[config["padding"]]


def _global_pool(kind: str) -> Callable:
    def write(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
        x = graph.add(kind, x)
        return x if config["keepdims"] else replace(graph.add("Flatten", x, axis=1), rank=2)

    return write


def _flatten(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    if x.rank == 4:
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return replace(graph.add("Flatten", x, axis=1), rank=2)


def _dense(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(x.rank == 4, "Dense at each place of a picture")
    shape = graph.array(f"{path}/kernel", None, config["units"]).values.shape
    x = graph.linear(x, path, shape, shape[1:] if config["use_bias"] else None)
    return graph.activate(x, config["activation"])


def _embedding(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(x.rank != 2, "an Embedding of tables of words")  # rank 4 stands for pictures
    _refuse(config["mask_zero"], "an Embedding that hides a word")
    name = f"{path}/embeddings"
    array = graph.array(name, None, config["output_dim"])
    if array.scale is None:
        found = graph.add("Gather", graph.table(name, array.values.shape), x)
        return Value(found.name, x.rank + 1)
    _refuse(len(array.scale) != len(array.values), "a table of words without scales a row")
    # Only the rows that are looked up become floats: the whole table would take 47 MB, and time.
    steps, scale = (
        graph.cast(graph.add("Gather", part, x), "float32")
        for part in graph.steps(name, array.values.shape, array.scale.shape)
    )
    blocks = graph.constant([0, 0, array.scale.shape[1], -1], "int64")
    scale = graph.add("Unsqueeze", scale, graph.constant([-1], "int64"))
    found = graph.add("Mul", graph.add("Reshape", steps, blocks), scale)
    found = graph.add("Reshape", found, graph.constant([0, 0, -1], "int64"))
    return Value(found.name, x.rank + 1)


def _layer_norm(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    axis = config["axis"] if isinstance(config["axis"], int) else config["axis"][0]
    is_last = axis in (-1, x.rank - 1) and x.rank != 4
    _refuse(not is_last or config.get("rms_scaling"), "LayerNormalization of this axis")
    gamma, beta = (graph.constant(graph.weights(f"{path}/{part}")) for part in ("gamma", "beta"))
    return graph.add(
        "LayerNormalization", x, gamma, beta, axis=-1, epsilon=float(config["epsilon"])
    )


def _attention(
    graph: Graph,
    config: Mapping,
    path: str,
    query: Value,
    value: Value,
    key: Value | None = None,
    *,
    attention_mask: Value | None = None,
) -> Value:
    _refuse(query.rank != 3, "attention over the places of a picture")
    heads, width = config["num_heads"], config["key_dim"]

    def project(x: Value, part: str) -> Value:
        shape = graph.arrays[f"{path}/{part}/kernel"].values.shape
        x = graph.linear(x, f"{path}/{part}", (shape[0], heads * shape[2]), (heads, shape[2]))
        x = graph.add("Reshape", x, graph.constant([0, 0, heads, shape[2]], "int64"))
        return graph.add("Transpose", x, perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3])

    q, k, v = project(query, "query"), project(key or value, "key"), project(value, "value")
    weights = graph.add("MatMul", graph.add("Mul", q, graph.constant(width**-0.5)), k)
    if attention_mask is not None:
        mask = graph.add("Unsqueeze", attention_mask, graph.constant([1], "int64"))
        mask = graph.cast(mask, "float32")
        hidden = graph.add("Sub", graph.constant(1.0), mask)
        weights = graph.add("Add", weights, graph.add("Mul", hidden, graph.constant(MASKED)))
    x = graph.add("MatMul", graph.add("Softmax", weights, axis=-1), v)
    x = graph.add("Transpose", x, perm=[0, 2, 1, 3])
    path = f"{path}/attention_output"
    shape = graph.arrays[f"{path}/kernel"].values.shape
    inner = shape[0] * shape[1]
    x = graph.add("Reshape", x, graph.constant([0, 0, inner], "int64"))
    return replace(graph.linear(x, path, (inner, shape[2]), (shape[2],)), rank=3)


def _not_equal(graph: Graph, config: Mapping, path: str, x: Value, other: Any) -> Value:
    equal = graph.add("Equal", x, graph.constant(other, x.dtype))
    return replace(graph.add("Not", equal), dtype="bool")


def _expand_dims(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(x.rank > 2, "ExpandDims of such a tensor")
    x = graph.add("Unsqueeze", x, graph.constant([config["axis"]], "int64"))
    return replace(x, rank=x.rank + 1)


def _sum(graph: Graph, config: Mapping, path: str, x: Value, **_: Any) -> Value:
    _refuse(x.rank == 4 or not isinstance(config["axis"], int), "Sum over such axes")
    keep = bool(config["keepdims"])
    total = graph.add("ReduceSum", x, graph.constant([config["axis"]], "int64"), keepdims=int(keep))
    return total if keep else replace(total, rank=x.rank - 1)


LAYERS = {
    "InputLayer": lambda graph, config, path, x, **_: x,
    "Dropout": lambda graph, config, path, x, **_: x,
    "Rescaling": _rescaling,
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu,
    "LeakyReLU": _node_of("LeakyRelu", lambda c, _: {"alpha": float(c["negative_slope"])}),
    "Activation": lambda graph, config, path, x, **_: graph.activate(x, config["activation"]),
    "Add": _join("Add"),
    "Subtract": _join("Sub"),
    "Multiply": _join("Mul"),
    "TrueDivide": _join("Div"),
    "Maximum": _join("Max"),
    "Average": _average,
    "Concatenate": _node_of("Concat", lambda c, rank: {"axis": _axis(c["axis"], rank)}),
    "MaxPooling2D": _node_of("MaxPool", _pooling),
    "GlobalAveragePooling2D": _global_pool("GlobalAveragePool"),
    "GlobalMaxPooling2D": _global_pool("GlobalMaxPool"),
    "Flatten": _flatten,
    "Dense": _dense,
    "Embedding": _embedding,
    "LayerNormalization": _layer_norm,
    "MultiHeadAttention": _attention,
    "NotEqual": _not_equal,
    "Cast": lambda graph, config, path, x, **_: graph.cast(x, config["dtype"]),
    "Cumsum": lambda graph, config, path, x, **_: graph.add(
        "CumSum", x, graph.constant(_axis(config["axis"], x.rank), "int64")
    ),
    "ExpandDims": _expand_dims,
    "Sum": _sum,
    "UnitNormalization": _node_of(
        "LpNormalization", lambda c, rank: {"axis": _axis(c["axis"], rank), "p": 2}
    ),
}


def _axis(axis: int, rank: int) -> int:
    """Return where an axis of Keras is in ONNX, which has the channels of pictures first."""
    axis = axis % rank
    return {0: 0, 1: 2, 2: 3, 3: 1}[axis] if rank == 4 else axis


def _histories(places: Any) -> list[tuple]:
    """Return the tensors that a Functional config names as its inputs or outputs."""
    return [tuple(places)] if isinstance(places[0], str) else [tuple(place) for place in places]


def layers_of(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Yield each layer of a network with its path, those of models within it too."""
    for layer in config["config"]["layers"]:
        name = f"{path}{layer['config']['name']}"
        yield name, layer
        if layer["class_name"] in MODELS:
            yield from layers_of(layer, f"{name}/")
