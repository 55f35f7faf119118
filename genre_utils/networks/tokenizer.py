"""From texts to token ids, and through a network of the words."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genre_utils.support import progress

# BERT's WordPiece vocabulary, as the authors' own tokenizer file; it fits the weights alone.
TOKENIZER = Path(__file__).parent.parent / "weights" / "minilm_tokenizer.json"

# Nineteen posters in twenty have fewer than 100 tokens; what comes last is small print.
MAX_TOKENS = 128
VOCABULARY = 30_522
PAD = 0  # the token id that stands for none


def tokenize(texts: Sequence[str], tokenizer_file: Path = TOKENIZER) -> list[np.ndarray]:
    """Split texts into WordPiece tokens; one int32 array of ids a text, at most 128 long."""
    encoded = _tokenizer(tokenizer_file).encode_batch(list(texts))
    return [np.asarray(text.ids, np.int32) for text in encoded]


def check_tokenizer(tokenizer_file: Path) -> None:
    """Raise an exception unless a file is a tokenizer whose ids the encoder has vectors for."""
    largest = max(_tokenizer(tokenizer_file).get_vocab().values())
    if largest >= VOCABULARY:
        raise ValueError(f"its tokenizer has the id {largest}, and vectors end at {VOCABULARY}")


def pad_tokens(tokens: Sequence[np.ndarray], least: int = 1) -> np.ndarray:
    """Lay token ids into one int32 table `(n, length)`, filled up with 0.

    The length is a multiple of 32 from `least` on, so that a compiled network meets few shapes.
    """
    longest = max([least, *(len(row) for row in tokens)])
    table = np.zeros((len(tokens), -(-longest // 32) * 32), np.int32)
    for row, ids in zip(table, tokens, strict=True):
        row[: len(ids)] = ids
    return table


def run_on_words(network: Any, tokens: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
    """Run a network over token arrays of any length; float32 `(n, outputs)`, in their order."""
    answers = np.empty((len(tokens), network.output_shape[-1]), np.float32)
    # Texts sorted by length need little padding; full batches are compiled once a length.
    order = np.argsort([len(row) for row in tokens], kind="stable")
    steps = range(0, len(order), batch)
    for start in progress.bar(steps, desc="words", unit=" batches"):
        rows = order[start : start + batch]
        table = pad_tokens([tokens[i] for i in rows])
        filled = np.pad(table, ((0, batch - len(rows)), (0, 0))) if len(order) > batch else table
        # Where devices repeat the batch instead of sharing it, the first answers are all.
        answers[rows] = np.asarray(network.predict_on_batch(filled))[: len(rows)]
    return answers


def run_on_splits(
    network: Any, tokens: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, np.ndarray]:
    """Run a network on the texts that it learns from: `run_on_words` of the first two splits."""
    return {split: run_on_words(network, tokens[split]) for split in ("train", "validation")}


@lru_cache
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.fspath(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
