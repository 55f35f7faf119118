"""The folder of one training: what is in it, and where to go on."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genre_utils import plots
from genre_utils.networks import architecture, load_weights, save_weights
from genre_utils.runs import hosts
from genre_utils.runs.lock import unlock
from genre_utils.saved_model import KNOWN_FILES
from genre_utils.support import DataError, replacing, sha256_of, write_json
from genre_utils.text import NgramModel

# The networks of a training, each with a folder of its own below the run's: the picture's, its
# second one and the words', and all three once more when everything is chosen.
PARTS = ("picture", "second", "words", "last_picture", "last_second", "last_words")

HEAD_CSV = "head.csv"
KEPT = "kept"  # the folder of arrays that are computed once

UNREADABLE = "unreadable"  # the setting with the names of pictures that could not be read
NETWORKS = "networks"  # the setting with the hashes of their layers
ENCODER = "encoder"  # the setting with the sentence encoder's name
PICTURES = "pictures"  # the setting with a hash of all pictures that could be read

# What a training writes over or deletes. Without `settings.json`, it is somebody else's.
WRITTEN = ("checkpoints", KEPT, *PARTS, *KNOWN_FILES, "model.json", "metrics.json", "MODEL_CARD.md")

# The settings by which a training's file is told from another program's.
MARKS = {"model", "image_size", "data"}


def _file(name: str, what: str) -> property:
    return property(lambda run: run.folder / name, doc=what)


@dataclass(frozen=True)
class Run:
    """One training in one folder; everything that it writes is below `folder`."""

    folder: Path
    settings: dict[str, Any]

    settings_file = _file("settings.json", "The settings that this folder's training has.")
    history_file = _file("history.csv", "The CSV with one row an epoch of fine-tuning.")
    best_file = _file("checkpoints/best.keras", "The network after its best epoch on validation.")
    head_file = _file("head.safetensors", "The weights of the head, when its fit is done.")
    network_file = _file("network.safetensors", "The weights of the best epoch, when all are done.")
    sums_file = _file("sha256.json", "The checksums of this network's files of weights.")
    metrics_file = _file("metrics.json", "The figures, which a finished training has.")
    figures = _file("figures", "The folder of the figures.")

    @property
    def finished(self) -> bool:
        """Whether this training has run to its end."""
        return self.metrics_file.exists()

    @property
    def begun(self) -> dict[str, Any]:
        """The settings of the training that was begun in this folder; empty where none was."""
        file = self.settings_file
        if not file.exists():
            return {}
        begun = None
        with suppress(OSError, ValueError):
            begun = json.loads(file.read_text("utf-8"))
        if not isinstance(begun, dict) or not self.settings.keys() & MARKS <= begun.keys():
            raise ValueError(f"{file} is of no training here, or damaged: give another OUTPUT_DIR.")
        return begun

    @property
    def state(self) -> str:
        """Whether this training begins, goes on or reports again, in a few words."""
        if self.finished:
            return "finished before: reporting again"
        # `begin` makes the first, and `finish` deletes it.
        if not (self.best_file.parent.exists() or (self.folder / KEPT).exists()):
            return "training"
        begun = [run for run in self.all_parts[1:] if not run.network_file.exists()]
        newest = {run.folder.name: files[0] for run in begun if (files := run.checkpoints())}
        where = [f"{part} after epoch {_epochs_of(file)}" for part, file in newest.items()]
        return ": ".join(["going on with this training", *where])

    def curves(self, name: str, parts: Iterable[str] = PARTS) -> dict[str, pd.DataFrame]:
        """Return the CSV `name` of each of the `parts` that has it, by the part's name.

        That of a head counts when its fit is done: a killed one leaves it empty, or torn.
        """
        parts = [run for run in map(self.part, parts) if name != HEAD_CSV or run.head_file.exists()]
        files = {run.folder.name: run.folder / name for run in parts}
        return {part: _read_curve(file) for part, file in files.items() if file.exists()}

    def history(self) -> pd.DataFrame:
        """Read the history of fine-tuning; its row 0 is the network before it.

        Raises `ValueError` for a damaged file.
        """
        if not self.history_file.exists():
            return pd.DataFrame(columns=["epoch", "loss", "val_macro_map", "seconds"])
        return _read_curve(self.history_file)

    def part(self, name: str) -> Run:
        """Return the run of one of the networks `PARTS`, in a folder below this one's."""
        return Run(self.folder / name, self.settings)

    @property
    def all_parts(self) -> list[Run]:
        """This run and its further trainings."""
        return [self, *map(self.part, PARTS)]

    def begin(self, networks: Iterable[keras.Model] = ()) -> None:
        """Claim the folder for these settings; before that, only pixels are written.

        `networks` are those of the picture. Raises `ValueError` where the training that was begun
        here had other layers under the same names, whose weights and scores these cannot use.
        """
        layers = [architecture(network) for network in networks]
        if self.begun.get(NETWORKS, layers) != layers:
            raise ValueError(
                f"{self.folder} holds a training of a network with other layers: give another "
                "OUTPUT_DIR, or RESTART=True to throw that training away."
            )
        # First of all: by this file the folder's other content is known to be a training's.
        write_json(self.settings_file, self.settings | ({NETWORKS: layers} if layers else {}))
        for run in self.all_parts:
            run.best_file.parent.mkdir(parents=True, exist_ok=True)

    def forget(self) -> None:
        """Delete what the training that was begun here wrote; the folder stays a training's."""
        for run in self.all_parts:
            for name in ("checkpoints", KEPT, "figures", "tensorboard"):
                shutil.rmtree(run.folder / name, ignore_errors=True)
            written = run.head_file, run.network_file, run.history_file, run.metrics_file
            for file in (*written, run.sums_file, run.folder / HEAD_CSV):
                file.unlink(missing_ok=True)
        write_json(self.settings_file, self.settings)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`, which marks the run as finished, and drop its checkpoints."""
        write_json(self.metrics_file, metrics)
        for run in self.all_parts:
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
            with suppress(OSError):  # it is not empty: this part was trained, and has a history
                run.folder.rmdir()
        unlock(self.folder)

    def save(self, network: keras.Model, file: Path) -> None:
        """Write a network's weights in half precision; it goes on with what was written.

        Kept logits are those of an older network, and go. When the last fits are done, validation
        logits are still those of the first ones.
        """
        older = "*_logits.npz" if self.folder.name.startswith("last_") else "*logits.npz"
        whole = self.folder.parent if self.folder.name in PARTS else self.folder
        for logits in (whole / KEPT).glob(older):
            logits.unlink()
        file.unlink(missing_ok=True)  # its checksum is written first
        with replacing(file) as temporary:
            save_weights(network, temporary)
            write_json(self.sums_file, self._sums() | {file.name: sha256_of(temporary)})
        self.load(network, file)

    def load(self, network: keras.Model, file: Path) -> None:
        """Load what `save` wrote of a network; raises `DataError` for a file of another one."""
        again = "Delete this file, and it is trained again."
        again += " RESTART=True throws the whole training away."
        # Weights that are numbers still may be others than those which were scored.
        if self._sums().get(file.name, known := sha256_of(file)) != known:
            raise DataError(f"{file} is damaged. {again}")
        load_weights(network, file, again)

    def _sums(self) -> dict[str, str]:
        with suppress(OSError, ValueError, TypeError):  # a damaged one tells nothing
            return dict(json.loads(self.sums_file.read_text("utf-8")))
        return {}

    def save_figure(self, figure: Figure, name: str) -> None:
        """Save a figure as `name.png` and `name.svg` in `figures`."""
        plots.save_figure(figure, self.figures, name)

    def kept(
        self, name: str, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Return the arrays of `compute()`, which is called once in this run; float32 or float64.

        They stand in the file `name` of the folder `kept`.
        """

        def load(file: Path) -> dict[str, np.ndarray]:
            with np.load(file) as arrays:
                return dict(arrays)

        return self._kept(name, lambda file: np.savez(file, **compute()), load)

    def kept_ngrams(self, name: str, fit: Callable[[], NgramModel]) -> NgramModel:
        """Return the n-grams of `fit()`, which is called once in this run."""
        return self._kept(name, lambda file: fit().save(file), NgramModel.load)

    def _kept(self, name: str, write: Callable[[Path], None], load: Callable[[Path], Any]) -> Any:
        file = self.folder / KEPT / f"{name}.npz"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as temporary:
                write(temporary)
        try:
            return load(file)
        except Exception:  # zip and NumPy have several kinds, and no file's name
            raise ValueError(
                f"{file} is damaged: delete it and run this again; it is computed anew."
            ) from None

    def checkpoints(self) -> list[Path]:
        """List the checkpoints, the newest first; the number is that of epochs done."""
        found = (self.folder / "checkpoints").glob("epoch-*.keras")
        # What somebody copied there under another name is no epoch.
        numbered = (file for file in found if file.stem[len("epoch-") :].isdecimal())
        return sorted(numbered, key=_epochs_of, reverse=True)

    def forget_torn(self) -> None:
        """Forget the epochs of a network whose history or best epoch is missing or damaged.

        Checkpoints alone do not tell which epoch was the best. A line says what is trained anew.
        """
        checkpoints = self.checkpoints()
        try:
            known = self.history()["epoch"].tolist()
            with zipfile.ZipFile(self.best_file) as best:
                is_intact = best.testzip() is None and known == [*range(len(known))]
            is_intact = is_intact and all(_epochs_of(file) in known for file in checkpoints)
        except FileNotFoundError:
            is_intact = False
        except OSError:  # of a disk that may answer the next time
            raise
        except Exception:  # zip has several kinds, and so has what it packs
            is_intact = False
        if not is_intact and (self.history_file.exists() or checkpoints):
            torn = f"{self.history_file} or {self.best_file} is missing or damaged"
            print(f"{torn}: this network is trained anew.")
            self._forget_after(0)

    def resume(self, network: keras.Model) -> int:
        """Load the newest checkpoint into a compiled network; returns the epochs done.

        The optimizer's state comes along; a network of which nothing was kept stays as it is. A
        checkpoint that cannot be loaded is passed over for the one before, with a line that says
        so. Several hosts go on from the last epoch that all of them have; raises `ValueError` when
        there is none.
        """
        network.optimizer.build(network.trainable_variables)
        variables = [*network.variables, *network.optimizer.variables]
        fresh = [keras.ops.convert_to_numpy(variable) for variable in variables]

        def load(files: Sequence[Path]) -> int:
            for file in files:
                try:
                    with warnings.catch_warnings():
                        # A head's optimizer of the first phase, which is over, is in the file too.
                        # It is not built, and has no more than its step and its rate.
                        unbuilt = "Skipping variable loading .* because it has [0-2] variables"
                        warnings.filterwarnings("ignore", unbuilt)
                        network.load_weights(file)
                    return _epochs_of(file)
                except Exception as error:  # what zip, HDF5 and each layer say of damage
                    reason = " ".join(str(error).split())[:200]
                    print(f"{file.name} is damaged ({reason}); going on from the epoch before it.")
            for variable, value in zip(variables, fresh, strict=True):
                variable.assign(value)
            return 0

        done = load(self.checkpoints())
        agreed = min(hosts.gather(done))
        if agreed < done:
            kept = [file for file in self.checkpoints() if _epochs_of(file) == agreed]
            if agreed and not kept:
                raise ValueError(
                    f"{self.folder} has no checkpoint of epoch {agreed}, where another host is: "
                    "give RESTART=True on all hosts."
                )
            done = load(kept)
        if hosts.processes()[1] > 1:
            self._forget_after(done)
        return done

    def _forget_after(self, epoch: int) -> None:
        """Drop what hosts may know differently: the history and checkpoints after an epoch."""
        for file in self.checkpoints():
            if _epochs_of(file) > epoch:
                file.unlink()
        if epoch == 0:
            self.history_file.unlink(missing_ok=True)
        elif self.history_file.exists():
            with replacing(self.history_file) as temporary:
                self.history().query("epoch <= @epoch").to_csv(temporary, index=False)


def _read_curve(file: Path) -> pd.DataFrame:
    try:
        curve = pd.read_csv(file).astype({"epoch": int, "val_macro_map": float})
    except (ValueError, KeyError):  # pandas' own kinds of both
        curve = pd.DataFrame()
    if curve.empty:
        raise ValueError(f"{file} is damaged: delete it and run this again.")
    return curve


def _epochs_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("epoch-"))
