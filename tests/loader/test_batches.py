"""Batches of a loader equal ``sequence[i]`` in structure, type and bytes."""

import collections
import contextlib
import datetime as dt

import numpy as np
import pytest
from helpers.batch_trees import same
from helpers.computed_source import Computed

import mpqueue
from mpqueue import Loader, OrderedEnqueuer


def test_batches_are_writable_and_aligned():
    with Loader([(floats, np.arange(3, dtype=np.int8), floats)], workers=1) as loader:
        for batch in loader:
            for array in batch:
                assert array.flags.writeable
                assert array.ctypes.data % 64 == 0
                array[...] = 0


def test_rows_of_a_memory_map_arrive_as_arrays(tmp_path):
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(4, 3))
    rows[:] = np.arange(12).reshape(4, 3)
    with Loader([rows[:2], (rows[2:], 7)], workers=1) as loader:
        assert same(list(loader), [np.array(rows[:2]), (np.array(rows[2:]), 7)])


floats = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
# Kinds that the trees of `memory/test_any_tree.py` do not have.
KINDS = {
    "nested": ({"x": [floats, None], "y": (floats, {"z": np.arange(3)})}, None),
    "seven arrays and an empty list": ([floats + k for k in range(7)], []),
    "plain before an array": [b"one", 2, floats, ("three", 4.0, None), (True, "five")],
    "strings in tuples in lists": [("one", b"two"), ["three"], [["four"], []]],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "ordered dict": collections.OrderedDict(b=floats, a=1),
    "keys of several types": {1: floats, "1": np.arange(2), (1, 2): None},
    "dates of Python": dt.date(2020, 1, 2),
    "large objects": [np.arange(100_000), "text", {"k": {1, 2}}],
    "matrix": np.array([[1, 2], [3, 4]]).view(np.matrix),  # its constructor warns
    "masked": np.ma.masked_array([1, 2], [True, False]),
}


def batches_of_all_kinds():
    """Return a batch of each kind, including kinds of installed packages, and a function for its comparison."""
    found = {name: (batch, lambda batch: batch) for name, batch in KINDS.items()}
    found["Fortran"] = np.asfortranarray(np.ones((3, 4))), lambda batch: (batch, batch.flags.f_contiguous)
    found["mask"] = KINDS["masked"], lambda batch: batch.mask
    with contextlib.suppress(ModuleNotFoundError):
        import pandas as pd

        found["data frame"] = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), pd.DataFrame.to_dict
    with contextlib.suppress(ModuleNotFoundError):
        import scipy.sparse

        found["sparse matrix"] = scipy.sparse.csr_matrix(np.eye(3)), scipy.sparse.csr_matrix.toarray
    with contextlib.suppress(ModuleNotFoundError):
        from PIL import Image

        found["image"] = Image.fromarray(np.full((4, 5, 3), 7, np.uint8)), np.asarray
    return found


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 2, "backend": "thread"}, {"workers": 0}], ids=str)
def test_every_kind_of_batch_is_delivered_unchanged(options):
    kinds = batches_of_all_kinds()
    with Loader([batch for batch, _ in kinds.values()], **options) as loader:
        for _ in range(2):  # the second epoch uses known specs
            for (name, (expected, plain)), got in zip(kinds.items(), loader, strict=True):
                assert type(got) is type(expected), name
                assert same(plain(got), plain(expected)), name


def sized(count, largest=70_000_000):
    """Return a source with a different shape for each batch, and the sizes; the content depends on the index."""
    sizes = [64, largest, 100, 3_000_000, 64, 5_000_000, *range(65, 65 + count)]
    return Computed(lambda index: np.full(sizes[index], index % 251, np.uint8), len(sizes)), sizes


def test_batches_from_64_bytes_to_70_megabytes_go_through_one_ring():
    source, sizes = sized(200)
    with Loader(source, workers=2) as loader:
        for index, batch in enumerate(loader):
            assert batch.size == sizes[index]
            assert (batch == index % 251).all()
        assert index == len(loader) - 1


