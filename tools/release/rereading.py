"""What does another detector's reading of the posters cost the models of words?

    python tools/release/rereading.py --posters DIR --off-limits FILE --out DIR --words words.jsonl

`--words` is what `python -m genre_utils read --data DIR --words words.jsonl` wrote; the readings in
the folder itself were made by RapidOCR as its manual calls it. MiniLM, as its authors left it, and
the n-grams are fitted on four fifths of the posters' words and predict the last fifth, five times,
once with each reading. Prints each fold's macro mAP, and writes `rereading.json`. No test poster
takes part.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from data import ReleaseData, arguments, load, targets
from safetensors.numpy import load_file
from sklearn.model_selection import KFold
from text import POSTER_RATE, TextNetwork, optimizer_of, predict, tokens_of, train_epoch

from genre_utils import ocr
from genre_utils.evaluation import macro_average_precision
from genre_utils.networks import cached_weights
from genre_utils.ocr import Line
from genre_utils.text import NgramModel, drop_lines, join_lines

FOLDS, EPOCHS = 5, 3
NGRAM_WEIGHT = 0.5  # of the n-grams' logits beside MiniLM's


def main() -> None:
    """Fit and score by both readings in turn, fold by fold."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--words", type=Path, required=True, help="the other readings")
    options = parser.parse_args()
    data = load(options)
    posters = sorted(data.labels)
    cache = ocr.WordCache(options.words)
    again = {poster: cache.get(ocr.hash_file(data.pictures[poster])) for poster in posters}
    here = [p for p in posters if "detector" in cache.settings(ocr.hash_file(data.pictures[p]))]
    if lacking := sorted({*posters} - {*here}):
        raise SystemExit(
            f"{options.words} lacks {len(lacking)} posters, such as {lacking[0]}, or has readings "
            "of them that were made elsewhere: read them with `read --anew`."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    readings = {"before": data.lines, "again": again}
    folds = defaultdict(list)
    for fold in KFold(FOLDS, shuffle=True, random_state=0).split(posters):
        fit_ids, ids = ([posters[i] for i in part] for part in fold)
        truth = targets(data, ids)
        for reading, lines in readings.items():
            text, ngrams = logits_of(data, lines, fit_ids, ids)
            for model, logits in (("words", text + NGRAM_WEIGHT * ngrams), ("n-grams", ngrams)):
                folds[f"{reading} {model}"].append(macro_average_precision(truth, logits))
        print({name: round(figures[-1], 4) for name, figures in folds.items()}, flush=True)
        means = {name: float(np.mean(figures)) for name, figures in folds.items()}
        content = {"posters": len(posters), "folds": folds, "means": means}
        (options.out / "rereading.json").write_text(json.dumps(content, indent=1), "utf-8")
    print(means)


def logits_of(
    data: ReleaseData,
    lines: Mapping[str, Sequence[Line]],
    fit_ids: Sequence[str],
    ids: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Fit both models on the words of `fit_ids`; returns their logits of `ids`, `(n, 24)` each."""
    with_words = [poster for poster in fit_ids if lines.get(poster)]
    labels = targets(data, with_words)
    ngrams = NgramModel.fit([join_lines(lines[poster]) for poster in with_words], labels)
    torch.manual_seed(0)
    network = TextNetwork(load_file(cached_weights()))
    network.train()
    optimizer = optimizer_of(network)
    everything = np.ones(labels.shape[1], np.float32)
    for epoch in range(EPOCHS):
        keys = np.random.default_rng(epoch).integers(2**31, size=len(with_words))
        items = [
            (join_lines(drop_lines(lines[poster], int(key))), truth, everything)
            for poster, key, truth in zip(with_words, keys, labels, strict=True)
        ]
        train_epoch(network, optimizer, items, POSTER_RATE, epoch, EPOCHS)
    texts = [join_lines(lines.get(poster) or []) for poster in ids]
    return predict(network, tokens_of(texts)), ngrams.logits(texts)


if __name__ == "__main__":
    main()
