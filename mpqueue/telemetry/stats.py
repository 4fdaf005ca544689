"""Statistics of an engine and of a consumer, by which a user finds the bottleneck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from mpqueue.telemetry import table, verdict
from mpqueue.telemetry.recorder import NO_TIMES, Distribution, Recorder
from mpqueue.telemetry.rows import DERIVED

# Fields that tell of a moment, or of whom they are: a difference has the later ones.
_PRESENT = {
    "behind", "epoch", "holds_up", "leases", "name", "num_slots", "number", "offered", "pid", "rank", "resizes",
    "ring_bytes", "ring_kind", "rss_bytes", "slots_in_use", "worker_rss_bytes",
}  # fmt: skip
_NOTHING: Mapping[int, int] = {}


class Counted:
    """Base class of statistics: differences, and a form for JSON."""

    __slots__ = ()

    def __sub__(self, earlier: Self) -> Self:
        """Return what has been counted since; what tells of a moment is as it was at the later one.

        Raises:
            ValueError: The other is the later one, or of another stream.
        """
        if getattr(self, "elapsed_s", 0.0) < getattr(earlier, "elapsed_s", 0.0):
            raise ValueError(
                "the statistics on the left are of an earlier moment than those on the right, or of workers that were "
                "started later: subtract what was taken earlier, between the same start and stop"
            )
        record: Any = self
        changes: dict[str, Any] = {}
        for name in (field.name for field in fields(record) if field.name not in _PRESENT):
            later, before = getattr(self, name), getattr(earlier, name)
            changes[name] = _matched(later, before) if isinstance(later, tuple) else later - before
        return replace(record, **changes)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, numbers and text, for JSON: times by count, sum, mean and percentiles."""
        record: Any = self
        plain = {field.name: _plain(getattr(self, field.name)) for field in fields(record)}
        return plain | {name: getattr(self, name) for name in DERIVED if hasattr(self, name)}


class Rated(Counted):
    """Base class of statistics of a stream of batches: rates and the share of waiting.

    Attributes:
        batches: Handed out, or taken.
        bytes: Of these, in the ring.
        wait_s: Seconds for which the consumer waited for them.
        elapsed_s: Seconds for which it is counted.
    """

    __slots__ = ()
    batches: int
    bytes: int
    wait_s: float
    elapsed_s: float

    @property
    def batches_per_s(self) -> float:
        """Batches per second."""
        return _ratio(self.batches, self.elapsed_s)

    @property
    def bytes_per_s(self) -> float:
        """Bytes of batches per second."""
        return _ratio(self.bytes, self.elapsed_s)

    @property
    def wait_share(self) -> float:
        """The time that the consumer waited for batches, as a share of all."""
        return min(1.0, _ratio(self.wait_s, self.elapsed_s))


def _matched(later: Sequence[Any], earlier: Sequence[Any]) -> tuple[Any, ...]:
    before = {record.number: record for record in earlier}
    return tuple(record - before[record.number] if record.number in before else record for record in later)


def _plain(value: Any) -> Any:
    if isinstance(value, Distribution):
        names = ("count", "total_s", "mean_s", "p50_s", "p95_s", "p99_s")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Counted):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Times(Counted):
    """The times of single batches, each a `Distribution` with ``p50_s``, ``p95_s``, ``p99_s`` and more.

    Attributes:
        wait: For how long the consumer waited for a batch; of a worker: for how long it waited for work.
        seed: Seeding of random generators (no time if nothing was drawn from them).
        compute: In the source, seed and collate included; with ``threads``, the sum over all threads.
        blocked: Of that, waiting for anything but a CPU: a disk, the network, a lock, a sleep. Looked at ten times a
            second in a worker process whose batches take a millisecond or more, on Linux; of no batch elsewhere.
        collate: Making a batch of samples.
        copy: Writing the batch into the ring.
        lease: From a batch's handing out to the end of its last view.
    """

    wait: Distribution = NO_TIMES
    seed: Distribution = NO_TIMES
    compute: Distribution = NO_TIMES
    blocked: Distribution = NO_TIMES
    collate: Distribution = NO_TIMES
    copy: Distribution = NO_TIMES
    lease: Distribution = NO_TIMES


_NO_TIMES = Times()
_IN_WORKER = ("seed", "compute", "blocked", "collate", "copy")  # of `Times`, what workers spend on a batch


