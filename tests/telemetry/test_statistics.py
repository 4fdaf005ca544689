"""`statistics()` of loaders, enqueuers and their workers, during a run and afterwards."""

import json
import os
import random
import time
from dataclasses import MISSING, fields
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from helpers.engine_parts import pipeline_of
from helpers.faults import Fault, StrikesAt
from helpers.slow_sources import BATCH_S, Slow

import mpqueue
from mpqueue import Loader, Statistics
from mpqueue.service.serving.reports import ServedConsumer
from mpqueue.system.processes.cpus import busy_ns, num_cpus
from mpqueue.telemetry import stages
from mpqueue.telemetry.counted import PRESENT
from mpqueue.telemetry.stage_rows import MOST_ROWS, OTHERS
from mpqueue.telemetry.stages import BlockedLooks, Stages
from mpqueue.telemetry.stats import ConsumerStatistics, EpochStarts, StageStatistics
from mpqueue.telemetry.worker_stats import WorkerStatistics

pytestmark = pytest.mark.sample(2)

KINDS = pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])


class Timed(Slow):
    """A source with items of a given duration."""

    def __init__(self, length=8, seconds=BATCH_S):
        super().__init__(length, seconds, size=1000)


class Drawing(Timed):
    """A source with items that draw from the global generators."""

    def __getitem__(self, index):
        super().__getitem__(index)
        return np.full(1000, random.random())


def statistics_of(source, **options):
    """Return the statistics after one epoch, before the loader stops."""
    with Loader(source, **options) as loader:
        for _ in loader:
            pass
        return loader.statistics()


class Epoch(NamedTuple):
    """An epoch of eight slow batches: the statistics before the loader stopped, and the loader."""

    backend: str
    workers: int
    running: Statistics
    loader: Loader


@pytest.fixture(
    scope="module", params=[("process", 2), ("thread", 2), ("process", 0)], ids=["process", "thread", "none"]
)
def epoch(request):
    backend, workers = request.param
    with Loader(Timed(), workers=workers, backend=backend) as loader:
        for _ in loader:
            pass
        running = loader.statistics()
    return Epoch(backend, workers, running, loader)


def test_each_slow_batch_is_timed(epoch):
    found = epoch.running
    assert len(found.workers) == max(1, epoch.workers)
    assert sum(worker.batches for worker in found.workers) == 8
    assert found.times.compute.count == 8
    assert found.times.compute.p50_s >= BATCH_S * 0.9
    assert found.times.compute.p50_s <= found.times.compute.p95_s <= found.times.compute.p99_s
    assert sum(worker.times.compute.count for worker in found.workers) == 8


def test_sums_of_workers_are_totals(epoch):
    found, workers = epoch.running, epoch.workers
    for name in ("bytes", "compute_s", "copy_s", "credit_wait_s"):
        assert sum(getattr(worker, name) for worker in found.workers) == pytest.approx(getattr(found, name))
    assert found.compute_s >= 8 * BATCH_S
    assert (found.credit_wait_s > 0) == (workers > 0)
    is_written = epoch.backend == "process" and workers > 0  # batches are written to the ring
    assert (found.bytes >= 8 * 8000, found.copy_s > 0, found.ring_bytes > 0) == (is_written, is_written, is_written)


def test_each_batch_has_waiting_time(epoch):
    found = epoch.running
    assert found.times.wait.count == found.batches == 8
    assert found.times.wait.total_s == pytest.approx(found.wait_s, rel=0.01)


def test_workers_have_pid_while_running(epoch):
    running = epoch.running.workers
    own = epoch.backend == "process" and epoch.workers > 0
    assert all((worker.pid not in (None, os.getpid()) and worker.rss_bytes > 0) is own for worker in running)
    assert {worker.pid for worker in epoch.loader.statistics().workers} == {None}


def test_statistics_are_constant_after_stop(epoch):
    running, kept = epoch.running, epoch.loader.statistics()
    assert kept == epoch.loader.statistics()
    assert kept.elapsed_s >= running.elapsed_s > 0
    assert (kept.batches, kept.times.compute) == (running.batches, running.times.compute)


def test_statistics_can_be_written_as_json(epoch):
    found = epoch.running
    written = json.loads(json.dumps(found.to_dict()))
    assert written["batches"] == 8
    assert written["batches_per_s"] == pytest.approx(found.batches_per_s)
    assert written["times"]["compute"]["p95_s"] == pytest.approx(found.times.compute.p95_s)
    assert written["workers"][0]["times"]["compute"]["count"] == found.workers[0].times.compute.count


