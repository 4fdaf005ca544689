"""A batch with skipped samples, moved out of the ring and back."""

import numpy as np
from helpers.plain_memory import PlainMemory

from mpqueue.memory.layout import ReadSpec, array_specs, base_over, flatten, make_plan, spec_of
from mpqueue.memory.slots import SlotTable
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.service.stream.stream import PendingHandle

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
    """A work item with this tree of arrays, written by its worker."""
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
    recipes, start = ReadSpec(handle.spec), handle.slot.index * STRIDE
    recipe = recipes.recipes[bytes(ring.memory[start + handle.header_offset : start + handle.nbytes])]
    return recipes.rebuild(recipe, base_over(ring.memory, start, handle.header_offset, recipe.structure))


def test_partial_handle_is_moved_out_and_back():
    ring = PlainRing()
    stashed = reported(ring, (np.arange(3), [np.array([7])], np.array(False)), is_partial=True).evict()
    assert stashed.is_partial
    slot = ring.slots.grant(1)
    assert stashed.settle(lambda _nbytes: slot)
    assert not stashed.is_plain
    assert read(ring, stashed.open().batch)[0].tolist() == [0, 1, 2]
