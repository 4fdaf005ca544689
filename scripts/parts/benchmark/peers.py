"""The peers by name: their packages, feeds and best settings.

A peer's package is only imported in the process that measures it. Peers that are not installed are listed in the
report. The dependency group ``peers`` contains all of them.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any


@dataclasses.dataclass(frozen=True)
class Peer:
    """A way to load batches with workers. Calling it returns a feed.

    Attributes:
        module: The module of the feed,
        feed: and its name.
        package: The required package; empty for the standard library.
        settings: The best settings, for readers of a report.
    """

    module: str
    feed: str
    package: str
    settings: str

    @property
    def is_installed(self) -> bool:
        """True if the package is installed, without importing it. A namespace folder does not count."""
        found = importlib.util.find_spec(self.package) if self.package else None
        return not self.package or (found is not None and found.origin is not None)

    def load(self) -> Callable[..., AbstractContextManager[Any]]:
        """Import the package before the measurement; return the feed.

        Raises:
            ImportError: The package is not installed; the message names the extra.
        """
        if not self.is_installed:
            raise ImportError(f"{self.package} is not installed: python3 -m pip install --group peers")
        return getattr(importlib.import_module(f"parts.benchmark.{self.module}"), self.feed)

    def __call__(self, source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Any]:
        """Run the feed."""
        return self.load()(source, num_workers, ahead)


@dataclasses.dataclass(frozen=True)
class Library:
    """A library that loads batches from files or streams.

    Attributes:
        feed: Function of the paths of a set, the number of workers, or both.
        package: Package that is required in addition to mpqueue.
    """

    feed: Any
    package: str = ""

    @property
    def is_installed(self) -> bool:
        """True if the package is installed, without importing it."""
        return not self.package or importlib.util.find_spec(self.package) is not None


PEERS = {
    "executor": Peer("peers_standard", "executor", "", "ProcessPoolExecutor with fork, limited batches in flight"),
    "mp.Queue": Peer("peers_standard", "queues", "", "one multiprocessing.Queue for each worker, read in turn"),
    "keras processes": Peer("peers_keras", "processes", "keras", "max_queue_size as ahead, 10 for large batches"),
    "keras threads": Peer("peers_keras", "threads", "keras", "max_queue_size as ahead, 10 for large batches"),
    "torch": Peer("peers_torch", "arrays", "torch", "persistent workers with fork, NumPy batches"),
    "torch tensors": Peer("peers_torch", "tensors", "torch", "persistent workers with fork, tensors in shared memory"),
    "tf.data": Peer("peers_tensorflow", "tf_data", "tensorflow", "from_generator, map in parallel, prefetch"),
    "grain": Peer("peers_grain", "grain_processes", "grain", "mp_prefetch, one thread in each worker"),
    "spdl": Peer("peers_spdl", "spdl_subprocesses", "spdl", "iterate_in_subprocess, segments for large arrays"),
    "turboloader": Peer("peers_turboloader", "batches", "turboloader", "MapDataLoader, or TokenDataLoader for tokens"),
    "dataloader-rs": Peer("peers_dataloader_rs", "batches", "dataloader_rs", "threads, prefetch_depth as ahead"),
    "faster-fifo": Peer("peers_fifo", "faster_fifo_queue", "faster_fifo", "one queue, get_many"),
}


def missing(names: Iterable[str]) -> list[str]:
    """Return the names of peers that are not installed."""
    return [name for name in names if name in PEERS and not PEERS[name].is_installed]
