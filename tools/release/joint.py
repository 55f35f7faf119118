"""Fine-tune the text model with a joint head, and add second heads to the picture networks.

    python tools/release/joint.py --posters DIR --more DIR --off-limits FILE --out DIR --model DIR

MODEL is a model folder that `model.py` wrote. The backbones of its picture networks stay as they
are, to the byte, and everything here learns from the features that they give in 8 bits of the
training posters:

- Each picture network gets a second head, which the asymmetric loss teaches.
- A joint head, on the features of pictures and words, and the text model are fine-tuned together,
  `RUNS` times from one start. The weights of all runs are averaged ("Model soups", Wortsman et al.,
  2022).

The sum is fitted, and the thresholds are tuned, on the validation posters; a second head's logits
are brought to the scale of the first one's on their features. Written in PyTorch. OUT gets the
weights after each run, from which the same command goes on, and at the end the folder `joint`. With
`--test` the public test posters are scored, once, and the figures stand in `joint/metrics.json`;
without it no test poster is opened.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from data import ReleaseData, arguments, load, targets, texts
from heads import UNITS, keras_arrays, new_head
from losses import asymmetric_loss
from model import cross_validated, picture_logits, read_test, report, text_network
from text import BATCH as TEXTS
from text import LAYERS, WIDTH, TextNetwork, batches_of, padded, save, tokens_of
from torch import nn

from genre_utils import evaluation, fusion, models, networks, saved_model
from genre_utils.genres import IMDB_GENRES
from genre_utils.networks.arrays import load_arrays, save_arrays
from genre_utils.networks.folder import read_config
from genre_utils.networks.int8 import to_int8
from genre_utils.networks.onnx_graph import HEAD, PARTS
from genre_utils.ocr import Line
from genre_utils.sources import normal_id
from genre_utils.support import replacing, sha256_of, short_hash, write_json
from genre_utils.text import NgramModel, drop_lines, join_lines

EPOCHS, BATCH, RATE = 4, 128, 5e-4  # of a head on features that do not change
# Fine-tuning with the text model: epochs, learning rate, and the weight of the text model's loss.
RUNS = ((3, 1e-4, 1.0), (2, 5e-5, 0.5), (3, 1e-4, 1.0))
HEAD_RATE, WARM = 4, 0.06
HIDDEN_PICTURES = 0.3  # of the posters in a step: their words must do
# N-grams' weights in such steps take half the room, and give the same macro mAP.
NGRAM_STEP = 1 / 64


def picture_features(
    data: ReleaseData, posters: Sequence[str], model: saved_model.SavedModel, folder: Path
) -> np.ndarray:
    """Return the features of whole posters, float16 `(n, features)`; they are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    network = [model.card["sha256"][name] for name in saved_model.PICTURE_FILES]
    file = folder / f"features-{short_hash(json.dumps([network, model.image_size, *posters]))}.npy"
    if not file.exists():
        wide = networks.with_features(model.network)
        outputs = picture_logits(wide, [data.pictures[p] for p in posters], model.image_size)
        with replacing(file) as temporary:
            np.save(temporary, outputs[:, len(IMDB_GENRES) :].astype(np.float16))
    return np.load(file)


def check_posters(model: saved_model.SavedModel, data: ReleaseData) -> None:
    """End the program unless the model's card lists all training and no validation posters."""
    known = set(model.card["training_ids"])
    train, validation = (
        {short_hash(normal_id(poster)) for poster in part} for part in (data.train, data.validation)
    )
    if not train <= known or known & validation:
        sys.exit("MODEL was trained on other posters than these: name the folders that it had.")


def cosine(share: float) -> float:
    """Return what is left of the learning rate after a share of the steps: a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def train_head(
    features: torch.Tensor, labels: torch.Tensor, loss_of: Callable, seed: int
) -> nn.Sequential:
    """Train a head on features `(n, features)` with a mean of 0 and a deviation of 1."""
    torch.manual_seed(seed)
    head, draw = new_head(features.shape[1]), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=1e-2)
    batches = len(features) // BATCH
    for epoch in range(EPOCHS):
        order = draw.permutation(len(features))
        for i, rows in enumerate(np.array_split(order, batches)):
            for group in optimizer.param_groups:
                group["lr"] = RATE * cosine((epoch + i / batches) / EPOCHS)
            loss = loss_of(head(features[rows].float()), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


class Scale:
    """Brings features to a mean of 0 and a deviation of 1, and puts that into a head's layer."""

    def __init__(self, features: np.ndarray):
        self.mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.deviation = features.std(axis=0, dtype=np.float64).astype(np.float32) + 1e-4

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return features `(n, features)` as the head was taught them."""
        return (features - self.mean) / self.deviation

    def weights(self, head: nn.Sequential) -> list[np.ndarray]:
        """Return the arrays of a head that takes the features as they are, in Keras' order."""
        kernel, bias, *last = keras_arrays(head)
        kernel = kernel / self.deviation[:, None]
        return [kernel, bias - self.mean @ kernel, *last]


