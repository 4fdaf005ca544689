"""Workers copy large arrays past the caches; their environment remains the trainer's."""

import os

import numpy as np
import pytest
from helpers.computed_source import Computed

from mpqueue import OrderedEnqueuer
from mpqueue.memory.glibc import LARGE_COPY_BYTES, with_large_copies_uncached

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
