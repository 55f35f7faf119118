import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genre_utils import machine
from genre_utils.batches import PosterBatches, WordBatches, augment, fill_cache, random_key
from genre_utils.images import PosterError, read_poster, resize_poster

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


def test_what_can_be_read_by_now_is_decoded_though_its_file_is_the_same(tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.new("RGB", (40, 60), (90 * i, 0, 0)).save(file)
    paths, tried = [*map(str, files)], []

    def gone(path):
        tried.append(path)
        if path == paths[1]:
            raise PosterError("1.png", "the file cannot be read (Host is down)")
        return read_poster(path)

    with monkeypatch.context() as patch:
        patch.setattr("genre_utils.batches.read_poster", gone)
        caches = [fill_cache(paths, SIZE, tmp_path / "cache") for _ in range(2)]
        assert [list(one.unreadable) for one in caches] == [[paths[1]]] * 2
        assert sorted(tried) == sorted([*paths, paths[1]]), "the others are decoded once"
    again = fill_cache(paths, SIZE, tmp_path / "cache")
    assert not again.unreadable and (again.pixels(paths[1:2])[..., 0] == 90).all()


def test_a_cache_serves_its_own_size_and_another_is_filled_for_others(cache):
    pixels, paths = cache
    assert pixels.at(SIZE, paths[:2]) is pixels
    larger = pixels.at((96, 64), paths[:2])
    assert larger.file.parent == pixels.file.parent and list(larger.row) == paths[:2]
    assert larger.pixels(paths[1:2]).shape == (1, 96, 64, 3)


def test_a_cache_of_nothing_is_not_kept(tmp_path):
    broken = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for path in broken:
        Path(path).write_bytes(b"no picture")
    broken += [str(tmp_path / "gone.jpg"), broken[0]]
    assert set(fill_cache(broken, SIZE, tmp_path / "none").unreadable) == set(broken)
    assert not (tmp_path / "none").exists()


def test_cache_is_filled_once_and_again_when_a_file_changes(tmp_path, cache, monkeypatch):
    _, paths = cache
    folder = tmp_path / "once"
    first = fill_cache(paths, SIZE, folder)
    monkeypatch.setattr("genre_utils.batches.read_poster", lambda *_: pytest.fail("read again"))
    assert fill_cache(paths, SIZE, folder).file == first.file
    monkeypatch.undo()
    with open(paths[0], "ab") as file:
        file.write(b"\0")
    longer = fill_cache(paths, SIZE, folder)
    os.utime(paths[0], ns=(1, 1))
    later = fill_cache(paths, SIZE, folder)
    with open(paths[0], "ab") as file:
        file.write(b"\0")
    os.utime(paths[0], ns=(1, 1))
    again = fill_cache(paths, SIZE, folder)
    monkeypatch.setattr("genre_utils.batches.CACHE_VERSION", 99)
    monkeypatch.setattr("genre_utils.batches.BLOCK_BYTES", 1)  # a poster at a time
    last = fill_cache(paths, SIZE, folder)
    assert len({one.file for one in (first, longer, later, again, last)}) == 5
    np.testing.assert_array_equal(last.pixels(paths), first.pixels(paths))


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        (".json", lambda content: b"["),
        (".json", lambda content: b"[]"),
        (".npy", lambda content: content[: len(content) // 2]),
        (".npy", lambda content: b""),
        (".npy", lambda content: content.replace(b"}", b" ", 1)),
    ],
)
def test_a_damaged_cache_is_filled_anew(tmp_path, cache, ending, damage):
    _, paths = cache
    first = fill_cache(paths, SIZE, tmp_path)
    whole = first.pixels(paths)
    file = first.file.with_suffix(ending)
    file.write_bytes(damage(file.read_bytes()))
    again = fill_cache(paths, SIZE, tmp_path)
    assert again.file == first.file and again.unreadable == first.unreadable
    np.testing.assert_array_equal(again.pixels(paths), whole)


def test_interrupted_filling_leaves_no_cache(tmp_path, cache, monkeypatch):
    _, paths = cache

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("genre_utils.batches.resize_poster", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill_cache(paths, SIZE, tmp_path / "torn")
    assert list((tmp_path / "torn").iterdir()) == []


def batches(cache, paths, **options) -> PosterBatches:
    labels = np.eye(len(paths))
    return PosterBatches(cache, paths, labels, 4, **options)


def test_batches_in_order_hold_every_poster_and_are_all_of_one_shape(cache):
    pixels, paths = cache
    ordered = batches(pixels, paths)
    filled = [*range(10), 0, 1]
    np.testing.assert_array_equal(np.concatenate([y for _, y in ordered]), np.eye(10)[filled])
    read = pixels.pixels([paths[i] for i in filled])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in ordered]), read)
    assert {x.shape for x, _ in ordered} == {(4, *SIZE, 3)}
    assert {(x.dtype.name, y.dtype.name) for x, y in ordered} == {("uint8", "float32")}
    chosen = PosterBatches(pixels, paths, np.eye(10))
    assert chosen.batch_size == machine.posters_at_once()