def apply_head(weights: Sequence[np.ndarray], features: np.ndarray) -> np.ndarray:
    """Return the logits of a head, `(n, 24)`."""
    kernel, bias, last, shift = weights
    return np.maximum(features @ kernel + bias, 0) @ last + shift


def widen_heads(
    file: Path, folder: Path, features: np.ndarray, labels: torch.Tensor, train: np.ndarray
) -> None:
    """Write a `picture.json` into `folder` whose networks have a second head beside their own.

    A network's logits are the mean of both, which stand in one head with a hidden layer twice as
    wide. On the posters that are not in `train` the logits of both have one deviation. All other
    arrays stay as they are. Ends the program for a network that has a second head.
    """
    (config, ranges), arrays = read_config(file), load_arrays(file.with_suffix(".safetensors"))
    held_out = np.setdiff1d(np.arange(len(features)), train)
    start, layers = 0, config["config"]["layers"]
    parts = {f"{part}/": one for one in layers if (part := one["config"]["name"]) in PARTS}
    for place, part in (parts or {"": config}).items():
        (head,) = (one for one in part["config"]["layers"] if one["config"]["name"] == HEAD)
        dense = [one for one in head["config"]["layers"] if one["class_name"] == "Dense"]
        paths = [f"{place}{HEAD}/{one['config']['name']}" for one in dense]
        names = [f"{path}/{kind}" for path in paths for kind in ("kernel", "bias")]
        old = [arrays[name].wide() for name in names]
        if len(old[1]) != UNITS:
            sys.exit(f"{file} has a second head already: name a folder that model.py wrote.")
        own = features[:, start : start + len(old[0])].astype(np.float32)
        start += len(old[0])
        scale = Scale(own[train])
        inputs = torch.from_numpy(scale(own[train]))
        new = scale.weights(train_head(inputs, labels[train], asymmetric_loss, 0))
        before, beside = (apply_head(weights, own[held_out]) for weights in (old, new))
        ratio = before.std() / beside.std()
        both = [
            np.concatenate([old[0], new[0]], axis=1),
            np.concatenate([old[1], new[1]]),
            np.concatenate([old[2], new[2] * ratio]) / 2,
            (old[3] + new[3] * ratio) / 2,
        ]
        arrays |= to_int8(config, dict(zip(names, both, strict=True)))[0]
        dense[0]["config"]["units"] *= 2
        dense[1]["build_config"]["input_shape"][-1] *= 2
    save_arrays(arrays, folder / file.with_suffix(".safetensors").name)
    content = {"network": config, "ranges": ranges}
    (folder / file.name).write_text(json.dumps(content), "utf-8")


def torch_network(file: Path) -> TextNetwork:
    """Build the text model with the weights of a model folder's `text.json`."""
    arrays = {name: a.wide() for name, a in load_arrays(file.with_suffix(".safetensors")).items()}
    found = {
        "embeddings.word_embeddings.weight": arrays["encoder/word/embeddings"],
        "embeddings.position_embeddings.weight": arrays["encoder/place/embeddings"],
        # It is part of each place's vector already.
        "embeddings.token_type_embeddings.weight": np.zeros((1, WIDTH), np.float32),
    }

    def dense(name: str, layer: str, outputs: int) -> None:
        found[f"{name}.weight"] = arrays[f"encoder/{layer}/kernel"].reshape(-1, outputs).T
        found[f"{name}.bias"] = arrays[f"encoder/{layer}/bias"].reshape(outputs)

    def norm(name: str, layer: str) -> None:
        found[f"{name}.LayerNorm.weight"] = arrays[f"encoder/{layer}/gamma"]
        found[f"{name}.LayerNorm.bias"] = arrays[f"encoder/{layer}/beta"]

    norm("embeddings", "embedding_norm")
    for i in range(LAYERS):
        name, layer = f"encoder.layer.{i}", f"layer{i}"
        for part in ("query", "key", "value"):
            dense(f"{name}.attention.self.{part}", f"{layer}_attention/{part}", WIDTH)
        dense(f"{name}.attention.output.dense", f"{layer}_attention/attention_output", WIDTH)
        norm(f"{name}.attention.output", f"{layer}_attention_norm")
        dense(f"{name}.intermediate.dense", f"{layer}_widen", 4 * WIDTH)
        dense(f"{name}.output.dense", f"{layer}_narrow", WIDTH)
        norm(f"{name}.output", f"{layer}_norm")
    network = TextNetwork({name: np.ascontiguousarray(a) for name, a in found.items()})
    kernels = [name for name in arrays if name.startswith("head/") and name.endswith("/kernel")]
    first, last = sorted(kernels, key=lambda name: -arrays[name].size)
    with torch.no_grad():
        for layer, name in ((network.head[1], first), (network.head[4], last)):
            layer.weight.copy_(torch.tensor(arrays[name].T))
            layer.bias.copy_(torch.tensor(arrays[name.replace("kernel", "bias")]))
    return network


