"""Fit the n-grams on the words of all posters and on the titles and names of films.

    python tools/release/ngrams.py --posters DIR --more DIR --films DIR --off-limits FILE --out DIR

Writes `ngrams.npz`, and its logits of the validation posters as `ngrams_validation.npy`. A film
counts `--film-weight` times as much as a poster; 0 leaves films out.
"""

from __future__ import annotations

import numpy as np
from data import arguments, load, targets, texts

from genre_utils.evaluation import macro_average_precision
from genre_utils.text import NgramModel


def main() -> None:
    """Fit, score validation, and write."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--film-weight", type=float, default=0.3)
    options = parser.parse_args()
    data = load(options)
    posters = [poster for poster in data.train if data.lines.get(poster)]
    films = data.films if options.film_weight else []
    some = texts(data, posters) + [" ".join([film.title, *film.names]) for film in films]
    labels = np.concatenate([targets(data, posters), *([film.labels] for film in films)])
    weights = np.ones_like(labels)
    for row, film in enumerate(films, start=len(posters)):
        weights[row] = options.film_weight * film.known
    model = NgramModel.fit(some, labels, weights, fewest_texts=3)
    answers = model.logits(texts(data, data.validation))
    figure = macro_average_precision(targets(data, data.validation), answers)
    print(f"validation macro mAP {figure:.4f}")
    model.save(options.out / "ngrams.npz")
    np.save(options.out / "ngrams_validation.npy", answers)


if __name__ == "__main__":
    main()
