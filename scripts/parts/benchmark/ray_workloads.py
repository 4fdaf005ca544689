"""Batches that are computed on other nodes of a Ray cluster.

The cluster runs on this machine: one raylet belongs to the consumer, the others represent other nodes.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any

import mpqueue
from parts.benchmark.consuming import count, warm_up
from parts.benchmark.ray_peers import ACTORS, PEERS, SPLIT
from parts.benchmark.workloads import WORKLOADS, SourceOf
from parts.ray_cluster import is_installed, only_on, ray_cluster

OURS, LOCAL = "mpqueue", "local workers"
STARTS, NUM_OTHERS = 3, 2  # of the first batch: number of starts, and of other nodes
FIRST = "first batch from other nodes"


@dataclasses.dataclass(frozen=True)
class RayWorkload(SourceOf):
    """Workers on another node, and their peers.

    Attributes:
        about: Description for the report.
        source: Name of the source in `WORKLOADS`.
        peers: The peers to measure.
    """

    peers: tuple[str, ...] = (OURS,)


RAY = {
    "ray image": RayWorkload("(32, 224, 224, 3) float32 from another node", "image", (OURS, ACTORS, SPLIT)),
    "ray small": RayWorkload("(32, 64, 64, 3) uint8 from another node", "small", (OURS, ACTORS, SPLIT)),
    "ray tiny": RayWorkload("(32, 16) float32 and labels from another node", "tiny", (OURS, ACTORS)),
    "ray decode": RayWorkload("32 JPEG files, decoded on another node", "decode", (OURS, LOCAL)),
    "ray first batch": RayWorkload("from a Loader to its first batch, on a running cluster", "tiny"),
}


def ways(workload: str) -> list[str]:
    """Return the peers that can be measured here: none without Ray."""
    return list(RAY[workload].peers) if is_installed() else []


def without_ray(workloads: Iterable[str]) -> tuple[str, ...]:
    """Return the workloads that cannot be measured, because Ray is not installed."""
    return () if is_installed() else tuple(name for name in workloads if name in RAY)


def ray_figures(workload: str, name: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Measure one peer.

    Returns:
        Figures by name: ``rate`` in batches per second, or milliseconds to the first batch.
    """
    source = WORKLOADS[RAY[workload].source]
    if workload == "ray first batch":
        with ray_cluster(NUM_OTHERS, num_workers):
            return {FIRST: [_first_ms(source.make(), num_workers) for _ in range(STARTS)]}
    made, ahead = source.make(), source.ahead
    # One more CPU than workers, for other processes of a peer.
    with (
        ray_cluster(1, num_workers + 1) as cluster,
        _batches(name, made, num_workers, ahead, *cluster.others) as batches,
    ):
        next(batches)
        warm_up(batches, 4 * ahead)
        return {"rate": [count(batches, seconds)["rate"]]}


@contextlib.contextmanager
def _batches(name: str, source: Any, num_workers: int, ahead: int, node: str) -> Iterator[Iterator[Any]]:
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


def _first_ms(source: Any, num_workers: int) -> float:
    """Return the milliseconds from the start to a batch. The agents end afterwards."""
    began = time.perf_counter()
    with mpqueue.Loader(source, workers=num_workers + 1, backend="ray") as loader:
        next(iter(loader))
        return 1e3 * (time.perf_counter() - began)
