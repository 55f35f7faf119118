"""From the columns of a table to the genres of each poster, or one sentence that says why not."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from genre_utils.genres import IMDB_GENRES, RESERVED, order_genres
from genre_utils.sources.spelling import (
    is_missing,
    known_genre,
    likely_genre,
    parse_genres,
    squeeze,
)
from genre_utils.sources.tables import AddFinding, Table
from genre_utils.support import DataError, nearest

Names = list[str] | None  # the genres of a row; `None`: they cannot be known

# Columns of genres, compared as `squeeze` leaves them; `genre_1`, `genre_2`, … are one column.
GENRE_COLUMNS = ("genre", "genres", "genrenames", "genrelist", "moviegenre", "moviegenres")
GENRE_COLUMNS += ("listedin", "maingenre", "primarygenre")
# These may hold anything: 0/1 columns come first unless most of it is well-known genres.
TAG_COLUMNS = ("label", "labels", "tag", "tags", "category", "categories")
# 0/1 columns that are no genres.
_STATES = {
    *("adult", "video", "train", "test", "val", "valid", "validation", "public", "released"),
    *("watched", "remake", "franchise", "sequel", "silent", "holdout", "duplicate", "deleted"),
}
FLAGS = _STATES | {f"is{word}" for word in _STATES}
FLAGS |= {"color", "colour", "incolor", "incolour", "split", "seen", "hasposter", "blackandwhite"}
FLAGS |= {"ismovie", "istv", "isseries", "isoriginaltitle", "belongstocollection"}
_MARKS = dict.fromkeys(("1", "true", "t", "yes", "y"), True)
_MARKS |= dict.fromkeys(("0", "false", "f", "no", "n", ""), False)
_AFFIX = re.compile(r"^(?:genres?|labels?|is|has)[\W_]+|[\W_]+genres?$", re.IGNORECASE)
_AGAIN = re.compile(r"(.+)\.\d+")  # what pandas makes of the second column of a name
# Columns that go with one of GENRE_COLUMNS, as `genre_2` goes with `genre_1`.
_FURTHER = {"secondarygenre": "primarygenre", "tertiarygenre": "primarygenre"}
# What may part two genres or stand inside the name of one.
_PERHAPS = re.compile(r"\s*[/>+~:]+\s*|\s+[&–—-]\s+|(?<=\w\w)&(?=\w\w)")
FEW = 0.05  # of the rows may be left out because they cannot be read
MANY_UNKNOWN = 10
MANY_UNLIKE = 0.1  # share of posters whose rows have different genres
COMMONER = 10  # times as many posters has a genre of which a mistyped form is suspected


@dataclass(frozen=True)
class Labels:
    """The genres of each row of a table, and all of them in order.

    `has_missing_column`: a 0/1 column stands for having no genre. `used`: the columns read, and
    those of which a finding says that they are not used.
    """

    lists: list[Names]
    genres: tuple[str, ...]
    has_missing_column: bool
    used: set[str]


@dataclass(frozen=True)
class _Text:
    """A column of names, or several that belong together, as `parse_genres` reads the cells."""

    columns: Sequence[str]
    is_tags: bool
    cells: list[str]
    lists: list[Names]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each name stands in it."""
        return Counter(name for names in self.lists for name in names or ())

    @property
    def title(self) -> str:
        return " + ".join(self.columns)

    def known(self) -> int:
        return sum(count for name, count in self.counts.items() if known_genre(name))


