"""Peers that load batches for one consumer on another node of a Ray cluster.

They use the cluster that this process is connected to, with all workers on one node.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from parts.benchmark.in_flight import Endless, in_order
from parts.ray_cluster import only_on

ACTORS, SPLIT = "plain actors", "streaming_split"
ROWS, NUM_BATCHES, NUM_BLOCKS = 32, 1 << 20, 1 << 12


class Actor:
    """A worker with its source."""

    def __init__(self, source: Any) -> None:
        self.endless = Endless(source)

    def item(self, index: int) -> Any:
        """Return a batch."""
        return self.endless[index]


@contextlib.contextmanager
def plain_actors(source: Any, num_workers: int, ahead: int, node: str) -> Iterator[Iterator[Any]]:
    """Use an actor for each worker. Each call returns one batch, with a limited number of calls in flight."""
    import ray

    actor = ray.remote(num_cpus=1)(Actor).options(scheduling_strategy=only_on(node))
    actors: list[Any] = [actor.remote(source) for _ in range(num_workers)]
    try:
        yield in_order(lambda index: actors[index % num_workers].item.remote(index), ray.get, ahead)
    finally:
        for actor in actors:
            ray.kill(actor)


class MakeBatch:
    """A function for `Dataset.map_batches` that creates the rows of a batch from as many numbers."""

    def __init__(self, source: Any) -> None:
        self.endless = Endless(source)

    def __call__(self, numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of a batch by their positions."""
        arrays = self.endless[int(numbers["id"][0]) // ROWS]
        return {str(place): array for place, array in enumerate(arrays)}


@contextlib.contextmanager
def streaming_split(source: Any, num_workers: int, ahead: int, node: str) -> Iterator[Iterator[Any]]:
    """Use Ray Data: a pool of actors maps batches, and this process is the only consumer of a split."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    made = ray.data.range(ROWS * NUM_BATCHES, override_num_blocks=NUM_BLOCKS).map_batches(
        MakeBatch,
        fn_constructor_args=(source,),
        batch_size=ROWS,
        compute=ActorPoolStrategy(size=num_workers),
        num_cpus=1,
        scheduling_strategy=only_on(node),
    )
    (part,) = made.streaming_split(1, equal=False)
    yield iter(part.iter_batches(batch_size=ROWS, prefetch_batches=ahead, batch_format="numpy"))


# Called with the source, the number of workers, the number of batches ahead, and the node.
PEERS = {ACTORS: plain_actors, SPLIT: streaming_split}
