"""From pixels to words: RapidOCR, with a bound on what a picture may cost it."""

import importlib.metadata
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genre_utils import machine
from genre_utils.images import PosterError, resize_poster
from genre_utils.networks import open_session
from genre_utils.ocr.cache import round_corners
from genre_utils.ocr.line import Line

# The public posters are about 300 × 440. A poster of 2,000 pixels is read at their size: its
# small print, which theirs does not show, would be words that no training has seen, and its
# reading would take longer.
MAX_PIXELS = 150_000
# The text detector enlarges the shorter side, so that a strip of 10 × 10,000 would need gigabytes.
# Longer pictures (the longest public poster has 2.7) get a black border.
MAX_ASPECT = 3
# By how much it enlarges: RapidOCR's own 736 pixels show nothing more of a poster of 300, and take
# longer (`benchmarks/README.md`, the table of reading). Its network needs a multiple of 32.
ENLARGED = 1.4
SMALLEST_SIDE, LARGEST_SIDE = 320, 736

_DETECTOR, _RECOGNIZER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
# The recognizer answers with 18,710 characters' scores for every 8 columns of pixels, in float32
# and twice while it computes: half a gigabyte for six lines over a long strip, and RapidOCR holds
# the answer before, too. Of a batch with more columns than this each line is read alone.
_WIDE = 6_000


class Reader:
    """Reads the words on posters with RapidOCR and the models in its wheel; never downloads.

    Several threads may share one. `threads` is how many cores one reading may use, 0 for
    all: 1 where posters are read side by side. Raises `ImportError` where RapidOCR is missing or
    broken.
    """

    def __init__(self, threads: int = 1):
        self.threads = threads
        self._networks: dict[str, Any] = {}
        # RapidOCR does not promise to be safe in threads: each reading borrows an engine of its
        # own, and as many are made as ever read at once. A list's `pop` and `append` are atomic.
        # ONNX Runtime does promise it: all engines share the networks.
        self._idle = [self._engine()]

    def read(self, rgb: np.ndarray, name: str = "poster") -> list[Line]:
        """Read the lines on an RGB poster, uint8 `(height, width, 3)`, from top to bottom.

        A poster without text gives an empty list. Raises `PosterError` with `name` in it when
        the library fails on this picture.
        """
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = self._engine()
        try:
            canvas, size = _fit(rgb)
            # RapidOCR takes arrays for OpenCV's, which are BGR.
            found = engine(np.ascontiguousarray(canvas[..., ::-1]), detector_side(rgb))
            if getattr(found, "txts", None) is None or found.boxes is None:
                return []
            return [
                Line(text, round(float(score), 4), round_corners(box, size))
                for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
            ]
        except Exception as error:  # OpenCV, ONNX Runtime and Shapely each have their own
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise PosterError(name, f"its words cannot be read ({reason[0]})") from None
        finally:
            self._idle.append(engine)

    def settings(self, rgb: np.ndarray) -> str:
        """Return with what a poster is read, such as `"rapidocr 3.10.0, detector 416"`."""
        version = importlib.metadata.version("rapidocr")
        return f"rapidocr {version}, detector {detector_side(rgb)}"

    def _engine(self) -> Callable[[np.ndarray, int], Any]:
        """Start RapidOCR; returns what reads a BGR picture with the detector at a size."""
        try:
            machine.import_onnxruntime()  # before RapidOCR does
            import rapidocr
            from omegaconf import OmegaConf

            self._networks = self._networks or {
                "Det": self._network(_DETECTOR),
                "Rec": self._network(_RECOGNIZER),
            }
            engine = rapidocr.RapidOCR(
                params={"Global.use_cls": False, "Global.log_level": "critical"}
            )
            for part, network in self._networks.items():
                # A network that is given is neither searched nor downloaded.
                given = {**engine.cfg[part], "session": network}
                engine.cfg[part] = OmegaConf.create(given, flags={"allow_objects": True})
        except Exception as error:  # an import may fail by the system's libraries, too
            raise ImportError(
                f"The words on the posters are not read, because RapidOCR does not start: {error}; "
                "pip install rapidocr onnxruntime, or install them anew."
            ) from None

        def recognise(bgr: np.ndarray, side: int) -> Any:
            engine.cfg.Det.limit_side_len = side  # taken over when the detector is made
            if engine.text_det is not None:
                engine.text_det.limit_side_len = side
            return engine(bgr)

        return recognise

    def _network(self, model: str) -> Any:
        """Load a model, all of whose runs give their memory back."""
        import rapidocr

        file = Path(rapidocr.__file__).parent / "models" / model
        if not file.is_file():
            raise FileNotFoundError(f"it lacks the model {model}")
        network, each = open_session(file, self.threads)
        run = partial(network.run, run_options=each)
        network.run = _line_by_line(run) if model == _RECOGNIZER else run
        return network


def detector_side(rgb: np.ndarray) -> int:
    """Return the shorter side, in pixels, at which the text detector sees a poster."""
    shorter = min(_fit(rgb)[0].shape[:2])
    return int(np.clip(ENLARGED * shorter // 32 * 32, SMALLEST_SIDE, LARGEST_SIDE))


class _Best(NamedTuple):
    """The likeliest character at each place, `(lines, places)`: all RapidOCR asks of scores."""

    characters: np.ndarray
    scores: np.ndarray

    def argmax(self, axis: int) -> np.ndarray:
        return self.characters

    def max(self, axis: int) -> np.ndarray:
        return self.scores


def _line_by_line(run: Callable[..., list[np.ndarray]]) -> Callable[..., list[Any]]:
    """Have a recognizer read a batch of very wide lines one by one, each in the batch's width."""

    def run_wide(names: Sequence[str], inputs: dict[str, np.ndarray]) -> list[Any]:
        ((name, lines),) = inputs.items()
        if len(lines) * lines.shape[-1] <= _WIDE:
            return run(names, inputs)
        answers = (run(names, {name: lines[i : i + 1]})[0] for i in range(len(lines)))
        best = [(scores.argmax(axis=2), scores.max(axis=2)) for scores in answers]
        return [_Best(*map(np.concatenate, zip(*best, strict=True)))]

    return run_wide


def _fit(rgb: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a poster as it is read, and its (width, height) in that, without the border."""
    height, width = rgb.shape[:2]
    longer, shorter = max(height, width), min(height, width)
    scale = math.sqrt(MAX_PIXELS / (longer * max(shorter, longer / MAX_ASPECT)))
    if scale < 1:
        height, width = max(1, int(height * scale)), max(1, int(width * scale))
        rgb = resize_poster(rgb, (height, width))
    below = max(0, math.ceil(width / MAX_ASPECT) - height)
    right = max(0, math.ceil(height / MAX_ASPECT) - width)
    return np.pad(rgb, ((0, below), (0, right), (0, 0))), (width, height)