def read_labels(table: Table, ids: Iterable[str], add: AddFinding) -> Labels:
    """Read the genres of every row from 0/1 columns, or from a column of names, or both.

    `ids` are columns of ids, which are left alone. Raises `DataError` where the genres would have
    to be guessed.
    """
    if not len(table):
        raise DataError(f"{table.path} has a header and no row: write a row for each poster.")
    columns = [name for name in table.columns if name not in {*ids}]
    marks = {name: found for name in columns if (found := _read_marks(table, name))}
    no_genres = {*FLAGS, *GENRE_COLUMNS, *TAG_COLUMNS}
    flags = sorted(name for name in marks if squeeze(name) in no_genres)
    missing = [name for name in marks if is_missing(name)]
    genre_of = _mark_names(name for name in marks if name not in {*flags, *missing})
    texts = [*_text_columns(table, [name for name in columns if name not in marks])]
    text = max(texts, key=_Text.known, default=None)
    for other in texts:
        if not (other is text or other.is_tags or text.is_tags):
            _check_agreement(table, text, other)
    vague = text and text.is_tags and 2 * text.known() < text.counts.total()
    named = text.counts if text and not vague else ()
    known = [name for name, genre in genre_of.items() if known_genre(genre) or genre in named]
    add("0/1 columns that are no genres (not used)", flags)
    by_text = bool(text) and not (vague and len(genre_of) > 1)
    if not by_text and len(genre_of) < 2:
        names = ", ".join((*GENRE_COLUMNS[:2], *TAG_COLUMNS))
        only = f"a 0/1 column of one genre only, {next(iter(genre_of))!r}," if genre_of else ""
        if codes := [name for name in flags if squeeze(name) not in FLAGS]:
            raise DataError(
                f"{table.path}: the column {codes[0]!r} holds 0 and 1 and no names: write the "
                "genres' names into it, or give each genre a 0/1 column with its name."
            )
        raise DataError(
            f"{table.path} has {only or 'no 0/1 columns'} and no column named one of {names}; "
            f"its columns are {table.header}. Name the column of genres {GENRE_COLUMNS[0]!r}, or "
            "give each genre a 0/1 column: a model needs two genres or more."
        )
    used = [*flags, *missing, *(text.columns if by_text else ())]
    conflicts: set[int] = set()
    if by_text:
        lists = _settle(table, text, add)
        if len(known) > 1:
            marked = _combine(table, {name: marks[name] for name in known}, genre_of)
            by_text, conflicts = _compare(table, text.title, lists, marked, add)
    if by_text:
        # A genre that no row has is one all the same if it has a column.
        genres = {genre_of[name] for name in known}.union(*(names or () for names in lists))
        unknown = sorted(genre_of.keys() - known)
        add(f"0/1 columns that are no genre in {text.title!r} (not used)", unknown)
    else:
        _check_columns(table, [name for name in columns if name not in used], genre_of)
        lists = _combine(table, {name: marks[name] for name in genre_of}, genre_of, add)
        genres, known = {*genre_of.values()}, [*genre_of]
    used += genre_of
    strange = [name for name in known if genre_of[name] not in IMDB_GENRES]
    add("0/1 columns taken as genres that IMDb does not know", strange)
    lists = [None if row in conflicts else names for row, names in enumerate(lists)]
    _check_genres(table, lists, genres, text if by_text else None)
    add("genres that may be mistyped (kept as they are)", _mistyped(lists, genres))
    return Labels(lists, order_genres(genres), bool(missing), {*used})


def merge_rows(
    rows: Table, ids: Sequence[str], paths: Sequence[str | None], lists: Sequence, add: AddFinding
) -> dict[int, list[str]]:
    """Return the genres of each poster by its first row; rows of one picture are one poster.

    Where every row has one genre and many posters have several rows, as after a join in SQL, the
    rows are put together. Else rows of a poster must agree: nobody knows which of them is right.
    Those that do not are left out; raises `DataError` where they are many.
    """

    def listed(row: int) -> str:
        return ", ".join(lists[row]) or "no genre"

    of_poster: defaultdict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        if path and lists[row] is not None:
            of_poster[path].append(row)
    unlike = {
        path: several
        for path, several in of_poster.items()
        if len(several) > 1 and len({frozenset(lists[row]) for row in several if lists[row]}) > 1
    }
    single = all(len(names or ()) < 2 for names in lists)
    is_join = single and len(unlike) > MANY_UNLIKE * len(of_poster)
    if not is_join and len(unlike) > max(2, MANY_UNLIKE * len(of_poster)):
        a, b, *_ = next(iter(unlike.values()))
        raise DataError(
            f"{rows.path}: {len(unlike)} posters have several rows with different genres, such as "
            f"{ids[a]!r} in line {rows.lines[a]} ({listed(a)}) and line {rows.lines[b]} "
            f"({listed(b)}). Delete the wrong rows."
        )
    merged, repeated, contradicting = {}, [], []
    for path, several in of_poster.items():
        first, *more = several
        if path in unlike and not is_join:
            both = " / ".join(dict.fromkeys(map(listed, several)))
            contradicting.append(f"{ids[first]}: {both}")
            continue
        merged[first] = list(dict.fromkeys(name for row in several for name in lists[row]))
        repeated += [] if path in unlike else [ids[row] for row in more]
    add("rows whose id stood before (left out)", repeated)
    add("posters whose rows contradict each other (left out)", contradicting)
    joined = [ids[first] for first, *_ in unlike.values()] if is_join else []
    add("posters of several rows (their genres joined)", joined)
    return merged


