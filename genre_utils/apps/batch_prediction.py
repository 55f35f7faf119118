"""Batch prediction of any number of posters, which can be stopped and resumed.

While a command works, it writes its predictions to a log beside its result: JSON lines, one poster
each. If it is killed and run again, it resumes after the last whole line. At the end it writes the
tables from the log and deletes it. Only the names of an earlier run and the line at hand are in
memory.
"""

import codecs
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from genre_utils.predictor import Prediction, Predictor, list_posters
from genre_utils.support import (
    harmless,
    lock_file,
    naming_full_disks,
    printable,
    replacing,
    temporary_file,
)


class ResumableLog:
    """The predictions of one command in a file.

    `done` counts, by poster, those of a run before that `fill` has not met yet.

    What could not be read then is tried again; a picture that has changed since is not. What is not
    asked for any more is left out at the end. A file of another model or other `inputs`, or of the
    words left out, or a damaged one is begun anew, and a line on standard error says so.
    """

    def __init__(self, file: Path, predictor: Predictor, inputs: Sequence[str] = ()):
        self.file = file
        self.settings = {"model": predictor.model.card["sha256"], "words": bool(predictor.reader)}
        # Names are relative to a folder: those of another would be taken for this one's.
        self.settings["inputs"] = list(inputs)
        self.genres = len(predictor.genres)
        self.done: Counter[str] = Counter()
        self.before = 0  # lines of earlier runs, of which the errors count no more
        self.left_out: Counter[str] = Counter()  # of the done ones, those not asked for any more
        self._resume()

    def fill(
        self,
        predictor: Predictor,
        images: Iterable[Any],
        count: int | None = None,
        own: Collection[str] = (),
    ) -> Iterator[Prediction]:
        """Predict the posters that the log lacks; yields each as soon as the log has it.

        `count` is the number of all posters, if it is known. The files in `own` are passed over,
        see `own_files`.
        """
        count = None if count is None else max(0, count - self.done.total())
        left = (item for item in list_inputs(images, own) if not self._take(item[0]))
        predictions = predictor.stream_named(left, count)
        # Each line is handed to the system as it ends: a killed command loses a batch at most.
        with (
            naming_full_disks(self.file),
            closing(predictions),
            open(self.file, "a", encoding="utf-8", buffering=1) as file,
        ):
            for found in predictions:
                row = [found.poster, None if found.error else found.scores.tolist(), found.error]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield found
        self.left_out = self.done

    def read(self) -> Iterator[Prediction]:
        """Yield all that was predicted, in the order in which it was, without the words.

        What could not be read by a run before counts when it was tried again.
        """
        left_out = self.left_out.copy()
        with open(self.file, encoding="utf-8") as file:
            next(file)
            for number, line in enumerate(file):
                poster, scores, error = json.loads(line)
                if error is None and left_out[poster] > 0:
                    left_out[poster] -= 1
                elif error is None or number >= self.before:
                    yield Prediction(poster, scores and np.array(scores), error=error)

    def _take(self, poster: str) -> bool:
        known = self.done[poster] > 0
        if known:
            self.done[poster] -= 1
        return known

    def _resume(self) -> None:
        if self.file.exists():
            self._cut_torn_line()
            try:
                with open(self.file, encoding="utf-8") as file:
                    if json.loads(file.readline() or "null") == self.settings:
                        for line in file:
                            self._understand(line)
                        if done := self.done.total():
                            again = f"{done} posters were predicted before; to predict them again, "
                            print(f"{again}delete {self.file}.", file=sys.stderr)
                        return
            except (ValueError, TypeError, RecursionError):  # no line of ours
                self.done.clear()
                self.before = 0
            what = "of another command, or damaged"
            print(f"{self.file} is {what}: it is begun anew.", file=sys.stderr)
        with naming_full_disks(self.file):
            self.file.write_text(json.dumps(self.settings) + "\n", "utf-8")

    def _understand(self, line: str) -> None:
        poster, scores, error = json.loads(line)
        are_texts = isinstance(poster, str) and isinstance(error, str | None)
        if not are_texts or (error is None) != (len(scores or ()) == self.genres):
            raise ValueError(line)
        self.before += 1
        self.done[poster] += error is None

    def _cut_torn_line(self) -> None:
        whole = 0
        with open(self.file, "rb+") as file:
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
            file.truncate(whole)


def partial_file(file: str | os.PathLike) -> Path:
    """Return where the log of a table stands while it is not done."""
    return Path(f"{file}.partial")


def own_files(tables: Iterable[str | os.PathLike]) -> set[str]:
    """Return the real paths of all that a command writes for its tables, finished or not."""
    own = set()
    for table in tables:
        file = Path(os.path.realpath(table))
        partial = partial_file(table)
        own |= {os.path.realpath(partial), os.fspath(file), os.fspath(temporary_file(file))}
        own |= {os.fspath(lock_file(table)), os.fspath(lock_file(partial))}
    return own


def list_inputs(images: Iterable[Any], own: Collection[str]) -> Iterator[tuple[str, Any]]:
    """List posters as `list_posters` does, without a command's own files: they are no posters."""
    names = {os.path.basename(file) for file in own}
    for name, source in list_posters(images):
        is_path = isinstance(source, (str, os.PathLike))
        # Links are followed only where the name fits, which spares a call of the system a poster.
        if is_path and os.path.basename(source) in names and os.path.realpath(source) in own:
            continue
        yield name, source


def write_csv_rows(table: Iterator[dict[str, Any]], columns: Sequence[str], file: str) -> None:
    """Write rows as CSV to `file`, whole or not at all, or to standard output for `-`."""
    with opened(file) as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(harmless, columns))
        writer.writerows([harmless(row[column]) for column in columns] for row in table)


def write_json_rows(table: Iterator[dict[str, Any]], file: str) -> None:
    """Write rows as a JSON list, or where `file` ends in `.jsonl` as JSON lines."""
    lines = (to_json(row, file) for row in table)
    with opened(file) as out:
        if file.endswith(".jsonl"):
            out.writelines(f"{line}\n" for line in lines)
            return
        out.write("[\n" + next(lines, ""))
        out.writelines(f",\n{line}" for line in lines)
        out.write("\n]\n")


def to_json(content: Any, file: str, indent: int | None = None) -> str:
    """Return JSON for `file`: in ASCII for a standard output that is not in UTF-8, as JSON is."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # a text in memory has none
    is_utf8 = file != "-" or codecs.lookup(encoding).name == "utf-8"
    return json.dumps(content, ensure_ascii=not is_utf8, indent=indent)


def print_table(table: Sequence[dict[str, Any]]) -> None:
    """Print rows in columns, scores to three places."""
    cells = [tuple(map(_shown, row.values())) for row in table]
    cells = [tuple(map(printable, table[0])), *cells] if table else [("no poster was predicted",)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    with opened("-") as out:
        for row in cells:
            aligned = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            print(" ".join(aligned), file=out)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


@contextmanager
def opened(file: str) -> Iterator[TextIO]:
    """Open a file to write, which appears whole or not at all; `-` is standard output.

    If the reader of standard output, such as `head`, stops early, the rest is dropped.
    """
    if file == "-":
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # Python writes what it still has as it exits
        return
    with (
        replacing(Path(file)) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as out,
    ):
        yield out
