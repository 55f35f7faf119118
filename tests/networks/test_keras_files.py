"""`.keras` files of the format before, which are converted: what is not ours is refused."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from genre_utils.networks import keras_files
from genre_utils.networks.arrays import Array
from genre_utils.networks.keras_config import from_config, to_arrays, to_config
from genre_utils.networks.keras_files import CONFIG, WEIGHTS, check_network, load_network
from genre_utils.support import DataError

EMPTY = {"class_name": "Sequential", "module": "keras", "config": {"layers": []}}


def write(file: Path, config=EMPTY, weights: bytes | None = None, **members: bytes) -> Path:
    """Write a `.keras` archive by hand; other members replace or join those of any such file."""
    content = {
        "metadata.json": b'{"keras_version": "3.15.1"}',
        CONFIG: json.dumps(config).encode(),
        WEIGHTS: hdf5(lambda h5: h5.create_dataset("layers/vars/0", data=np.ones(3))),
    }
    content |= {WEIGHTS: weights} if weights is not None else {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**content, **members}.items():
            archive.writestr(name, data)
    return file


def hdf5(fill) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def layer(kind: str, module: str = "keras.layers", registered: str | None = None, **config) -> dict:
    part = {"class_name": kind, "module": module, "config": config, "registered_name": registered}
    return {**EMPTY, "config": {"layers": [part]}}


def refuse(file: Path, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load_network(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_plain_networks_pass(tmp_path):
    check_network(write(tmp_path / "plain.keras"))
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    network.save(tmp_path / "a.keras")
    check_network(tmp_path / "a.keras")
    rate = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    network.compile(keras.optimizers.AdamW(rate), keras.losses.BinaryCrossentropy())
    network.save(tmp_path / "compiled.keras")
    assert not load_network(tmp_path / "compiled.keras").compiled


@pytest.mark.parametrize("name", ["efficientnetv2-b0", "convnext_tiny", "mobilenetv3_large"])
def test_every_family_of_networks_passes_and_comes_back(tmp_path, name, monkeypatch):
    from genre_utils import models

    family = getattr(keras.applications, models.APPLICATIONS[name])
    backbone = family(include_top=False, weights=None, pooling="avg", input_shape=(64, 64, 3))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)))
    check_network(write(tmp_path / "a.keras", config))
    arrays = to_arrays(backbone)
    halves = {name: Array.half(values) for name, values in arrays.items()}
    loaded = to_arrays(from_config(to_config(backbone), halves))
    assert all(np.allclose(loaded[name], arrays[name], atol=1e-3) for name in arrays)


@pytest.mark.parametrize(
    "part",
    [
        layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wAA"}}),
        layer("TFSMLayer", filepath="/tmp/evil"),
        layer("TorchModuleWrapper", "keras.src.utils.torch_utils", content="gASV"),
        layer("StringLookup", vocabulary="/etc/passwd"),
        layer("system", "os", command="touch evil"),
        layer("Dense", "evil.layers", units=3),
        layer("Dense", "keras_evil", units=3),
        layer("Dense", registered="evil>Dense", units=3),
        layer("Dense", units=3, activation={"class_name": "function", "config": "eval"}),
        layer("Dense", units=3, kernel_initializer={"class_name": "Lambda", "config": {}}),
        {**EMPTY, "compile_config": {"loss": {"class_name": "Popen", "module": "subprocess"}}},
    ],
)
def test_foreign_and_dangerous_layers_are_refused(tmp_path, part):
    refuse(write(tmp_path / "a.keras", part), "is no layer of Keras, or holds code or files")


@pytest.fixture
def mark(tmp_path) -> Path:
    """What the code in a layer of `a.keras` would write."""
    mark = tmp_path / "ran"
    # Only plain values can be packed with a function; a path is none.
    evil = keras.layers.Lambda(eval(f"lambda x: open({str(mark)!r}, 'w') and x"))
    keras.Sequential([keras.Input((1,)), evil]).save(tmp_path / "a.keras")
    mark.unlink(missing_ok=True)  # Keras calls a layer when it is built
    return mark


def test_code_in_a_layer_is_never_run(mark, tmp_path, monkeypatch):
    """Even where a person has told Keras to trust everything."""
    load = keras.saving.load_model
    monkeypatch.setattr(keras.saving, "load_model", lambda f, **_: load(f, safe_mode=False))
    refuse(tmp_path / "a.keras", "Lambda is no layer")
    assert not mark.exists()


def test_code_that_got_past_our_own_checks_is_not_run_by_keras(mark, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_files, "check_network", lambda file: None)
    refuse(tmp_path / "a.keras", "cannot be loaded by Keras")
    assert not mark.exists()


def test_known_layers_that_keras_cannot_build_are_refused(tmp_path):
    refuse(write(tmp_path / "a.keras", layer("Dense", units=-3)), "cannot be loaded by Keras")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../evil.py", "'../evil.py' is in it and should not be"),
        ("/etc/cron.d/evil", "should not be"),
        ("assets/evil.pkl", "should not be"),
        ("C:evil", "should not be"),
    ],
)
def test_other_members_are_refused_and_not_unpacked(tmp_path, name, sentence):
    refuse(write(tmp_path / "a.keras", **{name: b"evil"}), sentence)
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"]


def test_missing_and_doubled_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "few.keras", "w") as archive:
        archive.writestr(CONFIG, "{}")
    refuse(tmp_path / "few.keras", "or is missing")
    write(tmp_path / "twice.keras")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "twice.keras", "a") as archive,
    ):
        archive.writestr(CONFIG, json.dumps(layer("Lambda")))
    refuse(tmp_path / "twice.keras", "two files of one name")


def link_out(h5: h5py.File) -> None:
    h5["layers"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def link_within(h5: h5py.File) -> None:
    h5["layers/vars/0"] = h5py.SoftLink("/elsewhere")


def lie_outside(h5: h5py.File) -> None:
    h5.create_dataset("vars/0", (9,), "u1", external=[("/etc/passwd", 0, 9)])


def be_virtual(h5: h5py.File) -> None:
    layout = h5py.VirtualLayout((9,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "secret", (9,))
    h5.create_virtual_dataset("vars/0", layout)


def be_packed(h5: h5py.File) -> None:
    h5.create_dataset("vars/0", (10**9,), "f4", chunks=(10**6,), compression="gzip")


def be_huge(h5: h5py.File) -> None:
    h5.create_dataset("vars/0", (10**9,), "f4")  # nothing is written: it takes no room


def be_huge_together(h5: h5py.File) -> None:
    for i in range(3):
        h5.create_dataset(f"vars/{i}", (2 * 10**8,), "f4")


def be_huge_once_widened(h5: h5py.File) -> None:
    h5.create_dataset("vars/0", (6 * 10**8,), "u1")


def be_text(h5: h5py.File) -> None:
    h5.create_dataset("vars/0", data=[b"a", b"b"], dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (link_out, "its weights '/' lead to another file"),
        (link_within, "lead to another file"),
        (lie_outside, "no plain array"),
        (be_virtual, "no plain array"),
        (be_packed, "no plain array"),
        (be_huge, "more than any network"),
        (be_huge_together, "more than any network"),
        (be_huge_once_widened, "more than any network"),
        (be_text, "no plain array"),
    ],
)
def test_weights_that_are_not_in_the_file_or_fill_the_memory_are_refused(tmp_path, fill, sentence):
    refuse(write(tmp_path / "a.keras", weights=hdf5(fill)), sentence)


def test_sizes_are_judged_before_anything_is_unpacked(tmp_path, monkeypatch):
    file = write(tmp_path / "a.keras", weights=bytes(3_000_000))
    monkeypatch.setattr(keras_files, "MAX_WEIGHTS", 2_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked a bomb"))
    refuse(file, "would unpack to more")
    file = write(tmp_path / "b.keras", **{CONFIG: b"[" * 3_000_000})
    monkeypatch.setattr(keras_files, "MAX_CONFIG", 2_000_000)
    refuse(file, "would unpack to more")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x05\x06" + bytes(18), b"\x89HDF\r\n\x1a\n" + bytes(99), pickle.dumps([1]), b"{}"],
)
def test_files_of_other_kinds_are_refused(tmp_path, content):
    (tmp_path / "a.keras").write_bytes(content)
    refuse(tmp_path / "a.keras", "no whole .keras file|is missing")


def test_a_description_nested_without_end_is_refused(tmp_path):
    refuse(write(tmp_path / "a.keras", **{CONFIG: b"[" * 100_000}), "no whole .keras file")
