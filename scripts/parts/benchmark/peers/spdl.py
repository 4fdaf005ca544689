"""SPDL: iterating subprocesses, each with an arena of shared memory. Its segments become views in this process."""

import functools
import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless, stacked
from parts.benchmark.sizes import largest_bytes, largest_part
from parts.benchmark.workload import Peer

OFFLOADED_BYTES = 4096  # smaller arrays bypass the arena, which would slow them down
HELD = 3  # segments in addition to the queue: one being written, one being read, and the previous one


@contextmanager
def spdl_subprocesses(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Take every n-th batch from each of n subprocesses in turn."""
    from spdl.pipeline import SharedMemorySegmentPool, iterate_in_subprocess

    each, size = max(2, ahead // num_workers), largest_bytes(source)
    needs_arena = largest_part(source[0]) >= OFFLOADED_BYTES
    with ExitStack() as stack:
        running = []
        for first in range(num_workers):
            arena = SharedMemorySegmentPool(size, each + HELD) if needs_arena else None
            make = functools.partial(_strided, source, first, num_workers)
            process: Any = iterate_in_subprocess(make, buffer_size=each, mp_context="fork", arena=arena)
            stack.callback(process._shutdown)  # the finalizer would do this later
            running.append(iter(process))
        yield (next(batches) for batches in itertools.cycle(running))


def _strided(source: Any, first: int, step: int) -> Iterator[Any]:
    endless = Endless(source)
    return (endless[index] for index in itertools.count(first, step))


PEERS = {
    "spdl": Peer(
        spdl_subprocesses,
        "spdl.pipeline",
        "iterate_in_subprocess, segments for large arrays",
        stacked(spdl_subprocesses),
    ),
}
