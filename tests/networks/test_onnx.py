"""Networks in ONNX Runtime beside the same folder in Keras."""

import keras
import numpy as np
import pytest

from genre_utils.networks import (
    RuntimeNetwork,
    folder,
    keras_config,
    load_folder_network,
    onnx,
    save_folder_network,
    to_onnx,
)
from genre_utils.networks.arrays import Array
from genre_utils.networks.onnx_graph import Graph
from genre_utils.support import DataError


def test_a_table_of_words_in_eight_bits_is_widened_a_row_at_a_time(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(500, 32)(tokens))
    network = keras.Model(tokens, keras.layers.Dense(3)(x))
    network.layers[1].set_weights([np.random.default_rng(0).normal(size=(500, 32))])
    save_folder_network(network, tmp_path / "text.json", int8=True)

    some = np.random.default_rng(1).integers(0, 500, (4, 6), np.int32)
    runtime, by_keras = (load_folder_network(tmp_path / "text.json", way) for way in (True, False))
    answer = runtime.predict_on_batch(some)
    np.testing.assert_allclose(answer, by_keras.predict_on_batch(some), atol=1e-5)
    assert not np.allclose(answer, network.predict_on_batch(some), atol=1e-5)  # it was rounded
    assert (runtime.input_shape, runtime.output_shape) == ((None, 6), (None, 3))

    config, ranges = folder.read_config(tmp_path / "text.json")
    graph = Graph(folder.load_arrays(tmp_path / "text.safetensors"), ranges)
    graph.write(config)
    table = next(one for one in graph.tables if list(one.dims) == [500, 32])
    takers = {node.op_type for node in graph.nodes if table.name in node.input}
    assert takers == {"Gather"}


@pytest.mark.parametrize(
    ("shape", "block", "why"),
    (((6,), (2, 16), "without scales a row"), ((2, 3), (1, 16), "tables of words")),
)
def test_other_tables_of_words_are_left_to_keras(shape, block, why):
    tokens = keras.Input(shape, dtype="int32")
    words = keras.layers.Embedding(500, 32, name="words")(tokens)
    network = keras.Model(tokens, keras.layers.Flatten()(words))
    table = Array.int8(np.ones((500, 32)), block)
    with pytest.raises(NotImplementedError, match=why):
        Graph({"words/embeddings": table}).write(keras_config.to_config(network))


def test_an_option_that_is_none_is_left_to_keras():
    pixels = keras.Input((8, 6, 3))
    config = keras_config.to_config(keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels)))
    conv = config["config"]["layers"][1]["config"]
    path = conv["name"]
    arrays = {f"{path}/kernel": Array(np.ones((3, 3, 3, 2))), f"{path}/bias": Array(np.ones(2))}
    assert Graph(arrays).write(config)
    conv["groups"] = None
    with pytest.raises(NotImplementedError, match="an attribute of Conv that is None"):
        Graph(arrays).write(config)


def pixels_as(dtype: str, layer) -> keras.Model:
    """A network with a layer on pixels of some type."""
    pixels = keras.Input((8, 6, 3), dtype=dtype)
    return keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Flatten()(layer(pixels))))


def rows(x, **options):
    """Attention among three tokens of a picture."""
    x = tokens(x * 100)
    return keras.layers.MultiHeadAttention(2, 4)(x, x, **options)


def same_size(x, join=keras.layers.Average):
    """The mean of a map and of its channels' means, which are as many as its columns."""
    x = keras.layers.Conv2D(4, 3)(x)
    return join()([x, keras.layers.GlobalAveragePooling2D()(x)])


def words(x):
    """Attention among words of which some are hidden."""
    x = keras.ops.cast(keras.layers.GlobalMaxPooling2D()(x) - 250, "int32")
    x = keras.layers.Embedding(6, 4, mask_zero=True)(keras.ops.maximum(x, 0))
    return keras.layers.MultiHeadAttention(2, 4)(x, x)


def tokens(x):
    """Three tokens of a picture, whose numbers are as many."""
    x = keras.ops.expand_dims(keras.layers.GlobalMaxPooling2D()(x), 1) / 100
    return keras.layers.Concatenate(axis=1)([x, x / 2, x / 3])


def square(x):
    """A map with as many columns as channels, which an axis may be taken for."""
    return keras.layers.MaxPooling2D((1, 2))(x) / 100


