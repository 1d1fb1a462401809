import gc
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_cli.core import draws
from alexnet_cli.core.batches import BatchStream, stored_batches, training_batches
from alexnet_cli.core.errors import StoreError
from alexnet_cli.core.jpeg import decode_plain
from alexnet_cli.core.order import epoch_order
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.views import draw_views
from tests.pictures import photo, saved
from tests.stores import random_images, write_store

RECIPE = Recipe(batch_size=5, shuffle="full", crop_chunk=1)
LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 2]


@pytest.fixture(scope="module")
def images():
    """Thirteen images: two batches of five and a rest of three."""
    return random_images(len(LABELS))


@pytest.fixture(scope="module")
def store(images, tmp_path_factory):
    """A store of unpacked images."""
    return write_store(tmp_path_factory.mktemp("raw") / "train", images, LABELS, "abc")


def by_pillow(record: bytes) -> np.ndarray:
    """Decode by Pillow alone."""
    return np.asarray(Image.open(BytesIO(record)))


def batch_threads() -> list[threading.Thread]:
    """Threads of streams that are still alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


# Training --------------------------------------------------------------------------------------------------------------------


def test_epoch_is_every_image_at_its_drawn_place(store, images):
    """An epoch holds each image once, in the drawn order, cut at the drawn corner; the last batch is the short rest."""
    order = draws.permutation(len(LABELS), 7, "order", 3)
    drawn = draw_views(RECIPE, 7, 3, len(LABELS))
    batches = list(training_batches(store, RECIPE, seed=7, epoch=3))
    assert [(batch.size, batch.positions) for batch in batches] == [(5, range(0, 5)), (5, range(5, 10)), (3, range(10, 13))]
    position = 0
    for batch in batches:
        assert batch.images_BHWC.dtype == torch.uint8 and batch.images_BHWC.shape == (batch.size, 224, 224, 3)
        assert batch.labels_B.dtype == torch.int64
        for crop, label in zip(batch.images_BHWC.numpy(), batch.labels_B.tolist(), strict=True):
            y, x, index = drawn.y[position], drawn.x[position], order[position]
            assert np.array_equal(crop, images[index][y : y + 224, x : x + 224])
            assert label == LABELS[index]
            position += 1
    assert position == len(LABELS)


def test_places_are_not_all_the_same():
    """The draws that the test above compares with do vary."""
    drawn = draw_views(RECIPE, 7, 3, len(LABELS))
    assert len(set(drawn.y)) > 3 and len(set(drawn.x)) > 3


@pytest.mark.parametrize("format", ["raw", "jpeg"])
@pytest.mark.parametrize("size", [224, 256, 33])
def test_crops_are_pillows(tmp_path, format, size):
    """Of either format, a crop of any size has the pixels that Pillow decodes at the drawn place."""
    photos = [np.asarray(photo(256, 256, seed)) for seed in range(5)]
    store = write_store(tmp_path / "train", photos, LABELS[:5], "abc", format=format)
    recipe = replace(RECIPE, input_size=size)
    drawn, order = draw_views(recipe, 7, 3, 5), draws.permutation(5, 7, "order", 3)
    (batch,) = training_batches(store, recipe, seed=7, epoch=3)
    for position, crop in enumerate(batch.images_BHWC.numpy()):
        whole = photos[order[position]] if format == "raw" else by_pillow(store.record(int(order[position])))
        y, x = drawn.y[position], drawn.x[position]
        np.testing.assert_array_equal(crop, whole[y : y + size, x : x + size])


def test_odd_records_are_cut_too(tmp_path):
    """A JPEG record that the faster decoder refuses and Pillow reads is cut likewise, its neighbour undisturbed."""
    odd, plain = (saved(photo(256, 256, seed), "JPEG", quality=90) for seed in range(2))
    odd = odd[: len(odd) // 2] + bytes(4) + odd[len(odd) // 2 + 4 :]
    store = write_store(tmp_path / "train", [odd, plain], [0, 1], "ab", format="jpeg")
    assert decode_plain(odd, (256, 256)) is None
    (batch,) = stored_batches([store], batch_size=2)
    for image, record in zip(batch.images_BHWC.numpy(), (odd, plain), strict=True):
        np.testing.assert_array_equal(image, by_pillow(record))
    drawn, order = draw_views(RECIPE, 0, 0, 2), draws.permutation(2, 0, "order", 0).tolist()
    (batch,) = training_batches(store, RECIPE, seed=0, epoch=0)
    place = order.index(0)
    y, x = drawn.y[place], drawn.x[place]
    np.testing.assert_array_equal(batch.images_BHWC[place].numpy(), by_pillow(odd)[y : y + 224, x : x + 224])


@pytest.mark.parametrize("shuffle", ["once", "full", "block"])
def test_order_of_the_epochs(store, shuffle):
    """The labels come in the order of the recipe's kind; shuffled once, that is one order for all epochs."""
    recipe = Recipe(batch_size=13, shuffle=shuffle)
    labels = [next(training_batches(store, recipe, seed=0, epoch=epoch)).labels_B.tolist() for epoch in (0, 1, 2)]
    orders = [epoch_order(shuffle, 13, 0, epoch) for epoch in (0, 1, 2)]
    assert labels == [[LABELS[index] for index in order] for order in orders]
    assert (labels[0] == labels[1] == labels[2]) is (shuffle == "once")


