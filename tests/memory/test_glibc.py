"""A worker keeps the memory that its items free."""

import platform
import resource

import numpy as np
import pytest

from mpqueue import OrderedEnqueuer, Sequence
from mpqueue.memory.glibc import keep_freed_memory


class Scratch(Sequence):
    """Needs four megabytes while it computes, and tells how many pages the process has had to be given so far."""

    def __getitem__(self, index):
        blocks = [bytearray(b"\1") * 200_000 for _ in range(20)]
        del blocks
        return np.array([resource.getrusage(resource.RUSAGE_SELF).ru_minflt])

    def __len__(self):
        return 30


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back so soon")
@pytest.mark.parametrize("start_method", ["nursery", "fork", "spawn"])
def test_memory_that_an_item_frees_is_there_for_the_next_one(start_method):
    """20 items that each need 1,000 pages of scratch memory do not ask the kernel for as many as one of them needs."""
    with OrderedEnqueuer(Scratch(), use_multiprocessing=True, start_method=start_method) as enqueuer:
        enqueuer.start()
        faults = [int(counts[0]) for counts, _ in zip(enqueuer.get(), range(30), strict=False)]
    assert faults[-1] - faults[9] < 1000


def test_the_block_that_is_shown_to_the_allocator_is_never_touched():
    """Each worker shows one when it starts: to fault in its 8,000 pages took 27 ms and more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    keep_freed_memory.__wrapped__()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
