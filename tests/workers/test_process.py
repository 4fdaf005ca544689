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
        assert (seen.slots_in_use <= 2 + 1 + 1, seen.copies_held, seen.deaths) == (True, 0, 0)
