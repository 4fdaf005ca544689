"""Grain: spawned worker processes that compute every n-th batch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

from parts.benchmark.in_flight import Endless, stacked
from parts.benchmark.workload import Peer


def grain_processes(source: Any, num_workers: int, ahead: int) -> AbstractContextManager[Iterator[Any]]:
    """Use ``mp_prefetch``. In each worker, one thread computes while a second one transfers batches."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which programs without absl's app must mark as parsed
    dataset = grain.MapDataset.source(Endless(source)).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    )
    options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=max(1, ahead // num_workers))
    return closing(iter(dataset.mp_prefetch(options)))


PEERS = {"grain": Peer(grain_processes, "grain", "mp_prefetch, one thread in each worker", stacked(grain_processes))}
