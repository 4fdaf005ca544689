"""Batch handles in slots, moved out of the ring and back; and sampler indices kept for late consumers."""

import numpy as np
import pytest
from helpers.segments import PlainMemory

from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.layout import ReadSpec, array_specs, base_over, flatten, make_plan, spec_of
from mpqueue.memory.slots import SlotState, SlotTable
from mpqueue.plan.cursors import WorkItem
from mpqueue.plan.ranks import AllRanks, Ranks, Shard
from mpqueue.service.records import PARTIAL
from mpqueue.service.stream import PendingHandle

STRIDE = 1 << 14


class PlainRing:
    """The parts of a ring that handles need, in ordinary memory."""

    def __init__(self, num_slots=3):
        self.segment = PlainMemory(num_slots * STRIDE)
        self.memory = self.segment.memory
        self.slots = SlotTable(num_slots, STRIDE)

    def release(self, slot):
        self.slots.release(slot)


def reported(ring, tree, *, is_partial=False, position=4):
    """A work item whose worker has written this tree of arrays."""
    slot = ring.slots.grant(0)
    arrays, objects, shapes = [], [], []
    spec = spec_of(flatten(tree, arrays, objects), shapes)
    assert not objects
    plan = make_plan(spec, shapes)
    for array, field in zip(arrays, plan.fields, strict=True):
        at = slot.offset + field.offset
        ring.memory[at : at + field.nbytes] = array.tobytes()
    ring.memory[slot.offset + plan.end : slot.offset + plan.end + len(plan.header)] = plan.header
    assert len(list(array_specs(spec))) == len(arrays)
    work = PendingHandle(WorkItem(9, 1, position, 7), slot, ring)
    work.read, work.header_offset, work.nbytes = ReadSpec(spec), plan.end, plan.end + len(plan.header)
    work.is_partial, work.is_plain = is_partial, not is_partial
    ring.slots.publish(slot, work.nbytes)
    return work


def read(ring, handle):
    recipes, start = ReadSpec(handle.spec), handle.slot.number * STRIDE
    recipe = recipes.recipes[bytes(ring.memory[start + handle.header_offset : start + handle.nbytes])]
    return recipes.rebuild(recipe, base_over(ring.memory, start, handle.header_offset, recipe.structure))


TREE = {"x": np.arange(6).reshape(2, 3), "y": np.array([1.5, 2.5])}


def equals(tree):
    return all(np.array_equal(tree[key], TREE[key]) for key in TREE) and tree.keys() == TREE.keys()


def test_handle_describes_place_of_batch():
    ring = PlainRing()
    work = reported(ring, TREE)
    handle = work.open()
    assert (handle.epoch, handle.position, handle.turn, handle.slot.number) == (1, 4, work.slot.turn, work.slot.number)
    assert (handle.flags, handle.is_extra) == (0, False)
    assert equals(read(ring, handle))
    assert work.slot.state is SlotState.READY


def test_handle_moved_out_is_equal_in_another_slot():
    ring = PlainRing()
    work = reported(ring, TREE)
    before = work.slot
    stashed = work.evict()
    assert before.state is SlotState.FREE
    assert (stashed.is_plain, stashed.is_end, stashed.is_partial) == (False, False, False)
    other = ring.slots.grant(1)
    ring.memory[before.offset : before.offset + STRIDE] = bytes(STRIDE)
    assert stashed.settle(lambda nbytes: other if nbytes == work.nbytes else None)
    assert stashed.is_plain
    handle = stashed.open()
    assert (handle.slot.number, handle.turn) == (other.number, other.turn)
    assert equals(read(ring, handle))


def test_handle_without_slot_waits():
    stashed = reported(PlainRing(), TREE).evict()
    assert not stashed.settle(lambda _nbytes: None)
    assert not stashed.is_plain


def test_handle_that_never_gets_a_slot_is_an_error():
    stashed = reported(PlainRing(), TREE).evict()

    def fails(nbytes):
        raise SharedMemoryFull(nbytes, 0, "")

    assert stashed.settle(fails)
    assert not stashed.is_plain
    with pytest.raises(SharedMemoryFull):
        stashed.open()


@pytest.mark.parametrize("is_empty", [True, False])
def test_skipped_samples_are_listed_and_empty_handle_has_no_slot(is_empty):
    ring = PlainRing()
    tree = (np.arange(3), [np.array([7])], np.array(is_empty))
    work = reported(ring, tree, is_partial=True)
    batch, skipped, is_left_empty = work.open()
    assert ([entry.tolist() for entry in skipped], bool(is_left_empty)) == ([[7]], is_empty)
    if is_empty:
        assert work.slot.state is SlotState.FREE
    else:
        assert batch.flags == PARTIAL
        assert read(ring, batch)[0].tolist() == [0, 1, 2]


def test_partial_handle_is_moved_out_and_back():
    ring = PlainRing()
    stashed = reported(ring, (np.arange(3), [np.array([7])], np.array(False)), is_partial=True).evict()
    assert stashed.is_partial
    slot = ring.slots.grant(1)
    assert stashed.settle(lambda _nbytes: slot)
    assert not stashed.is_plain
    assert read(ring, stashed.open().batch)[0].tolist() == [0, 1, 2]


# -- Sampler indices


# -- Batches of all ranks


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(("total", "world"), [(7, 3), (9, 3), (2, 5), (None, 4)])
def test_ranks_split_positions_in_turn(total, world, drop_last):
    everything = AllRanks(world, drop_last=drop_last).numbers(total)
    ranks = [Ranks(Shard(rank, world), drop_last=drop_last).numbers(total) for rank in range(world)]
    assert len(everything) == sum(map(len, ranks))
    for rank, numbers in enumerate(ranks):
        assert everything[rank::world] == numbers
    assert AllRanks(world).pick([*range(world)]) == [*range(world)]