# 0/1 columns


def _read_marks(table: Table, name: str) -> list[bool | None] | None:
    """Return a 0/1 column as truth values, `None` for an odd cell; `None` if it is no such column.

    A column with the name of a genre may hold a few odd cells, any other hardly one.
    """
    cells = table.columns[name]
    values = Counter(cells)
    on = {value: _MARKS.get(re.sub(r"(?<=^[01])[.,]0+$", "", value.lower())) for value in values}
    is_genre = known_genre(_mark_name(name)) is not None
    if len(values) == 2 and "" in values and (is_genre or {*values} <= {"x", "X", ""}):
        on = {value: value != "" and on[value] is not False for value in values}
    odd = [value for value, meaning in on.items() if meaning is None]
    is_number = is_genre and odd and all(re.fullmatch(r"[-+.,\d]*\d", value) for value in odd)
    odd = sum(values[value] for value in odd)
    sure = len(cells) - odd - values[""]
    few = max(len(cells) >= 10, len(cells) / 50)
    if not is_number and (not sure or odd > (sure if is_genre else few)):
        return None
    if not is_genre and "" in values and not any(on.values()):
        return None
    if odd > max(1, FEW * len(cells)):
        row = [on[cell] for cell in cells].index(None)
        raise DataError(
            f"{table.place(row)}: the column {name!r} holds {cells[row]!r}, "
            f"neither 0 nor 1, as {odd} of its cells do. Write 0 or 1, or delete the column."
        )
    return [on[cell] for cell in cells]


def _mark_name(name: str) -> str:
    """Return the genre that a 0/1 column stands for (`genre_Drama`: `Drama`)."""
    return known_genre(name) or known_genre(_AFFIX.sub("", name, count=1)) or name