def test_training_leaves_out_a_remainder_that_is_another_in_each_epoch(cache):
    pixels, paths = cache
    left_out = set()
    for epoch in range(8):
        shuffled = batches(pixels, paths, seed=0, epoch=epoch)
        assert [x.shape for x, _ in shuffled] == [(4, *SIZE, 3)] * 2
        seen = np.concatenate([y for _, y in shuffled]).sum(axis=0)
        assert sorted(seen) == [0, 0] + [1] * 8
        left_out |= set(np.flatnonzero(seen == 0))
    assert len(left_out) > 4


def test_fewer_posters_than_a_batch_come_several_times(cache):
    pixels, paths = cache
    ((_, labels),) = PosterBatches(pixels, paths[:3], np.eye(3), 7, seed=0)
    assert sorted(labels.sum(axis=0)) == [2, 2, 3]


def test_hosts_share_each_batch_without_gap_or_overlap(cache):
    pixels, paths = cache
    whole = batches(pixels, paths, seed=1, augmented=True)
    first, second = (batches(pixels, paths, seed=1, augmented=True) for _ in range(2))
    first.share, second.share = (0, 2), (1, 2)
    for i in range(len(whole)):
        assert first.posters(i) == second.posters(i) == whole.posters(i)
        for both, one, other in zip(whole[i], first[i], second[i], strict=True):
            np.testing.assert_array_equal(both, np.concatenate([one, other]))


def test_batches_of_words_have_few_shapes_the_same_on_all_hosts():
    rng = np.random.default_rng(0)
    tokens = [np.arange(1, 1 + n) for n in rng.integers(1, 128, 50)]
    names = [f"{i}.jpg" for i in range(50)]
    first, second = (WordBatches(tokens, names, np.eye(50), 8, 0, 0) for _ in range(2))
    first.share, second.share = (0, 2), (1, 2)
    assert len(first) == 6
    shapes = [first[i][0].shape for i in range(6)]
    assert shapes == [second[i][0].shape for i in range(6)]
    assert all(shape[0] == 4 and shape[1] % 32 == 0 for shape in shapes)
    assert shapes[0][1] == max(width for _, width in shapes)
    labels = np.concatenate([batch[i][1] for batch in (first, second) for i in range(6)])
    assert labels.sum(axis=0).max() == 1 and labels.sum() == 48


