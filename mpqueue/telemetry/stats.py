"""Statistics of loaders, enqueuers, servers and consumers, to find the bottleneck."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from mpqueue.telemetry import verdict
from mpqueue.telemetry.counted import Counted, Rated, ratio
from mpqueue.telemetry.recorder import NO_TIMES, Recorder
from mpqueue.telemetry.worker_stats import IN_WORKER, NO_BATCHES, Times, WorkerStatistics, WorkerTally

_NOTHING: Mapping[int, int] = {}


@dataclass(frozen=True)
class NodeStatistics(Counted):
    """Counters of one machine of a cluster since the start, and its present state.

    Attributes:
        node: Ray's id of the node.
        address: IP address.
        workers: Workers that run on it.
        batches: Batches from these workers.
        bytes: Their size.
        deaths: Crashes of workers on this node, or with it.
    """

    node: str
    address: str
    workers: int = 0
    batches: int = 0
    bytes: int = 0
    deaths: int = 0

    @property
    def number(self) -> str:
        """Name of the node; a difference matches nodes by it."""
        return self.node

    def __sub__(self, earlier: Self) -> Self:
        """Return the difference of the counters."""
        counted = {name: getattr(self, name) - getattr(earlier, name) for name in ("batches", "bytes", "deaths")}
        return replace(self, **counted)


@dataclass(frozen=True)
class StageStatistics(Counted):
    """Counters of one stage of a `mpqueue.Dataset`, over all virtual shards and workers.

    `pack` and `bucket` have additional rows without times: ``positions padded`` (of ``num_in`` positions), ``samples
    cut`` and ``samples left out`` (of ``num_in`` samples).

    Attributes:
        name: Index of the stage, and its line in the ``repr`` of the dataset.
        num_in: Elements from its input.
        num_out: Elements in its output.
        total_s: Seconds of this stage, without the stages before it.
        wait_s: The part of ``total_s`` without a CPU, because it waited or the CPUs were busy. It is sampled.
    """

    name: str
    num_in: int = 0
    num_out: int = 0
    total_s: float = 0.0
    wait_s: float = 0.0

    @property
    def number(self) -> str:
        """Name of the stage; a difference matches stages by it."""
        return self.name


@dataclass(frozen=True)
class CacheStatistics(Counted):
    """Counters of a cache since it was created, over all processes of the host that have used it.

    Attributes:
        name: Index of the stage, or name of the method, and the folder.
        hits: Elements that were read from the cache.
        stored: Elements that were stored in it.
        evictions: Segments of other caches that were removed to make room for it.
        size_bytes: Size of its elements.
    """

    name: str
    hits: int = 0
    stored: int = 0
    evictions: int = 0
    size_bytes: int = 0

    @property
    def number(self) -> str:
        """Name of the cache; a difference matches caches by it."""
        return self.name


@dataclass(frozen=True)
class EpochStarts(Counted):
    """Times at the starts of epochs, before the workers get the work of the first batch.

    `exclude`, `seek` and `set_weights` in the middle of an epoch count as well.

    Attributes:
        count: Number of starts.
        hook_s: Seconds in ``on_epoch_end``.
        compare_s: Seconds for comparing the source with the copy in the workers.
        send_s: Seconds for sending a source that has changed.
        restart_s: Seconds for restarting workers, because they cannot receive the change.
        order_s: All other seconds, such as for the order of the samples, a sampler, or a wait for ``ahead_s``.
        ahead_s: Seconds of ends of epochs that ran in a thread, while the program did something else.
        launch_s: Seconds for starting the workers, before ``elapsed_s`` of `Statistics` begins.
    """

    count: int = 0
    hook_s: float = 0.0
    compare_s: float = 0.0
    send_s: float = 0.0
    restart_s: float = 0.0
    order_s: float = 0.0
    ahead_s: float = 0.0
    launch_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds that the program was delayed, without ``ahead_s`` and ``launch_s``."""
        return self.hook_s + self.compare_s + self.send_s + self.restart_s + self.order_s


