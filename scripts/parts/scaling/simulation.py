"""One simulation: a cluster that runs until it runs evenly, and is measured from then on."""

import contextlib
import resource
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

from mpqueue.plan.ranks import Shard
from mpqueue.workers import dispatcher
from parts.scaling.clock import Clock, Line
from parts.scaling.cluster import Cluster
from parts.scaling.layouts import Feed, feeds
from parts.scaling.nodes import Node, Way
from parts.scaling.trainer import Trainer
from parts.scaling.workers import Costs, Worker

DESCRIPTORS_PER_WORKER, OTHER_DESCRIPTORS = 5, 64
ENDLESS = 1 << 40
WARM_UP, MEASURED = 2, 2  # times what may be under way,
LEAST_WARM_UP, LEAST_MEASURED = 4, 16  # and batches for each worker: at first all of them begin at a time,
FEWEST = 3_000  # and batches to be measured: in order, they come in bursts


class Outcome(NamedTuple):
    """The measures of a simulation.

    Attributes:
        rate: Batches per second, of all trainers together.
        shares: How busy each kind of resource was, the busiest of its kind; "workers": all workers on average.
        ring_gb: Gigabytes of the largest ring of a trainer.
        cpu_us: Microseconds of this machine's CPU that the real code took for a batch.
    """

    rate: float
    shares: dict[str, float]
    ring_gb: float
    cpu_us: float

    @property
    def limit(self) -> str:
        """The busiest resource."""
        return max(self.shares, key=lambda name: self.shares[name])


class Simulation:
    """A cluster that begins to run.

    Args:
        cluster: Which.
        seed: Of the times that batches take.
        num_batches: Of an epoch.

    Attributes:
        clock: The time.
        trainers: All of them.
    """

    def __init__(self, cluster: Cluster, seed: int, num_batches: int) -> None:
        self._cluster, self.clock, self._num_batches = cluster, Clock(), num_batches
        self._nodes = [Node(self.clock) for _ in range(cluster.nodes)]
        self._costs = Costs(cluster.batch_s, cluster.jitter, round(1e6 * cluster.batch_mb), seed)
        self._interpreters: list[Line] = []
        self._ways: list[Way] = []
        self.trainers = [self._add_trainer(rank, feed) for rank, feed in enumerate(feeds(cluster))]

    def _add_trainer(self, rank: int, feed: Feed) -> Trainer:
        cluster, interpreter = self._cluster, Line(self.clock)
        shard = Shard(rank, cluster.trainers)
        trainer = Trainer(self.clock, cluster, interpreter, len(feed.nodes), shard, self._num_batches)
        home = self._nodes[feed.home]
        ways = {node: Way(self.clock, cluster, self._nodes[node], home, interpreter) for node in set(feed.nodes)}
        for number, node in enumerate(feed.nodes):
            handle = trainer.handles[number]
            trainer.workers[handle] = Worker(
                self.clock, handle, ways[node], self._costs, cluster.ahead, trainer.note_report
            )
        self._interpreters.append(interpreter)
        self._ways += ways.values()
        self.clock.after(0.0, trainer.turn)
        return trainer

    @property
    def num_taken(self) -> int:
        """Batches that all trainers together were handed out."""
        return sum(trainer.num_taken for trainer in self.trainers)

    def run(self, num_batches: int) -> None:
        """Run until all trainers together were handed out so many batches more."""
        end = self.num_taken + num_batches
        with mock.patch.object(dispatcher, "_clock", self.clock.now_ns):
            self.clock.run(lambda: self.num_taken >= end)

    def measure(self, num_batches: int) -> Outcome:
        """Run for so many batches, and tell how it went."""
        began_s, before, cpu_ns = self.clock.now_s, self._busy(), self._cpu_ns()
        self.run(num_batches)
        elapsed_s = self.clock.now_s - began_s
        shares = {
            name: max(now - then for now, then in zip(busy, before[name], strict=True)) / elapsed_s
            for name, busy in self._busy().items()
        }
        cluster, rate = self._cluster, num_batches / elapsed_s
        shares["workers"] = rate * cluster.batch_s / (cluster.nodes * cluster.workers)
        if cluster.step_s:
            shares["training step"] = rate / cluster.trainers * (cluster.step_s + cluster.record_s)
        ring_gb = max(trainer.ring.slots.bytes_reserved() for trainer in self.trainers) / 1e9
        return Outcome(rate, shares, ring_gb, (self._cpu_ns() - cpu_ns) / 1e3 / num_batches)

    def _busy(self) -> dict[str, list[float]]:
        return {
            "link into the trainer": [node.into.busy_s for node in self._nodes],
            "link out of a node": [node.out.busy_s for node in self._nodes],
            "connection": [way.stream.busy_s for way in self._ways],
            "memory": [node.memory.busy_s for node in self._nodes],
            "interpreter": [line.busy_s for line in self._interpreters],
        }

    def _cpu_ns(self) -> int:
        return sum(trainer.cpu_ns for trainer in self.trainers)

    def close(self) -> None:
        """Close all pipes."""
        for trainer in self.trainers:
            trainer.close()


@contextlib.contextmanager
def simulation(cluster: Cluster, seed: int = 0, num_batches: int = ENDLESS) -> Iterator[Simulation]:
    """Make a simulation, and close it in the end; the trainers share the batches of each epoch.

    Raises:
        OSError: There are not so many descriptors: the text says what to do.
    """
    with _descriptors_for(cluster.nodes * cluster.workers):
        made = Simulation(cluster, seed, num_batches)
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def _descriptors_for(num_workers: int) -> Iterator[None]:
    """Raise the limit of descriptors, as far as that is allowed."""
    wanted = num_workers * DESCRIPTORS_PER_WORKER + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise OSError(f"{num_workers} workers need {wanted} descriptors, and `ulimit -Hn` is {hard}: simulate fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def outcome(cluster: Cluster, seed: int = 0) -> Outcome:
    """Simulate a cluster that has run evenly for a while."""
    under_way, workers = cluster.trainers * cluster.credit_of_trainer, cluster.nodes * cluster.workers
    with simulation(cluster, seed) as made:
        made.run(max(WARM_UP * under_way, LEAST_WARM_UP * workers))
        return made.measure(max(MEASURED * under_way, LEAST_MEASURED * workers, FEWEST))
