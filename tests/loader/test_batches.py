"""Batches of a loader equal ``sequence[i]`` in structure, type and bytes."""

import collections
import contextlib
import datetime as dt
from typing import NamedTuple

import numpy as np
import pytest

import mpqueue
from mpqueue import Loader, OrderedEnqueuer


class Pair(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


class Many:
    """A source with one batch of each kind."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def same(got, expected):
    """Return whether both are equal in type and content; arrays also in dtype, shape and memory order."""
    assert type(got) is type(expected), (type(got), type(expected))
    if isinstance(expected, np.ndarray) and not isinstance(expected, np.ma.MaskedArray):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        if expected.ndim > 1 and expected.flags.f_contiguous and not expected.flags.c_contiguous:
            assert got.flags.f_contiguous
        if expected.dtype == object:
            assert got.tolist() == expected.tolist()
        else:
            assert got.tobytes() == np.ascontiguousarray(expected).reshape(expected.shape).tobytes()
    elif isinstance(expected, np.ma.MaskedArray):
        assert got.tolist() == expected.tolist()
    elif isinstance(expected, tuple | list):
        assert len(got) == len(expected)
        for left, right in zip(got, expected, strict=True):
            same(left, right)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert [type(key) for key in got] == [type(key) for key in expected]
        for key in expected:
            same(got[key], expected[key])
    elif type(expected).__name__ == "DataFrame":
        assert got.equals(expected)
    elif type(expected).__name__ == "csr_matrix":
        assert (got != expected).nnz == 0
    elif type(expected).__name__ == "Image":
        assert (got.size, got.mode, got.tobytes()) == (expected.size, expected.mode, expected.tobytes())
    else:
        assert got == expected


floats = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
structured = np.zeros(3, [("a", "i4"), ("b", "f8", (2,))])
KINDS = {
    "array": floats,
    "pair": (floats, np.arange(2)),
    "list": [floats, floats + 1],
    "dict": {"x": floats, "y": np.arange(2)},
    "nested": ({"x": [floats, None], "y": (floats, {"z": np.arange(3)})}, None),
    "pair with None": (floats, None),
    "seven arrays and an empty list": ([floats + k for k in range(7)], []),
    "empty containers": ((), [], {}),
    "scalars": (1, 2.5, True, "text", b"bytes", 3j, None),
    "NumPy scalars": (np.float32(1.5), np.int64(3), np.bool_(True)),
    "texts": ["one", "two", "three"],
    "plain before an array": [b"one", 2, floats, ("three", 4.0, None), (True, "five")],
    "strings in tuples in lists": [("one", b"two"), ["three"], [["four"], []]],
    "text array": np.array(["one", "two"]),
    "bytes array": np.array([b"one", b"twelve"]),
    "objects": np.array([1, "two", None], dtype=object),
    "bool": np.array([True, False]),
    "structured": structured,
    "dates": np.array(["2020-01-01", "2021-02-03"], "M8[D]"),
    "durations": np.array([1, 2], "m8[ns]"),
    "big endian": np.arange(5, dtype=">i4"),
    "half": np.arange(5, dtype=np.float16),
    "complex": np.arange(5, dtype=np.complex64),
    "0-d": np.array(5.0),
    "no rows": np.zeros((0, 3), np.float32),
    "no bytes at all": (np.zeros(0), np.zeros((3, 0), np.int8)),
    "not contiguous": floats[:, ::2, 1:],
    "reversed": np.arange(10)[::-1],
    "Fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "namedtuple": Pair(floats, np.arange(2)),
    "ordered dict": collections.OrderedDict(b=floats, a=1),
    "keys of several types": {1: floats, "1": np.arange(2), (1, 2): None},
    "true for a key": {True: floats},
    "dates of Python": dt.date(2020, 1, 2),
    "large objects": [np.arange(100_000), "text", {"k": {1, 2}}],
    "matrix": np.array([[1, 2], [3, 4]]).view(np.matrix),  # its constructor warns
    "masked": np.ma.masked_array([1, 2], [True, False]),
}


def batches_of_all_kinds():
    """Return a batch of each kind, including kinds of installed packages."""
    found = dict(KINDS)
    with contextlib.suppress(ModuleNotFoundError):
        import pandas as pd

        found["data frame"] = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    with contextlib.suppress(ModuleNotFoundError):
        import scipy.sparse

        found["sparse matrix"] = scipy.sparse.csr_matrix(np.eye(3))
    with contextlib.suppress(ModuleNotFoundError):
        from PIL import Image

        found["images"] = [Image.fromarray(np.full((4, 5, 3), 7, np.uint8))]
    return found


@pytest.mark.parametrize(("processes", "workers"), [(True, 1), (False, 2), (True, 0)])
def test_every_kind_of_batch_is_delivered_unchanged(processes, workers):
    kinds = batches_of_all_kinds()
    batches = list(kinds.values())
    with Loader(Many(batches), workers=workers, backend="process" if processes else "thread") as loader:
        for _ in range(2):  # the second epoch uses known specs
            for name, got, expected in zip(kinds, loader, batches, strict=True):
                try:
                    same(got, expected)
                except AssertionError as error:
                    raise AssertionError(f"{name}: {error}") from error


def test_batches_are_writable_and_aligned():
    with Loader(Many([(floats, np.arange(3, dtype=np.int8), floats)]), workers=1) as loader:
        for batch in loader:
            for array in batch:
                assert array.flags.writeable
                assert array.ctypes.data % 64 == 0
                array[...] = 0


def test_rows_of_a_memory_map_arrive_as_arrays(tmp_path):
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(4, 3))
    rows[:] = np.arange(12).reshape(4, 3)
    with Loader(Many([rows[:2], (rows[2:], 7)]), workers=1) as loader:
        first, second = loader
    same([first, second], [np.array(rows[:2]), (np.array(rows[2:]), 7)])


class Sized:
    """A source with a different shape for each batch; its content depends on the index."""

    def __init__(self, count, largest=70_000_000):
        self.sizes = [64, largest, 100, 3_000_000, 64, 5_000_000, *range(65, 65 + count)]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return np.full(self.sizes[index], index % 251, np.uint8)


def test_batches_from_64_bytes_to_70_megabytes_go_through_one_ring():
    with Loader(Sized(200), workers=2) as loader:
        for index, batch in enumerate(loader):
            assert batch.size == loader.source.sizes[index]
            assert (batch == index % 251).all()
        assert index == len(loader) - 1


def test_memory_of_large_batches_is_returned_after_small_ones():
    with Loader(Sized(250, largest=20_000_000), workers=1) as loader:
        reserved = []
        for batch in loader:
            del batch
            reserved.append(loader.statistics().ring_bytes)
    assert max(reserved) >= 20_000_000
    assert reserved[-1] < 4_000_000


class Reusing:
    """A source that writes every batch into the same buffers, as efficient NumPy code does."""

    def __init__(self):
        self.buffer = np.zeros((32, 8))

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.buffer[...] = index
        return self.buffer, self.buffer[0]


def test_batches_of_source_with_reused_buffer_remain_unchanged():
    with Loader(Reusing(), workers=2) as loader:
        kept = list(loader)
    assert [float(batch[0][3, 3]) for batch in kept] == [float(index) for index in range(40)]
    assert all((images == row).all() for images, row in kept)


class Hoarded(Sized):
    def __init__(self):
        self.sizes = [1000] * 300


def test_copy_true_returns_only_private_copies():
    with Loader(Hoarded(), workers=2, copy=True) as loader:
        assert sum(1 for _ in loader) == 300
        assert loader.statistics().copies == 300


class Keeping:
    """A source that keeps an array allocated in the slot, and writes to it for every batch."""

    kept = None

    def __len__(self):
        return 60

    def __getitem__(self, index):
        if self.kept is None:
            self.kept = mpqueue.empty((100,), np.int64)
        self.kept[...] = index
        return self.kept


def test_source_that_keeps_array_of_slot_cannot_change_its_batches():
    with Loader(Keeping(), workers=2) as loader:
        kept = list(loader)
    assert [int(batch[50]) for batch in kept] == list(range(60))
    assert all((batch == batch[0]).all() for batch in kept)


def test_empty_and_stack_use_numpy_outside_of_workers():
    assert mpqueue.empty(3, np.int8).shape == (3,)
    assert mpqueue.stack([np.zeros(2), np.ones(2)], axis=1).tolist() == [[0, 1], [0, 1]]
    assert mpqueue.stack([np.zeros(2), np.ones(2)], -1).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="at least one array"):
        mpqueue.stack([])
    with pytest.raises(ValueError, match="one shape"):
        mpqueue.stack([np.zeros(2), np.zeros(3)])


def test_batch_above_max_batch_bytes_raises():
    enqueuer = OrderedEnqueuer(Sized(10), True, max_batch_bytes=1_000_000)
    enqueuer.start(2)
    batches = enqueuer.get()
    assert next(batches).size == 64
    with pytest.raises(mpqueue.errors.BatchTooLarge, match=r"70,000,000.*max_batch_bytes allows 1,000,000"):
        next(batches)


def test_varying_keys_do_not_fill_spec_table():
    class Varying:
        def __len__(self):
            return 1500

        def __getitem__(self, index):
            return {f"key {index}": np.array([index])}

    with Loader(Varying(), workers=1) as loader:
        for index, batch in enumerate(loader):
            assert list(batch) == [f"key {index}"]
            assert batch[f"key {index}"][0] == index
