"""Where the networks of a training begin: at ImageNet's weights, or at the released model's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from genre_utils import dataset, networks
from genre_utils.runs.folder import ENCODER, Run
from genre_utils.saved_model import RELEASED, load_model
from genre_utils.support import did_you_mean

STARTS = ("imagenet", "posters")  # the weights that a training may start from


def check_start(start: str, data: dataset.Dataset) -> None:
    """Raise `ValueError` for a START that is unknown, or that would know the validation posters."""
    if start not in STARTS:
        known = ", ".join(map(repr, STARTS))
        raise ValueError(f"START is {start!r}: give one of {known}.{did_you_mean(start, STARTS)}")
    if start == "posters" and dataset.is_public(data.posters["id"]):
        raise ValueError(
            "START is 'posters', and these are the public posters: the released model has learned "
            "from them, and no figure of this training would hold. Give START='imagenet'."
        )


def start_from(start: str, pictures: Mapping[str, keras.Model], names: Mapping[str, str]) -> None:
    """Set the backbones of a training to the released model's weights, if START is `"posters"`.

    `names` are those of the networks by part. One that the release does not have stays as it is,
    which a line says.
    """
    if start != "posters":
        return
    released = load_model(has_text=False)
    parts = networks.averaged_networks(released.network)
    known = dict(zip(_released_names(), parts, strict=False))
    for part, network in pictures.items():
        if names[part] in known:
            backbone = known[names[part]].get_layer("backbone")
            network.get_layer("backbone").set_weights(backbone.get_weights())
        else:
            print(f"The released model has no {names[part]}, which does not start from it.")


def choose_encoder(start: str, read_text: bool, folder: Path, restart: bool) -> str:
    """Return the name of the sentence encoder of a training, and print a sentence on it.

    The name is empty where no words are read. A training that was begun in `folder` with the
    released encoder keeps to it. See `networks.choose_encoder`.
    """
    if not read_text:
        return ""
    begun = None if restart else Run(folder, {}).begun.get(ENCODER)
    ours = start == "posters" or begun == networks.RELEASED_ENCODER
    name, about = networks.choose_encoder(ours)
    print(about)
    return name


def start_card(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the card of the released model, for `save_model`, if a training began with its parts.

    These are networks of the picture, or the sentence encoder, which is also taken where the
    authors' is not to be had.
    """
    pictures = {settings["model"], settings["second_model"]} & set(_released_names())
    has_pictures = settings["start"] == "posters" and pictures
    is_ours = settings["encoder"] == networks.RELEASED_ENCODER
    return networks.read_card(RELEASED) if has_pictures or is_ours else None


def _released_names() -> list[str]:
    training = networks.read_card(RELEASED)["training"]
    return [name for key in ("model", "second_model") if (name := training.get(key))]
