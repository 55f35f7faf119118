"""From a poster's lines to logits, the plain way: n-grams and a linear model.

What an encoder understands, this one knows by heart: the names of actors, studios and festivals.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genre_utils import progress
from genre_utils.reading import Line

if TYPE_CHECKING:  # a second that those who judge the picture alone need not wait
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

# Pieces of words, which survive a reader's slips and missing spaces, and words with their
# neighbours.
PIECES = {"analyzer": "char_wb", "ngram_range": (2, 5)}
WORDS = {"analyzer": "word", "ngram_range": (1, 2)}
OPTIONS = {"sublinear_tf": True, "min_df": 2, "dtype": np.float32}

DROPPED = 0.2
LARGEST = 500_000_000  # bytes of tables; those of the public posters have 12 million

# Words of the letters that English has; the splitter knows no others.
ENGLISH = re.compile(r"(?<![^\W\d_])[A-Za-z]+(?![^\W\d_])")
# A split into shorter pieces than this, on average, is more often a name torn than spaces found.
SHORTEST_PIECES = 3

# Less than three posters teach a linear model nothing but their own words.
FEWEST = 3


def as_text(lines: Sequence[Line]) -> str:
    """Join the lines of a poster, in the order in which they were read: from top to bottom.

    Readers lose spaces in the wide and narrow letters of posters; they are put back.
    """
    return split_glued(" ".join(line.text for line in lines).strip())


def split_glued(text: str) -> str:
    """Part words that stand glued together: "THELAST EXORCISM" becomes "THE LAST EXORCISM".

    `wordninja` finds the likeliest English words by their frequency. A word that it would part
    into scraps is taken for a name, and stays.
    """
    return ENGLISH.sub(lambda found: _split_word(found.group()), text)


@lru_cache(maxsize=1 << 16)
def _split_word(word: str) -> str:
    import wordninja

    pieces = wordninja.split(word)
    long_enough = len(word) >= SHORTEST_PIECES * len(pieces)
    scraps = any(len(piece) == 1 and piece.lower() not in "ai" for piece in pieces)
    return " ".join(pieces) if long_enough and not scraps else word


def drop_lines(lines: Sequence[Line], key: int) -> list[Line]:
    """Leave out each line with a chance of one in five, but not all; `key` seeds the chance.

    Fine-tuning on ever other parts of a poster's words keeps a network from learning the few
    thousand posters by heart.
    """
    kept = np.random.default_rng(key).random(len(lines)) >= DROPPED
    return [line for line, keep in zip(lines, kept, strict=True) if keep] or list(lines)


class NgramModel:
    """Tf-idf of n-grams and a logistic regression a genre: texts in, logits `(n, genres)` out."""

    def __init__(
        self, vectorizers: Sequence[TfidfVectorizer], weights: np.ndarray, bias: np.ndarray
    ):
        self.vectorizers = list(vectorizers)
        self.weights = weights
        self.bias = bias

    @classmethod
    def fit(cls, texts: Sequence[str], labels: np.ndarray) -> NgramModel:
        """Learn from texts and multi-hot labels `(n, genres)`.

        A genre on fewer than 3 posters gets its frequency as a constant.
        """
        from sklearn.linear_model import LogisticRegression

        vectorizers = [_vectorizer(**kind, **OPTIONS) for kind in (PIECES, WORDS)]
        for vectorizer in progress.bar(vectorizers, desc="counting n-grams"):
            try:
                vectorizer.fit(texts)
            except ValueError:  # not one n-gram stands on two posters
                vectorizer.set_params(min_df=1).fit([*texts, "poster"])
        features = _features(vectorizers, texts)
        weights = np.zeros((features.shape[1], labels.shape[1]), np.float32)
        frequency = (labels.sum(axis=0) + 0.5) / (len(labels) + 1)
        bias = np.log(frequency / (1 - frequency)).astype(np.float32)
        for g in progress.bar(range(labels.shape[1]), desc="n-grams", unit=" genres"):
            if FEWEST <= labels[:, g].sum() <= len(labels) - FEWEST:
                model = LogisticRegression(C=4, solver="liblinear", random_state=0)
                model.fit(features, labels[:, g])
                weights[:, g], bias[g] = model.coef_[0], model.intercept_[0]
        return cls(vectorizers, weights.astype(np.float16), bias)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Give one logit a genre for each text, float32 `(n, genres)`."""
        features = _features(self.vectorizers, texts)
        return np.asarray(features @ self.weights.astype(np.float32) + self.bias)

    def save(self, file: Path) -> None:
        """Write all as plain arrays, which are read back without executing anything."""
        arrays = {"weights": self.weights, "bias": self.bias}
        for i, vectorizer in enumerate(self.vectorizers):
            names = "\n".join(vectorizer.get_feature_names_out())
            arrays[f"names{i}"] = np.frombuffer(names.encode(), np.uint8)
            arrays[f"idf{i}"] = vectorizer.idf_.astype(np.float32)
        np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, file: Path) -> NgramModel:
        """Read what `save` wrote; raises `ValueError` or `KeyError` for any other file."""
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError("its tables would unpack to more than any of this project")
        with np.load(file, allow_pickle=False) as arrays:
            vectorizers = []
            for i, kind in enumerate((PIECES, WORDS)):
                names = arrays[f"names{i}"].tobytes().decode().split("\n")
                vectorizer = _vectorizer(**kind, **OPTIONS, vocabulary=names)
                vectorizer.idf_ = arrays[f"idf{i}"]
                vectorizers.append(vectorizer)
            weights, bias = arrays["weights"], arrays["bias"]
            if weights.shape != (sum(len(v.vocabulary_) for v in vectorizers), *bias.shape):
                raise ValueError("its weights do not fit its n-grams")
            for numbers in (weights, bias, *(v.idf_ for v in vectorizers)):
                if numbers.dtype.kind != "f" or not np.isfinite(numbers).all():
                    raise ValueError("its tables hold what is no number")
            return cls(vectorizers, weights, bias)


def typical_words(
    texts: Sequence[str], labels: np.ndarray, genres: Sequence[str], top: int = 8
) -> dict[str, list[str]]:
    """Find the words that stand on a genre's posters far more often than on the others.

    The measure is the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and
    Quinn, "Fightin' Words", 2008), counted in posters; genres without a poster give no words.
    """
    vectorizer = _vectorizer(
        binary=True, use_idf=False, norm=None, min_df=5, token_pattern=r"(?u)\b[^\W\d_]{3,}\b"
    )
    try:
        marks = vectorizer.fit_transform(texts)
    except ValueError:  # no word stands on five posters
        return {genre: [] for genre in genres}
    names, total = vectorizer.get_feature_names_out(), np.asarray(marks.sum(axis=0)).ravel()
    found = {}
    for g, genre in enumerate(genres):
        inside = np.asarray(marks[labels[:, g] == 1].sum(axis=0)).ravel()
        outside, prior = total - inside, total / total.sum() * 100
        odds = np.log((inside + prior) / (inside.sum() + 100 - inside - prior))
        odds -= np.log((outside + prior) / (outside.sum() + 100 - outside - prior))
        spread = np.sqrt(1 / (inside + prior) + 1 / (outside + prior))
        best = np.argsort(-odds / spread)[:top]
        found[genre] = [names[i] for i in best if odds[i] > 0 and inside[i]]
    return found


def _vectorizer(**options: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(**options)


def _features(vectorizers: Sequence[TfidfVectorizer], texts: Sequence[str]) -> sparse.csr_matrix:
    from scipy import sparse

    return sparse.hstack([v.transform(texts) for v in vectorizers], format="csr")
