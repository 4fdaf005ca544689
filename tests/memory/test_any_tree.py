"""Trees of arrays are rebuilt equal: through the layout alone, and through each backend."""

import contextlib
import itertools
import mmap
import os
import pickle
import queue
import struct
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.batch_trees import laid_out, layouts, same, trees
from helpers.computed_source import Computed
from helpers.plain_memory import PlainMemory
from helpers.sweeps import part_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpqueue import Loader, stack
from mpqueue.errors import BatchTooLarge
from mpqueue.memory.layout import NodeKind, ReadSpec, base_over, load_spec
from mpqueue.memory.writer import SlotWriter

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

STRIDE = 1 << 21
quick = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck)}


class Reader:
    """The trainer's side of the layout, without records."""

    def __init__(self, memory):
        self.memory, self.specs = memory, {}

    def read(self, placed, slot=0):
        start, header = slot * STRIDE, placed.header_offset
        if placed.new_spec:
            at, length = np.frombuffer(self.memory, "<i8", 2, start + header)
            self.specs[placed.spec] = ReadSpec(load_spec(bytes(self.memory[start + at : start + at + length])))
            header += 16
        spec = self.specs[placed.spec]
        recipe = spec.recipes[bytes(self.memory[start + header : start + placed.nbytes])]
        return spec.rebuild(recipe, base_over(self.memory, start, placed.nbytes, recipe.structure))


def both_sides(num_slots=1, most=None):
    """Return memory with a number of slots, a writer into it, and a reader."""
    segment = PlainMemory(num_slots * STRIDE)
    return segment, SlotWriter(segment, STRIDE, most), Reader(segment.memory)


def placed_by(writer, batch, slot=0):
    """Place a batch, and return its place."""
    writer.begin(slot, 0)
    writer.take([batch])
    return writer.place()


@pytest.mark.slow
@settings(max_examples=part_of(120, 4), **quick)
@given(batches=st.lists(st.tuples(trees, layouts, st.integers(0, 1), st.integers(1, 2)), min_size=1, max_size=3))
def test_reader_rebuilds_batches_of_writer(batches):
    """The second batch of the same kind uses the known plan."""
    _, writer, reader = both_sides(2)
    for tree, layout, slot, times in batches:
        for _ in range(times):
            assert same(reader.read(placed_by(writer, laid_out(tree, layout), slot), slot), tree)


def test_object_with_several_arrays_is_rebuilt():
    segment, writer, reader = both_sides()
    arrays = {"rows": np.arange(5000), "weights": np.linspace(0, 1, 3000), "mask": np.ones(9000, bool)}
    found = vars(reader.read(placed_by(writer, SimpleNamespace(**arrays))))
    assert found.keys() == arrays.keys()
    assert all(same(found[name], array) for name, array in arrays.items())
    assert all(np.shares_memory(array, np.frombuffer(segment.memory, "u1")) for array in found.values())


def test_known_batch_of_strings_respects_size_limit():
    _, writer, reader = both_sides(most=3000)
    for text in ("a" * 10, "b" * 2900, "c" * 10):
        assert reader.read(placed_by(writer, [text, "end"])) == [text, "end"]
    with pytest.raises(BatchTooLarge, match="allows 3,000"):
        placed_by(writer, ["d" * 3000, "end"])