@torch.no_grad()
def vectors_of(network: TextNetwork, tokens: Sequence[list[int]]) -> np.ndarray:
    """Return the encoder's vectors of texts, float32 `(n, 384)`."""
    network.eval()
    order = np.argsort([len(row) for row in tokens], kind="stable")
    found = np.empty((len(tokens), WIDTH), np.float32)
    for rows in np.split(order, range(TEXTS, len(order), TEXTS)):
        found[rows] = network.encoder(padded([tokens[i] for i in rows])).numpy()
    return found


class TrainingPosters(NamedTuple):
    """The posters with words that are learned from: lines, features `(n, features)`, labels.

    The features of the pictures are scaled; `mean` and `deviation` scale the encoder's vectors.
    """

    lines: list[list[Line]]
    pictures: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor
    labels: torch.Tensor

    def inputs(self, rows: Sequence[int], vectors: torch.Tensor) -> torch.Tensor:
        """Return the joint head's inputs; the pictures of some posters are hidden."""
        shown = torch.rand(len(rows), 1) >= HIDDEN_PICTURES
        words = (vectors - self.mean) / self.deviation
        return torch.cat([self.pictures[rows].float() * shown, words], 1)


def fine_tune(
    network: TextNetwork,
    head: nn.Sequential,
    posters: TrainingPosters,
    seed: int,
    epochs: int,
    rate: float,
    own_loss: float,
) -> None:
    """Train text model and joint head together; `own_loss` weighs the text model's own loss."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    body = [weight for weight in network.encoder.parameters() if weight.requires_grad]
    heads = [*network.head.parameters(), *head.parameters()]
    groups = [{"params": body, "factor": 1}, {"params": heads, "factor": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2, fused=True)
    loss_of = F.binary_cross_entropy_with_logits
    nn.ModuleList([network, head]).train()
    for epoch in range(epochs):
        keys = draw.integers(2**31, size=len(posters.lines))
        varied = (drop_lines(one, int(k)) for one, k in zip(posters.lines, keys, strict=True))
        tokens = tokens_of([join_lines(lines) for lines in varied])
        batches = batches_of([len(row) for row in tokens], 10 * seed + epoch)
        for i, rows in enumerate(batches):
            share = (epoch + i / len(batches)) / epochs
            now = rate * min(1, share / WARM) * (0.98 * cosine(share) + 0.02)
            for group in optimizer.param_groups:
                group["lr"] = now * group["factor"]
            with torch.autocast("cpu", torch.bfloat16):
                vectors = network.encoder(padded([tokens[row] for row in rows]))
            vectors, labels = vectors.float(), posters.labels[rows]
            loss = loss_of(head(posters.inputs(rows, vectors)), labels)
            loss = loss + own_loss * loss_of(network.head(vectors), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(body, 1.0)
            optimizer.step()
        print(f"epoch {epoch + 1} of {epochs}, loss {float(loss.detach()):.4f}", flush=True)


def mean_of_runs(
    network: TextNetwork, head: nn.Sequential, posters: TrainingPosters, folder: Path, name: str
) -> None:
    """Set both to the mean of their weights after each of `RUNS`, all of which begin with these."""
    both = nn.ModuleList([network, head])
    start = {name: weight.clone() for name, weight in both.state_dict().items()}
    ends = []
    for run, settings in enumerate(RUNS):
        file = folder / f"joint-{name}-{run}.pt"
        if not file.exists():
            both.load_state_dict(start)
            fine_tune(network, head, posters, run, *settings)
            with replacing(file) as temporary:
                torch.save(both.state_dict(), temporary)
        ends.append(torch.load(file))
    both.load_state_dict({key: sum(end[key] for end in ends) / len(ends) for key in start})
    both.eval()


def save_words(
    network: TextNetwork,
    head: Sequence[np.ndarray],
    before: saved_model.WordsModel,
    folder: Path,
) -> saved_model.WordsModel:
    """Write text model, joint head and n-grams into a folder; returns them as they were in floats.

    `head` are the joint head's arrays in Keras' order. The n-grams are those of `before`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        save(network, Path(temporary))
        of_text = text_network(Path(temporary))
    joint = models.build_head(len(head[0]), len(IMDB_GENRES))
    joint.name = "joint"
    joint.set_weights(head)
    steps = np.round(before.ngrams.weights.astype(np.float32) / NGRAM_STEP) * NGRAM_STEP
    ngrams = NgramModel(before.ngrams.tables, steps.astype(np.float16), before.ngrams.bias)
    networks.save_folder_network(of_text, folder / saved_model.TEXT_FILES[0], int8=True)
    networks.save_folder_network(joint, folder / saved_model.JOINT_FILES[0], int8=True)
    ngrams.save(folder / saved_model.NGRAMS_FILE)
    return saved_model.WordsModel(of_text, ngrams, before.tokenizer, joint)


