"""Workers keep the memory that their items free, and copy large arrays past the caches."""

import os
import platform
import resource
import subprocess
import sys

import numpy as np
import pytest
from helpers.computed_source import Computed

from mpqueue import OrderedEnqueuer
from mpqueue.memory.glibc import LARGE_COPY_BYTES, with_large_copies_uncached


def page_faults():
    """Return the number of page faults of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


NUM_BLOCKS, BLOCK_BYTES = 20, 200_000
PAGES_OF_ITEM = NUM_BLOCKS * BLOCK_BYTES // resource.getpagesize()


def need_scratch(_):
    """Use 4 MB, and return the page faults so far."""
    blocks = [bytearray(b"\1") * BLOCK_BYTES for _ in range(NUM_BLOCKS)]
    del blocks
    return np.array(page_faults())


@pytest.mark.measures
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns freed memory so soon")
@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_memory_freed_by_item_is_kept_for_next_item(start_method):
    """20 items that each need 1,000 pages cause fewer page faults together than a single item has pages."""
    with OrderedEnqueuer(Computed(need_scratch, 30), use_multiprocessing=True, start_method=start_method) as enqueuer:
        enqueuer.start()
        faults = [int(count) for count, _ in zip(enqueuer.get(), range(30), strict=False)]
    assert faults[-1] - faults[9] < PAGES_OF_ITEM


# In a fresh interpreter: if other tests freed more than the block, `calloc` would take it from that memory and clear
# it.
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
def test_block_for_allocator_is_never_touched():
    """Each worker allocates the block when it starts: faulting its 8,000 pages would take 27 ms and more."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=True)
    shown, touched = map(int, done.stdout.split())
    assert shown < touched


OURS = f"glibc.cpu.x86_non_temporal_threshold={LARGE_COPY_BYTES:#x}"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("glibc.malloc.check=1", f"glibc.malloc.check=1:{OURS}"),
        ("glibc.cpu.x86_non_temporal_threshold=0x100000", "glibc.cpu.x86_non_temporal_threshold=0x100000"),
        ("", OURS),
    ],
)
def test_users_setting_is_kept(chosen, expected):
    environ = {"HOME": "/", "GLIBC_TUNABLES": chosen}
    assert with_large_copies_uncached(environ) == {"HOME": "/", "GLIBC_TUNABLES": expected}
    assert with_large_copies_uncached({"HOME": "/"}) == {"HOME": "/", "GLIBC_TUNABLES": OURS}


def settings(_):
    """Return the settings of the worker, and the environment of its code."""
    with open("/proc/self/environ") as started_with:
        return [np.array(OURS in started_with.read()), os.environ.get("GLIBC_TUNABLES", "none")]


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="another system")
def test_workers_start_with_setting_and_restore_environment(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    with OrderedEnqueuer(Computed(settings), use_multiprocessing=True) as enqueuer:
        enqueuer.start()
        is_set, seen = next(enqueuer.get())
    assert is_set
    assert seen == "none"
