import numpy as np
import pytest

from genre_utils.images import read_poster, resize_poster
from genre_utils.pipeline import PosterBatches, augment, fill_cache

SIZE = (48, 32)


@pytest.fixture
def cache(tmp_path, picture, encode):
    paths = []
    for i in range(10):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(encode(np.roll(picture, 3 * i, axis=0), "JPEG"))
        paths.append(str(path))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    cache = fill_cache([*paths[:4], str(broken), *paths[4:]], SIZE, tmp_path / "cache")
    return cache, paths


def test_cache_holds_what_prediction_sees(cache):
    pixels, paths = cache
    direct = np.stack([resize_poster(read_poster(path), SIZE) for path in paths])
    assert np.abs(pixels.pixels(paths).astype(int) - direct.astype(int)).max() <= 1


def test_unreadable_poster_is_named_and_moves_no_other_row(cache):
    pixels, _ = cache
    assert [reason for reason in pixels.unreadable.values()] == [
        "not a picture in a known format (JPEG, PNG, WEBP, GIF, BMP)"
    ]


def test_cache_is_filled_once_and_again_when_a_file_changes(tmp_path, cache, monkeypatch):
    _, paths = cache
    folder = tmp_path / "once"
    first = fill_cache(paths, SIZE, folder)
    monkeypatch.setattr("genre_utils.pipeline.read_poster", lambda *_: pytest.fail("read again"))
    assert fill_cache(paths, SIZE, folder).file == first.file
    monkeypatch.undo()
    with open(paths[0], "ab") as file:
        file.write(b"\0")
    assert fill_cache(paths, SIZE, folder).file != first.file


def test_interrupted_filling_leaves_no_cache(tmp_path, cache, monkeypatch):
    _, paths = cache

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("genre_utils.pipeline.resize_poster", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill_cache(paths, SIZE, tmp_path / "torn")
    assert list((tmp_path / "torn").iterdir()) == []


def batches(cache, paths, **options) -> PosterBatches:
    labels = np.eye(len(paths))
    return PosterBatches(cache, paths, labels, 4, **options)


def test_batches_in_order_hold_every_poster_once(cache):
    pixels, paths = cache
    ordered = batches(pixels, paths)
    np.testing.assert_array_equal(np.concatenate([y for _, y in ordered]), np.eye(10))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in ordered]), pixels.pixels(paths))


def test_an_epoch_depends_on_seed_epoch_and_poster_alone(cache):
    pixels, paths = cache
    once = batches(pixels, paths, seed=3, epoch=2, augmented=True)
    again = batches(pixels, paths, seed=3, epoch=2, augmented=True)
    for i in (2, 0, 1):
        for mine, theirs in zip(once[i], again[i], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for options in ({"seed": 3, "epoch": 3}, {"seed": 4, "epoch": 2}):
        other = batches(pixels, paths, augmented=True, **options)
        assert not np.array_equal(other[0][0], once[0][0])
        assert not np.array_equal(other.order, once.order)
    # The table's order and a poster more or less do not change the order of the others.
    turned = batches(pixels, paths[:0:-1], seed=3, epoch=2)
    first = paths[0]
    assert [p for p in once.paths[once.order] if p != first] == list(turned.paths[turned.order])


def test_shuffling_keeps_labels_with_their_posters(cache):
    pixels, paths = cache
    shuffled = batches(pixels, paths, seed=1)
    seen = []
    for x, y in shuffled:
        for poster, label in zip(x, y, strict=True):
            np.testing.assert_array_equal(poster, pixels.pixels([paths[label.argmax()]])[0])
            seen.append(int(label.argmax()))
    assert sorted(seen) == list(range(10)) and seen != list(range(10))


def test_augmentation_varies_a_poster_and_stays_in_range(picture):
    variants = [augment(picture, np.random.default_rng(seed)) for seed in range(8)]
    assert all(v.shape == picture.shape and v.dtype == np.uint8 for v in variants)
    assert len({v.tobytes() for v in variants}) == 8
    np.testing.assert_array_equal(variants[0], augment(picture, np.random.default_rng(0)))
