"""Read a table as people have it: any usual separator and encoding, every row whole or refused."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genre_utils.sources.spelling import known_genre
from genre_utils.support import DataError

AddFinding = Callable[[str, Iterable[str]], None]  # a finding of the audit and its names

SUFFIXES = (".csv", ".tsv")
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
LONGEST_LINE = 1_000_000  # characters

# What some files are, whatever they are called: how they begin, and what to do with them.
_NO_TABLES = (
    (b"PK\x03\x04", "is an Excel workbook or a zip file, whatever its name; save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook, whatever its name; save the sheet as CSV"),
    (b"PAR1", "is a Parquet file, whatever its name; save it as CSV"),
    (b"<", "is a web page, whatever its name; download the table itself"),
)
_END = "\x00end"  # no line of a table: read as a row of its own unless a quote is still open


@dataclass(frozen=True)
class Table:
    """A table's cells, `columns[name][row]`, as stripped texts, and each row's line number."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def header(self) -> str:
        """The first names of columns, as a message shows them."""
        return ", ".join(map(repr, [*self.columns][:10]))

    def place(self, row: int) -> str:
        """Return where a row stands, as a message names it."""
        return f"{self.path}, line {self.lines[row]}"


def read_table(path: Path) -> Table:
    """Read a CSV or TSV file, in UTF-8, UTF-16 or Windows-1252.

    A row that ends early is filled with empty cells. Raises `DataError`, naming the line, for a
    row that is longer than the header: nobody knows which of its cells belong to which column.
    """
    limit = csv.field_size_limit(LONGEST_LINE)
    try:
        with _open(path) as file:
            header, separator, first = _read_header(file, path)
            lines = list(_lines(file))
        rows = _rows(lines, separator, len(header), path, first)
    except UnicodeError:
        raise DataError(
            f"{path} is neither UTF-8 nor Windows-1252 text; save it as UTF-8."
        ) from None
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a CSV: {error}.") from None
    finally:
        csv.field_size_limit(limit)
    if long := [(n, row) for n, row in rows if any(map(str.strip, row[len(header) :]))]:
        line, row = long[0]
        raise DataError(
            f"{path}, line {line} has {len(row)} cells and the header has {len(header)}: put "
            f"quotes around a cell that holds a {SEPARATORS[separator]}, as in "
            f'"Drama{separator} War", or write Drama|War.'
        )
    width = len(header)
    filled = [[*map(str.strip, row[:width])] + [""] * (width - len(row)) for _, row in rows]
    columns = [list(column) for column in zip(*filled, strict=True)] or [[] for _ in header]
    for number, (name, cells) in enumerate(zip(header, columns, strict=True), start=1):
        if not name and (found := [i for i, cell in enumerate(cells) if known_genre(cell)]):
            raise DataError(
                f"{path}, line {rows[found[0]][0]}: column {number} has no name and holds "
                f"{cells[found[0]]!r}. Name the columns of genres Genre1, Genre2 and so on."
            )
    named = {name: cells for name, cells in zip(header, columns, strict=True) if name or any(cells)}
    return Table(path, named, [line for line, _ in rows])


def read_header(path: Path) -> list[str]:
    """Return a table's column names; none where it cannot be read."""
    try:
        with _open(path, whole=False) as file:
            return _read_header(file, path)[0]
    except (OSError, UnicodeError, csv.Error, DataError):
        return []


def is_other_table(path: Path) -> bool:
    """Say whether a file is a table that the command line did not write, by its columns' names.

    A table of one's own may begin with `poster`, too, but does not end with `error`.
    """
    header = read_header(path) if path.suffix.lower() in SUFFIXES else []
    return any(header) and (header[0], header[-1]) != ("poster", "error")


