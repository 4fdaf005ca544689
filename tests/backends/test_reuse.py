"""Large batches use slots with memory first; their order and the number computed ahead do not change."""

from collections import Counter

import pytest
from helpers import simulated_pool
from helpers.simulated_pool import endless_epoch, word_of

from mpqueue.backends.processes import dispatcher
from mpqueue.backends.processes.ring_memory import slot_reuse
from mpqueue.memory.slots import LARGE_BYTES

WORDS = LARGE_BYTES // 8  # of a batch that makes its slot large


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch):
    monkeypatch.setattr(slot_reuse, "_WORTH_BYTES", LARGE_BYTES // 64)
    monkeypatch.setattr(dispatcher, "_CHEAP_NS", 1)  # no chunks


class Fair:
    """Equally fast workers that read one grant at a time; the consumer waits as long as any of them can continue."""

    def __init__(self):
        self.steps = Counter()

    def __call__(self, things):
        if not callable(things[0]):
            return min(things)
        move = min(things, key=lambda move: self.steps[move.__self__.key])
        self.steps[move.__self__.key] += 1
        return move


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_waiting_consumer_uses_few_slots_with_any_queue_size(num_workers):
    with simulated_pool.World(simulated_pool.Source([WORDS]), endless_epoch(), num_workers, 20, Fair()) as world:
        assert [word_of(world.pipeline.next()) for _ in range(60)] == list(range(60))
        assert world.num_exchanged > 0
        assert sum(slot.is_large for slot in world.backend.pool.ring.slots.slots) <= 2 * num_workers + 2
