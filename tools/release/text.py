"""Teach MiniLM the genres of films by titles and names, of posters by their words, then of both.

    python tools/release/text.py --posters DIR --more DIR --films DIR --off-limits FILE --out DIR

Written in PyTorch, which takes half of Keras' time on a CPU; products are computed in bfloat16, for
which many CPUs have instructions. OUT gets a checkpoint after each epoch, `text.pt`, from which the
same command goes on. Its weights after the posters and after both are averaged ("Model soups",
Wortsman et al., 2022). In the end the encoder is written as `text.safetensors`, in its authors' own
names, the head as `text_head.npz`, and its logits of the validation posters as
`text_validation.npy`.

Films of Wikipedia have a last layer of their own: its genres are other people's than IMDb's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import ReleaseData, arguments, as_on_a_poster, load, targets, texts
from heads import keras_arrays, new_head
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from genre_utils.evaluation import macro_average_precision
from genre_utils.genres import IMDB_GENRES
from genre_utils.networks import TOKENIZER, cached_weights
from genre_utils.text import drop_lines, join_lines

TOKENS = 64  # more than the words of most posters, and half the time of 128
BATCH, HEAD_RATE, WARM = 32, 10, 0.06
FILM_RATE, POSTER_RATE, BOTH_RATE = 1e-4, 6e-5, 8e-5
BOTH_EPOCHS, FILMS_AMONG = 2, 1 / 3  # of the last phase, and the share of films that is in it
LAYERS, HEADS, WIDTH = 6, 12, 384


class Encoder(nn.Module):
    """all-MiniLM-L6-v2; token ids `(n, tokens)` to vectors `(n, 384)` of mean square 1."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.weights = nn.ParameterDict()
        for name, array in arrays.items():
            if "pooler" not in name and array.dtype.kind == "f":
                # The vectors of words stay: most words of a new poster stood on no training poster.
                trained = not name.startswith("embeddings.")
                key = name.replace(".", "/")
                self.weights[key] = nn.Parameter(torch.tensor(array), requires_grad=trained)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}/weight"], self.weights[f"{name}/bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weights = self.weights[f"{name}/weight"], self.weights[f"{name}/bias"]
        return F.layer_norm(x, (WIDTH,), *weights, 1e-12)

    def _layer(self, x: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
        count, length, _ = x.shape
        parts = (
            self._linear(x, f"{name}/attention/self/{part}")
            .view(count, length, HEADS, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        dropout = 0.1 if self.training else 0.0
        y = F.scaled_dot_product_attention(*parts, attn_mask=mask, dropout_p=dropout)
        y = self._linear(y.transpose(1, 2).reshape(x.shape), f"{name}/attention/output/dense")
        x = self._norm(x + F.dropout(y, dropout), f"{name}/attention/output/LayerNorm")
        y = F.gelu(self._linear(x, f"{name}/intermediate/dense"))
        y = self._linear(y, f"{name}/output/dense")
        return self._norm(x + F.dropout(y, dropout), f"{name}/output/LayerNorm")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        real = tokens != 0
        x = F.embedding(tokens, self.weights["embeddings/word_embeddings/weight"])
        x = x + self.weights["embeddings/position_embeddings/weight"][: tokens.shape[1]]
        x = x + self.weights["embeddings/token_type_embeddings/weight"][0]
        x = F.dropout(self._norm(x, "embeddings/LayerNorm"), 0.1, self.training)
        for layer in range(LAYERS):
            x = self._layer(x, real[:, None, None, :], f"encoder/layer/{layer}")
        share = real.float()[..., None]
        mean = (x * share).sum(1) / share.sum(1).clamp(min=1)
        return F.normalize(mean, dim=1) * WIDTH**0.5


class TextNetwork(nn.Module):
    """The encoder, a head for IMDb's genres, and one for Wikipedia's, used in training alone."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.encoder, self.head, self.wikipedia = Encoder(arrays), _head(), _head()


def _head() -> nn.Sequential:
    head = new_head(WIDTH)
    for layer in (head[1], head[4]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return head


def film_items(data: ReleaseData, epoch: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return text, labels and what is known of them, of all films."""
    draw = random.Random(100 + epoch)
    return [(as_on_a_poster(film, draw), film.labels, film.known) for film in data.films]


def poster_items(data: ReleaseData, epoch: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return text, labels and what is known of them (everything), of the training posters."""
    everything = np.ones(len(IMDB_GENRES), np.float32)
    keys = np.random.default_rng(epoch).integers(2**31, size=len(data.train))
    return [
        (join_lines(drop_lines(data.lines[poster], int(key))), data.labels[poster], everything)
        for poster, key in zip(data.train, keys, strict=True)
        if data.lines.get(poster)
    ]


def both_items(data: ReleaseData, epoch: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the items of all posters and of some films, other variants than before."""
    films = film_items(data, 50 + epoch)
    random.Random(epoch).shuffle(films)
    return poster_items(data, 10 + epoch) + films[: int(len(films) * FILMS_AMONG)]


def batches_of(lengths: list[int], seed: int) -> list[list[int]]:
    """Return shuffled batches of texts of like length."""
    draw = random.Random(seed)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + 12 * draw.random())
    batches = [order[i : i + BATCH] for i in range(0, len(order) - BATCH + 1, BATCH)]
    draw.shuffle(batches)
    return batches


def tokens_of(some: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, `TOKENS` at most of each."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return [encoded.ids for encoded in tokenizer.encode_batch(some)]


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Return token ids as one table, filled up with 0."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


@torch.no_grad()
def predict(network: TextNetwork, tokens: list[list[int]]) -> np.ndarray:
    """Return logits `(n, 24)`."""
    network.eval()
    parts = [
        network.head(network.encoder(padded(tokens[i : i + BATCH])))
        for i in range(0, len(tokens), BATCH)
    ]
    network.train()
    return torch.cat(parts).numpy()


def optimizer_of(network: TextNetwork) -> torch.optim.AdamW:
    """Return AdamW; heads learn faster than the encoder, and biases do not decay."""
    body = [p for p in network.encoder.parameters() if p.requires_grad]
    heads = [*network.head.parameters(), *network.wikipedia.parameters()]
    groups = [
        {"params": [p for p in body if p.ndim > 1], "weight_decay": 1e-2, "factor": 1},
        {"params": [p for p in body if p.ndim == 1], "weight_decay": 0.0, "factor": 1},
        {"params": heads, "weight_decay": 1e-2, "factor": HEAD_RATE},
    ]
    return torch.optim.AdamW(groups, fused=True)


def train_epoch(
    network: TextNetwork,
    optimizer: torch.optim.Optimizer,
    items: Sequence[tuple[str, np.ndarray, np.ndarray]],
    rate: float,
    epoch: int,
    epochs: int,
) -> None:
    """Train on texts, their labels and what is known of them, both `(24,)`; `epoch` is from 0.

    The learning rate rises to `rate` and falls along a cosine over all the epochs.
    """
    tokens = tokens_of([text for text, _, _ in items])
    batches = batches_of([len(row) for row in tokens], 100 + epoch)
    for step, batch in enumerate(batches, start=epoch * len(batches)):
        share = step / (epochs * len(batches))
        now = rate * min(1, share / WARM) * (0.49 * (1 + np.cos(np.pi * share)) + 0.02)
        for group in optimizer.param_groups:
            group["lr"] = now * group["factor"]
        labels, known = (torch.tensor(np.stack([items[i][k] for i in batch])) for k in (1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            vectors = network.encoder(padded([tokens[i] for i in batch]))
            # Of a film of Wikipedia something is unknown; of all others nothing.
            imdb = known.all(dim=1)[:, None]
            logits = torch.where(imdb, network.head(vectors), network.wikipedia(vectors))
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
        loss = (losses * known).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}, loss {float(loss.detach()):.4f}", flush=True)


def main() -> None:
    """Train on films, then on posters, and write the last epoch."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--film-epochs", type=int, default=3)
    parser.add_argument("--poster-epochs", type=int, default=3)
    options = parser.parse_args()
    data = load(options)
    torch.manual_seed(0)
    network = TextNetwork(load_file(cached_weights()))
    network.train()
    validation, truth = tokens_of(texts(data, data.validation)), targets(data, data.validation)
    optimizer, checkpoint, done = optimizer_of(network), options.out / "text.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        done = state["epochs"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    film_epochs = options.film_epochs if data.films else 0
    plan = [(film_items, FILM_RATE, e, film_epochs) for e in range(film_epochs)]
    plan += [
        (poster_items, POSTER_RATE, e, options.poster_epochs) for e in range(options.poster_epochs)
    ]
    plan += [(both_items, BOTH_RATE, e, BOTH_EPOCHS) for e in range(BOTH_EPOCHS)]
    after_posters = options.out / "text-posters.pt"
    for number, (items_of, rate, epoch, epochs) in enumerate(plan):
        if number < done:
            continue
        if epoch == 0:  # moments of the other task would point elsewhere
            optimizer = optimizer_of(network)
        items = [item for item in items_of(data, epoch) if item[0]]
        train_epoch(network, optimizer, items, rate, epoch, epochs)
        answers = predict(network, validation)
        figure = macro_average_precision(truth, answers)
        print(f"epoch {number + 1}: validation macro mAP {figure:.4f}", flush=True)
        state = {"epochs": number + 1, "network": network.state_dict()}
        torch.save(state | {"optimizer": optimizer.state_dict()}, checkpoint)
        if items_of is poster_items and epoch == epochs - 1:
            torch.save(network.state_dict(), after_posters)
    before, after = torch.load(after_posters), network.state_dict()
    network.load_state_dict({name: (before[name] + after[name]) / 2 for name in after})
    answers = predict(network, validation)
    print(f"their mean: validation macro mAP {macro_average_precision(truth, answers):.4f}")
    save(network, options.out)
    np.save(options.out / "text_validation.npy", answers)


def save(network: TextNetwork, folder: Path) -> None:
    """Write the encoder in its authors' names, and the head as `head/0` to `head/3`, Keras' way."""
    weights = network.encoder.weights.items()
    save_file(
        {name.replace("/", "."): weight.detach().numpy() for name, weight in weights},
        folder / "text.safetensors",
    )
    arrays = {f"head/{i}": array for i, array in enumerate(keras_arrays(network.head))}
    np.savez(folder / "text_head.npz", **arrays)


if __name__ == "__main__":
    main()