def _mark_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the genre of each 0/1 column; strange ones lose the affix of well-known ones."""
    names = {name: _mark_name(name) for name in columns}
    affixes = {name: found[0] for name in names if (found := _AFFIX.search(name))}
    shared = {affix for name, affix in affixes.items() if known_genre(names[name])}
    for name, affix in affixes.items():
        rest = name.replace(affix, "", 1)
        is_name = re.search(r"[^\W\d_]", rest) and not is_missing(rest) and rest not in RESERVED
        if affix in shared and names[name] == name and is_name:
            names[name] = rest
    return names


def _check_columns(table: Table, columns: Iterable[str], genre_of: dict[str, str]) -> None:
    """Refuse what would lose a genre, or make two of one, where the 0/1 columns count."""
    for name in columns:
        if (again := _AGAIN.fullmatch(name)) and again[1] in genre_of and name in genre_of:
            raise DataError(
                f"{table.path} has two columns named {again[1]!r}, of which pandas called one "
                f"{name!r}: delete one."
            )
        cells = table.columns[name]
        if name not in genre_of and known_genre(_mark_name(name)) and any(cells):
            row = next(row for row, cell in enumerate(cells) if cell)
            raise DataError(
                f"{table.place(row)}: the column {name!r} holds {cells[row]!r}, "
                "neither 0 nor 1 as the columns of the other genres. Write 0 or 1, or delete the "
                "column."
            )


def _combine(
    table: Table,
    marks: dict[str, list[bool | None]],
    genre_of: dict[str, str],
    add: AddFinding | None = None,
) -> list[Names]:
    """Turn 0/1 columns into a list of genres a row; a row with an odd cell has none.

    A blank cell means 0 where no column writes 0. Where they do, nobody knows what it means, unless
    the whole row is blank: then the row has no genre.
    """
    lists: list[Names] = [[] for _ in table.lines]
    odd, blank = defaultdict(list), defaultdict(list)
    writes_zero = False
    for name, column in marks.items():
        for row, (on, cell) in enumerate(zip(column, table.columns[name], strict=True)):
            if on:
                lists[row].append(genre_of[name])
            elif on is None:
                odd[row].append(f"line {table.lines[row]}: {name} {cell!r}")
            elif cell:
                writes_zero = True
            else:
                blank[row].append(f"line {table.lines[row]}: {name}")
    blank = {r: names for r, names in blank.items() if writes_zero and len(names) < len(marks)}
    if len(blank) > max(1, FEW * len(table)):
        raise DataError(
            f"{table.path}: {len(blank)} rows have 0/1 columns of which some are blank, such as "
            f"{next(iter(blank.values()))[0]}. Write 0 where the poster lacks the genre."
        )
    if add:
        joined = [f"{name} = {genre}" for name, genre in genre_of.items() if name != genre]
        add("spellings of genres that were joined", joined)
        add("0/1 cells that are neither (rows left out)", sum(odd.values(), []))
        add("blank cells beside 0 and 1 (rows left out)", sum(blank.values(), []))
    return [
        None if row in odd or row in blank else [*dict.fromkeys(names)]
        for row, names in enumerate(lists)
    ]


# Columns of names


def _text_columns(table: Table, columns: Sequence[str]) -> Iterator[_Text]:
    for wanted in (*GENRE_COLUMNS, *TAG_COLUMNS):
        plain = {name: squeeze(re.sub(r"\d+\W*$", "", name)) for name in columns}
        series = [name for name, short in plain.items() if _FURTHER.get(short, short) == wanted]
        if series:
            rows = [*zip(*(table.columns[name] for name in series), strict=True)]
            parsed = {cell: parse_genres(cell) for cell in {cell for row in rows for cell in row}}
            lists = [[parsed[cell] for cell in row] for row in rows]
            lists = [None if None in found else sum(found, []) for found in lists]
            yield _Text(series, wanted in TAG_COLUMNS, [" ".join(row) for row in rows], lists)


def _check_agreement(table: Table, text: _Text, other: _Text) -> None:
    """Refuse two columns of genres that contradict each other: neither is a part of the other."""

    def genres_of(names: Names) -> set[str]:
        return {known_genre(name) or name for name in names or ()}

    pairs = zip(map(genres_of, text.lists), map(genres_of, other.lists), strict=True)
    rows = [
        row
        for row, (ours, theirs) in enumerate(pairs)
        if ours and theirs and not (ours <= theirs or theirs <= ours)
    ]
    if len(rows) > max(1, FEW * len(table)):
        row = rows[0]
        raise DataError(
            f"{table.place(row)}: the columns {text.title!r} ({text.cells[row]!r}) and "
            f"{other.title!r} ({other.cells[row]!r}) contradict each other, here and in "
            f"{len(rows) - 1} other rows. Delete the wrong one."
        )


def _settle(table: Table, text: _Text, add: AddFinding) -> list[Names]:
    """Return the rows' genres in one spelling each; refuses what may be one genre or several."""
    where = f"the column {text.title!r}"
    broken = [row for row, names in enumerate(text.lists) if names is None]
    shown = [f"line {table.lines[row]}: {text.cells[row]!r}" for row in broken]
    add("genre cells that cannot be read (rows left out)", shown)
    if len(broken) > max(1, FEW * len(table)):
        raise DataError(
            f"{table.path}: {len(broken)} of {len(table)} cells of {where} cannot be read, such as "
            f"line {table.lines[broken[0]]}, {text.cells[broken[0]]!r}. Write ['Drama', 'War'], "
            "Drama|War or 'Drama, War'."
        )
    counts = text.counts
    sides = {name: _PERHAPS.split(name) for name in counts if not known_genre(name)}
    times = Counter(squeeze(side) for parts in sides.values() for side in {*parts})
    alone = {squeeze(name) for name in counts if len(sides.get(name, ())) < 2}
    for name, parts in sides.items():
        # A blank parts two genres only where each of them is one by itself in another row.
        words = re.split(r"[\s_]+", name) if len(parts) < 2 else []
        if len(words) > 1 and all(known_genre(word) or squeeze(word) in alone for word in words):
            sides[name] = words
    common: dict[str, str] = {}
    for name, _ in counts.most_common():
        for side in sides.get(name, ()):
            common.setdefault(squeeze(side), known_genre(side) or side)
    merged: dict[str, list[str]] = {}
    for name in counts:
        parts = sides.get(name, [name])
        # Each side is a genre elsewhere, too: then it is one here.
        if len(parts) > 1 and not all(
            known_genre(part) or squeeze(part) in alone or times[squeeze(part)] > 1
            for part in parts
        ):
            row = next(row for row, names in enumerate(text.lists) if name in (names or ()))
            raise DataError(
                f"{table.place(row)}: {name!r} in {where} may be one genre or "
                f"several. Write {'|'.join(parts)} for several, or a name without the mark for one."
            )
        merged[name] = [known_genre(part) or common[squeeze(part)] for part in parts]
    parted = [f"{name} = {', '.join(into)}" for name, into in merged.items() if len(into) > 1]
    joined = [
        f"{name} = {into[0]}" for name, into in merged.items() if len(into) == 1 and into[0] != name
    ]
    add("spellings of genres that were joined", joined)
    add("names that were parted into genres", parted)
    return [
        names if names is None else list(dict.fromkeys(g for name in names for g in merged[name]))
        for names in text.lists
    ]