def test_memory_of_large_batches_is_returned_after_small_ones():
    with Loader(sized(250, largest=20_000_000)[0], workers=1) as loader:
        reserved = []
        for batch in loader:
            del batch
            reserved.append(loader.statistics().ring_bytes)
    assert max(reserved) >= 20_000_000
    assert reserved[-1] < 4_000_000


def test_batches_of_source_with_reused_buffer_remain_unchanged():
    """As in efficient NumPy code."""
    buffer = np.zeros((32, 8))

    def batch(index):
        buffer[...] = index
        return buffer, buffer[0]

    with Loader(Computed(batch, 40), workers=2) as loader:
        kept = list(loader)
    assert [float(batch[0][3, 3]) for batch in kept] == [float(index) for index in range(40)]
    assert all((images == row).all() for images, row in kept)


def test_copy_true_returns_only_private_copies():
    with Loader(Computed(np.arange, 300), workers=2, copy=True) as loader:
        assert sum(1 for _ in loader) == 300
        assert loader.statistics().copies == 300


class Held:
    """A source that returns its own rows, and fails for one row."""

    def __init__(self, damaged=None):
        self.rows, self.damaged = np.zeros((6, 2)), damaged

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index == self.damaged:
            raise ValueError("damaged")
        return {"row": self.rows[index], "index": index}


def is_known(sample):
    return sample["index"] >= 0


@pytest.mark.sample(5)
@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "backend": "thread"}, {"workers": 1}])
@pytest.mark.parametrize("pipeline", [lambda source: source, lambda source: mpqueue.Dataset(source).filter(is_known)])
@pytest.mark.parametrize("batching", [{}, {"batch_size": 2, "collate": list}])
def test_changes_of_a_private_copy_leave_the_object_of_the_source(options, pipeline, batching):
    source = Held(damaged=3)
    with Loader(pipeline(source), copy=True, on_error="skip", **batching, **options) as loader:
        for _ in range(2):
            found = [sample for batch in loader for sample in (batch if batching else [batch])]
            assert sorted(sample["index"] for sample in found) == [0, 1, 2, 4, 5]
            for sample in found:
                assert not sample["row"].any()
                sample["row"] += 1
    assert not source.rows.any()


@pytest.mark.parametrize("processes", [False, True])
def test_copy_true_of_an_enqueuer_leaves_the_object_of_the_source(processes):
    source = Held()
    with OrderedEnqueuer(source, use_multiprocessing=processes, copy=True) as enqueuer:
        enqueuer.start(1)
        next(enqueuer.get())["row"] += 1
    assert not source.rows.any()


def test_source_that_keeps_array_of_slot_cannot_change_its_batches():
    in_slot = None

    def batch(index):
        nonlocal in_slot
        in_slot = mpqueue.empty((100,), np.int64) if in_slot is None else in_slot
        in_slot[...] = index
        return in_slot

    with Loader(Computed(batch, 60), workers=2) as loader:
        kept = list(loader)
    assert [int(batch[50]) for batch in kept] == list(range(60))
    assert all((batch == batch[0]).all() for batch in kept)


def test_empty_and_stack_use_numpy_outside_of_workers():
    assert mpqueue.empty(3, np.int8).shape == (3,)
    assert mpqueue.stack([np.zeros(2), np.ones(2)], axis=1).tolist() == [[0, 1], [0, 1]]
    assert mpqueue.stack([np.zeros(2), np.ones(2)], -1).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="at least one array"):
        mpqueue.stack([])
    with pytest.raises(ValueError, match="same shape"):
        mpqueue.stack([np.zeros(2), np.zeros(3)])


def test_batch_above_max_batch_bytes_raises():
    enqueuer = OrderedEnqueuer(sized(10)[0], True, max_batch_bytes=1_000_000)
    enqueuer.start(2)
    batches = enqueuer.get()
    assert next(batches).size == 64
    with pytest.raises(mpqueue.errors.BatchTooLarge, match=r"70,000,000.*max_batch_bytes allows 1,000,000"):
        next(batches)


def test_varying_keys_do_not_fill_spec_table():
    with Loader(Computed(lambda index: {f"key {index}": np.array([index])}, 1500), workers=1) as loader:
        for index, batch in enumerate(loader):
            assert list(batch) == [f"key {index}"]
            assert batch[f"key {index}"][0] == index
