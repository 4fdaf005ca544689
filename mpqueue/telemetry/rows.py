"""The table of metrics: their names, units and texts, and how each is read off statistics.

Names and units follow Prometheus' conventions: a prefix, base units (seconds, bytes), ``_total`` for what only grows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

Values = Iterator[tuple[dict[str, str], float]]


class MonitorRow(NamedTuple):
    """One metric.

    Attributes:
        name: Without the prefix, the unit, and ``_total``.
        unit: "seconds", "bytes", or empty: it is a number of things.
        is_counter: It only grows; else it is a gauge.
        text: The meaning.
        label: The name of its label beside ``engine``; empty: it has none.
        read: Returns the values in statistics, each with the value of the label.
    """

    name: str
    unit: str
    is_counter: bool
    text: str
    label: str
    read: Callable[[Any], Values]


def _field(name: str) -> Callable[[Any], Values]:
    def read(found: Any) -> Values:
        if hasattr(found, name):
            yield {}, getattr(found, name)

    return read


def _of_each(records: str, label: str, name: str) -> Callable[[Any], Values]:
    def read(found: Any) -> Values:
        for record in getattr(found, records, ()):
            yield {label: str(record.number)}, getattr(record, name)

    return read


_of_workers = partial(_of_each, "workers", "worker")
_of_consumers = partial(_of_each, "consumers", "consumer")
_of_stages = partial(_of_each, "stages", "stage")


def _copies(found: Any) -> Values:
    for reason in ("asked", "held", "moved"):
        if hasattr(found, f"copies_{reason}"):
            yield {"reason": reason}, getattr(found, f"copies_{reason}")


ROWS = (
    MonitorRow("batches", "", True, "Batches handed out", "", _field("batches")),
    MonitorRow("read", "bytes", True, "Bytes written into the ring, or read by a consumer", "", _field("bytes")),
    MonitorRow(
        "elapsed", "seconds", False, "Time since the workers ran, or the consumer attached", "", _field("elapsed_s")
    ),
    MonitorRow("wait", "seconds", True, "Time that the consumer waited for batches", "", _field("wait_s")),
    MonitorRow(
        "compute", "seconds", True, "Time that a worker spent in the source", "worker", _of_workers("compute_s")
    ),
    MonitorRow("copy", "seconds", True, "Time that a worker spent writing batches", "worker", _of_workers("copy_s")),
    MonitorRow("idle", "seconds", True, "Time that a worker waited for work", "worker", _of_workers("credit_wait_s")),
    MonitorRow("worker_batches", "", True, "Batches that a worker computed", "worker", _of_workers("batches")),
    MonitorRow("worker_deaths", "", True, "Deaths of a worker", "worker", _of_workers("deaths")),
    MonitorRow("worker_resident", "bytes", False, "Resident memory of a worker", "worker", _of_workers("rss_bytes")),
    MonitorRow("restarts", "", True, "Workers started in the place of dead ones", "", _field("restarts")),
    MonitorRow("retries", "", True, "Batches that were computed again", "", _field("retries")),
    MonitorRow("skipped", "", True, "Samples or batches that were left out", "", _field("skipped")),
    MonitorRow("copies", "", True, "Batches handed out as private copies, by the reason", "reason", _copies),
    MonitorRow("slots", "", False, "Slots of the ring", "", _field("num_slots")),
    MonitorRow("slots_in_use", "", False, "Slots that are not free", "", _field("slots_in_use")),
    MonitorRow("ring", "bytes", False, "Memory behind the ring", "", _field("ring_bytes")),
    MonitorRow("stage_in", "", True, "Elements that a stage of a dataset took", "stage", _of_stages("num_in")),
    MonitorRow("stage_out", "", True, "Elements that a stage gave", "stage", _of_stages("num_out")),
    MonitorRow("stage", "seconds", True, "Time of a stage's own work", "stage", _of_stages("total_s")),
    MonitorRow("stage_wait", "seconds", True, "Of that, time in which it waited", "stage", _of_stages("wait_s")),
    MonitorRow("consumer_batches", "", True, "Batches that a consumer took", "consumer", _of_consumers("batches")),
    MonitorRow("consumer_wait", "seconds", True, "Time that a consumer waited", "consumer", _of_consumers("wait_s")),
    MonitorRow("consumer_behind", "", False, "Batches given and not taken", "consumer", _of_consumers("behind")),
)
# Rates and shares, which statistics have as properties.
DERIVED = ("batches_per_s", "bytes_per_s", "wait_share", "compute_share", "copy_share", "credit_wait_share")
TIMES = {
    "wait": "Time that the consumer waited for a batch",
    "seed": "Time of seeding random generators for a batch",
    "compute": "Time of a batch in the source",
    "blocked": "Of that, time in which it waited for anything but a CPU",
    "collate": "Time of making a batch of samples",
    "copy": "Time of writing a batch into the ring",
    "lease": "Time from a batch's handing out to the end of its last view",
}
