"""SPDL's question what it costs to move integers to another process and back: 50,000 in groups of 128, one worker.

A pass has a new pipeline, which is built before its time, and starts the process in it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mpqueue

NUMBER, BATCH = 50_000, 128
Pass = Callable[[], AbstractContextManager[Iterator[Any]]]


def same(number: int) -> int:
    """Return the number."""
    return number


async def same_later(number: int) -> int:
    """Return the number, in a coroutine, which SPDL runs without a thread."""
    return number


@contextmanager
def ours() -> Iterator[Iterator[Any]]:
    """Use a `Dataset` of elements that a worker maps and batches."""
    numbers = mpqueue.Dataset.range(NUMBER).map(same).batch(BATCH)
    with mpqueue.Loader(numbers, workers=1) as loader:
        yield (batch for batch in loader)


@contextmanager
def spdls(*, is_buffered: bool) -> Iterator[Iterator[Any]]:
    """Use stages in a subprocess, which receives groups from a stage before it, or from a buffer at its border."""
    from spdl.pipeline import PipelineBuilder
    from spdl.pipeline.defs import MAIN_PROCESS, ProcessPoolExecutorConfig

    there = ProcessPoolExecutorConfig(max_workers=1, mp_context="spawn")
    stages = PipelineBuilder().add_source(range(NUMBER))
    stages = stages.to(there, buffer_size=BATCH) if is_buffered else stages.aggregate(BATCH).to(there).disaggregate()
    pipeline = stages.pipe(same_later).aggregate(BATCH).to(MAIN_PROCESS).add_sink(8).build(num_threads=2)
    try:
        yield (batch for batch in pipeline.get_iterator(timeout=60))
    finally:
        pipeline.stop()


def passes(make: Pass) -> Callable[[int], Callable[[], tuple[float, float]]]:
    """Return a reader that counts the integers of a pass."""

    def once() -> tuple[float, float]:
        with make() as batches:
            began = time.perf_counter()
            return sum(map(len, batches)), time.perf_counter() - began

    return lambda _num_workers: once


READERS = {
    "mpqueue": (passes(ours), ""),
    "spdl": (passes(lambda: spdls(is_buffered=False)), "spdl"),
    "spdl buffered": (passes(lambda: spdls(is_buffered=True)), "spdl"),
}
