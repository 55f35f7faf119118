import pytest
from papermill.translators import PythonTranslator

from genre_utils.support import as_bool, as_choice, check_names, did_you_mean, expand_user


@pytest.mark.parametrize("text", ["no", "No", "false", "FALSE", "0", 0, False, " no "])
def test_a_no_is_no_however_it_is_written(text):
    assert as_bool("RESTART", text) is False


@pytest.mark.parametrize("text", ["yes", "YES", "true", "True", "1", 1, True])
def test_a_yes_is_yes(text):
    assert as_bool("RESTART", text) is True


@pytest.mark.parametrize("value", ["", "maybe", "off", 2, None, "n"])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"RESTART is .*: give True or False"):
        as_bool("RESTART", value)


def test_a_choice_knows_auto_beside_yes_and_no():
    values = ["auto", True, "no", "1", "False"]
    assert [as_choice("READ_TEXT", value) for value in values] == ["auto", "yes", "no", "yes", "no"]
    with pytest.raises(ValueError, match="READ_TEXT is 'maybe': give one of 'auto'"):
        as_choice("READ_TEXT", "maybe")


def test_the_nearest_known_name_is_asked_for_and_nothing_far_from_all():
    known = ("seed_cnn", "efficientnet_lite0", "efficientnet_lite2")
    assert did_you_mean("EfficientNet_lit2", known) == " Did you mean 'efficientnet_lite2'?"
    assert did_you_mean("resnet9000", known) == did_you_mean(7, known) == ""
    assert did_you_mean("commedi", ("Comedy", "Horror")) == " Did you mean 'Comedy'?"
    assert did_you_mean("Honor", ("Comedy", "Horror")) == ""


def test_a_mistyped_parameter_is_told_from_a_name_of_one_s_own():
    names = {"__annotations__": {"EPOCHS": int, "DATA": str}, "EPOCHS": -1, "DATA": ""}
    check_names(names | {"epoch": 1, "REPOSITORY": "", "SIZE": 3})
    with pytest.raises(ValueError, match="Unknown parameter EPOCH. Did you mean 'EPOCHS'"):
        check_names(names | {"EPOCH": 3})
    batch = {"__annotations__": {"BATCH_SIZE": int}, "BATCH_SIZE": 16, "BAT": 1}
    check_names(batch)
    with pytest.raises(ValueError, match="Unknown parameter BATCH. Did you mean 'BATCH_SIZE'"):
        check_names(batch | {"BATCH": 3})


def test_any_other_name_that_papermill_sets_is_refused():
    names = {"__annotations__": {"EPOCHS": int, "IMG_SIZE": int}, "epochs": 8, "size": (90, 60)}
    added = PythonTranslator.codify
    own = {"PAPERMILL_INPUT_PATH": "train.ipynb"}
    check_names(names | {"In": ["", "epochs = 8", added({"EPOCHS": 3, "IMG_SIZE": 90} | own)]})
    check_names(names | {"In": ["", added({"img_size": 90}), "del img_size"]})
    for given, why in (
        ({"img_size": 90}, "Unknown parameter img_size. Did you mean 'IMG_SIZE'"),
        ({"EPOCHS": 1, "LR": [0.1]}, "Unknown parameter LR. Known are EPOCHS, IMG_SIZE."),
        ({"img": "90"}, "Unknown parameter img. Did you mean 'IMG_SIZE'"),
    ):
        with pytest.raises(ValueError, match=why):
            check_names(names | given | {"In": ["", added(given)]})


def test_a_tilde_is_the_user_s_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand_user("~/posters") == "/home/someone/posters"
    assert expand_user("posters/~a.jpg") == "posters/~a.jpg"
    for path in (2026, None):
        with pytest.raises(ValueError, match=f"{path} is given for a path: give text"):
            expand_user(path)