def twice_cut(x):
    """Convolutions whose maps are cut off and normalised twice."""
    x = keras.layers.Conv2D(4, (3, 2), strides=(2, 1))(x / 255)
    x = keras.layers.ReLU(max_value=6)(keras.layers.BatchNormalization(epsilon=0.5)(x))
    x = keras.layers.ReLU(max_value=4)(keras.layers.BatchNormalization(epsilon=0.5)(x))
    x = keras.layers.ReLU(max_value=1)(keras.layers.Conv2D(4, 1)(x))
    return keras.layers.ReLU(max_value=2)(x)


def whole_numbers(x):
    """A fraction of whole numbers."""
    x = keras.ops.cast(x, "int32") / keras.ops.cast(x / 2 + 1, "int32")
    return keras.ops.cast(x, "float32")


COMPUTED = (  # by ONNX Runtime
    keras.layers.Conv2D(4, (3, 2), strides=(1, 2)),
    keras.layers.Conv2D(4, (1, 2), padding="same"),
    keras.layers.Conv2D(6, 2, groups=3),
    keras.layers.DepthwiseConv2D((3, 2), depth_multiplier=2),
    twice_cut,
    lambda x: keras.layers.BatchNormalization(scale=False, epsilon=0.5)(x / 255),
    lambda x: keras.layers.BatchNormalization(center=False, epsilon=0.5)(x / 255),
    lambda x: keras.layers.BatchNormalization(axis=3, epsilon=0.5)(square(x)),
    lambda x: keras.layers.ReLU(negative_slope=0.2)(x - 128),
    lambda x: keras.layers.LeakyReLU(0.1)(x - 128),
    keras.layers.MaxPooling2D((2, 3), strides=1),
    lambda x: keras.layers.Conv2D(4, 1)(keras.layers.GlobalAveragePooling2D(keepdims=True)(x)),
    lambda x: keras.layers.Dense(4, use_bias=False)(keras.layers.Flatten()(x / 255)),
    lambda x: keras.layers.LayerNormalization(epsilon=0.5)(tokens(x)),
    lambda x: keras.layers.MultiHeadAttention(2, 4)(tokens(x), tokens(x / 2), tokens(x / 3)),
    keras.layers.UnitNormalization(),
    keras.layers.UnitNormalization(axis=1),
    lambda x: keras.layers.Concatenate(axis=2)([x, x / 2]),
    lambda x: keras.layers.Subtract()([x, x / 3]),
    lambda x: keras.layers.Maximum()([x - 99, 99 - x]),
    lambda x: keras.layers.Multiply()([x / 99, x / 99]),
    lambda x: keras.layers.Average()([x, x / 2]),
    lambda x: keras.layers.Add()([x, x / 2, x / 3]),
    lambda x: keras.ops.sum(tokens(x), axis=1),
    lambda x: tokens(x) - keras.ops.sum(tokens(x), axis=1, keepdims=True),
)
LEFT_TO_KERAS = (
    lambda x: keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 2, dilation_rate=2)(x)),
    keras.layers.SeparableConv2D(4, 2),
    lambda x: keras.layers.Rescaling([1, 0.1, 0.01])(square(x)),
    lambda x: keras.layers.BatchNormalization(epsilon=0.5)(x / 255, training=True),
    lambda x: keras.layers.BatchNormalization(axis=2, epsilon=0.5)(square(x)),
    lambda x: keras.layers.ReLU(6, negative_slope=0.2)(x - 128),
    lambda x: keras.layers.ReLU(threshold=99)(x),
    lambda x: keras.layers.Dense(4)(square(x)),
    lambda x: keras.layers.LayerNormalization(epsilon=0.5)(square(x)),
    lambda x: keras.layers.LayerNormalization(axis=1, epsilon=0.5)(tokens(x)),
    lambda x: same_size(x, keras.layers.Add),
    whole_numbers,
    lambda x: keras.ops.sum(tokens(x), axis=(1, 2)),
    lambda x: keras.ops.sum(x / 255, axis=1),
    lambda x: keras.ops.expand_dims(x / 255, 1),
)


def gated(x, **masks):
    """Attention in which masks hide places."""
    x = tokens(x)
    mask = keras.ops.not_equal(keras.ops.sum(x, axis=2), 0)
    return keras.layers.MultiHeadAttention(2, 4)(x, x, **dict.fromkeys(masks, mask))


@pytest.mark.parametrize(
    "layer",
    (
        rows,
        lambda x: keras.ops.cumsum(x / 255, axis=1),
        keras.layers.MaxPooling2D(1, strides=2, padding="same"),
        keras.layers.MaxPooling2D(3, strides=2, padding="same"),
        keras.layers.Conv2D(4, 1, strides=2, padding="same"),
        keras.layers.Conv2D(4, 3, strides=2, padding="same"),
    ),
)
def test_onnx_runtime_computes_what_it_can(tmp_path, layer):
    save_folder_network(pixels_as("float32", layer), tmp_path / "picture.json")
    assert isinstance(load_folder_network(tmp_path / "picture.json", True), RuntimeNetwork)