@pytest.mark.parametrize("shuffle", ["once", "full", "block"])
def test_any_epoch_and_batch_can_be_entered(store, shuffle):
    """A stream that begins in a later epoch at a later batch gives what a run through all epochs met there."""
    recipe = replace(RECIPE, shuffle=shuffle)
    whole = [list(training_batches(store, recipe, seed=1, epoch=epoch, workers=2)) for epoch in range(3)]
    for epoch in (2, 0, 1):
        for first in (2, 1):
            entered = training_batches(store, recipe, seed=1, epoch=epoch, first_batch=first, workers=1)
            for batch, met in zip(entered, whole[epoch][first:], strict=True):
                assert torch.equal(batch.images_BHWC, met.images_BHWC) and torch.equal(batch.labels_B, met.labels_B)


def test_begins_at_any_batch(store):
    """A stream begun at batch 1 gives what the whole one gives from there on."""
    whole = list(training_batches(store, RECIPE, seed=1, epoch=0))
    later = list(training_batches(store, RECIPE, seed=1, epoch=0, first_batch=1))
    assert [batch.positions for batch in later] == [batch.positions for batch in whole[1:]]
    assert all(torch.equal(a.images_BHWC, b.images_BHWC) for a, b in zip(later, whole[1:], strict=True))
    assert list(training_batches(store, RECIPE, seed=1, epoch=0, first_batch=3)) == []


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_workers_change_nothing(store, workers):
    """One thread or many give the same bytes."""
    expected = list(training_batches(store, RECIPE, seed=2, epoch=5, workers=2))
    found = list(training_batches(store, RECIPE, seed=2, epoch=5, workers=workers))
    assert all(torch.equal(a.images_BHWC, b.images_BHWC) for a, b in zip(found, expected, strict=True))


def test_ranks_share_each_batch(store):
    """Two ranks' rows, one after the other, are the whole batch; the first has the odd one."""
    whole = list(training_batches(store, RECIPE, seed=0, epoch=0))
    ranks = [list(training_batches(store, RECIPE, seed=0, epoch=0, share=(rank, 2))) for rank in (0, 1)]
    assert [len(batch.labels_B) for batch in ranks[0]] == [3, 3, 2]
    assert [len(batch.labels_B) for batch in ranks[1]] == [2, 2, 1]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert (batch.size, batch.positions) == (first.size, first.positions) == (second.size, second.positions)
        assert torch.equal(torch.cat([first.images_BHWC, second.images_BHWC]), batch.images_BHWC)
        assert torch.equal(torch.cat([first.labels_B, second.labels_B]), batch.labels_B)


def test_rank_without_an_image(tmp_path):
    """Of a batch of one the second rank has an empty share, with the right shapes."""
    store = write_store(tmp_path / "train", random_images(1), [1], "ab")
    (batch,) = training_batches(store, RECIPE, seed=0, epoch=0, share=(1, 2))
    assert batch.images_BHWC.shape == (0, 224, 224, 3) and batch.labels_B.shape == (0,) and batch.size == 1


