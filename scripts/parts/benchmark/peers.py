"""The peers, by name: which package each needs, where its feed is, and the settings that suit it best.

A peer's package is imported when the peer is measured, in the process that measures it, and never before. One that is
not installed is named in the report. The dependency group ``peers`` has all of them.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any


@dataclasses.dataclass(frozen=True)
class Peer:
    """A way to get batches from workers; called, it is a feed.

    Attributes:
        module: The module of `bench` where its feed is,
        feed: and the feed's name there.
        package: What must be installed; empty for the standard library.
        settings: What was found best, for the reader of a report.
        is_ordered: Batches come in the order of the source; else each worker's come in order.
    """

    module: str
    feed: str
    package: str
    settings: str
    is_ordered: bool = True

    @property
    def is_installed(self) -> bool:
        """Return True if its package is installed, without importing it. A folder of that name is no package."""
        found = importlib.util.find_spec(self.package) if self.package else None
        return not self.package or (found is not None and found.origin is not None)

    def load(self) -> Callable[..., AbstractContextManager[Any]]:
        """Import the package, which no measurement is to count; gives the feed.

        Raises:
            ImportError: It is not installed; the message names the extra.
        """
        if not self.is_installed:
            raise ImportError(f"{self.package} is not installed: python3 -m pip install --group peers")
        return getattr(importlib.import_module(f"parts.benchmark.{self.module}"), self.feed)

    def __call__(self, source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Any]:
        """Run it."""
        return self.load()(source, num_workers, ahead)


@dataclasses.dataclass(frozen=True)
class Library:
    """A library that gives batches of files or streams.

    Attributes:
        feed: Takes the paths of a set, the number of workers, or both.
        package: What must be installed beside mpqueue.
    """

    feed: Any
    package: str = ""

    @property
    def is_installed(self) -> bool:
        """Return True if its package is installed, without importing it."""
        return not self.package or importlib.util.find_spec(self.package) is not None


PEERS = {
    "executor": Peer("peers_standard", "executor", "", "ProcessPoolExecutor by fork, as many under way as ahead"),
    "mp.Queue": Peer("peers_standard", "queues", "", "one multiprocessing.Queue for each worker, read in turn"),
    "keras processes": Peer("peers_keras", "processes", "keras", "max_queue_size as ahead, of large batches 10"),
    "keras threads": Peer("peers_keras", "threads", "keras", "max_queue_size as ahead, of large batches 10"),
    "torch": Peer("peers_torch", "arrays", "torch", "persistent workers by fork, NumPy batches"),
    "torch tensors": Peer("peers_torch", "tensors", "torch", "persistent workers by fork, tensors in shared memory"),
    "tf.data": Peer("peers_tensorflow", "tf_data", "tensorflow", "from_generator, map in parallel, prefetch"),
    "grain": Peer("peers_grain", "grain_processes", "grain", "mp_prefetch, one thread in each worker"),
    "spdl": Peer("peers_spdl", "spdl_subprocesses", "spdl", "iterate_in_subprocess, segments for large arrays"),
    "faster-fifo": Peer("peers_fifo", "faster_fifo_queue", "faster_fifo", "one queue, get_many", is_ordered=False),
    "ray": Peer("peers_ray", "ray_actors", "ray", "an actor for each worker, futures under way as ahead"),
}


def missing(names: Iterable[str]) -> list[str]:
    """Those of the names that are peers which are not installed."""
    return [name for name in names if name in PEERS and not PEERS[name].is_installed]
