"""A poster's lines become one text; n-grams and a linear model turn texts into logits.

The n-grams learn what a sentence encoder does not: names of actors, studios and festivals.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genre_utils.ocr import Line
from genre_utils.support import progress

if TYPE_CHECKING:  # a prediction does without SciPy and scikit-learn
    from scipy import sparse

# Words of the letters that English has; the splitter knows no others.
ENGLISH = re.compile(r"(?<![^\W\d_])[A-Za-z]+(?![^\W\d_])")
# A split into shorter pieces than this, on average, is more often a name torn than spaces found.
SHORTEST_PIECES = 3

# Letters of a character n-gram: short ones survive misread letters and missing spaces.
SHORTEST_NGRAM, LONGEST_NGRAM = 2, 5
FEWEST_TEXTS = 2

DROPPED = 0.2
LARGEST = 500_000_000  # bytes of tables; those of the public posters have 12 million

# From fewer than three posters a linear model learns nothing but their own words.
FEWEST = 3


def join_lines(lines: Sequence[Line]) -> str:
    """Join the lines of a poster, the highest letters first: the title, then what is smaller.

    `segment_words` restores the spaces that a reader loses in wide and narrow letters.
    """
    by_size = sorted(lines, key=_height, reverse=True)
    return segment_words(" ".join(line.text for line in by_size).strip())


def _height(line: Line) -> float:
    """Return the height of a line's left edge plus that of its right edge."""
    (_, top), (_, right_top), (_, right_bottom), (_, bottom) = line.corners
    return abs(bottom - top) + abs(right_bottom - right_top)