@pytest.mark.parametrize("count", [4, 5, 16])
def test_any_number_of_shares(store, count):
    """However many shares a batch has, some of them empty, they are the whole batch, and none reads another's records."""
    whole = list(training_batches(store, RECIPE, seed=0, epoch=0))
    shares = [list(training_batches(store, RECIPE, seed=0, epoch=0, share=(index, count))) for index in range(count)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {part.positions for part in parts} == {batch.positions}
        assert torch.equal(torch.cat([part.images_BHWC for part in parts]), batch.images_BHWC)
        assert torch.equal(torch.cat([part.labels_B for part in parts]), batch.labels_B)
    assert any(len(part.labels_B) == 0 for part in (share[-1] for share in shares))


def test_others_records_are_not_read(tmp_path, images):
    """A damaged record is met by the share that it falls in, and by no other."""
    store = write_store(tmp_path / "val", [*images[:3], b"short"], [0, 1, 2, 0], "abc")
    assert len(list(stored_batches([store], batch_size=4, share=(0, 2)))) == 1
    with pytest.raises(StoreError, match="record 3 in "):
        list(stored_batches([store], batch_size=4, share=(1, 2)))


# Testing ---------------------------------------------------------------------------------------------------------------------


def test_stores_one_after_the_other(store, images, tmp_path):
    """Whole images come in stored order and across the border of two stores, each once."""
    other_images = random_images(4, seed=9)
    other = write_store(tmp_path / "test", other_images, [2, 1, 0, 0], "abc")
    batches = list(stored_batches([store, other], batch_size=6, workers=3))
    assert [batch.size for batch in batches] == [6, 6, 5]
    assert np.array_equal(np.concatenate([batch.images_BHWC.numpy() for batch in batches]), np.stack(images + other_images))
    assert [label for batch in batches for label in batch.labels_B.tolist()] == [*LABELS, 2, 1, 0, 0]


def test_batches_across_jpeg_stores(tmp_path):
    """Whole pictures of two JPEG stores come as Pillow decodes them."""
    stores = [
        write_store(tmp_path / name, [saved(photo(256, 256, seed), "JPEG") for seed in seeds], [0] * len(seeds), "a", format="jpeg")
        for name, seeds in (("val", (0, 1, 2)), ("test", (3, 4)))
    ]
    images = np.concatenate([batch.images_BHWC.numpy() for batch in stored_batches(stores, batch_size=2, workers=2)])
    expected = [by_pillow(store.record(index)) for store in stores for index in range(len(store))]
    np.testing.assert_array_equal(images, np.stack(expected))


# Threads ---------------------------------------------------------------------------------------------------------------------


def stream_of(count: int, read: Callable[[range, np.ndarray], object], *, batch_size: int = 1, workers: int = 2) -> BatchStream:
    """A stream of made-up rows of 2x2 pixels."""
    labels = np.zeros(count, np.int32)
    return BatchStream(labels, read, side=2, batch_size=batch_size, first_batch=0, workers=workers, share=(0, 1), pin=False)


def test_reads_ahead_but_not_far():
    """While one batch is used the next two are read, and no more: memory stays constant."""
    seen: list[int] = []
    with stream_of(50, lambda positions, rows: seen.extend(positions)) as stream:
        next(stream)
        deadline = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert sorted(seen) == [0, 1, 2]
        next(stream)
        time.sleep(0.1)
        assert len(seen) <= 4


def test_threads_work_at_the_same_time():
    """Two images of a batch are read by two threads at once: each waits until the other has begun."""
    together = threading.Barrier(2, timeout=20)
    with stream_of(16, lambda positions, rows: together.wait(), batch_size=16) as stream:
        assert next(stream).size == 16


def test_end_stops_the_threads(store):
    """After the last batch no thread is left, and the stream stays at its end."""
    stream = training_batches(store, RECIPE, seed=0, epoch=0, workers=4)
    assert len(list(stream)) == 3
    assert not batch_threads()
    assert next(stream, None) is None


def test_leaving_early_stops_the_threads(store):
    """Leaving the `with` in the middle ends the threads, and nothing more is read."""
    with training_batches(store, RECIPE, seed=0, epoch=0, workers=4) as stream:
        next(stream)
    assert not batch_threads()
    assert next(stream, None) is None


def test_forgotten_stream_ends_its_threads(store):
    """A stream that is dropped without being closed does not keep its threads."""
    stream = training_batches(store, RECIPE, seed=0, epoch=0)
    next(stream)
    del stream
    gc.collect()
    deadline = time.monotonic() + 20
    while batch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not batch_threads()


def test_damaged_record_is_named(tmp_path, images):
    """A record that cannot be read ends the stream with its number, its store and what to do; the threads end too."""
    folder = tmp_path / "val"
    store = write_store(folder, [images[0].tobytes(), b"short", images[2].tobytes()], [0, 1, 2], "abc")
    stream = stored_batches([store], batch_size=1)
    assert next(stream).size == 1
    with pytest.raises(StoreError, match=re.escape(f"record 1 in {folder} is damaged: it has 5 bytes, expected 196608")) as caught:
        next(stream)
    assert "alexnet prepare" in caught.value.hint
    assert not batch_threads()
    assert next(stream, None) is None


def test_first_damaged_record_wins(tmp_path):
    """Of several damaged records the first in order is named, however many threads there are."""
    store = write_store(tmp_path / "val", [b"x"] * 40, [0] * 40, "a")
    for _ in range(5):
        with pytest.raises(StoreError, match="record 0 in "), stored_batches([store], batch_size=40, workers=8) as stream:
            next(stream)


def test_nothing_grows(store):
    """After many epochs no more objects, threads or traced memory are held than after two."""

    def epoch(number: int) -> None:
        for batch in training_batches(store, RECIPE, seed=0, epoch=number, workers=2):
            assert batch.size
        gc.collect()

    tracemalloc.start()
    try:
        for number in range(2):
            epoch(number)
        before, objects = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
        for number in range(2, 20):
            epoch(number)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000  # a single batch of labels and crops is 750,000
        assert len(gc.get_objects()) - objects < 20
    finally:
        tracemalloc.stop()
    assert not batch_threads()
    assert not [item for item in gc.get_objects() if type(item) is torch.Tensor and item.shape[1:] == (224, 224, 3)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_page_locked_memory(store):
    """Asked for, the images lie where CUDA copies from without waiting."""
    assert next(training_batches(store, RECIPE, seed=0, epoch=0, pin=True)).images_BHWC.is_pinned()
