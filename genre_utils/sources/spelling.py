"""How people write genres: names in other spellings, and cells that hold several of them."""

import ast
import html
import json
import re
import unicodedata
from contextlib import suppress
from typing import Any

from genre_utils.genres import IMDB_GENRES
from genre_utils.support import nearest

# Compared as `squeeze` leaves them; IMDb writes "\\N", MovieLens "(no genres listed)".
_NO_GENRE = {
    *("", "n", "na", "nan", "nat", "none", "null", "nil", "unknown", "undefined", "missing"),
    *("tbd", "tba", "nogenre", "nogenres", "nogenrelisted", "nogenreslisted", "notavailable"),
    *("notspecified", "unspecified", "unclassified", "uncategorized", "uncategorised"),
}

# Genres of other catalogues, and other names of the public ones: what is certainly a genre.
_OTHER_GENRES = ("Adult", "Children's", "Film-Noir", "Foreign", "Game-Show", "Kids", "Soap")
_OTHER_GENRES += ("Talk-Show", "TV Movie", "War & Politics")
_SYNONYMS = {"sciencefiction": "Sci-Fi", "sports": "Sport", "reality": "Reality-TV"}
_SYNONYMS |= {"children": "Children's", "childrens": "Children's"}

# Python's own parser can be brought down by nesting; no poster has so many genres.
_LONGEST_CELL = 10_000
_SEPARATORS = re.compile(r"[|,;\n\r\t、·•]")
_QUOTED = re.compile(r"""(?<!\w)'((?:[^'\\]|\\.)*)'(?!\w)|"((?:[^"\\]|\\.)*)\"""")
_NUMPY_TEXT = re.compile(rf"\b(?:np|numpy)\.str_\(({_QUOTED.pattern})\)")
_NO_NAME = re.compile(r"""[][(){}"|;,\\<=]|^'|'$""")  # what no genre's name holds
# "Drama:0", "War/yes", "-Comedy": whether the genre is meant is for whoever wrote it to say.
_ANSWERED = re.compile(r"[:=/>+~]\s*(?:[-+.,\d]+%?|yes|no|true|false)$|^[-+!]\w", re.IGNORECASE)
_AND = ("and", "et", "und", "y")
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_WRAPPED = re.compile(r"(?:set|frozenset|array|list)\((.*?)(?:, dtype=\S+)?\)", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def squeeze(name: str) -> str:
    """Return the letters and digits of a name, in small letters: what spellings share."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


_KNOWN = {squeeze(name): name for name in (*IMDB_GENRES, *_OTHER_GENRES)} | _SYNONYMS


def known_genre(name: str) -> str | None:
    """Return this project's spelling of a well-known genre (`"SciFi"`: `"Sci-Fi"`), or `None`."""
    return _KNOWN.get(squeeze(name))


def likely_genre(name: str) -> str | None:
    """Return the well-known genre that a mistyped name may mean (`"Comdey"`: `"Comedy"`)."""
    found = nearest(squeeze(name), _KNOWN)
    return _KNOWN[found] if found else None


def is_missing(name: str) -> bool:
    """Say whether a genre's name means that there is none (`"N/A"`, empty, `-`, IMDb's `\\N`)."""
    return squeeze(name) in _NO_GENRE


def parse_genres(text: str) -> list[str] | None:
    """Read one cell of a genre column: `A|B`, `A, B`, or a list of Python, NumPy or JSON.

    Returns the names without the missing ones, in their order, each once. A name that consists of
    well-known genres (`Action & Comedy`, `Drama/War`) becomes those. `None` when the cell opens a
    list that cannot be read, is too long, or a "name" holds a bracket, a quote, no letter, or an
    answer (`Drama: yes`). The cell is data: nothing in it is ever executed.
    """
    text = html.unescape(text.strip())
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    if len(text) > _LONGEST_CELL:
        return None
    if wrapped := _WRAPPED.fullmatch(text):
        text = wrapped[1] or "[]"
    text = _NUMPY_TEXT.sub(r"\1", text)
    if text.startswith(("'", '"')):
        text = f"[{text}]"
    names = _parse_list(text) if text[:1] in _BRACKETS else [text]
    if names is None:
        return None
    pieces = [piece.strip() for name in names for piece in _SEPARATORS.split(name)]
    pieces = [part for piece in pieces if not is_missing(piece) for part in _split_known(piece)]
    if any(_NO_NAME.search(name) or not re.search(r"[^\W\d_]", name) for name in pieces):
        return None
    if any(_ANSWERED.search(name) for name in pieces):
        return None
    return list(dict.fromkeys(pieces))


def _parse_list(text: str) -> list[str] | None:
    """Read a list with brackets: quoted or bare names, or objects of which `name` counts."""
    if text[-1] != _BRACKETS[text[0]]:
        return None
    if "{" in text and ":" in text:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                found = parse(text)
                found = [found] if isinstance(found, dict) else found
                if isinstance(found, (list, tuple)):
                    names = [name for item in found for name in _names_in(item)]
                    return names if all(isinstance(name, str) for name in names) else None
        return None
    if text[0] == "[" and "\\u" in text:  # what JSON makes of other letters than ASCII's
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            return found if all(isinstance(name, str) for name in found) else None
    inside = text[1:-1]
    # NumPy prints ['Drama' 'War'] without a comma, which Python would read as 'DramaWar'.
    found = _QUOTED.findall(inside)
    quoted = [(single or double).replace("\\'", "'") for single, double in found]
    bare = _SEPARATORS.split(_QUOTED.sub(",", inside))
    # PostgreSQL quotes only the names that need it, and with double quotes.
    may_be_mixed = text[0] == "{" and not any(single for single, _ in found)
    if quoted and not may_be_mixed and not all(map(is_missing, bare)):
        return None
    return quoted + [name for name in bare if not is_missing(name)]


def _names_in(item: Any) -> list[Any]:
    """Return the names in an object: its `name`, or all values of one such as {"/m/1": "War"}."""
    if not isinstance(item, dict):
        return [item]
    if any(known_genre(str(key)) for key in item):  # {"Drama": "no"}: not to be guessed
        return [None]
    return [item["name"]] if "name" in item else [*item.values()]


def _split_known(name: str) -> list[str]:
    """Split a name of nothing but well-known genres into them; any other stays as it is."""
    if known_genre(name) or _NO_NAME.search(name):
        return [name]
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # ActionComedy
    words = [word for word in _WORDS.findall(parted) if word.lower() not in _AND]
    found = []
    while words:
        for count in (3, 2, 1):
            if genre := known_genre("".join(words[:count])):
                found.append(genre)
                del words[:count]
                break
        else:
            return [name]
    return found or [name]  # "Y", which is Spanish for "and"
