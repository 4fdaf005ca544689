"""Leases alone: a slot belongs to the consumer until the last view of its batch is gone."""

import numpy as np
import pytest

from mpqueue.memory.leases import Leases
from mpqueue.memory.slots import Slot

TWO_ARRAYS = np.dtype([("a", "<i4", (2,)), ("b", "u1", (3,))])


class PlainSegment:
    """Memory without an operating system."""

    def __init__(self, nbytes):
        self.memory = bytearray(range(nbytes))


@pytest.fixture
def leases():
    return Leases(PlainSegment(200))


def test_a_lease_is_on_the_bytes_of_its_slot(leases):
    base = leases.lease(Slot(1, 100), 5, None)
    assert (base.dtype, base.tolist()) == (np.uint8, [100, 101, 102, 103, 104])
    fields = leases.lease(Slot(0, 8), 11, TWO_ARRAYS)
    assert fields["b"].tolist() == [16, 17, 18]


def test_a_lease_ends_with_its_last_view(leases):
    slot = Slot(3, 8)
    base = leases.lease(slot, 11, TWO_ARRAYS)
    views = [base["a"], base["b"][1:], memoryview(base["b"])]
    del base
    while views:
        assert not leases.have_ended
        views.pop()
    assert len(leases.have_ended) == 1
    assert leases.next_ended() is slot
    assert not leases.have_ended
    assert not leases._live


def test_leases_end_in_any_order_and_are_told_in_that_order(leases):
    slots = [Slot(number, 10 * number) for number in range(3)]
    bases = {slot.number: leases.lease(slot, 4, None) for slot in slots}
    for number in (2, 0):
        del bases[number]
    assert [leases.next_ended(), leases.next_ended()] == [slots[2], slots[0]]
    assert leases.reset() == [slots[1]]


def test_a_slot_may_be_leased_again_when_its_lease_has_ended(leases):
    slot = Slot(0, 0)
    for _ in range(2):
        leases.lease(slot, 4, None)
        assert leases.next_ended() is slot


def test_after_an_interrupt_only_what_has_views_is_leased(leases):
    slots = [Slot(number, 10 * number) for number in range(3)]
    kept = [leases.lease(slots[1], 4, None)]
    leases.lease(slots[0], 4, None)
    kept.append(leases.lease(slots[2], 4, None))
    assert leases.reset() == [slots[1], slots[2]]
    assert not leases.have_ended
    del kept[0]
    assert leases.next_ended() is slots[1]
    assert leases.reset() == [slots[2]]


def test_a_lease_that_ends_during_the_reset_is_told_afterwards(leases):
    """Or its slot would stay leased for ever."""
    slot, kept = Slot(0, 0), []
    kept.append(leases.lease(slot, 4, None))

    class EndsInTheMiddle(dict):
        """Lets the last other view go while the leases are looked through."""

        def values(self):
            for lease in super().values():
                yield lease
                kept.clear()

    leases._live = EndsInTheMiddle(leases._live)
    assert leases.reset() == [slot]
    assert leases.next_ended() is slot


def test_closed_leases_do_not_keep_the_memory():
    segment = PlainSegment(200)
    leases = Leases(segment)
    leases.close()
    segment.memory.append(0)
    assert not hasattr(leases, "_memory")
