"""Networks in ONNX Runtime beside the same folder in Keras."""

import keras
import numpy as np

from genre_utils.networks import folder, load_folder_network, save_folder_network
from genre_utils.networks.onnx_graph import Graph


def test_a_table_of_words_in_eight_bits_is_widened_a_row_at_a_time(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(500, 32)(tokens))
    network = keras.Model(tokens, keras.layers.Dense(3)(x))
    network.get_layer("embedding").set_weights([np.random.default_rng(0).normal(size=(500, 32))])
    save_folder_network(network, tmp_path / "text.json", int8=True)

    some = np.random.default_rng(1).integers(0, 500, (4, 6), np.int32)
    runtime, by_keras = (load_folder_network(tmp_path / "text.json", way) for way in (True, False))
    answer = runtime.predict_on_batch(some)
    np.testing.assert_allclose(answer, by_keras.predict_on_batch(some), atol=1e-5)
    assert not np.allclose(answer, network.predict_on_batch(some), atol=1e-5)  # it was rounded

    config, ranges = folder.read_config(tmp_path / "text.json")
    graph = Graph(folder.load_arrays(tmp_path / "text.safetensors"), ranges)
    graph.write(config)
    table = next(one for one in graph.tables if one[1] == [500, 32])
    takers = {node[4] for node in graph.nodes if table[8] in node[1]}
    assert takers == {"Gather"}
