"""Several rows of one poster: a join, a repetition, or a contradiction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from genre_utils.sources.tables import AddFinding, Table
from genre_utils.support import DataError

MANY_UNLIKE = 0.1  # share of posters whose rows have other genres


def merge_rows(
    rows: Table, ids: Sequence[str], paths: Sequence[str | None], lists: Sequence, add: AddFinding
) -> dict[int, list[str]]:
    """Return the genres of each poster by its first row; rows of one picture are one poster.

    Where every row has one genre and many posters have several rows, as after a join in SQL, the
    rows are put together. Else rows of a poster must agree: nobody knows which of them is right.
    """
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
            f"{rows.path}: {len(unlike)} posters have several rows with other genres, such as "
            f"{ids[a]!r} in line {rows.lines[a]} ({_listed(lists[a])}) and line {rows.lines[b]} "
            f"({_listed(lists[b])}). Delete the wrong rows."
        )
    merged, repeated, contradicting = {}, [], []
    for path, several in of_poster.items():
        first, *more = several
        if path in unlike and not is_join:
            both = " / ".join(dict.fromkeys(_listed(lists[row]) for row in several))
            contradicting.append(f"{ids[first]}: {both}")
            continue
        merged[first] = list(dict.fromkeys(name for row in several for name in lists[row]))
        repeated += [] if path in unlike else [ids[row] for row in more]
    add("rows whose id stood before (left out)", repeated)
    add("posters whose rows contradict each other (left out)", contradicting)
    add(
        "posters of several rows (their genres joined)",
        [ids[r[0]] for r in unlike.values()] if is_join else [],
    )
    return merged


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no genre"