_NO_STARTS = EpochStarts()


@dataclass(frozen=True)
class Resize(Counted):
    """A change of the number of workers by ``workers="auto"``.

    Attributes:
        at_s: Seconds after the start.
        workers: New number of workers.
        reason: Reason for the change.
    """

    at_s: float
    workers: int
    reason: str


@dataclass(frozen=True)
class Statistics(Rated):
    """Counters since the start of the workers, and their present state.

    ``str()`` describes the bottleneck and the remedy in a sentence. ``later - earlier`` has the changes between two
    moments. If ``wait_share`` is large, the workers are the bottleneck: use more workers, or make the source cheaper.
    If it is small, the consumer is the bottleneck.

    Attributes:
        batches: Batches that were returned.
        bytes: Bytes that the workers wrote into the ring.
        wait_s: Seconds that the consumer spent waiting for batches.
        compute_s: Seconds in the source, over all workers. A worker with several threads counts once.
        copy_s: Seconds for writing batches into the ring.
        credit_wait_s: Seconds that workers spent waiting for work.
        slots_in_use: Slots that are not free.
        num_slots: Slots of the ring.
        skipped: Samples (or batches) that were skipped because the source raised for them.
        copies: Batches that were returned as private copies; the next three fields are the reasons.
        copies_asked: Copies because of ``copy=True``.
        copies_held: Copies because the consumer kept too many batches, and workers needed free slots.
        copies_moved: Copies because memory was short, and finished batches were moved out of the ring.
        retries: Batches that were computed again because a worker crashed or memory was short.
        deaths: Crashes of workers.
        restarts: Workers that were restarted.
        ring_bytes: Memory of the ring.
        ring_kind: Kind of this memory: "shm" (in /dev/shm), "memfd" or "file"; empty without processes.
        worker_rss_bytes: Resident memory of each worker process on this machine, including shared pages that it has
            used.
        elapsed_s: Seconds since the start of the workers, until `stop`.
        times: Times of single batches.
        workers: Counters of each worker; without workers, of the caller.
        nodes: The machines of a cluster with workers; empty without ``backend="ray"``.
        stages: The stages of a `mpqueue.Dataset`, each after its inputs; stages after the first 256 are one row, "other
            stages". A stream is counted up to the last snapshot of each virtual shard, or to the end. An indexed
            dataset is counted up to the last timed batch of each worker, which represents those since the one before.
            Empty for other sources.
        caches: The caches of a `mpqueue.Dataset`, or of a source with `mpqueue.cached` methods.
        parts: For a dataset with `Dataset.mix`, the number of samples from each part in the returned batches, by name.
            The name of a part of a list is its index. With several mixes, the index of the stage precedes the name.
            Parts after the first 256 are counted together, as "other parts".
        resizes: The changes by ``workers="auto"``; otherwise empty.
        epoch_starts: The times at the starts of epochs, an `EpochStarts`. They are not part of ``wait_s``.
        concurrency: Number of samples in flight per worker, for an asynchronous source; otherwise 0.
        balance: With a `mpqueue.Balance`: the mean of (max / mean) of the ranks' costs over the steps of the epoch so
            far, before and after the division. 1 is equal work; at 1.3, the slowest rank works 30 % longer than the
            average. None without a balance.
    """

    slots_in_use: int = 0
    num_slots: int = 0
    copies: int = 0
    copies_asked: int = 0
    copies_held: int = 0
    copies_moved: int = 0
    ring_bytes: int = 0
    ring_kind: str = ""
    worker_rss_bytes: tuple[int, ...] = ()
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
    elapsed_s: float = 0.0
    times: Times = NO_BATCHES
    workers: tuple[WorkerStatistics, ...] = ()
    nodes: tuple[NodeStatistics, ...] = ()
    stages: tuple[StageStatistics, ...] = ()
    caches: tuple[CacheStatistics, ...] = ()
    parts: Mapping[str | int, int] = field(default_factory=dict, hash=False)
    resizes: tuple[Resize, ...] = ()
    epoch_starts: EpochStarts = _NO_STARTS
    concurrency: int = 0
    balance: tuple[float, float] | Any = None  # Any: a program that passed a balance need not test for None

    @property
    def epoch_start_share(self) -> float:
        """Share of the time at the starts of epochs."""
        return min(1.0, ratio(self.epoch_starts.total_s, self.elapsed_s))

    @property
    def compute_share(self) -> float:
        """Share of the workers' time in the source."""
        return self._share(self.compute_s)

    @property
    def copy_share(self) -> float:
        """Share of the workers' time for writing batches."""
        return self._share(self.copy_s)

    @property
    def credit_wait_share(self) -> float:
        """Share of the workers' time that they wait for work."""
        return self._share(self.credit_wait_s)

    def _share(self, seconds: float) -> float:
        return min(1.0, ratio(seconds, self.elapsed_s * len(self.workers)))

    def __str__(self) -> str:
        return verdict.sentence(self, verdict.of_engine)


