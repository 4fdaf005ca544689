"""The sentence about the bottleneck: one case for each remedy."""

from dataclasses import replace

import pytest

from mpqueue.service.serving.reports import ServedConsumer, ServerStatistics
from mpqueue.telemetry import verdict
from mpqueue.telemetry.recorder import Histogram
from mpqueue.telemetry.stats import ConsumerStatistics, EpochStarts, NodeStatistics, Statistics
from mpqueue.telemetry.worker_stats import Times, WorkerStatistics


def times(*seconds, count=1):
    histogram = Histogram()
    for second in seconds:
        histogram.add(int(second * 1e9), count)
    return histogram.snapshot()


WORKERS = (WorkerStatistics(0), WorkerStatistics(1))
FOUR_WORKERS = tuple(map(WorkerStatistics, range(4)))
WAITS = Times(compute=times(0.02, count=100), blocked=times(0.019, count=100))
RUN = Statistics(
    batches=100, bytes=10**8, elapsed_s=10.0, wait_s=6.0, compute_s=19.0, ring_kind="memfd", workers=WORKERS,
    times=Times(compute=times(0.19, count=100)),
)  # fmt: skip


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch):
    monkeypatch.setattr(verdict, "num_cpus", lambda: 4)


def changed(**changes):
    return replace(RUN, **changes)


CASES = {
    "more workers": (RUN, "the consumer waited 60 % of the time: the workers are the bottleneck; use more than"),
    "no more CPUs": (changed(workers=FOUR_WORKERS), "make the source cheaper"),
    "on a cluster": (
        changed(nodes=(NodeStatistics("a", "10.0.0.1", 1), NodeStatistics("b", "10.0.0.2", 1))),
        "the workers are the bottleneck; use more than 2 workers if 2 nodes have enough CPUs, or more nodes",
    ),
    "consumer": (changed(wait_s=0.2), "more or faster workers would not help"),
    "hoarder": (changed(wait_s=0.2, copies=40, copies_held=40), "40 % of its batches were private copies"),
    "uneven": (
        changed(credit_wait_s=10.0, times=Times(compute=times(*[0.01] * 98, 5.0, 5.0))),
        "single slow batches delay it",
    ),
    "one slow batch of a few": (
        changed(credit_wait_s=10.0, times=Times(compute=times(5.0, *[0.01] * 20))), "increase max_queue_size"
    ),
    "little under way": (changed(credit_wait_s=10.0), "increase max_queue_size"),
    "copy": (
        changed(times=Times(compute=times(0.01, count=100), copy=times(0.17, count=100))), "mpqueue.empty()"
    ),
    "collate": (changed(times=Times(compute=times(1.0, count=100), collate=times(0.7, count=100))), "__getitems__"),
    "waiting source": (
        changed(workers=FOUR_WORKERS, times=WAITS),
        "(disk, network, locks), and waiting workers need no CPU; use more than 4 workers",
    ),
    "waiting source on a cluster": (
        changed(nodes=(NodeStatistics("a", "10.0.0.1", 1),), times=WAITS),
        "waiting workers need no CPU; use more than 2 workers",
    ),
    "waiting source of one worker": (
        changed(workers=WORKERS[:1], compute_s=9.0, times=WAITS),
        "use more than 1 worker, or threads=16 in each",
    ),
    "source that waits a little": (
        changed(times=Times(compute=times(0.02, count=100), blocked=times(0.005, count=100))), "use more than"
    ),
    "seed": (changed(times=Times(compute=times(1.0, count=100), seed=times(0.5, count=100))), "mpqueue.rng()"),
    "a slow first seeding": (
        changed(times=Times(compute=times(9.0, *[0.01] * 99), seed=times(8.0, *[0.0] * 99))), "use more than"
    ),
    "few batches": (changed(batches=9), "too early to find the bottleneck; try again after 10 batches"),
    "a moment": (changed(elapsed_s=0.4, wait_s=0.3), "too early to find the bottleneck"),
    "few batches, and crashes": (changed(batches=2, deaths=1), "1 worker crashed"),
    "no workers": (changed(ring_kind="", workers=(WorkerStatistics(0),)), "computes the batches itself; use workers"),
    "threads": (changed(ring_kind="", credit_wait_s=0.1), "Python runs one thread at a time; use processes."),
    "waiting source in threads": (
        changed(ring_kind="", credit_wait_s=0.1, times=WAITS),
        "waiting workers need no CPU; use more than 2 workers, or coroutines (async def), or read",
    ),
    "deaths": (changed(deaths=2), "2 workers crashed"),
    "slow starts": (
        changed(wait_s=0.2, epoch_starts=EpochStarts(20, compare_s=5.0, order_s=1.0)),
        "s; epochs start slowly, in 6 s of 10 s (20 starts), mostly because of comparing the source with the workers' copy",
    ),
    "slow starts of threads": (
        changed(wait_s=0.2, epoch_starts=EpochStarts(1, hook_s=2.0)), "(1 start), mostly because of on_epoch_end; move"
    ),
    "slow workers, and slow starts": (
        changed(epoch_starts=EpochStarts(20, restart_s=2.0)),
        "the workers are the bottleneck; use more than 2 workers (there are 4 CPUs); in addition, epochs start slowly",
    ),
    "fast starts": (changed(epoch_starts=EpochStarts(20, ahead_s=9.0, launch_s=9.0, hook_s=0.9)), "the workers are"),
    "nothing yet": (changed(batches=0), "no batches yet"),
}  # fmt: skip


@pytest.mark.sample(7)
@pytest.mark.parametrize(("found", "text"), CASES.values(), ids=CASES)
def test_verdict_has_remedy(found, text):
    assert text in str(found)


@pytest.mark.parametrize(("wait_s", "text"), [(5.0, "the server is the bottleneck"), (0.1, "it is the bottleneck")])
def test_verdict_of_consumer_names_slow_side(wait_s, text):
    assert text in str(ConsumerStatistics(batches=10, elapsed_s=10.0, wait_s=wait_s))


def served(number, *, wait_s, holds_up=False):
    return ServedConsumer(number, 100 + number, None, 0, 10, 10, wait_s, 0, 0, 0, 0, holds_up, 10.0)


def test_verdict_of_server_names_slow_consumer():
    consumers = served(1, wait_s=8.0), served(2, wait_s=0.0, holds_up=True)
    found = ServerStatistics(batches=100, elapsed_s=10.0, consumers=consumers)
    assert "the others wait for consumer 2 (process 102)" in str(found)


@pytest.mark.parametrize(
    ("wait_s", "text"), [(6.0, "the workers are the bottleneck"), (0.1, "they are the bottleneck")]
)
def test_verdict_of_server_names_slow_side(wait_s, text):
    options = {"workers": WORKERS, "ring_kind": "memfd", "consumers": (served(1, wait_s=wait_s),)}
    assert text in str(ServerStatistics(batches=100, elapsed_s=10.0, compute_s=19.0, **options))


@pytest.mark.parametrize("kind", [ConsumerStatistics, ServerStatistics])
def test_few_batches_have_no_verdict(kind):
    consumers = {"consumers": (served(1, wait_s=0.5),)} if kind is ServerStatistics else {}
    assert "too early to find" in str(kind(batches=3, elapsed_s=1.0, wait_s=0.5, **consumers))


def test_verdict_of_server_without_consumers():
    assert "no consumer is attached" in str(ServerStatistics(batches=10, elapsed_s=1.0))
