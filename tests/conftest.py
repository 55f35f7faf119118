"""What several tests share: the drawn sample and models trained on it, made once a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from genre_utils import machine

# Before a test imports Keras: the tests run on whatever backend the machine has.
machine.choose_backend()

import keras  # noqa: E402

ROOT = Path(__file__).parent.parent


def run_notebook(name: str, folder: Path, **parameters) -> str:
    """Run a notebook headless as a user does; returns all that it printed."""
    import papermill

    done = papermill.execute_notebook(
        ROOT / "notebooks" / f"{name}.ipynb",
        folder / f"{name}.ipynb",
        parameters,
        cwd=ROOT,
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longer training and end with the shorter, lest both processes wait for one."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return "trained_on_words" not in item.fixturenames, "trained" in item.fixturenames

    items.sort(key=place)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Begin each test with the same random numbers: none depends on those that ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Path:
    """A folder that all processes of one run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def make_once(folder: Path, make: Callable[[], object]) -> Path:
    """Let the first process that needs a folder make it, while the others wait."""
    folder.parent.mkdir(exist_ok=True)
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            make()
            made.touch()
    return folder


def train_once(folder: Path, **parameters) -> Path:
    """Run the train notebook unless it was; `printed.txt` in its folder has what it printed."""

    def train() -> None:
        printed = run_notebook("train", folder.parent, OUTPUT_DIR=str(folder), **parameters)
        (folder / "printed.txt").write_text(printed, "utf-8")

    return make_once(folder, train)


@pytest.fixture(scope="session")
def sample_folder(shared) -> Path:
    from genre_utils.sources.sample import draw_sample

    folder = shared / "data" / "sample"
    return make_once(folder, lambda: draw_sample(folder))


@pytest.fixture(scope="session")
def pictures_alone() -> dict:
    """The parameters of a training of a head on a frozen Lite0."""
    return {
        "DATA": "sample",
        "MODEL": "efficientnet_lite0",
        "SECOND_MODEL": "",
        "IMG_SIZE": 128,
        "EPOCHS": 0,
        "READ_TEXT": "no",
    }


@pytest.fixture(scope="session")
def trained(shared, pictures_alone) -> Path:
    """The output folder of that training."""
    return train_once(shared / "trained" / "model", **pictures_alone)


@pytest.fixture(scope="session")
def on_words(shared) -> dict:
    """The parameters of a training on the pictures and the words of some sample posters."""
    return {
        "DATA": "sample",
        "MODEL": "efficientnet_lite0",
        "IMG_SIZE": 64,
        "LIMIT": 120,
        "EPOCHS": 0,
        "READ_TEXT": "yes",
        "WORD_EPOCHS": 1,
        "LAST_FIT": True,
        "WORDS": str(shared / "words.jsonl"),
    }


@pytest.fixture(scope="session")
def trained_on_words(shared, on_words) -> Path:
    """The output folder of that training."""
    return train_once(shared / "trained_on_words" / "model", **on_words)


@pytest.fixture(scope="session")
def predictor(trained):
    from genre_utils.predictor import Predictor

    return Predictor.load(trained, runtime=False)


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture, 60 high and 40 wide, that survives JPEG within a few steps."""
    y, x = np.mgrid[0:60, 0:40]
    return np.stack([4 * y, 6 * x, 255 - 2 * (x + y)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def encode():
    """Encode an array or PIL image as the bytes of a picture file."""

    def encode(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def posters(tmp_path_factory, encode):
    """The pixel cache, paths and labels of 24 flat pictures, dark or bright."""
    from genre_utils.batches import fill_cache

    folder = tmp_path_factory.mktemp("posters")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(24):
        shade = rng.integers(0, 100) + 120 * (i % 2)
        path = folder / f"{i}.png"
        path.write_bytes(encode(np.full((90, 90, 3), shade, np.uint8), "PNG"))
        paths.append(str(path))
    labels = np.eye(2)[np.arange(24) % 2]
    return fill_cache(paths, (80, 80), folder / "cache"), paths, labels
