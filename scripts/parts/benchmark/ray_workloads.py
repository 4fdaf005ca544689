"""Batches that are computed on other nodes of a Ray cluster.

The cluster is on this machine: one raylet is the consumer's, the others stand for other nodes.
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
STARTS, NUM_OTHERS = 3, 2  # of the first batch: how often, and from how many other nodes
FIRST = "first batch from other nodes"


@dataclasses.dataclass(frozen=True)
class RayWorkload(SourceOf):
    """Workers on another node, and what they are compared with.

    Attributes:
        about: What comes from there, for the report.
        source: Which of `WORKLOADS` it is.
        peers: What is measured.
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
    """Return the names of what can be measured here: nothing without Ray."""
    return list(RAY[workload].peers) if is_installed() else []


def without_ray(workloads: Iterable[str]) -> tuple[str, ...]:
    """Return the workloads that cannot be measured, because Ray is not installed."""
    return () if is_installed() else tuple(name for name in workloads if name in RAY)


def ray_figures(workload: str, name: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Measure one of them.

    Returns:
        Figures by name: ``rate`` in batches per second, or milliseconds to the first batch.
    """
    source = WORKLOADS[RAY[workload].source]
    if workload == "ray first batch":
        with ray_cluster(NUM_OTHERS, num_workers):
            return {FIRST: [_first_ms(source.make(), num_workers) for _ in range(STARTS)]}
    made, ahead = source.make(), source.ahead
    # A CPU more than workers, for what a peer does beside them.
    with (
        ray_cluster(1, num_workers + 1) as cluster,
        _batches(name, made, num_workers, ahead, *cluster.others) as batches,
    ):
        next(batches)
        warm_up(batches, 4 * ahead)
        return {"rate": [count(batches, seconds)["rate"]]}


@contextlib.contextmanager
def _batches(name: str, source: Any, num_workers: int, ahead: int, node: str) -> Iterator[Iterator[Any]]:
    """Feed this process: by a peer, by workers of its own, or by workers on the node."""
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
    """Return the milliseconds from nothing to a batch; its agents have ended afterwards."""
    began = time.perf_counter()
    with mpqueue.Loader(source, workers=num_workers + 1, backend="ray") as loader:
        next(iter(loader))
        return 1e3 * (time.perf_counter() - began)