def _compare(
    table: Table, title: str, texts: list[Names], marks: list[Names], add: AddFinding
) -> tuple[bool, set[int]]:
    """Compare a column of names with the 0/1 columns beside it, row by row.

    Returns whether the names count, else the 0/1 columns, and the rows in which the two
    contradict each other. Raises `DataError` where these are many.
    """
    columns = {name for names in marks for name in names or ()}
    both = {
        row: ({*names}, {*marked})
        for row, (names, marked) in enumerate(zip(texts, marks, strict=True))
        if names is not None and marked is not None
    }
    fewer = [row for row, (names, marked) in both.items() if names < marked]
    is_main = bool(fewer) and all(len(names) < 2 for names, _ in both.values())
    if is_main or (fewer and all(names <= marked for names, marked in both.values())):
        by_text, crossed = False, [row for row, (names, m) in both.items() if not names <= m]
    else:
        by_text, fewer = True, []
        crossed = [row for row, (names, m) in both.items() if names & columns != m]

    def described(row: int) -> str:
        listed = [", ".join(sorted(names)) or "nothing" for names in both[row]]
        return f"line {table.lines[row]}: {listed[0]} / {listed[1]}"

    if len(crossed) > max(1, FEW * len(table)):
        raise DataError(
            f"{table.path}: the column {title!r} and the 0/1 columns contradict each other in "
            f"{len(crossed)} rows, such as {described(crossed[0])}. Delete the one that is wrong."
        )
    add(f"rows whose {title!r} contradicts the 0/1 columns (left out)", map(described, crossed))
    less = f"rows whose {title!r} names fewer genres than the 0/1 columns (the columns count)"
    add(less, [described(row) for row in fewer if both[row][0]])
    return by_text, {*crossed}


def _mistyped(lists: list[Names], genres: Iterable[str]) -> list[str]:
    """Ask of each genre that is nearly a well-known or far commoner one whether that is meant."""
    counts = Counter(name for names in lists for name in names or ())
    questions = []
    for genre in sorted(name for name in genres if not known_genre(name)):
        commoner = [name for name in genres if counts[name] > COMMONER * max(1, counts[genre])]
        if meant := likely_genre(genre) or nearest(genre, commoner):
            questions.append(f"{genre} ({counts[genre]}): is {meant} meant?")
    return questions


def _check_genres(table: Table, lists: list[Names], genres: set[str], text: _Text | None) -> None:
    """Refuse genres that are too few, reserved, or so many that they are no genres."""
    if reserved := sorted(genres & set(RESERVED)):
        raise DataError(
            f"{table.path} has a genre named {reserved[0]!r}, which is reserved: rename it."
        )
    if len(genres) < 2:
        given = f"{', '.join(genres)} alone" if genres else "no genre"
        found = f"; found {text.cells[0]!r}" if text else ", or name each 0/1 column by its genre"
        raise DataError(
            f"{table.path} gives {given}; the model needs two genres or more. Write a cell "
            f"as ['Drama', 'War'], Drama|War or 'Drama, War'{found}."
        )
    unknown = sorted(genre for genre in genres if not known_genre(genre))
    if text and len(unknown) > MANY_UNKNOWN and 2 * len(unknown) > sum(map(bool, lists)):
        raise DataError(
            f"{table.path}: the column {text.title!r} gives {len(genres)} genres for "
            f"{sum(map(bool, lists))} posters, such as {', '.join(map(repr, unknown[:3]))}. These "
            "are no genres: name the right column 'Genre', and rename this one."
        )