def segment_words(text: str) -> str:
    """Put lost spaces back: "THELAST EXORCISM" becomes "THE LAST EXORCISM".

    `wordninja` finds the most likely English words by their frequency. A word that it would split
    into scraps is more likely a name, and stays; a name of longer pieces is split ("GOD ARD").
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
    """Drop each line with a probability of 0.2, but never all of them; `key` is the seed.

    A network that sees other lines of a poster in each epoch cannot learn a few thousand posters
    by heart.
    """
    kept = np.random.default_rng(key).random(len(lines)) >= DROPPED
    return [line for line, keep in zip(lines, kept, strict=True) if keep] or list(lines)


def char_ngrams(text: str) -> list[str]:
    """List the 2 to 5 neighbouring letters of each word, with a space at its ends.

    They are those of scikit-learn's `analyzer="char_wb"`.

    >>> char_ngrams("War")
    [' w', 'wa', 'ar', 'r ', ' wa', 'war', 'ar ', ' war', 'war ', ' war ']
    """
    padded = [f" {word} " for word in text.lower().split()]
    return [
        word[start : start + length]
        for word in padded
        for length in range(SHORTEST_NGRAM, min(LONGEST_NGRAM, len(word)) + 1)
        for start in range(len(word) - length + 1)
    ]


def word_ngrams(text: str) -> list[str]:
    """List the words of two letters or more, and each pair of neighbours.

    They are those of scikit-learn's `analyzer="word"` with `ngram_range=(1, 2)`.
    """
    found = re.findall(r"\b\w\w+\b", text.lower())
    return found + [f"{first} {second}" for first, second in pairwise(found)]


ANALYZERS = (char_ngrams, word_ngrams)


@dataclass(frozen=True)
class Tfidf:
    """The n-grams of one kind: the `column` of each, and `idf`, float32 `(n-grams,)`.

    scikit-learn's `TfidfVectorizer` fits it (logarithm of counts, length 1). Weighing is done here
    in the same way, because importing scikit-learn takes longer than reading a poster.
    """

    analyzer: Callable[[str], list[str]]
    column: dict[str, int]
    idf: np.ndarray

    @classmethod
    def fit_transform(
        cls,
        analyzer: Callable[[str], list[str]],
        texts: Sequence[str],
        fewest_texts: int = FEWEST_TEXTS,
    ) -> tuple[Tfidf, sparse.csr_matrix]:
        """Take the n-grams of at least `fewest_texts` texts; else of any text, and of "poster".

        Returns the table, and the weights of its n-grams in the texts, `(texts, n-grams)`.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        options = {"analyzer": analyzer, "sublinear_tf": True, "dtype": np.float32}
        vectorizer = TfidfVectorizer(min_df=fewest_texts, **options)
        try:
            weights = vectorizer.fit_transform(texts)
        except ValueError:  # no n-gram is on so many posters
            weights = vectorizer.set_params(min_df=1).fit([*texts, "poster"]).transform(texts)
        column = {name: i for i, name in enumerate(vectorizer.get_feature_names_out())}
        return cls(analyzer, column, vectorizer.idf_.astype(np.float32)), weights

    def weigh(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return columns, int `(k,)`, and weights, float32 `(k,)`, of the n-grams of a text."""
        counts = Counter(self.column[name] for name in self.analyzer(text) if name in self.column)
        columns = np.fromiter(counts, np.int64, len(counts))
        weights = 1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))
        weights *= self.idf[columns]
        return columns, weights / max(float(np.linalg.norm(weights)), 1e-12)


class NgramModel:
    """Tf-idf of n-grams and a logistic regression a genre: texts in, logits `(n, genres)` out.

    `tables` has one `Tfidf` for each of `ANALYZERS`. `weights` is float16 `(n-grams, genres)`, the
    n-grams of all tables one after the other, and `bias` float32 `(genres,)`.
    """

    def __init__(self, tables: Sequence[Tfidf], weights: np.ndarray, bias: np.ndarray):
        self.tables = list(tables)
        self.weights = weights
        self.bias = bias

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        fewest_texts: int = FEWEST_TEXTS,
    ) -> NgramModel:
        """Fit a model to texts and their multi-hot labels `(n, genres)`.

        `weights`, `(n, genres)`, say how much each label counts: 1 by default, 0 where it is not
        known. A genre that fewer than 3 posters have, or lack, gets its frequency as a constant.
        """
        from scipy import sparse
        from sklearn.linear_model import LogisticRegression

        kinds = progress.bar(ANALYZERS, desc="counting n-grams")
        fitted = [Tfidf.fit_transform(analyzer, texts, fewest_texts) for analyzer in kinds]
        tables, parts = zip(*fitted, strict=True)
        features = sparse.hstack(parts, "csr")
        counted = np.ones(labels.shape) if weights is None else weights
        frequency = ((labels * counted).sum(axis=0) + 0.5) / (counted.sum(axis=0) + 1)
        bias = np.log(frequency / (1 - frequency)).astype(np.float32)
        coefficients = np.zeros((features.shape[1], labels.shape[1]), np.float32)
        for g in progress.bar(range(labels.shape[1]), desc="n-grams", unit=" genres"):
            known = np.flatnonzero(counted[:, g])
            if FEWEST <= labels[known, g].sum() <= len(known) - FEWEST:
                model = LogisticRegression(C=4, solver="liblinear", random_state=0)
                model.fit(features[known], labels[known, g], counted[known, g])
                coefficients[:, g], bias[g] = model.coef_[0], model.intercept_[0]
        return cls(tables, coefficients.astype(np.float16), bias)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return one logit a genre for each text, float32 `(n, genres)`."""
        logits = np.tile(self.bias.astype(np.float32), (len(texts), 1))
        ends = np.cumsum([len(table.idf) for table in self.tables])
        for table, weights in zip(self.tables, np.split(self.weights, ends[:-1]), strict=True):
            for row, text in zip(logits, texts, strict=True):
                columns, values = table.weigh(text)
                row += values @ weights[columns].astype(np.float32)
        return logits

    def save(self, file: Path) -> None:
        """Write an `.npz` file of plain arrays, which is loaded without executing anything."""
        arrays = {"weights": self.weights, "bias": self.bias}
        for i, table in enumerate(self.tables):
            arrays[f"names{i}"] = np.frombuffer("\n".join(table.column).encode(), np.uint8)
            arrays[f"idf{i}"] = table.idf
        np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, file: Path) -> NgramModel:
        """Read what `save` wrote; for another file NumPy, zip, zlib or this raise many kinds."""
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError("its tables would unpack to more than any of this project")
        with np.load(file, allow_pickle=False) as arrays:
            tables = []
            for i, analyzer in enumerate(ANALYZERS):
                names = arrays[f"names{i}"].tobytes().decode().split("\n")
                column = {name: number for number, name in enumerate(names)}
                tables.append(Tfidf(analyzer, column, arrays[f"idf{i}"]))
                if tables[-1].idf.shape != (len(column),):
                    raise ValueError("its n-grams and their frequencies do not fit each other")
            weights, bias = arrays["weights"], arrays["bias"]
            if weights.shape != (sum(len(table.idf) for table in tables), *bias.shape):
                raise ValueError("its weights do not fit its n-grams")
            for numbers in (weights, bias, *(table.idf for table in tables)):
                if numbers.dtype.kind != "f" or not np.isfinite(numbers).all():
                    raise ValueError("its tables hold what is no number")
            return cls(tables, weights, bias)


def typical_words(
    texts: Sequence[str], labels: np.ndarray, genres: Sequence[str]
) -> dict[str, list[str]]:
    """Return the words that are more often on a genre's posters than on the others.

    The measure is the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and
    Quinn, "Fightin' Words", 2008), counted in posters. `labels` is multi-hot `(n, genres)`.
    Returns at most 8 words a genre, the most typical first, some by chance; none without a poster.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(binary=True, min_df=5, token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        marks = vectorizer.fit_transform(texts)
    except ValueError:  # no word is on five posters
        return {genre: [] for genre in genres}
    names, total = vectorizer.get_feature_names_out(), np.asarray(marks.sum(axis=0)).ravel()
    found = {}
    for g, genre in enumerate(genres):
        inside = np.asarray(marks[labels[:, g] == 1].sum(axis=0)).ravel()
        outside, prior = total - inside, total / total.sum() * 100
        odds = np.log((inside + prior) / (inside.sum() + 100 - inside - prior))
        odds -= np.log((outside + prior) / (outside.sum() + 100 - outside - prior))
        spread = np.sqrt(1 / (inside + prior) + 1 / (outside + prior))
        best = np.argsort(-odds / spread)[:8]
        found[genre] = [names[i] for i in best if odds[i] > 0 and inside[i]]
    return found
