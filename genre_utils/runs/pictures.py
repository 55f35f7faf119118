"""Which pictures a training goes without, and whether those that it learned from are the same."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from genre_utils import support
from genre_utils.runs.folder import PICTURES, UNREADABLE, Run
from genre_utils.runs.opening import check_hosts_agree
from genre_utils.support import first_of, short_hash

FEW = 5  # names in a sentence, at most


def settle_pictures(
    run: Run, paths: Sequence[str], unreadable: Mapping[str, str]
) -> tuple[Run, dict[str, str]]:
    """Add to a run's settings which pictures could not be read, once the `paths` are decoded.

    `unreadable` is `{path: reason}` of those. Returns the run that knows them, and `{path: reason}`
    of all pictures that it goes without: where a finished training could not read some that are
    mended by now, these, too, which a line says. Raises `ValueError` where that cannot be: a
    training that was only begun learns from the same pictures to its end, and a finished one is
    not reported without pictures that it has read, nor beside others of their names.
    """
    names, begun = _names(paths), run.begun
    now = {names[path] for path in unreadable}
    # Where nothing was begun, or by a version that did not note it, nothing has changed.
    before = set(begun.get(UNREADABLE, now))
    learned_from = [path for path in paths if names[path] not in now | before]
    hashes = sorted(f"{names[path]}: {_hash_of(path)}" for path in learned_from)
    pictures = short_hash("\n".join(hashes))
    settings = run.settings | {PICTURES: pictures, UNREADABLE: sorted(now)}
    check_hosts_agree(Run(run.folder, settings))
    lost, mended = now - before, [path for path in paths if names[path] in before - now]
    is_other = not lost and begun.get(PICTURES, pictures) != pictures
    if lost or is_other or (mended and not run.finished):
        other = _listed(lost, "cannot be read now and could be then")
        other += _listed((names[path] for path in mended), "can be read now")
        other += ["files have other contents now"] * is_other
        raise ValueError(
            f"{run.folder} holds a training on other pictures: {'; '.join(other)}. Put the "
            "pictures back as they were, give another OUTPUT_DIR, or RESTART=True to throw that "
            "training away."
        )
    if run.finished and begun.get(UNREADABLE):
        (which,) = _listed(before, "could not be read")
        print(
            f"This training was finished on damaged pictures: {which} and did not count. They are "
            "left out of this report, too, mended or not; RESTART=True learns from them."
        )
    mending = dict.fromkeys(mended, "it could not be read when this training was made")
    settled = Run(run.folder, settings | {UNREADABLE: sorted(before)})
    return settled, {**unreadable, **mending}


def _hash_of(picture: str) -> str:
    with suppress(OSError):
        return support.picture_hash(Path(picture))
    return "gone since it was decoded"


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Name each picture alike on every host: by its file, with the folder where two are alike."""
    files = Counter(map(os.path.basename, paths))
    top = os.path.commonpath([*map(os.path.dirname, paths)])
    return {
        path: name if files[name := os.path.basename(path)] == 1 else os.path.relpath(path, top)
        for path in paths
    }


def _listed(names: Iterable[str], what: str) -> list[str]:
    names = sorted(names)
    return [f"{first_of(names, FEW)} {what}"] if names else []