@dataclass(frozen=True)
class ConsumerStatistics(Rated):
    """Counters of one consumer of a server since it attached, and its present state.

    If ``wait_share`` is large, the server is the bottleneck; otherwise this consumer is.

    Attributes:
        batches: Batches that were returned.
        bytes: Their size in the ring.
        wait_s: Seconds that the consumer spent waiting for batches.
        skipped: Samples (or batches) that were skipped because the source raised for them, and batches that the
            consumer missed because it was slow (``slow="skip"``). The server reports these with the next batch.
        copies: Batches that were returned as private copies.
        slots_in_use: Slots of the ring with views of this consumer.
        offered: Batches that the server has offered, and that were not returned yet.
        reconnects: Number of times that the consumer attached to a restarted server.
        elapsed_s: Seconds since it attached, until `close`.
        times: Times of single batches.
    """

    batches: int = 0
    bytes: int = 0
    wait_s: float = 0.0
    skipped: int = 0
    copies: int = 0
    slots_in_use: int = 0
    offered: int = 0
    reconnects: int = 0
    elapsed_s: float = 0.0
    times: Times = NO_BATCHES

    def __str__(self) -> str:
        return verdict.sentence(self, verdict.of_consumer)


def statistics_of(
    recorder: Recorder,
    tallies: Iterable[WorkerTally],
    pids: Mapping[int, int] = _NOTHING,
    rss_bytes: Mapping[int, int] = _NOTHING,
) -> Statistics:
    """Return the counters of a stream, except for the counters of its pipeline and its ring.

    Args:
        recorder: The counters and times.
        tallies: The counters of the workers, by index.
        pids: The process ids of workers, by index.
        rss_bytes: The resident memory of these processes.
    """
    workers = tuple(
        tally.statistics(index, pids.get(index), rss_bytes.get(index, 0)) for index, tally in enumerate(tallies)
    )
    times = {name: sum((getattr(worker.times, name) for worker in workers), NO_TIMES) for name in IN_WORKER}
    return Statistics(
        bytes=sum(worker.bytes for worker in workers),
        compute_s=sum(worker.compute_s for worker in workers),
        copy_s=sum(worker.copy_s for worker in workers),
        credit_wait_s=sum(worker.credit_wait_s for worker in workers),
        wait_s=recorder.waited_ns / 1e9,
        elapsed_s=recorder.elapsed_s,
        times=Times(**times, lease=recorder.leases.snapshot()),
        workers=workers,
        concurrency=recorder.concurrency,
        stages=tuple(
            StageStatistics(name, num_in, num_out, ns / 1e9, waiting_ns / 1e9)
            for name, num_in, num_out, ns, waiting_ns in recorder.stages.rows()
        ),
        caches=tuple(
            CacheStatistics(name, *counts)
            for name, use in recorder.caches.items()
            if (counts := use.counts()) is not None
        ),
        epoch_starts=EpochStarts(
            recorder.starts.count, **{f"{name}_s": ns / 1e9 for name, ns in recorder.starts.parts_ns.items()}
        ),
    )