def fit_sum(
    folder: Path, floats: saved_model.WordsModel, data: ReleaseData, features: np.ndarray
) -> None:
    """Fit the sum of the networks in a folder on the validation posters, and write its card.

    `features` are those of the validation posters' pictures. Prints what the parts reach alone and
    together, and by how much their rounding from `floats` to 8 bits moves the scores.
    """
    parts = saved_model.PICTURE_FILES, saved_model.TEXT_FILES, saved_model.JOINT_FILES
    picture, of_text, joint = (networks.load_folder_network(folder / f[0], True) for f in parts)
    card, truth = networks.read_card(folder), targets(data, data.validation)
    some = texts(data, data.validation)
    has_text = np.array([bool(one) for one in some])
    pictures = [data.pictures[poster] for poster in data.validation]
    logits = {"picture": picture_logits(picture, pictures, tuple(card["image_size"]))}
    logits |= replace(floats, network=of_text, joint=joint).logits(some, features)
    for name, part in logits.items():
        print(f"{name}: {evaluation.macro_average_precision(truth, part):.4f}")
    beside = {name: part[has_text] for name, part in logits.items()}
    reached = cross_validated(beside, truth[has_text])
    del beside["joint"]
    print(f"sum in five folds: {reached:.4f}")
    print(f"... without the joint head: {cross_validated(beside, truth[has_text]):.4f}")

    fusions = fusion.fit_fusions(logits, truth, has_text)
    scores, _ = fusion.fuse(fusions, logits, has_text)
    unrounded, _ = fusion.fuse(fusions, logits | floats.logits(some, features), has_text)
    difference = np.abs(scores - unrounded)
    print(
        f"8 bits of the text model and the joint head: scores differ by {difference.mean():.4f} on "
        f"average, {difference.max():.4f} at most"
    )
    files = {*card["sha256"], *saved_model.JOINT_FILES}
    card["sha256"] = {name: sha256_of(folder / name) for name in sorted(files)}
    card["sums"] = {name: fusion.to_card(fitted) for name, fitted in fusions.items()}
    thresholds = evaluation.tune_thresholds(truth, scores)
    card |= {"thresholds": [round(float(t), 6) for t in thresholds], "metrics": {}}
    card["training"]["validation_macro_map"] = round(reached, 4)
    write_json(folder / "model.json", card)


def main() -> None:
    """Train, fit the sum on validation, save, and with `--test` report."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--test", action="store_true", help="score the public test posters")
    options = parser.parse_args()
    data = load(options)
    model = saved_model.load_model(options.model, runtime=True)
    check_posters(model, data)
    count, posters = len(data.validation), data.validation + data.train
    labels = torch.from_numpy(targets(data, posters))
    train = np.arange(count, len(posters))
    features = picture_features(data, posters, model, options.out)
    folder = options.out / "joint"
    figures = shutil.ignore_patterns("metrics.json", "MODEL_CARD.md")  # they are MODEL's
    shutil.copytree(options.model, folder, ignore=figures, dirs_exist_ok=True)
    widen_heads(options.model / saved_model.PICTURE_FILES[0], folder, features, labels, train)

    some = texts(data, posters)
    rows = np.array([row for row in train if some[row]])
    network = torch_network(options.model / saved_model.TEXT_FILES[0])
    words = vectors_of(network, tokens_of([some[row] for row in rows]))
    width, raw = features.shape[1], np.hstack([features[rows].astype(np.float32), words])
    scale = Scale(raw)
    scaled = torch.from_numpy(scale(raw).astype(np.float16))
    head = train_head(scaled, labels[rows], F.binary_cross_entropy_with_logits, 0)
    lines = [data.lines[posters[row]] for row in rows]
    of_words = (torch.from_numpy(part[width:]) for part in (scale.mean, scale.deviation))
    training = TrainingPosters(lines, scaled[:, :width], *of_words, labels[rows])
    settings = RUNS, UNITS, HEAD_RATE, WARM, HIDDEN_PICTURES, model.card["sha256"]
    name = short_hash(json.dumps([settings, [(posters[row], some[row]) for row in rows]]))
    mean_of_runs(network, head, training, options.out, name)

    floats = save_words(network, scale.weights(head), model.words, folder)
    fit_sum(folder, floats, data, features[:count].astype(np.float32))
    if options.test:
        report(folder, data, read_test(options.posters))


if __name__ == "__main__":
    main()