def test_notebook_shows_sentence(epoch):
    assert epoch.running._repr_html_() == f"<p>{epoch.running}</p>"


def test_seeding_time_is_recorded_for_source_that_draws():
    drawn, idle = (statistics_of(source(4), workers=1, seed=1).times.seed for source in (Drawing, Timed))
    assert drawn.count == idle.count == 4
    assert idle.p50_s < drawn.p50_s / 2  # the first batch searches for generators in the source


def sleeping(value):
    time.sleep(0.01)
    return value


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "indexed"])
def test_threaded_map_counts_time_of_threads(is_stream):
    mapped, options = mpqueue.Dataset.range(64), {}
    if is_stream:
        mapped, options = mapped.filter(lambda value: value >= 0), {"lanes": 1}
    found = statistics_of(mapped.map(sleeping, threads=4).batch(8), workers=1, **options)
    (row,) = [stage for stage in found.stages if "map(" in stage.name]
    assert row.num_out >= 64
    assert row.total_s / row.num_out >= 0.95 * 0.01


def test_ready_batch_has_no_waiting_time():
    with Loader(Timed(6, 0), workers=1, max_queue_size=6) as loader:
        batches = iter(loader)
        next(batches)
        while loader.statistics().workers[0].batches < 6:
            pipeline_of(loader).num_ready  # processes reports
        list(batches)
        assert dict(loader.statistics().times.wait.buckets)[0] >= 5


def test_kept_view_is_timed_until_deleted():
    with Loader(Timed(4), workers=1) as loader:
        for batch in loader:
            time.sleep(0.02)  # the view is kept for this time
            del batch
        found = loader.statistics()
    assert found.times.lease.count == 4
    assert found.times.lease.p50_s >= 0.018


class Computing(Timed):
    """A source with items that compute on a CPU for a given time."""

    def __getitem__(self, index):
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return np.full(1000, index)


KNOWS_QUEUED = pytest.mark.skipif(busy_ns() is None, reason="time spent waiting for a CPU is unknown here")


@pytest.mark.measures
@KNOWS_QUEUED
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_sleeping_source_is_blocked(backend):
    times = statistics_of(Timed(80), workers=2 * num_cpus(), backend=backend).times
    # Not its share of the time: a sleeping worker waits for a CPU as well, while other programs use all of them.
    assert times.blocked.p50_s > 0.9 * BATCH_S


@pytest.mark.measures
@KNOWS_QUEUED
def test_computing_processes_are_not_blocked():
    """Even if more workers than CPUs compute, and on a busy machine."""
    times = statistics_of(Computing(80), workers=2 * num_cpus()).times
    assert times.blocked.p50_s < 0.5 * times.compute.p50_s


# Milliseconds that a batch took, that the process was on a CPU, and that its own thread was; the threads that computed
# when it began and when it ended; and the milliseconds in which it was blocked.
@pytest.mark.parametrize(
    ("took", "process", "thread", "busy", "blocked"),
    [
        pytest.param(200, 200, 100, (2, 2), 0, id="waits-for-the-other"),
        pytest.param(200, 200, 100, (2, 1), 0, id="other-ends-first"),
        pytest.param(200, 200, 100, (1, 2), 0, id="other-begins-later"),
        pytest.param(200, 200, 10, (1, 1), 190, id="trainer-computes"),
        pytest.param(200, 200, 10, (2, 2), 180, id="other-computes"),
        pytest.param(200, 20, 10, (2, 2), 180, id="both-sleep"),
    ],
)
def test_thread_that_waits_for_computing_ones_is_not_blocked(monkeypatch, took, process, thread, busy, blocked):
    """They hold the interpreter's lock. The kernel does not tell this time from that of other waits."""
    clocks, num_busy = {"clock_ns": 0, "busy_ns": 0, "thread_busy_ns": 0}, [busy[0]]
    for name in clocks:
        monkeypatch.setattr(stages, name, partial(clocks.__getitem__, name))
    looks = BlockedLooks(partial(num_busy.__getitem__, 0))
    for _ in range(2):  # after the first slow batch, the next one is measured
        found, num_busy[0] = Stages(), busy[0]
        with looks.at(found):
            for name, ms in zip(clocks, (took, process, thread), strict=True):
                clocks[name] += ms * 1_000_000
            num_busy[0] = busy[1]
    assert found.is_looked_at and found.blocked_ns == blocked * 1_000_000