@dataclass(frozen=True)
class WorkerStatistics(Counted):
    """Counters of one worker: of all processes or threads that bore its number.

    Attributes:
        number: From 0.
        pid: Of its process; None: it is a thread, or on another machine, or it has ended.
        batches: Batches that it has computed.
        bytes: Their bytes in the ring.
        compute_s: Seconds in the source,
        copy_s: in writing batches into the ring,
        credit_wait_s: and in waiting for work.
        deaths: How often it died.
        rss_bytes: Resident memory of its process, the shared pages that it touched included.
        times: Of single batches.
    """

    number: int
    pid: int | None = None
    batches: int = 0
    bytes: int = 0
    compute_s: float = 0.0
    copy_s: float = 0.0
    credit_wait_s: float = 0.0
    deaths: int = 0
    rss_bytes: int = 0
    times: Times = _NO_TIMES


@dataclass(frozen=True)
class NodeStatistics(Counted):
    """Counters of one machine of a cluster since the start, and its present state.

    Attributes:
        node: Its id, as Ray has it.
        address: Its IP address.
        workers: Workers that are on it.
        batches: Batches that came from it.
        bytes: Their bytes.
        deaths: Workers that died on it, or with it.
    """

    node: str
    address: str
    workers: int = 0
    batches: int = 0
    bytes: int = 0
    deaths: int = 0

    @property
    def number(self) -> str:
        """Name of the node, by which a difference finds the earlier one."""
        return self.node

    def __sub__(self, earlier: Self) -> Self:
        """Return what has been counted since."""
        counted = {name: getattr(self, name) - getattr(earlier, name) for name in ("batches", "bytes", "deaths")}
        return replace(self, **counted)


@dataclass(frozen=True)
class StageStatistics(Counted):
    """Counters of one stage of a `mpqueue.Dataset`, in all lanes and workers together.

    Some stages have rows of another kind beside their own, of no seconds: of `pack` and `bucket` ``places padded`` (of
    ``num_in`` places), ``samples cut`` and ``samples left out`` (of ``num_in`` samples).

    Attributes:
        name: Its number and its line in the ``repr`` of the dataset.
        num_in: Elements that it has taken,
        num_out: and that it has given.
        total_s: Seconds of its own work, that of the stages before it left out,
        wait_s: and of them those in which its thread had no CPU: it waited, or the CPUs were busy. (It is looked at now
            and then.)
    """

    name: str
    num_in: int = 0
    num_out: int = 0
    total_s: float = 0.0
    wait_s: float = 0.0

    @property
    def number(self) -> str:
        """Its name, by which a difference finds the earlier one."""
        return self.name


@dataclass(frozen=True)
class Resize(Counted):
    """A change of the number of workers by ``workers="auto"``, or of threads in each by ``threads="auto"``.

    Attributes:
        at_s: When, in seconds from the start.
        workers: How many are wanted from then on,
        threads: and how many threads in each.
        reason: Why.
    """

    at_s: float
    workers: int
    threads: int
    reason: str


@dataclass(frozen=True)
class Statistics(Rated):
    """Counters since the start, and the present state.

    ``str()`` of it says in one sentence what the bottleneck is and what to do. ``later - earlier`` is what happened
    between two moments. If ``wait_share`` is large, the workers are the bottleneck: use more of them, or make the
    source cheaper. If it is small, the consumer is.

    Attributes:
        batches: Batches handed out.
        bytes: Bytes that the workers wrote into the ring.
        wait_s: Seconds that the consumer waited for batches.
        compute_s: Seconds that workers spent in the source, all together. A worker with several threads counts once.
        copy_s: Seconds that they spent writing batches into the ring.
        credit_wait_s: Seconds that they waited for work.
        slots_in_use: Slots that are not free.
        num_slots: Slots of the ring.
        skipped: Samples (or batches) that were left out because the source raised for them.
        copies: Batches handed out as private copies; the next three say why.
        copies_asked: ``copy=True`` asked for them.
        copies_held: The consumer kept so many batches that workers would have run out of slots.
        copies_moved: Memory was short, and finished batches were moved out of the ring.
        retries: Batches that were granted again because a worker died or memory was short.
        deaths: Workers that died.
        restarts: Workers that were started in their place.
        ring_bytes: Memory behind the ring.
        ring_kind: Where it lies: "shm" (in /dev/shm), "memfd" or "file"; empty without processes.
        worker_rss_bytes: Resident memory of each worker process on this machine, the shared pages that it touched
            included.
        elapsed_s: Seconds since the workers ran; after a `stop`, until then.
        times: Of single batches: how long each was waited for, computed, copied, kept.
        workers: Counters of each worker; without workers, of the caller.
        nodes: The machines of a cluster that have, or had, workers; empty without ``backend="ray"``.
        stages: The stages of a `mpqueue.Dataset`, those that a stage reads before it; of more than 256 stages, the rest
            in one row, "other stages". Of a stream as of the last
            snapshot of each lane, or its end. Of an indexed dataset as of the last batch of each worker that was timed,
            which stands for those since the one before. Empty for other sources.
        resizes: With ``workers="auto"`` or ``threads="auto"``: how many there were from when on, and why; else empty.
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
    times: Times = _NO_TIMES
    workers: tuple[WorkerStatistics, ...] = ()
    nodes: tuple[NodeStatistics, ...] = ()
    stages: tuple[StageStatistics, ...] = ()
    resizes: tuple[Resize, ...] = ()

    @property
    def compute_share(self) -> float:
        """The workers' time in the source, as a share of all."""
        return self._share(self.compute_s)

    @property
    def copy_share(self) -> float:
        """The workers' time in writing batches, as a share of all."""
        return self._share(self.copy_s)

    @property
    def credit_wait_share(self) -> float:
        """The workers' time in waiting for work, as a share of all."""
        return self._share(self.credit_wait_s)

    def _share(self, seconds: float) -> float:
        return min(1.0, _ratio(seconds, self.elapsed_s * len(self.workers)))

    def __str__(self) -> str:
        return verdict.of_engine(self)

    def _repr_html_(self) -> str:
        return table.of_engine(self, str(self))