@pytest.mark.parametrize(
    ("dtype", "layer"),
    (
        ("uint8", keras.layers.Rescaling(1 / 255)),
        ("uint8", lambda x: keras.ops.cast(x, "float32") / 255),
        ("float16", lambda x: x / 255),
        ("float32", lambda x: gated(x, key_mask=True)),
        ("float32", lambda x: gated(x, value_mask=True)),
        ("float32", same_size),
        ("float32", lambda x: keras.ops.cast(x, "int32") / 100),
        ("float32", lambda x: keras.layers.MultiHeadAttention(2, 4)(x, x)),
        ("float32", lambda x: keras.layers.MultiHeadAttention(2, 4, attention_axes=1)(x, x)),
        ("float32", rows),
        ("float32", lambda x: rows(x, use_causal_mask=True)),
        ("float32", lambda x: rows(x, return_attention_scores=True)[1]),
        ("float32", words),
        ("float32", keras.layers.GlobalAveragePooling2D(data_format="channels_first")),
        ("float32", keras.layers.MaxPooling2D(2, data_format="channels_first")),
        ("float32", keras.layers.Flatten(data_format="channels_first")),
        ("float32", lambda x: keras.ops.cumsum(x / 255, axis=1)),
        ("float32", lambda x: keras.ops.average(x / 255, axis=1)),
        ("float32", keras.layers.MaxPooling2D(2, strides=3, padding="same")),
        ("float32", keras.layers.MaxPooling2D(1, strides=2, padding="same")),
        ("float32", keras.layers.Conv2D(4, 1, strides=2, padding="same")),
        ("float32", keras.layers.Conv2D(4, (1, 2), strides=(3, 1), padding="same")),
        *(("float32", layer) for layer in (*COMPUTED, *LEFT_TO_KERAS)),
    ),
)
def test_a_network_has_the_same_answer_as_in_keras_or_is_left_to_it(tmp_path, dtype, layer):
    network = pixels_as(dtype, layer)
    for weight in network.weights:  # large enough to tell
        values = np.random.default_rng(weight.shape[0]).normal(size=weight.shape)
        weight.assign(abs(values) if weight.name == "moving_variance" else values)
    save_folder_network(network, tmp_path / "picture.json")
    some = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
    both = [load_folder_network(tmp_path / "picture.json", way) for way in (True, False)]
    assert isinstance(both[0], RuntimeNetwork) or layer not in COMPUTED
    answers = [np.asarray(one.predict_on_batch(some)) for one in both]
    assert np.isfinite(answers[0]).all()
    np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("before", ("a convolution", "a dense layer"))
@pytest.mark.parametrize(
    "kind", ("relu", "relu6", "silu", "sigmoid", "tanh", "gelu", "softmax", "elu", "linear")
)
def test_an_activation_has_the_same_answer_as_in_keras(tmp_path, before, kind):
    pixels = keras.Input((8, 6, 3))
    x = keras.layers.Rescaling(1 / 20, offset=-6)(pixels)
    if before == "a convolution":
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 2, activation=kind)(x))
    else:
        x = keras.layers.Dense(4, activation=kind)(keras.layers.GlobalAveragePooling2D()(x))
    network = keras.Model(pixels, x)
    save_folder_network(network, tmp_path / "picture.json")
    some = np.random.default_rng(0).integers(0, 256, (9, 8, 6, 3), np.uint8)
    fast, plain = (load_folder_network(tmp_path / "picture.json", way) for way in (True, False))
    left_to_keras = kind == "elu" or (kind == "softmax" and before == "a convolution")
    assert isinstance(fast, RuntimeNetwork) != left_to_keras
    np.testing.assert_allclose(
        fast.predict_on_batch(some), plain.predict_on_batch(some), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("layer", (keras.layers.Rescaling(1 / 255), rows))
def test_a_network_without_convolutions_is_rounded_with_posters_too(tmp_path, layer):
    network, some = pixels_as("float32", layer), np.ones((2, 8, 6, 3), np.uint8)
    save_folder_network(network, tmp_path / "picture.json", True, calibration=some)
    found = load_folder_network(tmp_path / "picture.json").predict_on_batch(some)
    np.testing.assert_allclose(found, network.predict_on_batch(some), atol=0.05)


def test_channels_that_are_always_zero_are_rounded(tmp_path):
    layers = keras.layers
    pixels = keras.Input((8, 6, 3))
    norm, dark, last = layers.BatchNormalization(), layers.Conv2D(4, 3), layers.Conv2D(4, 1)
    first = layers.ReLU()(norm(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(pixels))))
    pooled = map(layers.GlobalMaxPooling2D(), (first, last(layers.ReLU()(dark(first)))))
    network = keras.Model(pixels, layers.Concatenate()(list(pooled)))
    norm.gamma.assign([0, 1, -1, 0])
    norm.beta.assign([9, 1, 1, 0])
    dark.bias.assign([-1e4] * 4)
    last.bias.assign(range(4))
    some = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
    save_folder_network(network, tmp_path / "picture.json", True, calibration=some)
    assert folder.read_config(tmp_path / "picture.json")[1]  # of the maps, in 8 bits too
    fast = load_folder_network(tmp_path / "picture.json", True)
    assert isinstance(fast, RuntimeNetwork)
    expected = network.predict_on_batch(some)
    np.testing.assert_allclose(fast.predict_on_batch(some), expected, atol=0.05)


