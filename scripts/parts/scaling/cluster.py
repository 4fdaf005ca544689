"""The cluster that is simulated, in the units of the command line."""

import dataclasses

from mpqueue.workers.job import MAX_CREDIT

NEAR, ALL = "near", "all"
LAYOUTS = (NEAR, ALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Equal nodes, and a source whose batches are equal.

    Attributes:
        nodes: How many there are.
        workers: Worker processes on each node.
        trainers: How many of the nodes train; they lie as far from each other as they can.
        layout: "near": the nodes are divided among the trainers, each feeds one. "all": each node feeds all trainers.
        batch_mb: Megabytes of a batch.
        batch_ms: Milliseconds of a CPU for a batch, in a worker,
        jitter: and by which share of it batches differ, evenly spread.
        step_ms: Milliseconds of a training step.
        link_gbps: Gigabits per second that a node can send, and as many that it can receive at the same time.
        latency_us: Microseconds from node to node.
        stream_gb_s: Gigabytes per second of one connection, which has one thread at each end.
        memory_gb_s: Gigabytes per second that all processes of a node can copy.
        copies: How often the trainer's node copies each byte that comes from another node.
        record_us: Microseconds of the trainer's interpreter for a batch: deal, grant, report, hand-out;
        relay_us: and, if it comes from another node, for its way through the relay.
        ahead: Batches that a worker of another node is granted beside the one at work, to cover the way.
        credit: Batches that may be under way to one trainer (`max_queue_size`); 0: four for each of its workers. Both
            within the engine's own bound.
    """

    nodes: int = 64
    workers: int = 32
    trainers: int = 1
    layout: str = NEAR
    batch_mb: float = 19.3
    batch_ms: float = 50.0
    jitter: float = 0.5
    step_ms: float = 0.0
    link_gbps: float = 100.0
    latency_us: float = 50.0
    stream_gb_s: float = 3.0
    memory_gb_s: float = 50.0
    copies: float = 1.0
    record_us: float = 25.0
    relay_us: float = 30.0
    ahead: int = 2
    credit: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if min(self.nodes, self.workers, self.trainers, self.ahead) < 1:
            raise ValueError("nodes, workers, trainers and ahead must be at least 1")
        if self.nodes % self.trainers:
            raise ValueError(f"{self.nodes} nodes cannot be divided equally among {self.trainers} trainers")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {self.jitter}")
        if min(self.batch_mb, self.batch_ms, self.link_gbps, self.stream_gb_s, self.memory_gb_s) <= 0:
            raise ValueError("a batch has bytes and takes time, and links and memory have a speed above 0")

    @property
    def workers_of_trainer(self) -> int:
        """Workers that feed one trainer."""
        return self.nodes * self.workers // self.trainers

    @property
    def credit_of_trainer(self) -> int:
        """Batches that may be under way to one trainer."""
        return min(self.credit or 4 * self.workers_of_trainer, MAX_CREDIT)

    @property
    def batch_s(self) -> float:
        """Seconds of a batch, in a worker."""
        return 1e-3 * self.batch_ms

    @property
    def step_s(self) -> float:
        """Seconds of a training step."""
        return 1e-3 * self.step_ms

    @property
    def record_s(self) -> float:
        """Seconds of the trainer's interpreter for any batch."""
        return 1e-6 * self.record_us

    @property
    def relay_s(self) -> float:
        """Seconds of the trainer's interpreter more for a batch from another node."""
        return 1e-6 * self.relay_us

    @property
    def latency_s(self) -> float:
        """Seconds from node to node."""
        return 1e-6 * self.latency_us

    @property
    def link_s(self) -> float:
        """Seconds that a batch takes on a link."""
        return self.batch_mb * 8e-3 / self.link_gbps

    @property
    def stream_s(self) -> float:
        """Seconds that a batch takes on one connection."""
        return self.batch_mb * 1e-3 / self.stream_gb_s

    @property
    def copy_s(self) -> float:
        """Seconds that one copy of a batch takes of a node's memory."""
        return self.batch_mb * 1e-3 / self.memory_gb_s
