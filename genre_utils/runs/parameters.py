"""What the notebook's numbers mean on this machine, and how long they will take."""

import json
import re
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from genre_utils import machine, models
from genre_utils.training import even_rows

ACCELERATED = {"EPOCHS": 8, "WORD_EPOCHS": 4}
LARGEST = 2**63
# NumPy takes seeds of 32 bits, and the text network has the next one.
RANGES = {"BATCH_SIZE": (1, 100_000), "LIMIT": (0, LARGEST), "SEED": (0, 2**32 - 2)}
RANGES |= {"TOP": (1, LARGEST), "SHOWN": (0, LARGEST)}
HINGES = ("Hinge", "SquaredHinge")  # losses of Keras that take logits and do not say so
OF_KERAS = ("_dtype", "_dtype_policy")  # attributes that every loss has
TIMED = 32  # posters that tell how long a training will take
WHOLE_EPOCHS = 20  # of a network that learns from its first weight, as the published one does


def check_numbers(**numbers: int) -> None:
    """Raise `ValueError` for parameters, given by name, that are no numbers within `RANGES`."""
    for name, number in numbers.items():
        least, most = RANGES[name]
        if type(number) is not int or not least <= number <= most:
            known = f"from {least} to {most}" if most < LARGEST else f"of {least} or more"
            raise ValueError(f"{name} is {number!r}: give a whole number {known}.")


def choose_epochs(epochs: int, model: str | None, accelerated: bool) -> int:
    """Turn EPOCHS, or WORD_EPOCHS where `model` is `None`, into epochs of fine-tuning.

    -1 follows the hardware: on a CPU the head alone, on an accelerator 8, or 4 of the words. A
    network that is not pretrained gets the 20 that the published one's authors gave it. Raises
    `ValueError` for other negative numbers, and for such a network with 0.
    """
    name = "EPOCHS" if model else "WORD_EPOCHS"
    whole = model is not None and model not in models.PRETRAINED
    if whole and epochs == 0:
        raise ValueError(
            f"EPOCHS is 0, which trains heads on ImageNet's backbones alone, and {model} has none: "
            "give EPOCHS of 1 or more."
        )
    if type(epochs) is not int or epochs < -1:
        raise ValueError(
            f"{name} is {epochs!r}: give a whole number of 0 or more, or -1 to follow the hardware."
        )
    by_hardware = WHOLE_EPOCHS if whole else ACCELERATED[name] * accelerated
    return by_hardware if epochs == -1 else epochs


def loss_settings(loss: keras.losses.Loss) -> dict[str, Any]:
    """Return the config of a loss, for a run's settings; raises `ValueError` without logits.

    Of Keras' own losses it takes those that ask of each genre by itself, with logits. What JSON can
    hold of the attributes of another class is part of its config, whatever that returns.
    """
    is_loss = isinstance(loss, keras.losses.Loss)
    config = loss.get_config() if is_loss else {"from_logits": False}
    kind, is_own = type(loss).__name__, not type(loss).__module__.startswith("keras.")
    one_by_one = is_own or kind.startswith("Binary")
    if kind not in HINGES and not (one_by_one and config.get("from_logits", is_own)):
        why = "without from_logits=True" if one_by_one else "which is not binary"
        given = f"{kind}, {why}" if is_loss else f"{loss!r}, which is no keras.losses.Loss"
        raise ValueError(
            f"loss is {given}: the networks give logits, so take a binary loss of keras.losses, "
            "such as keras.losses.BinaryFocalCrossentropy(from_logits=True), or a subclass of "
            "keras.losses.Loss that takes logits."
        )
    if is_own:
        found = {
            name: _as_json(value) for name, value in vars(loss).items() if name not in OF_KERAS
        }
        config = {name: value for name, value in found.items() if value is not None} | config
    # Keras numbers the losses of a class, and goes on counting when a cell runs again.
    name = config.get("name", "")
    plain = re.sub(r"_\d+$", "", name)
    own = {"name": plain if plain.replace("_", "") == kind.replace("_", "").lower() else name}
    try:
        return json.loads(json.dumps(config | own))
    except TypeError as error:
        raise ValueError(
            f"The settings of {kind} cannot be kept ({error}): let its get_config return numbers, "
            "texts and lists."
        ) from None


def _as_json(value: Any) -> Any:
    """Return what JSON makes of an attribute, arrays and losses included; `None` if it cannot."""
    try:
        return json.loads(json.dumps(value, default=_of_object))
    except Exception:  # whatever an object says
        return None


def _of_object(value: Any) -> Any:
    if isinstance(value, keras.losses.Loss):
        return value.get_config()
    # Networks, such as a teacher's, are left out: Keras numbers the names of their layers anew.
    is_set = isinstance(value, (set, frozenset))
    return sorted(value, key=str) if is_set else keras.ops.convert_to_numpy(value).tolist()


def forecast(networks: Iterable[keras.Model], fit: int, held_out: int, epochs: int) -> str:
    """Say how long a training of the picture will take, from what its networks take here and now.

    `fit` posters are learned from, `held_out` ones validate each epoch.
    """
    second = sum(map(seconds_a_poster, networks))
    # Forward and backward cost about three times forward alone.
    seconds = second * (fit + held_out) + epochs * second * (3 * fit + held_out)
    return (
        f"The networks take {1000 * second:.0f} ms a poster here: about {seconds / 60:.1f} minutes "
        f"for {fit} posters" + (f" and {epochs} epochs of fine-tuning." if epochs else ".")
    )


def seconds_a_poster(network: keras.Model) -> float:
    """Measure what one poster costs the network in prediction, on this machine, in seconds."""
    rows, batch = even_rows(TIMED, machine.posters_at_once())
    pixels = np.zeros((len(rows), *network.input_shape[1:]), np.uint8)
    network.predict(pixels, batch_size=batch, verbose=0)  # the first call compiles
    start = time.perf_counter()
    network.predict(pixels, batch_size=batch, verbose=0)
    return (time.perf_counter() - start) / len(rows)