@dataclass(frozen=True)
class ConsumerStatistics(Rated):
    """Counters of one consumer of a server since it attached, and its present state.

    If ``wait_share`` is large, the server is the bottleneck; else this consumer is.

    Attributes:
        batches: Batches handed out.
        bytes: Their bytes in the ring.
        wait_s: Seconds that the consumer waited for batches.
        skipped: Samples (or batches) that were left out because the source raised for them; and batches that it has
            missed because it was slow (``slow="skip"``), as the server tells ahead of the next batch, or of the end.
        copies: Batches handed out as private copies.
        slots_in_use: Slots of the ring that the consumer has views of.
        offered: Batches that the server has offered, and that were not handed out yet.
        reconnects: Servers that came in the place of one that died.
        elapsed_s: Seconds since it attached; after a `close`, until then.
        times: Of single batches: how long each was waited for, and kept.
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
    times: Times = _NO_TIMES

    def __str__(self) -> str:
        return verdict.of_consumer(self)

    def _repr_html_(self) -> str:
        return table.of_consumer(self, str(self))


def workers_of(
    recorder: Recorder, pids: Mapping[int, int] = _NOTHING, rss_bytes: Mapping[int, int] = _NOTHING
) -> tuple[WorkerStatistics, ...]:
    """Return the counters of each worker; ``pids`` and ``rss_bytes`` are those of its process, by its number."""
    return tuple(
        WorkerStatistics(
            number,
            pids.get(number),
            tally.batches,
            tally.num_bytes,
            tally.compute_ns / 1e9,
            tally.copy_ns / 1e9,
            tally.wait_ns / 1e9,
            tally.deaths,
            rss_bytes.get(number, 0),
            Times(**{name: getattr(tally, name).snapshot() for name in ("wait", *_IN_WORKER)}),
        )
        for number, tally in enumerate(recorder.workers)
    )


def stages_of(recorder: Recorder) -> tuple[StageStatistics, ...]:
    """Return the counters of each stage of a dataset."""
    return tuple(
        StageStatistics(name, num_in, num_out, ns / 1e9, waiting_ns / 1e9)
        for name, num_in, num_out, ns, waiting_ns in recorder.stages.rows()
    )


def summed(workers: Sequence[WorkerStatistics]) -> Statistics:
    """Return the statistics of a stream with these workers, as far as they tell."""
    total = Statistics(
        bytes=sum(worker.bytes for worker in workers),
        compute_s=sum(worker.compute_s for worker in workers),
        copy_s=sum(worker.copy_s for worker in workers),
        credit_wait_s=sum(worker.credit_wait_s for worker in workers),
        workers=tuple(workers),
    )
    times = {name: sum((getattr(worker.times, name) for worker in workers), NO_TIMES) for name in _IN_WORKER}
    return replace(total, times=Times(**times))


def _ratio(amount: float, total: float) -> float:
    return amount / total if total > 0 else 0.0
