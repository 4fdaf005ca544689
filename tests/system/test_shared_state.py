"""State that may change without a change of the object: memory that other programs can write to, and declarations."""

import ctypes
import importlib.util
import mmap
import multiprocessing
import sys
import threading
from multiprocessing import managers, resource_tracker, shared_memory
from types import SimpleNamespace

import numpy as np
import pytest

from mpqueue.system.user_code.object_walk import contents
from mpqueue.system.user_code.shared_state import find_shared_state

NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")


# Created here, because the heap of multiprocessing keeps its memory.
OF_MULTIPROCESSING = [multiprocessing.Value("i", 0), multiprocessing.Array("d", 4), multiprocessing.RawArray("d", 4)]


def holds(value, **declared):
    """Return an object that refers to another object."""
    return SimpleNamespace(value=value, **declared)


def is_found(value):
    return find_shared_state([value]) is not None


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "numbers"
    np.arange(600.0).tofile(path)
    return path


@pytest.fixture
def segment(monkeypatch):
    # The tracker is a process, which outlives the test.
    monkeypatch.setattr(resource_tracker, "register", lambda *_: None)
    monkeypatch.setattr(resource_tracker, "unregister", lambda *_: None)
    made = shared_memory.SharedMemory(create=True, size=64)
    yield made
    made.close()
    made.unlink()


def test_shared_memory_of_the_standard_library_is_found(segment):
    for shared in (segment, segment.buf, *OF_MULTIPROCESSING):
        assert is_found(holds(shared))
    assert is_found({"view": np.frombuffer(OF_MULTIPROCESSING[-1])[::2]})
    # Without a process: the proxy is not connected.
    assert is_found(holds(managers.DictProxy.__new__(managers.DictProxy)))


def test_found_part_is_named(segment):
    assert find_shared_state([range(3), holds([0, holds(segment)])]).shown == ".value[1].value"


@pytest.mark.parametrize(
    ("mode", "is_shared"), [("r+", True), ("r", False), ("c", False)], ids=["writable", "for reading", "copy-on-write"]
)
def test_mapped_arrays_are_shared_if_they_are_writable(file, mode, is_shared):
    mapped = np.memmap(file, np.float64, mode)
    for array in (mapped, mapped[5:9], np.asarray(mapped)[::-2], mapped.reshape(2, -1).T):
        assert is_found(holds(array)) is is_shared


@pytest.mark.parametrize(
    ("flags", "prot", "is_shared"),
    [
        (mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, True),
        (mmap.MAP_SHARED, mmap.PROT_READ, False),
        (mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, False),
    ],
    ids=["shared", "for reading", "private"],
)
def test_map_objects_and_their_views_are_shared_if_others_see_writes(flags, prot, is_shared):
    mapped = mmap.mmap(-1, 4096, flags | mmap.MAP_ANONYMOUS, prot)
    for value in (mapped, memoryview(mapped)[8:], np.frombuffer(mapped, np.uint8)):
        assert is_found(holds(value)) is is_shared


def test_closed_maps_and_released_views_are_not_shared():
    mapped = mmap.mmap(-1, 4096)
    view = memoryview(mapped)
    view.release()
    mapped.close()
    assert not is_found([mapped, view])


@NEEDS_TORCH
def test_tensors_are_shared_if_their_memory_is(file):
    import torch

    mapped = np.memmap(file, np.float64, "r+")
    shared = [torch.zeros(3).share_memory_(), torch.from_numpy(mapped)[4:], torch.frombuffer(mapped, dtype=torch.uint8)]
    private = [torch.zeros(3), torch.zeros(0), torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")]
    assert [is_found(holds(tensor)) for tensor in (*shared, *private)] == [True] * 3 + [False] * 4
    assert is_found(torch.nn.Linear(2, 2).share_memory())
    assert not is_found(torch.nn.Linear(2, 2))


def test_private_memory_is_not_shared():
    private = [np.arange(9)[2:], np.frombuffer(b"abcd", np.uint8), memoryview(b"abc"), ctypes.c_int(3), bytearray(8)]
    assert not is_found(holds([*private, multiprocessing.Lock(), np.zeros((0, 3))]))


SHARED = mmap.mmap(-1, 4096)


class UsesGlobal:
    def __getitem__(self, index):
        return [SHARED[index] for _ in range(1)]


class UsesNone:
    def __getitem__(self, index):
        return index


def uses_global():
    yield SHARED[0]


def has_default(shared=SHARED):
    yield shared[0]


def closes_over(value):
    def closure():
        yield value

    return closure


@pytest.mark.parametrize(
    ("value", "is_shared"),
    [
        *((value, True) for value in (UsesGlobal(), uses_global, has_default, closes_over(holds(SHARED)))),
        *((value, False) for value in (UsesNone(), closes_over(3), closes_over)),
    ],
)
def test_functions_and_methods_are_searched_with_the_globals_that_they_use(value, is_shared):
    assert is_found(value) is is_shared
    assert is_found([value]) is is_shared


class Lazy:
    """An object that runs code for each attribute that it lacks."""

    def __getattr__(self, name):
        raise RuntimeError(f"{name} is requested")


class Slotted:
    __slots__ = ("constant",)


class Computed:
    constant = property(lambda self: False)


def test_search_reads_no_missing_attribute():
    slotted = Slotted()
    assert not is_found([Lazy(), slotted])
    slotted.constant = False
    assert is_found([slotted])
    assert is_found([Computed()])


@pytest.mark.parametrize(
    ("constant", "value", "expected"),
    [(False, 3, True), (True, SHARED, False), (None, 3, False), (None, SHARED, True), ("no", 3, False)],
)
def test_attribute_constant_declares_what_the_search_cannot_find(constant, value, expected):
    assert is_found(holds(holds(value, constant=constant))) is expected


class Source:
    def __init__(self):
        self.words, self.count, self.inner = ["a", "b"], 3, [1.5]


def search(source, **bounds):
    return list(contents(source, lambda _: False, **bounds))


def test_attributes_keep_values_and_order_after_many_searches():
    source = Source()
    attributes = vars(source)
    for _ in range(50):
        search(source)
    assert vars(source) is attributes
    assert list(attributes.items()) == list(vars(Source()).items())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python 3.13 reads attributes fast in any case")
def test_only_a_bounded_search_gives_attributes_their_own_keys():
    shared, searched, whole = Source(), Source(), Source()
    search(searched)
    search(whole, is_whole=True)
    assert sys.getsizeof(vars(searched)) > sys.getsizeof(vars(shared)) == sys.getsizeof(vars(whole))


def test_no_thread_misses_an_attribute_during_searches():
    source, is_over, errors = Source(), threading.Event(), []

    def read():
        try:
            while not is_over.is_set():
                assert (source.inner, source.count) == ([1.5], 3)
        except Exception as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3000):
            search(source)
    finally:
        is_over.set()
        reader.join()
        sys.setswitchinterval(before)
    assert not errors
