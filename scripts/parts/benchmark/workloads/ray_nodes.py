"""Batches that are computed on other nodes of a Ray cluster.

The cluster runs on this machine: one raylet belongs to the consumer, the others represent other nodes.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.consuming import rate
from parts.benchmark.in_flight import Endless, in_order
from parts.benchmark.workload import Figures, Library, Setting
from parts.benchmark.workloads.batches import SourceOf, of
from parts.ray_cluster import RayCluster, only_on

LOCAL = "local workers"
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnNode(SourceOf):
    """Workers on another node."""

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate of a library."""
        source, ahead = self.source.make(), self.source.ahead
        # One more CPU than workers, for other processes of a peer.
        with (
            RayCluster(1, setting.num_workers + 1) as cluster,
            batches_of(name, source, setting.num_workers, ahead, *cluster.others) as batches,
        ):
            next(batches)
            return rate(batches, ahead, setting.seconds)


@contextlib.contextmanager
def batches_of(name: str, source: Any, num_workers: int, ahead: int, node: str) -> Iterator[Iterator[Any]]:
    """Yield batches from a peer, from local workers, or from workers on the node."""
    if name in PEERS:
        with PEERS[name](source, num_workers, ahead, node) as batches:
            yield batches
        return
    on_node: dict[str, Any] = {"backend": "ray", "ray_options": {"scheduling_strategy": only_on(node)}}
    with mpqueue.Loader(
        source, workers=num_workers, max_queue_size=ahead, **({} if name == LOCAL else on_node)
    ) as loader:
        yield iter(loader)


def _on_node(about: str, source: str, *names: str) -> OnNode:
    return OnNode(about, **of(source), extra_s=9, readers=dict.fromkeys(["mpqueue", *names], Library(None, "ray")))


WORKLOADS = {
    "ray image": _on_node("(32, 224, 224, 3) float32 from another node", "image", *PEERS),
    "ray small": _on_node("(32, 64, 64, 3) uint8 from another node", "small", *PEERS),
    "ray tiny": _on_node("(32, 16) float32 and labels from another node", "tiny", ACTORS),
    "ray decode": _on_node("32 JPEG files, decoded on another node", "decode", LOCAL),
}
