"""Free slots that are far larger than recent batches return memory to the system."""

import pytest

from mpqueue.memory.ring import Ring
from mpqueue.memory.segment import FIRST_BYTES
from mpqueue.memory.slots import PAGE

RECENT = 1 << 18
MOST = 4 * RECENT + (1 << 20)  # bytes that a free slot may keep


@pytest.fixture(params=["leased", "released"])
def freed(request):
    """Deliver a batch in a slot with this much memory, release it, and return the bytes that the slot kept."""
    ring = Ring(2, 1, copy=False)

    def hand_out(slot_bytes, batch_bytes):
        slot = ring.grant(0)
        assert ring.reserve(slot, slot_bytes)
        ring.slots.publish(slot, slot_bytes)
        if request.param == "leased":
            view = ring.view(slot, batch_bytes, None)
            del view
            ring.collect()
        else:
            ring.share(slot, batch_bytes)
            ring.release(slot)
        return slot.high_water

    yield hand_out
    ring.close()


def test_slot_keeps_four_recent_batches_and_a_mebibyte(freed):
    assert freed(MOST, RECENT) == MOST


def test_larger_slot_keeps_two_recent_batches(freed):
    assert freed(MOST + 1, RECENT) == 2 * RECENT


def test_slot_keeps_whole_pages(freed):
    assert freed(MOST + 4, RECENT + 1) == MOST + 4
    assert freed(2 * MOST, RECENT + 1) == 2 * RECENT + PAGE


def test_slot_keeps_first_reservation(freed):
    assert freed(1 << 20, 1) == 1 << 20
    assert freed((1 << 20) + 5, 1) == FIRST_BYTES
