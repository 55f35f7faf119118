import pytest

from genre_utils.support import as_bool, as_choice, expand_user


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


def test_a_tilde_is_the_user_s_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand_user("~/posters") == "/home/someone/posters"
    assert expand_user("posters/~a.jpg") == "posters/~a.jpg"
