"""A worker keeps the memory that its items free."""

import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from mpqueue import OrderedEnqueuer, Sequence


def page_faults():
    """Return how many pages the kernel has had to give this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Scratch(Sequence):
    """Needs four megabytes while it computes, and returns the page faults before and after that."""

    def __getitem__(self, index):
        before = page_faults()
        blocks = [bytearray(b"\1") * 200_000 for _ in range(20)]
        del blocks
        return np.array([before, page_faults()])

    def __len__(self):
        return 30


@pytest.mark.measures
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back so soon")
@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_memory_that_an_item_frees_is_there_for_the_next_one(start_method):
    """20 items that each need 1,000 pages of scratch memory do not ask the kernel for as many as the first of them."""
    with OrderedEnqueuer(Scratch(), use_multiprocessing=True, start_method=start_method) as enqueuer:
        enqueuer.start()
        faults = [counts.tolist() for counts, _ in zip(enqueuer.get(), range(30), strict=False)]
    first = faults[0][1] - faults[0][0]
    assert faults[-1][1] - faults[9][1] < first


# In a fresh interpreter: where other tests freed more than the block, `calloc` takes it from that memory and clears it.
SHOW = """
import mmap, resource
from mpqueue.memory.glibc import keep_freed_memory

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = page_faults()
keep_freed_memory()
shown = page_faults() - before
before = page_faults()
with mmap.mmap(-1, 4 << 20) as touched:
    touched.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(touched), mmap.PAGESIZE):
        touched[at] = 1
    print(shown, page_faults() - before)
"""


@pytest.mark.measures
def test_the_block_shown_to_the_allocator_is_never_touched():
    """Each worker shows one when it starts: faulting in its 8,000 pages took 27 ms and more."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=True)
    shown, touched = map(int, done.stdout.split())
    assert shown < touched
