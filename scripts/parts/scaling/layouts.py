"""The layouts: which workers feed which trainer, placed by the real `mpqueue.cluster.placement`."""

from typing import NamedTuple

from mpqueue.cluster.placement import Room, around, spread
from parts.scaling.cluster import ALL, Cluster

COPIES_AT_WORKER = 1  # into the slot,
COPIES_TO_SEND = 1  # and out of it into the network


class Feed(NamedTuple):
    """The workers of one trainer.

    Attributes:
        home: The node of the trainer.
        nodes: The node of each of its workers, by number.
    """

    home: int
    nodes: tuple[int, ...]

    def on(self, node: int) -> int:
        """Return how many of the workers are on a node."""
        return self.nodes.count(node)

    @property
    def remote(self) -> list[int]:
        """The other nodes that feed this trainer."""
        return sorted(set(self.nodes) - {self.home})


def feeds(cluster: Cluster) -> list[Feed]:
    """Return the workers of each trainer: all workers of the cluster are some trainer's."""
    per_trainer = cluster.nodes // cluster.trainers
    found = []
    for trainer in range(cluster.trainers):
        home = trainer * per_trainer
        nodes = range(cluster.nodes) if cluster.layout == ALL else range(home, home + per_trainer)
        rooms = [Room(name, cluster.workers) for name in around(_name(home), map(_name, nodes))]
        found.append(Feed(home, tuple(map(int, spread(cluster.workers_of_trainer, rooms)))))
    return found


def _name(node: int) -> str:
    """Return the id of a node; ids are in the order of the numbers."""
    return f"{node:06}"
