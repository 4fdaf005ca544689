"""Statistics of an engine, by which a user finds the bottleneck."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryStatistics:
    """The part about the shared memory of worker processes; `Statistics` says what the fields mean."""

    slots_in_use: int = 0
    num_slots: int = 0
    copies: int = 0
    ring_bytes: int = 0
    ring_kind: str = ""
    worker_rss_bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Statistics(MemoryStatistics):
    """Counters since the start, and the present state.

    If ``wait_s`` is a large share of the time, the workers are the bottleneck: use more of them, or make the source
    cheaper. If ``credit_wait_s`` is, the consumer is.

    Attributes:
        batches: Batches handed out.
        bytes: Bytes that the workers wrote into the ring.
        wait_s: Seconds that the consumer waited for batches.
        compute_s: Seconds that workers spent in the source, all together.
        copy_s: Seconds that they spent writing batches into the ring.
        credit_wait_s: Seconds that they waited for work.
        slots_in_use: Slots that are not free.
        num_slots: Slots of the ring.
        skipped: Samples (or batches) that were left out because the source raised for them.
        copies: Batches handed out as private copies.
        retries: Batches that were granted again because a worker died or memory was short.
        deaths: Workers that died.
        restarts: Workers that were started in their place.
        ring_bytes: Memory behind the ring.
        ring_kind: Where it lies: "shm" (in /dev/shm), "memfd" or "file"; empty without processes.
        worker_rss_bytes: Resident memory of each worker process, the shared pages that it touched included.
    """

    batches: int = 0
    bytes: int = 0
    wait_s: float = 0.0
    compute_s: float = 0.0
    copy_s: float = 0.0
    credit_wait_s: float = 0.0
    skipped: int = 0
    retries: int = 0
    deaths: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class ConsumerStatistics:
    """Counters of one consumer of a server since it attached, and its present state.

    If ``wait_s`` is a large share of the time, the server is the bottleneck; else this consumer is.

    Attributes:
        batches: Batches handed out.
        bytes: Their bytes in the ring.
        wait_s: Seconds that the consumer waited for batches.
        skipped: Samples (or batches) that were left out because the source raised for them.
        copies: Batches handed out as private copies.
        slots_in_use: Slots of the ring that the consumer has views of.
        offered: Batches that the server has offered, and that were not handed out yet.
        reconnects: Servers that came in the place of one that died.
    """

    batches: int = 0
    bytes: int = 0
    wait_s: float = 0.0
    skipped: int = 0
    copies: int = 0
    slots_in_use: int = 0
    offered: int = 0
    reconnects: int = 0
