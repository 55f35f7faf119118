"""Training from the released model's own parts."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre_utils import models, networks, runs
from genre_utils.dataset import load_dataset
from genre_utils.networks import minilm
from genre_utils.saved_model import load_model

SPLITS = Path(models.__file__).parent / "splits"


@pytest.fixture(scope="module")
def own_posters(sample_folder):
    return load_dataset(sample_folder, limit=30)


def test_start_is_checked_against_the_posters(own_posters):
    runs.check_start("imagenet", own_posters)
    runs.check_start("posters", own_posters)
    with pytest.raises(ValueError, match="START is 'release': give one of 'imagenet', 'posters'"):
        runs.check_start("release", own_posters)
    with pytest.raises(ValueError, match="Did you mean 'posters'"):
        runs.check_start("poster", own_posters)
    public = (SPLITS / "imdb_test_ids.txt").read_text().split()
    data = replace(own_posters, posters=pd.DataFrame({"id": public}))
    with pytest.raises(ValueError, match="START is 'posters', and these are the public posters"):
        runs.check_start("posters", data)


def test_the_released_encoder_is_taken_without_looking_for_the_authors(monkeypatch):
    monkeypatch.setattr(minilm, "_authors_weights", lambda: pytest.fail("looked for"))
    name, about = networks.choose_encoder(released=True)
    assert about == "The sentence encoder is the released model's."
    encoder = networks.load_encoder(name)
    theirs = load_model().words.network.get_layer("encoder").get_weights()
    for ours, weights in zip(encoder.get_weights(), theirs, strict=True):
        np.testing.assert_array_equal(ours, weights)


def test_a_training_keeps_to_the_encoder_that_it_began_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(networks, "choose_encoder", lambda ours: (f"ours: {ours}", "about it"))
    choose = partial(runs.choose_encoder, "imagenet", True, tmp_path)
    assert choose(False) == "ours: False" and capsys.readouterr().out == "about it\n"
    runs.open_run(tmp_path, {"encoder": networks.RELEASED_ENCODER}).begin()
    assert choose(False) == "ours: True" and choose(True) == "ours: False"
    assert runs.choose_encoder("posters", True, tmp_path, True) == "ours: True"
    capsys.readouterr()
    assert runs.choose_encoder("posters", False, tmp_path, False) == ""
    assert capsys.readouterr().out == ""


def test_a_training_can_start_from_the_released_model(capsys):
    released = load_model(has_text=False)
    has = [released.card["training"].get(key) for key in ("model", "second_model")]
    names = {"picture": has[0], "second": "mobilenetv3_large"}
    own = {"picture": models.build_model(has[0], (96, 64), ("a", "b"))}
    own["second"] = models.build_model("efficientnet_lite0", (96, 64), ("a", "b"))
    plain = {part: network.get_weights() for part, network in own.items()}
    runs.start_from("imagenet", own, names)
    for part, network in own.items():
        np.testing.assert_array_equal(network.get_weights()[0], plain[part][0])
    runs.start_from("posters", own, names)
    assert "no mobilenetv3_large, which does not start from it" in capsys.readouterr().out
    np.testing.assert_array_equal(own["second"].get_weights()[-4], plain["second"][-4])
    network = released.network.get_layer("first") if has[1] else released.network
    got = own["picture"].get_layer("backbone").get_weights()
    for ours, theirs in zip(got, network.get_layer("backbone").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(got, plain["picture"], strict=False))
    if has[1]:
        runs.start_from("posters", {"second": own["second"]}, {"second": has[1]})
        assert (own["second"].get_weights()[0] != plain["second"][0]).any()


def test_only_a_training_with_parts_of_the_release_counts_its_posters():
    has = load_model(has_text=False).card["training"]["model"]
    settings = {"start": "posters", "model": has, "second_model": "", "encoder": ""}
    assert runs.start_card(settings)["training_ids"]
    assert runs.start_card(settings | {"start": "imagenet"}) is None
    assert runs.start_card(settings | {"model": "seed_cnn"}) is None
    # The encoder is the released model's also where its authors' weights are not to be had.
    ours = {"start": "imagenet", "model": "seed_cnn", "encoder": networks.RELEASED_ENCODER}
    assert runs.start_card(settings | ours)["training_ids"]
    assert runs.start_card(settings | ours | {"encoder": "its authors'"}) is None


def test_a_release_of_one_network_shares_nothing_with_a_network_of_another_name(monkeypatch):
    card = {"training": {"model": "efficientnet_lite2", "second_model": ""}}
    monkeypatch.setattr(networks, "read_card", lambda folder: card)
    settings = {"start": "posters", "second_model": "", "encoder": ""}
    assert runs.start_card(settings | {"model": "seed_cnn"}) is None
    assert runs.start_card(settings | {"model": "efficientnet_lite2"}) == card