def test_known_batch_of_strings_can_be_placed_again_after_lack_of_memory(monkeypatch):
    """A batch that lacks memory is neither lost nor half written: `place` may be called again."""
    segment, writer, reader = both_sides()
    for _ in range(2):
        assert reader.read(placed_by(writer, ["a", "b"])) == ["a", "b"]
    long = ["c" * (STRIDE // 2), "d"]
    writer.begin(0, writer.high_water)
    writer.take([long])
    with monkeypatch.context() as full, pytest.raises(OSError, match="full"):
        full.setattr(segment, "reserve", Mock(side_effect=OSError("full")))
        writer.place()
    assert reader.read(writer.place()) == long


def test_layout_of_a_batch_that_lacked_memory_is_sent_again(monkeypatch):
    (segment, writer, reader), batch = both_sides(), np.arange(STRIDE // 16)
    with monkeypatch.context() as full, pytest.raises(OSError, match="full"):
        full.setattr(segment, "reserve", Mock(side_effect=OSError("full")))
        placed_by(writer, batch)
    assert same(reader.read(writer.place()), batch)


@pytest.mark.parametrize(("bound", "number"), [("MAX_PLANS", 5), ("_MAX_TARGETS", 20)])
def test_writer_keeps_a_bounded_number_of_arrays_if_sizes_keep_varying(bound, number, monkeypatch):
    """Each array that it keeps refers to the memory of the slots."""
    monkeypatch.setattr(f"mpqueue.memory.writer.{bound}", number)
    (segment, writer, _), counts = both_sides(4), []
    for size in range(1, 100):
        for slot in range(4):  # in the second slot, the layout is known
            placed_by(writer, np.zeros(size), slot)
        counts.append(sys.getrefcount(segment.memory))
    assert counts[0] < max(counts) <= counts[0] + 20


@pytest.mark.parametrize(("spares", "expected"), [(0, 0), (3, 3 * 100_000), (None, None)])
def test_growing_slot_leaves_room_for_batches_of_other_workers(spares, expected, monkeypatch):
    (segment, writer, _), found = both_sides(), []
    monkeypatch.setattr(segment, "reserve", lambda _offset, _end, spare: found.append(spare))
    writer.spares = spares
    writer.begin(0, 0)
    assert writer.empty(100_000, "u1") is not None
    assert found == [expected]


def test_known_batch_of_strings_is_placed_after_allocated_array():
    _, writer, reader = both_sides(2)
    for text in ("a", "bc", "def"):
        writer.begin(1, 0)
        batch = [writer.empty(100, "u1"), text]
        batch[0][:] = len(text)
        holder = [batch]
        del batch
        writer.take(holder)
        placed = writer.place()
        assert not placed.held
        assert same(reader.read(placed, 1), [np.full(100, len(text), "u1"), text])


def whole(array):
    return array


def tail(array):
    return array[1:]


def every_other(array):
    return array[:, ::2]


kinds = st.tuples(
    st.booleans(),  # allocated in the slot
    st.sampled_from([whole, whole, np.transpose, tail, every_other]),  # what of it is in the batch
    st.tuples(st.integers(0, 3), st.integers(0, 4)),
    st.sampled_from(["f4", "u1", "M8[s]", ">i2"]),
    st.booleans(),  # the source keeps it
)


@settings(max_examples=part_of(150, 4), **quick)
@given(data=st.data(), batches=st.lists(st.tuples(st.lists(kinds, max_size=3), st.booleans()), min_size=1, max_size=4))
def test_arrays_allocated_in_slot_are_rebuilt(data, batches):
    """Equal kinds in another order, views of allocated arrays, and arrays that the source keeps are rebuilt equal."""
    _, writer, reader = both_sides(2)
    numbers = itertools.count(1)
    for arrays, again in batches * 2:
        writer.begin(again, 0)
        order = data.draw(st.permutations(range(len(arrays))))
        made, kept = {}, []
        for number in order:
            in_slot, part, shape, dtype, keeps = arrays[number]
            array = writer.empty(shape, dtype) if in_slot else None
            array = np.empty(shape, dtype) if array is None else array
            array.view("u1" if array.itemsize == 1 else "i2").flat = next(numbers)
            made[number] = part(array)
            kept += [array] * keeps
        holder = [[made.pop(number) for number in range(len(arrays))]]
        array = None  # otherwise it would count as an array that the source keeps
        expected = [array.copy(order="K") for array in holder[0]]
        writer.take(holder)
        placed = writer.place()
        for array in kept:
            array[...] = np.zeros((), array.dtype)  # the source overwrites an array that it keeps
        array = None
        assert same(reader.read(placed, again), expected)
        is_kept = any(in_slot and keeps for in_slot, _, _, _, keeps in arrays)
        is_copied = any(in_slot and part is every_other for in_slot, part, _, _, _ in arrays)  # holds on until then
        assert is_kept <= placed.held <= (is_kept or is_copied)
        kept.clear()
        assert list(writer.let_go) == [again] * placed.held
        writer.let_go.clear()


def placed_array(array):
    """Place a batch of one array in private memory; return its spec, its header and its location."""
    segment, writer, _ = both_sides()
    for _ in range(2):  # the second time, the spec is not sent
        placed = placed_by(writer, array)
    spec = ReadSpec((NodeKind.ARRAY, array.dtype, array.ndim, False))
    return spec, bytes(segment.memory[placed.header_offset : placed.nbytes]), placed


def test_overwritten_header_raises_without_view_of_other_memory():
    spec, header, placed = placed_array(np.zeros(10, np.uint8))
    recipe = spec.recipes[header.replace(struct.pack("<q", 10), struct.pack("<q", STRIDE))]
    problem = f"batch of {placed.header_offset} bytes describes {STRIDE} bytes: the slot was overwr"
    with pytest.raises(ValueError, match=problem):
        base_over(bytearray(2 * STRIDE), 0, placed.header_offset, recipe.structure)


def test_arrays_without_structured_dtype_are_rebuilt():
    spec, header, _ = placed_array(np.zeros(10, np.uint8))
    nbytes = 1 << 31
    recipe = spec.recipes[header.replace(struct.pack("<q", 10), struct.pack("<q", nbytes))]
    with mmap.mmap(-1, nbytes + 4096) as memory:
        memory[nbytes - 1] = 7
        batch = spec.rebuild(recipe, base_over(memory, 0, nbytes, recipe.structure))
        assert (batch.shape, batch.dtype, batch[-1]) == ((nbytes,), np.uint8, 7)
        del batch


def next_of(feed):
    """Return the next item of a feed."""
    kind, layout, tree = pickle.loads(feed())
    return stack([laid_out(array, layout) for array in tree]) if kind == "stacked" else laid_out(tree, layout)


class Pipe:
    """A feed to another process: a named pipe, opened once per item."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)

    def __call__(self):
        with open(self.path, "rb") as file:
            return file.read()

    def put(self, data):
        with open(self.path, "wb") as file:
            file.write(data)

    def close(self):
        """No cleanup is needed: waiting readers are ended."""


class Line(queue.Queue):
    """A feed in this process."""

    def __call__(self):
        return self.get()

    def close(self):
        self.put(pickle.dumps(("tree", "C", None)))


@pytest.mark.parametrize("backend", ["process", "thread", "inline"])
def test_any_tree_is_rebuilt_equal(backend, tmp_path):
    feed = Pipe(str(tmp_path / "feed")) if backend == "process" else Line()
    kept = []
    options = {"workers": 0} if backend == "inline" else {"workers": 1, "backend": backend}
    num_examples = 120 if backend == "process" else 50  # the others deliver the source's own objects

    source = Computed(lambda _: next_of(feed), 1 << 40)
    with Loader(source, max_queue_size=1, **options) as loader, contextlib.closing(feed):
        batches = iter(loader)

        @settings(max_examples=part_of(num_examples, 4), **quick)
        @given(tree=trees, layout=layouts, keep=st.booleans())
        def run(tree, layout, keep):
            data = pickle.dumps(("tree", layout, tree), 5)
            tree = pickle.loads(data)[-1]  # as the source receives it: NumPy's pickles drop the byte order of times
            feed.put(data)
            found = next(batches)
            assert same(found, tree)
            if keep:
                kept.append((found, tree))

        @settings(max_examples=part_of(50, 4), **quick)
        @given(shape=st.tuples(st.integers(0, 9), st.integers(0, 9)), count=st.integers(1, 5), layout=layouts)
        def run_stacked(shape, count, layout):
            arrays = [np.arange(np.prod(shape)).reshape(shape) + number for number in range(count)]
            feed.put(pickle.dumps(("stacked", layout, arrays), 5))
            assert same(next(batches), np.stack(arrays))

        run()
        run_stacked()
        assert all(same(found, tree) for found, tree in kept)  # none was overwritten
    assert all(same(found, tree) for found, tree in kept)
