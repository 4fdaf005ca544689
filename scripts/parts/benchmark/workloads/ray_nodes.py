"""Batches that are computed on other nodes of a Ray cluster.

The cluster runs on this machine: one raylet belongs to the consumer, the others represent other nodes.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import mpqueue
from parts.benchmark.consuming import rate
from parts.benchmark.workload import Figures, Library, Setting
from parts.benchmark.workloads.batches import SourceOf, of
from parts.benchmark.workloads.ray_peers import ACTORS, PEERS
from parts.ray_cluster import only_on, ray_cluster

LOCAL = "local workers"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnNode(SourceOf):
    """Workers on another node."""

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate of a library."""
        source, ahead = self.source.make(), self.source.ahead
        # One more CPU than workers, for other processes of a peer.
        with (
            ray_cluster(1, setting.num_workers + 1) as cluster,
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
