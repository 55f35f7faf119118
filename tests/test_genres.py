import numpy as np
import pytest

from genre_utils.genres import IMDB_GENRES, MISSING, multi_hot, order_genres
from genre_utils.sources import parse_genres


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['Drama', 'War']", ["Drama", "War"]),
        ("Drama|War", ["Drama", "War"]),
        ("Drama, War", ["Drama", "War"]),
        ("Sci-Fi", ["Sci-Fi"]),
        ("['N/A']", []),
        ("\\N", []),
        ("", []),
        ("Drama|Drama", ["Drama"]),
        ('["Kom\\u00f6die", "War"]', ["Komödie", "War"]),
        ("[np.str_('Drama'), np.str_('War')]", ["Drama", "War"]),
        ("{Children's,Drama,\"Kid's\"}", ["Kid's", "Children's", "Drama"]),
        ("['Children\\'s', 'War']", ["Children's", "War"]),
        ("Drama & Reality TV", ["Drama", "Reality-TV"]),
        ("Drama und War", ["Drama", "War"]),
        ("Drama y War", ["Drama", "War"]),
        ("Y", ["Y"]),
        ("Anime • Isekai·Kult、Mecha", ["Anime", "Isekai", "Kult", "Mecha"]),
        ("<b>Heist</b>", None),
        ("['Drama', War]", None),
        ("{Rock 'n' Roll,War}", None),
        ('["\\u00f6", 1]', None),
        ("['Drama', ", None),
        ("[1, 2]", None),
        ("(__import__('os').abort(),)", None),
        ("[" + "-" * 9_000 + "1]", None),  # too deep for Python's parser
        ("all about a film, " * 600, None),  # too long for genres
    ],
)
def test_cells_are_read_and_never_run(cell, names):
    assert parse_genres(cell) == names


def test_multi_hot_follows_the_order_of_genres():
    encoded = multi_hot([["War", "Drama"], []], ["Drama", "Comedy", "War"])
    np.testing.assert_array_equal(encoded, [[1, 0, 1], [0, 0, 0]])
    assert encoded.dtype == np.int8


def test_there_are_24_genres_in_the_order_of_the_csv_without_the_missing_one():
    assert len(IMDB_GENRES) == 24
    assert list(IMDB_GENRES) == sorted(IMDB_GENRES)
    assert MISSING not in IMDB_GENRES


def test_a_genre_more_leaves_the_order_of_the_known_ones():
    assert order_genres(["War", "Drama"]) == ("Drama", "War")
    more = order_genres([*reversed(IMDB_GENRES), "Superhero", "Anime"])
    assert more == (*IMDB_GENRES, "Anime", "Superhero")
