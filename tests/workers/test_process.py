"""The backend of worker processes: slots that become free, and work items that are discarded after an interrupt."""

import numpy as np
from helpers.faults import Numbers, numbers

import mpqueue
from mpqueue import Loader


class Lends(Numbers):
    """Keeps the buffer of a batch until the next one, and returns a copy."""

    kept = None

    def __getitem__(self, index):
        self.kept = None
        self.kept = mpqueue.empty(64, np.int64)
        self.kept[:] = index
        return self.kept


def test_slot_is_reused_after_the_source_has_dropped_its_array():
    with Loader(Lends(200), workers=1, max_queue_size=2) as loader:
        assert numbers(iter(loader), 200) == list(range(200))
        seen = loader.statistics()
        # Computed ahead, held by us, kept by the source.
        assert (seen.slots_in_use <= 2 + 1 + 1, seen.copies_held) == (True, 0)
        slots = loader._engine.pipeline.backend.pool.ring.slots
        assert slots.num_retired <= 1
        assert seen.deaths == 0


def test_work_in_flight_before_an_interrupt_is_discarded():
    """Its numbers are never requested again, so a batch for an old number would keep its slot forever."""
    with Loader(Numbers(40), workers=1, max_queue_size=8) as loader:
        batches = iter(loader)
        assert numbers(batches, 1) == [0]
        pipeline = loader._engine.pipeline
        while len(pipeline.ledger.ready) < 8:
            assert pipeline.num_ready <= 8  # checks the arrivals
        pool = pipeline.backend.pool
        for _ in range(2):  # all batches are ready; the second time, some are not even granted
            pipeline.is_inconsistent = pipeline.ledger.needs_attention = True
            (number,) = numbers(batches, 1)
            known = pipeline.ledger.work_items.keys()
            assert pool.ready.keys() <= known
            assert {work_item.number for work_item in pool.pending} <= known
        assert numbers(batches, 39 - number) == list(range(number + 1, 40))
        assert (number, next(batches, None)) == (2, None)