def test_what_onnx_runtime_refuses_is_left_to_keras_and_said(tmp_path, monkeypatch, capsys):
    network = pixels_as("float32", keras.layers.Rescaling(1 / 255))
    save_folder_network(network, tmp_path / "picture.json")

    def refuse(*_, **__):
        raise RuntimeError("ShapeInferenceError\n" + 500 * "!")

    monkeypatch.setattr(onnx, "open_session", refuse)
    assert isinstance(load_folder_network(tmp_path / "picture.json", True), keras.Model)
    line = capsys.readouterr().err
    weights = (tmp_path / "picture.safetensors").resolve()
    assert f"{weights}: ONNX Runtime cannot compute it, Keras does (ShapeInferenceError" in line
    assert line.count("\n") == 1 and line.count("!") < 200
    with pytest.raises(DataError, match="picture.json cannot be written as ONNX: ShapeInference"):
        to_onnx(tmp_path / "picture.json")


def test_memory_that_runs_out_is_not_left_to_keras(tmp_path, monkeypatch):
    save_folder_network(pixels_as("float32", keras.layers.ReLU()), tmp_path / "picture.json")

    def run_out(*_, **__):
        raise MemoryError

    monkeypatch.setattr(onnx, "open_session", run_out)
    with pytest.raises(MemoryError):
        load_folder_network(tmp_path / "picture.json", True)


def test_a_network_of_linked_files_is_computed_without_keras(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(500, 32)(tokens))
    save_folder_network(keras.Model(tokens, x), tmp_path / "text.json")
    links = tmp_path / "links"
    links.mkdir()
    for name in ("text.json", "text.safetensors"):
        (links / name).symlink_to(tmp_path / name)
    assert isinstance(load_folder_network(links / "text.json", True), RuntimeNetwork)


def test_a_network_that_is_not_known_is_not_rounded_and_says_why(tmp_path):
    network = pixels_as("float32", keras.layers.GroupNormalization(3))
    why = "not rounded to 8 bits: .*GroupNormalization.* Without --data"
    with pytest.raises(DataError, match=why):
        some = np.ones((2, 8, 6, 3), np.uint8)
        save_folder_network(network, tmp_path / "picture.json", True, calibration=some)


def test_a_session_leaves_memory_and_cores_to_others():
    pixels = keras.Input((8, 8, 3))
    network = keras.Model(pixels, keras.layers.GlobalMaxPooling2D()(pixels))
    model = Graph({}).write(keras_config.to_config(network))
    session, each_run = onnx.open_session(model, threads=1)
    options = session.get_session_options()
    assert options.intra_op_num_threads == 1 and not options.enable_mem_pattern
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert each_run.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


def test_a_system_that_tells_nothing_of_its_processor_is_taken_for_an_old_one(monkeypatch):
    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr(onnx, "open", missing, raising=False)
    assert onnx.has_vnni() is False


@pytest.mark.parametrize("vnni", (True, False))
def test_sums_of_eight_bits_are_safe_on_processors_that_would_overflow(monkeypatch, vnni):
    monkeypatch.setattr(onnx, "has_vnni", lambda: vnni)
    pixels = keras.Input((8, 8, 3))
    network = keras.Model(pixels, keras.layers.GlobalMaxPooling2D()(pixels))
    model = Graph({}).write(keras_config.to_config(network))
    options = onnx.open_session(model)[0].get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == str(int(not vnni))
