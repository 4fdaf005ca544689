"""The backend of worker processes: slots that come back, and work items that are forgotten after an interrupt."""

import numpy as np
from helpers.faults import Numbers, numbers

import mpqueue
from mpqueue import Loader


class Lends(Numbers):
    """Keeps the buffer in which it has made a batch until the next one, and gives a copy."""

    kept = None

    def __getitem__(self, index):
        self.kept = None
        self.kept = mpqueue.empty(64, np.int64)
        self.kept[:] = index
        return self.kept


def test_a_slot_whose_array_the_source_has_dropped_is_used_again():
    with Loader(Lends(200), workers=1, max_queue_size=2) as loader:
        assert numbers(iter(loader), 200) == list(range(200))
        seen = loader.statistics()
        assert (seen.slots_in_use <= 2 + 1 + 1, seen.copies_held) == (True, 0)  # ahead, with us, kept by the source
        slots = loader._engine.pipeline.backend.pool.ring.slots
        assert slots.num_retired <= 1
        assert seen.deaths == 0


def test_what_was_under_way_before_an_interrupt_is_computed_for_nobody():
    """The work items of before have numbers that are not asked for: a batch for one would keep its slot for ever."""
    with Loader(Numbers(40), workers=1, max_queue_size=8) as loader:
        batches = iter(loader)
        assert numbers(batches, 1) == [0]
        pipeline = loader._engine.pipeline
        while len(pipeline.ledger.ready) < 8:
            assert pipeline.num_ready <= 8  # which has a look at what has come
        pool = pipeline.backend.pool
        for _ in range(2):  # all is ready, and then some of it is not even granted
            pipeline.is_inconsistent = pipeline.ledger.needs_attention = True
            (number,) = numbers(batches, 1)
            known = pipeline.ledger.work_items.keys()
            assert pool.ready.keys() <= known
            assert {work_item.number for work_item in pool.pending} <= known
        assert numbers(batches, 39 - number) == list(range(number + 1, 40))
        assert (number, next(batches, None)) == (2, None)
