"""Ray: an actor for each worker. Large arrays are read from Ray's object store without a copy."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from parts.benchmark.in_flight import Endless, in_order
from parts.benchmark.sizes import largest_bytes

STORE_BYTES = 1 << 30  # at least


@ray.remote(num_cpus=1)
class Actor:
    """A worker.

    Args:
        source: Its source.
    """

    def __init__(self, source: Any) -> None:
        self.endless = Endless(source)

    def item(self, index: int) -> Any:
        """Return a batch."""
        return self.endless[index]


@contextmanager
def ray_actors(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Make each actor compute every n-th batch."""
    store = max(STORE_BYTES, 2 * ahead * largest_bytes(source))
    ray.init(
        num_cpus=num_workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=store,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    try:
        actors: list[Any] = [Actor.remote(source) for _ in range(num_workers)]
        yield in_order(lambda index: actors[index % num_workers].item.remote(index), ray.get, ahead)
    finally:
        ray.shutdown()
