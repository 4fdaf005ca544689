"""SPDL's question of the cost to move integers to another process and back: 50,000 in groups of 128, one worker.

A pass has a new pipeline, which is built before its time, and starts the process in it.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mpqueue
from parts.benchmark.library import Library

NUMBER, BATCH = 50_000, 128


def same(number: int) -> int:
    """Return the number."""
    return number


async def same_later(number: int) -> int:
    """Return the number, in a coroutine, which SPDL runs without a thread."""
    return number


def ours(_num_workers: int) -> AbstractContextManager[Any]:
    """Use a `Dataset` of elements that a worker maps and batches."""
    return mpqueue.Loader(mpqueue.Dataset.range(NUMBER).map(same).batch(BATCH), workers=1)


@contextmanager
def spdls(_num_workers: int, *, is_buffered: bool) -> Iterator[Any]:
    """Use stages in a subprocess, which receives groups from a stage before it, or from a buffer at its border."""
    from spdl.pipeline import PipelineBuilder
    from spdl.pipeline.defs import MAIN_PROCESS, ProcessPoolExecutorConfig

    there = ProcessPoolExecutorConfig(max_workers=1, mp_context="spawn")
    stages = PipelineBuilder().add_source(range(NUMBER))
    stages = stages.to(there, buffer_size=BATCH) if is_buffered else stages.aggregate(BATCH).to(there).disaggregate()
    pipeline = stages.pipe(same_later).aggregate(BATCH).to(MAIN_PROCESS).add_sink(8).build(num_threads=2)
    try:
        yield pipeline.get_iterator(timeout=60)
    finally:
        pipeline.stop()


READERS = {
    "mpqueue": Library(ours),
    "spdl": Library(functools.partial(spdls, is_buffered=False), "spdl"),
    "spdl buffered": Library(functools.partial(spdls, is_buffered=True), "spdl"),
}
