"""The base classes of all statistics: their differences, rates, and form for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Self

from mpqueue.telemetry.recorder import Distribution
from mpqueue.telemetry.rows import DERIVED

# Fields that describe a moment or an identity. A difference has their later values.
_OF_MEMORY = {"num_slots", "resizes", "ring_bytes", "ring_kind", "rss_bytes", "size_bytes", "worker_rss_bytes"}
_OF_PROGRESS = {"behind", "epoch", "holds_up", "leases", "offered", "slots_in_use"}
PRESENT = {"balance", "concurrency", "name", "number", "pid", "rank", *_OF_MEMORY, *_OF_PROGRESS}


class Counted:
    """Base class of statistics: differences, and a form for JSON."""

    __slots__ = ()

    def __sub__(self, earlier: Self) -> Self:
        """Return the difference of the counters. Fields that describe a moment have their later values.

        Raises:
            ValueError: ``earlier`` is later, or belongs to another start of the workers.
        """
        if getattr(self, "elapsed_s", 0.0) < getattr(earlier, "elapsed_s", 0.0):
            raise ValueError(
                "expected later minus earlier statistics between the same start and stop; the left ones are earlier, "
                "or their workers were started later"
            )
        record: Any = self
        changes: dict[str, Any] = {}
        for name in {each.name for each in fields(record)} - PRESENT:
            changes[name] = _difference(getattr(self, name), getattr(earlier, name))
        difference: Self = replace(record, **changes)
        return difference

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain data for JSON. Times have count, sum, mean and percentiles."""
        record: Any = self
        plain = {each.name: _plain(getattr(self, each.name)) for each in fields(record)}
        return plain | {name: getattr(self, name) for name in DERIVED if hasattr(self, name)}


class Rated(Counted):
    """Base class of statistics of a stream of batches: rates and the share of waiting.

    Attributes:
        batches: Number of batches that were returned.
        bytes: Their size in the ring.
        wait_s: Seconds that the consumer spent waiting for batches.
        elapsed_s: Seconds since the start of the counters.
    """

    __slots__ = ()
    batches: int
    bytes: int
    wait_s: float
    elapsed_s: float

    @property
    def batches_per_s(self) -> float:
        """Batches per second."""
        return ratio(self.batches, self.elapsed_s)

    @property
    def bytes_per_s(self) -> float:
        """Bytes of batches per second."""
        return ratio(self.bytes, self.elapsed_s)

    @property
    def wait_share(self) -> float:
        """Share of the time that the consumer spent waiting for batches."""
        return min(1.0, ratio(self.wait_s, self.elapsed_s))

    def _repr_html_(self) -> str:
        import html  # only notebooks need it

        # The `repr` has all fields, which is too long for the value of a cell.
        return f"<p>{html.escape(str(self))}</p>"


def _difference(later: Any, before: Any) -> Any:
    if isinstance(later, tuple):
        return _matched(later, before)
    if isinstance(later, Mapping):
        return {name: count - before.get(name, 0) for name, count in later.items()}
    return later - before


def _matched(later: Sequence[Any], earlier: Sequence[Any]) -> tuple[Any, ...]:
    before = {record.number: record for record in earlier}
    return tuple(record - before[record.number] if record.number in before else record for record in later)


def _plain(value: Any) -> Any:
    if isinstance(value, Distribution):
        names = ("count", "total_s", "mean_s", "p50_s", "p95_s", "p99_s")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Counted):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def ratio(amount: float, total: float) -> float:
    """Return a share or a rate; 0 if the total is 0."""
    return amount / total if total > 0 else 0.0