def _open(path: Path, whole: bool = True) -> io.TextIOWrapper:
    """Open a table in its encoding, for which it is read to its end, or to `LONGEST_LINE`."""
    with open(path, "rb") as file:
        start = file.read(4)
    for mark, sentence in _NO_TABLES:
        if start.removeprefix(codecs.BOM_UTF8).startswith(mark):
            raise DataError(f"{path} {sentence}.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return open(path, encoding="utf-16", newline="")
    with open(path, encoding="utf-8-sig") as file:
        try:
            while file.read(LONGEST_LINE) and whole:
                pass
        except UnicodeError:
            if whole:
                _check_encoding(path)
            return open(path, encoding="cp1252", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _check_encoding(path: Path) -> None:
    """Raise `DataError` for a table with UTF-8 and other text: in one encoding, either is wrong."""
    lines = {True: 0, False: 0}  # the first that is UTF-8, and no ASCII, and the first that is not
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            if not line.isascii():
                is_utf8 = line.decode("utf-8", "ignore").encode() == line
                lines[is_utf8] = lines[is_utf8] or number
    if all(lines.values()):
        raise DataError(
            f"{path} has text in two encodings: line {lines[True]} is UTF-8, line {lines[False]} "
            "is not. Save all of it as UTF-8."
        )


def _read_header(file: io.TextIOWrapper, path: Path) -> tuple[list[str], str, int]:
    """Return the column names, the separator, and the number of the line after the header."""
    line, first = file.readline(LONGEST_LINE), 2
    if line.lower().startswith("sep=") and len(line.strip()) == 5:  # a hint for Excel
        line, first = file.readline(LONGEST_LINE), 3
    if "\0" in line:
        raise csv.Error("it is no text; save it as CSV in UTF-8")
    separator = max(SEPARATORS, key=re.sub('"[^"]*"', "", line).count)
    header = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    header = [name.strip() for name in header]
    if not any(header):
        raise csv.Error("its first line has no column names")
    counts = Counter(name.lower() for name in header if name)
    if doubled := [name for name, count in counts.items() if count > 1]:
        raise DataError(f"{path} has two columns named {doubled[0]!r}: rename or delete one.")
    return header, separator, first


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error(f"a line has over {len(line)} letters")
        yield line


def _rows(
    lines: list[str], separator: str, width: int, path: Path, first: int
) -> list[tuple[int, list[str]]]:
    """Split lines into `(number of the line, cells)`; refuses a quote that swallows rows."""
    style = {"delimiter": separator, "skipinitialspace": True}
    reader = csv.reader([*lines, _END], **style)
    rows, begins, row = [], first, []
    while row != [_END]:
        try:
            row = next(reader)
        except csv.Error:  # a cell longer than any, so that the quote is open to the end
            row = [_END, _END]
        # A quoted cell of several lines is fine, rows inside it are not.
        several = lines[begins - first : reader.line_num]
        swallowed = len(several) > 1 and _quotes_clash(several, style)
        swallowed = swallowed or any(_holds_rows(cell, separator, width) for cell in row)
        if swallowed or (row and row[-1].endswith(_END) and row != [_END]):
            if separator == "\t":  # IMDb's tables, where a quote is a letter like any other
                return [(n, _unquoted(line)) for n, line in enumerate(lines, first) if line.strip()]
            raise DataError(
                f"{path}, line {begins}: a quote is opened and not closed, which hides the rows "
                'after it; close it, or write "" for a quote inside a cell.'
            )
        if any(row) and row != [_END]:
            rows.append((begins, row))
        begins = reader.line_num + first
    return rows


def _quotes_clash(lines: list[str], style: dict[str, Any]) -> bool:
    """Say whether more stands in a cell behind the quote that closes it, so that none should."""
    blanks = re.compile(rf'" +(?={re.escape(style["delimiter"])}|\r?$)', re.MULTILINE)
    try:
        list(csv.reader([blanks.sub('"', line) for line in lines], **style, strict=True))
    except csv.Error:
        return True
    return False


def _holds_rows(cell: str, separator: str, width: int) -> bool:
    if separator == "\t":
        breaks = cell.count("\n")
        return breaks > 0 and cell.count(separator) == breaks * (width - 1)
    # A text has commas, too.
    return '"' in cell and any(line.count(separator) >= width - 1 for line in cell.splitlines()[1:])


def _unquoted(line: str) -> list[str]:
    cells = (cell.strip() for cell in line.split("\t"))
    return [
        cell[1:-1].replace('""', '"') if cell[:1] == cell[-1:] == '"' and len(cell) > 1 else cell
        for cell in cells
    ]