def test_an_epoch_depends_on_seed_epoch_and_poster_alone(cache):
    pixels, paths = cache
    once = batches(pixels, paths, seed=3, epoch=2, augmented=True)
    again = batches(pixels, paths, seed=3, epoch=2, augmented=True)
    for i in (1, 0):
        for mine, theirs in zip(once[i], again[i], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for options in ({"seed": 3, "epoch": 3}, {"seed": 4, "epoch": 2}):
        other = batches(pixels, paths, augmented=True, **options)
        assert not np.array_equal(other[0][0], once[0][0])
        assert not np.array_equal(np.concatenate(other.rows), np.concatenate(once.rows))
    # The table's order and a poster more or less do not change the order of the others.
    turned = PosterBatches(pixels, paths[:0:-1], np.eye(9), 9, seed=3, epoch=2)
    once = PosterBatches(pixels, paths, np.eye(10), 10, seed=3, epoch=2)
    first = paths[0]
    assert [p for p in once.paths[once.rows[0]] if p != first] == list(turned.paths[turned.rows[0]])


def test_shuffling_keeps_labels_with_their_posters(cache):
    pixels, paths = cache
    shuffled = PosterBatches(pixels, paths, np.eye(10), 5, seed=1)
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


def test_augmentation_crops_mirrors_and_changes_the_tone_by_so_much():
    halves = np.full((60, 40, 3), 100, np.uint8)
    halves[:, 20:] = 150
    halves[30:, :, 0] += 50
    edges, rows, mirrored, contrasts, shades = set(), set(), [], [], []
    for seed in range(60):
        varied = augment(halves, np.random.default_rng(seed)).astype(int)
        steps = np.diff(varied[0, :, 1])
        mirrored.append(steps.sum() < 0)
        edge = np.abs(steps).argmax() + 1
        edges.add(40 - edge if mirrored[-1] else edge)
        down = np.diff(varied[:, 0, 0])
        assert down.sum() > 0, "never upside down"
        rows.add(down.argmax() + 1)
        contrasts.append(np.ptp(varied[..., 1]) / 50)
        shades.append(varied[..., 1].mean() - 125)
    assert len(edges) > 4 and min(edges) >= 14 and max(edges) <= 26
    assert len(rows) > 4 and min(rows) >= 22 and max(rows) <= 38
    assert 0.3 < np.mean(mirrored) < 0.7
    assert 0.78 <= min(contrasts) < 0.9 and 1.1 < max(contrasts) <= 1.22
    assert min(shades) < -15 and max(shades) > 15
    for shade in (0, 255):
        flat = np.full((9, 9, 3), shade, np.uint8)
        varied = [augment(flat, np.random.default_rng(seed)) for seed in range(20)]
        assert all(np.abs(one.astype(int) - shade).max() < 60 for one in varied)


def test_a_poster_is_varied_by_its_name_seed_and_epoch_wherever_it_stands(cache):
    pixels, paths = cache

    def first(paths, seed, epoch):
        x, y = PosterBatches(pixels, paths, np.eye(10), 10, seed, epoch, augmented=True)[0]
        return x[y.argmax(axis=1) == paths.index(min(paths))][0]

    np.testing.assert_array_equal(first(paths, 0, 0), first(paths[::-1], 0, 0))
    assert not np.array_equal(first(paths, 0, 0), first(paths, 0, 1))
    assert not np.array_equal(first(paths, 0, 0), first(paths, 1, 0))
    assert random_key("a/poster.jpg", 0, 0) == random_key("b/poster.jpg", 0, 0)


def test_texts_of_a_batch_are_alike_and_others_in_each_epoch():
    tokens = [np.arange(1, 1 + n) for n in np.random.default_rng(0).permutation(50) * 2 + 1]
    names = [f"{i}.jpg" for i in range(50)]
    epochs = [WordBatches(tokens, names, np.eye(50), 8, 0, epoch) for epoch in range(8)]
    left_out, orders, batches = set(), set(), set()
    for epoch in epochs:
        lengths = [sorted(len(tokens[i]) for i in rows) for rows in epoch.rows]
        assert max(batch[-1] - batch[0] for batch in lengths) < 45
        widest = [batch[-1] for batch in lengths]
        assert widest[0] == max(widest) and widest[1] == min(widest)
        orders.add(tuple(np.argsort(widest[2:])))
        batches.add(tuple(lengths[0]))
        left_out |= set(range(50)) - set(np.concatenate(epoch.rows))
    assert len(orders) > 3 and len(batches) > 5 and len(left_out) > 6
    other = WordBatches(tokens, names, np.eye(50), 8, 1, 0)
    assert not np.array_equal(np.concatenate(other.rows), np.concatenate(epochs[0].rows))
    for x, y in (epochs[0][i] for i in range(6)):
        assert x.dtype == np.int32 and y.dtype == np.float32
        assert [len(tokens[i]) for i in y.argmax(axis=1)] == (x > 0).sum(axis=1).tolist()


def test_full_disks_are_said_and_others_that_reserve_no_room_do_no_harm(
    tmp_path, cache, monkeypatch
):
    pixels, paths = cache

    def fallocate(*_):
        raise OSError(number, "no room")

    monkeypatch.setattr("os.posix_fallocate", fallocate, raising=False)
    number = errno.EOPNOTSUPP
    found = fill_cache(paths, SIZE, tmp_path / "reserved")
    np.testing.assert_array_equal(found.pixels(paths), pixels.pixels(paths))
    number = errno.ENOSPC
    with pytest.raises(OSError, match="no room"):
        fill_cache(paths, SIZE, tmp_path / "full")
    free = SimpleNamespace(free=500_000)
    monkeypatch.setattr("genre_utils.batches.shutil.disk_usage", lambda _: free)
    with pytest.raises(OSError, match="300 posters need 1.4 MB in .*, and 0.5 MB are free. Give"):
        fill_cache(paths * 30, SIZE, tmp_path / "full")