@pytest.mark.parametrize(
    ("backend", "workers", "threads"), [("process", 2, 16), ("process", 2, 2), ("thread", 2, 16), ("process", 0, 2)]
)
def test_time_of_batch_is_sum_of_threads(backend, workers, threads):
    """Even with more threads than samples in a batch, which begin samples of later batches early."""
    options = {"workers": workers, "backend": backend, "batch_size": 4, "threads": threads}
    assert statistics_of(Timed(80, 0.01), **options).times.compute.mean_s >= 0.95 * 4 * 0.01


def test_stages_beyond_limit_share_one_row():
    """Elements of all stages are counted."""
    parts = [mpqueue.Dataset.range(1) for _ in range(2 * MOST_ROWS)]
    with Loader(mpqueue.Dataset.concatenate(*parts).batch(len(parts)), workers=0) as loader:
        assert len(list(loader)) == 1
        stages = loader.statistics().stages
    assert len(stages) == MOST_ROWS + 1
    assert stages[-1].name == OTHERS and stages[-1].num_out > 1


@pytest.mark.parametrize("collate", [None, lambda samples: np.stack(samples)], ids=["default", "own"])
@KINDS
def test_collation_time_is_recorded_for_samples(backend, workers, collate):
    found = statistics_of(Timed(8, 0.003), workers=workers, backend=backend, batch_size=2, collate=collate).times
    assert found.collate.count == 4
    assert 0 < found.collate.total_s < found.compute.total_s


def test_fast_batches_are_sampled_and_represent_all():
    found = statistics_of(Timed(3000, 0), workers=1)
    assert 0.3 * 3000 < found.times.compute.count <= 3000
    assert found.workers[0].batches == 3000


def test_rates_and_shares_are_derived_from_counters():
    found = Statistics(batches=50, bytes=1000, wait_s=5.0, elapsed_s=10.0)
    assert (found.batches_per_s, found.bytes_per_s, found.wait_share) == (5.0, 100.0, 0.5)
    assert found.compute_share == 0  # without workers


def test_statistics_before_start_are_zero():
    found = Loader(Timed(), workers=1).statistics()
    assert (found.batches_per_s, found.wait_share, found.compute_share) == (0, 0, 0)
    assert "no batches yet" in str(found)


def test_crash_is_counted_for_its_worker(tmp_path):
    found = statistics_of(StrikesAt(Fault("sigkill", tmp_path / "fuse"), at=0), workers=2)
    assert found.deaths == sum(worker.deaths for worker in found.workers) == 1


def test_copies_are_counted_by_reason():
    with Loader(Timed(12, 0), workers=1, copy=True) as loader:
        list(loader)
        requested = loader.statistics()
    with Loader(Timed(12, 0), workers=1) as loader:
        list(loader)
        held = loader.statistics()
    assert (requested.copies, requested.copies_asked, requested.copies_held) == (12, 12, 0)
    assert (held.copies, held.copies_asked, held.copies_held) == (4, 0, 4)


def test_difference_has_changes_between_two_moments():
    with Loader(Timed(), workers=2) as loader:
        for _ in loader:
            pass
        earlier = loader.statistics()
        for _ in loader:
            pass
        later = loader.statistics()
    change = later - earlier
    assert change.batches == change.times.wait.count == 8
    assert change.times.compute.count == later.times.compute.count - earlier.times.compute.count >= 7
    assert change.elapsed_s == pytest.approx(later.elapsed_s - earlier.elapsed_s)
    assert sum(worker.batches for worker in change.workers) == change.times.compute.count
    assert change.num_slots == later.num_slots
    assert change.ring_kind == later.ring_kind


# Fields that only grow have their growth in a difference; fields that describe a moment have their later value.
OF_TWO_MOMENTS = [Statistics, WorkerStatistics, StageStatistics, EpochStarts, ConsumerStatistics, ServedConsumer]


def with_numbers(kind, number):
    """Return statistics with this number in all fields."""
    named = {"number": 0, "name": "", "rank": None, "pid": None, "ring_kind": ""}
    values = {field.name: number for field in fields(kind) if field.type in {int, float}}
    needed = {f.name: named.get(f.name) for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return kind(**(needed | values))


@pytest.mark.parametrize("kind", OF_TWO_MOMENTS)
def test_numbers_grow_unless_they_describe_a_moment(kind):
    """A difference has the growth of the former, and the later value of the latter."""
    difference = with_numbers(kind, 7) - with_numbers(kind, 4)
    for field in fields(kind):
        if field.type in {int, float}:
            assert getattr(difference, field.name) == (7 if field.name in PRESENT else 3), field.name


def test_earlier_minus_later_raises():
    with pytest.raises(ValueError, match="expected later minus earlier"):
        Statistics(elapsed_s=1.0) - Statistics(elapsed_s=2.0)
