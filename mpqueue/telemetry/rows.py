"""The table of metrics: their names, units and descriptions, and how each is read from statistics.

Names and units follow Prometheus' conventions: a prefix, base units (seconds, bytes), ``_total`` for counters.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from mpqueue.telemetry.recorder import START_PARTS

Values = Iterator[tuple[dict[str, str], float]]


class MonitorRow(NamedTuple):
    """One metric.

    Attributes:
        name: The name without prefix, unit, and ``_total``.
        unit: "seconds" or "bytes"; empty for a number of things.
        is_counter: The value only increases; otherwise it is a gauge.
        text: The description.
        label: Name of its label in addition to ``engine``; empty for none.
        read: Returns the values in statistics, each with the value of the label.
    """

    name: str
    unit: str
    is_counter: bool
    text: str
    label: str
    read: Callable[[Any], Values]


def _field(name: str) -> Callable[[Any], Values]:
    def read(statistics: Any) -> Values:
        if hasattr(statistics, name):
            yield {}, getattr(statistics, name)

    return read


def _of_each(records: str, label: str, name: str) -> Callable[[Any], Values]:
    def read(statistics: Any) -> Values:
        for record in getattr(statistics, records, ()):
            yield {label: str(record.number)}, getattr(record, name)

    return read


_of_workers = partial(_of_each, "workers", "worker")
_of_consumers = partial(_of_each, "consumers", "consumer")
_of_stages = partial(_of_each, "stages", "stage")
_of_caches = partial(_of_each, "caches", "cache")


def _parts(statistics: Any) -> Values:
    for name, count in getattr(statistics, "parts", {}).items():
        yield {"part": str(name)}, count


def _starts(statistics: Any) -> Values:
    if hasattr(statistics, "epoch_starts"):
        yield {}, statistics.epoch_starts.count


def _start_parts(statistics: Any) -> Values:
    if hasattr(statistics, "epoch_starts"):
        for name in START_PARTS:
            yield {"part": name}, getattr(statistics.epoch_starts, f"{name}_s")


def _copies(statistics: Any) -> Values:
    for reason in ("asked", "held", "moved"):
        if hasattr(statistics, f"copies_{reason}"):
            yield {"reason": reason}, getattr(statistics, f"copies_{reason}")


ROWS = (
    MonitorRow("batches", "", True, "Batches delivered", "", _field("batches")),
    MonitorRow("read", "bytes", True, "Bytes written to the ring, or read by a consumer", "", _field("bytes")),
    MonitorRow(
        "elapsed", "seconds", False, "Time since the workers started, or the consumer attached", "", _field("elapsed_s")
    ),
    MonitorRow("wait", "seconds", True, "Time that the consumer spent waiting for batches", "", _field("wait_s")),
    MonitorRow("epoch_starts", "", True, "Starts of epochs", "", _starts),
    MonitorRow("epoch_start", "seconds", True, "Time at the starts of epochs, by part", "part", _start_parts),
    MonitorRow(
        "compute", "seconds", True, "Time that a worker spent in the source", "worker", _of_workers("compute_s")
    ),
    MonitorRow("copy", "seconds", True, "Time that a worker spent writing batches", "worker", _of_workers("copy_s")),
    MonitorRow(
        "idle", "seconds", True, "Time that a worker spent waiting for work", "worker", _of_workers("credit_wait_s")
    ),
    MonitorRow("worker_batches", "", True, "Batches that a worker computed", "worker", _of_workers("batches")),
    MonitorRow("worker_deaths", "", True, "Crashes of a worker", "worker", _of_workers("deaths")),
    MonitorRow("worker_resident", "bytes", False, "Resident memory of a worker", "worker", _of_workers("rss_bytes")),
    MonitorRow("restarts", "", True, "Workers started to replace crashed ones", "", _field("restarts")),
    MonitorRow("retries", "", True, "Batches that were computed again", "", _field("retries")),
    MonitorRow("skipped", "", True, "Samples or batches that were skipped", "", _field("skipped")),
    MonitorRow("copies", "", True, "Batches delivered as private copies, by reason", "reason", _copies),
    MonitorRow("slots", "", False, "Slots of the ring", "", _field("num_slots")),
    MonitorRow("slots_in_use", "", False, "Slots that are not free", "", _field("slots_in_use")),
    MonitorRow("ring", "bytes", False, "Memory allocated to the ring", "", _field("ring_bytes")),
    MonitorRow("stage_in", "", True, "Elements that a stage of a dataset received", "stage", _of_stages("num_in")),
    MonitorRow("stage_out", "", True, "Elements that a stage returned", "stage", _of_stages("num_out")),
    MonitorRow("stage", "seconds", True, "Time of a stage's own work", "stage", _of_stages("total_s")),
    MonitorRow("stage_wait", "seconds", True, "Part of this time spent waiting", "stage", _of_stages("wait_s")),
    MonitorRow("cache_hits", "", True, "Elements read from a cache", "cache", _of_caches("hits")),
    MonitorRow("cache_stored", "", True, "Elements stored in a cache", "cache", _of_caches("stored")),
    MonitorRow("cache_evictions", "", True, "Segments removed for a cache", "cache", _of_caches("evictions")),
    MonitorRow("cache", "bytes", False, "Size of the elements of a cache", "cache", _of_caches("size_bytes")),
    MonitorRow("samples", "", True, "Samples of a part of a mixture", "part", _parts),
    MonitorRow("consumer_batches", "", True, "Batches that a consumer took", "consumer", _of_consumers("batches")),
    MonitorRow("consumer_wait", "seconds", True, "Time that a consumer waited", "consumer", _of_consumers("wait_s")),
    MonitorRow("consumer_behind", "", False, "Batches assigned and not yet taken", "consumer", _of_consumers("behind")),
)
# Rates and shares, which are properties of statistics.
_SHARES = ("wait_share", "epoch_start_share", "compute_share", "copy_share", "credit_wait_share")
DERIVED = ("batches_per_s", "bytes_per_s", *_SHARES)
TIMES = {
    "wait": "Time that the consumer spent waiting for a batch",
    "seed": "Time to seed random generators for a batch",
    "compute": "Time of a batch in the source",
    "blocked": "Part of this time spent waiting for a disk, the network or a lock",
    "collate": "Time to collate samples into a batch",
    "copy": "Time to write a batch to the ring",
    "lease": "Time from the delivery of a batch until its last view is dropped",
}
