"""The sentence encoder against the original's vectors, computed with the authors' own network."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from genre_utils.batches import WordBatches, pad_tokens
from genre_utils.networks import minilm, tokenizer

WEIGHTS = minilm.cached_weights()


@pytest.mark.skipif(
    not WEIGHTS.exists(), reason="no weights here: python -m genre_utils.weights.fetch_encoder"
)
def test_vectors_are_the_original_s():
    with np.load(ROOT / "tests" / "references" / "minilm.npz", allow_pickle=False) as reference:
        sentences, expected = reference["sentences"].tolist(), reference["vectors"]
    name, how = minilm.choose_encoder()
    assert name in how
    network = minilm.load_encoder(name)
    vectors = tokenizer.run_on_words(network, tokenizer.tokenize(sentences))
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    assert len(sentences) == 12 and cosines.min() > 0.999


def test_a_text_s_vector_does_not_depend_on_its_neighbours():
    network = minilm.build_encoder()
    tokens = tokenizer.tokenize(["in space no one can hear you scream", "heat and dust " * 20, ""])
    together = tokenizer.run_on_words(network, tokens)
    alone = np.concatenate([tokenizer.run_on_words(network, [row]) for row in tokens])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1
    np.testing.assert_allclose((together**2).mean(axis=1), 1, rtol=1e-3)


def test_batches_are_filled_up_and_texts_keep_their_order():
    shapes = []

    def predict(table):
        shapes.append(table.shape)
        return table[:, :1]

    network = SimpleNamespace(output_shape=(None, 1), predict_on_batch=predict)
    tokens = [np.full(length, length, np.int32) for length in (40, 3, 70, 5, 1)]
    answers = tokenizer.run_on_words(network, tokens, batch=2)
    assert answers.ravel().tolist() == [40, 3, 70, 5, 1]
    assert shapes == [(2, 32), (2, 64), (2, 96)]


def test_long_texts_are_cut_and_padding_is_zero():
    rows = tokenizer.tokenize(["word " * 1000, "word"])
    assert [len(row) for row in rows] == [tokenizer.MAX_TOKENS, 3]
    table = pad_tokens(rows)
    assert table.shape == (2, 128) and not table[1, 3:].any()
    assert pad_tokens(rows[1:]).shape == (1, 32) and pad_tokens(rows[1:], 40).shape == (1, 64)


def test_weights_of_another_file_are_refused(tmp_path):
    (tmp_path / "blob").write_bytes(b"something else")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")  # as a hub's cache has it
    with pytest.raises(minilm.DataError, match="blob is not .* its SHA-256 differs. Delete it"):
        minilm.check_weights(tmp_path / "model.safetensors")


def test_without_internet_the_released_encoder_answers_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(minilm, "has_internet", lambda: False)
    asked = []

    def hub(*_, local_files_only, revision):
        asked.append((local_files_only, revision))
        raise OSError("it has no such file")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    name, how = minilm.choose_encoder()
    network = minilm.load_encoder(name)
    assert asked == [(True, minilm.REVISION)]  # what the hub keeps of an earlier download is used
    assert network.output_shape[-1] == minilm.WIDTH and "released model" in how
    monkeypatch.setattr(minilm, "RELEASED_TEXT", tmp_path / "text.json")
    with pytest.raises(minilm.DataError, match="fetch_encoder"):
        minilm.choose_encoder()


def test_an_epoch_has_whole_batches_of_texts_and_the_widest_first():
    rng = np.random.default_rng(0)
    tokens = [np.full(rng.integers(3, 100), i + 1, np.int32) for i in range(50)]
    labels = np.eye(50)
    paths = [f"{i}.jpg" for i in range(50)]
    batches = [WordBatches(tokens, paths, labels, 8, seed=0, epoch=1)[i] for i in range(6)]
    seen = np.concatenate([x[:, 0] for x, _ in batches]) - 1
    assert len(seen) == len(set(seen)) == 48  # two are left over, for another epoch
    for x, y in batches:
        np.testing.assert_array_equal(y.argmax(axis=1), x[:, 0] - 1)
    widths = [x.shape[1] for x, _ in batches]
    assert widths[0] == max(widths) and widths[1] == min(widths)
    again = WordBatches(tokens, paths, labels, 8, seed=0, epoch=1)
    other = WordBatches(tokens, paths, labels, 8, seed=0, epoch=2)
    np.testing.assert_array_equal(again[3][0], batches[3][0])
    assert any(not np.array_equal(other[i][0], batches[i][0]) for i in range(6))


def test_texts_of_one_length_come_once_each():
    tokens = [np.array([101, 102], np.int32)] * 50
    batches = WordBatches(tokens, [f"{i}.jpg" for i in range(50)], np.eye(50), 10, seed=0, epoch=0)
    seen = np.concatenate([batches[i][1].argmax(axis=1) for i in range(len(batches))])
    assert sorted(seen) == list(range(50))
