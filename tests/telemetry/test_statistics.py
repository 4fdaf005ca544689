"""What `statistics()` tells of loaders, enqueuers and their workers, while they run and afterwards."""

import gc
import json
import os
import random
import signal
import time
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest

import mpqueue
from mpqueue import Loader, Statistics
from mpqueue.service.reports import ServedConsumer, ServerStatistics
from mpqueue.system.cpus import busy_ns, num_cpus
from mpqueue.telemetry.recorder import Histogram
from mpqueue.telemetry.stage_rows import MOST_ROWS, OTHERS
from mpqueue.telemetry.stats import _PRESENT, ConsumerStatistics, StageStatistics, Times, WorkerStatistics

KINDS = pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])
BATCH_S = 0.006  # longer than the span in which one batch is timed: each is


class Timed:
    """Items that take so long."""

    def __init__(self, length=8, seconds=BATCH_S):
        self.length, self.seconds = length, seconds

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return np.full(1000, index)


class Drawing(Timed):
    """Items that draw from the global generators."""

    def __getitem__(self, index):
        super().__getitem__(index)
        return np.full(1000, random.random())


class Dying(Timed):
    """The first item of the first process kills it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def __getitem__(self, index):
        if index == 0 and not os.path.exists(self.path):
            with open(self.path, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def stages_of(found, *names):
    return {name: getattr(found.times, name).count for name in names}


@KINDS
def test_each_slow_batch_is_timed_at_its_worker(backend, workers):
    with Loader(Timed(), workers=workers, backend=backend) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    assert len(found.workers) == max(1, workers)
    assert sum(worker.batches for worker in found.workers) == 8
    assert found.times.compute.count == 8
    assert found.times.compute.p50_s >= BATCH_S * 0.9
    assert found.times.compute.p50_s <= found.times.compute.p95_s <= found.times.compute.p99_s
    assert sum(worker.times.compute.count for worker in found.workers) == 8


@KINDS
def test_the_sums_of_the_workers_are_those_of_all(backend, workers):
    with Loader(Timed(), workers=workers, backend=backend) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    for name in ("bytes", "compute_s", "copy_s", "credit_wait_s"):
        assert sum(getattr(worker, name) for worker in found.workers) == pytest.approx(getattr(found, name))
    assert found.compute_s >= 8 * BATCH_S
    assert (found.credit_wait_s > 0) == (workers > 0)
    is_written = backend == "process" and workers > 0  # into the ring
    assert (found.bytes >= 8 * 8000, found.copy_s > 0) == (is_written, is_written)


@KINDS
def test_there_is_a_time_of_waiting_for_each_batch(backend, workers):
    with Loader(Timed(), workers=workers, backend=backend) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    assert found.times.wait.count == found.batches == 8
    assert found.times.wait.total_s == pytest.approx(found.wait_s, rel=0.01)


def test_a_batch_that_was_not_waited_for_has_waited_no_time():
    with Loader(Timed(6, 0), workers=1, max_queue_size=6) as loader:
        batches = iter(loader)
        next(batches)
        while loader.statistics().workers[0].batches < 6:
            loader._engine.pipeline.num_ready  # takes in what has come
        list(batches)
        assert dict(loader.statistics().times.wait.buckets)[0] >= 5


def test_each_view_that_is_kept_is_timed_until_it_is_dropped():
    with Loader(Timed(4), workers=1) as loader:
        for batch in loader:
            time.sleep(0.02)
            del batch
        found = loader.statistics()
    assert found.times.lease.count == 4
    assert found.times.lease.p50_s >= 0.018


def test_a_lease_that_lives_on_is_entered_when_it_ends():
    with Loader(Timed(2), workers=1) as loader:
        batches = list(loader)
        assert loader.statistics().times.lease.count == 0
        del batches
        gc.collect()
        assert loader.statistics().times.lease.count == 2


def test_what_seeding_takes_is_told_of_a_source_that_draws():
    def seeding_of(source):
        with Loader(source, workers=1, seed=1) as loader:
            for _ in loader:
                pass
            return loader.statistics().times.seed

    drawn, idle = seeding_of(Drawing(4)), seeding_of(Timed(4))
    assert drawn.count == idle.count == 4
    assert idle.p50_s < drawn.p50_s / 2  # the first batch looks for generators that the source keeps


class Computing(Timed):
    """Items that take so long on a CPU."""

    def __getitem__(self, index):
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return np.full(1000, index)


@pytest.mark.measures
@pytest.mark.skipif(busy_ns() is None, reason="nobody counts here what waits for a CPU")
def test_a_source_that_waits_is_told_from_one_that_computes():
    """Also where more workers than there are CPUs compute, and on a machine that is busy otherwise."""

    def times_of(source):
        with Loader(source, workers=2 * num_cpus()) as loader:
            for _ in loader:
                pass
            return loader.statistics().times

    waiting = Timed(80)
    # Not its share of the time: whoever has slept waits for a CPU as well, as long as others keep all of them.
    assert times_of(waiting).blocked.p50_s > 0.9 * waiting.seconds
    times = times_of(Computing(80))
    assert times.blocked.p50_s < 0.5 * times.compute.p50_s


@pytest.mark.parametrize(
    ("backend", "workers", "threads"), [("process", 2, 16), ("process", 2, 2), ("thread", 2, 16), ("process", 0, 2)]
)
def test_the_time_of_a_batch_is_the_sum_of_all_threads(backend, workers, threads):
    """Also with more threads than samples in a batch, which begin the samples of later batches ahead of their turn."""
    with Loader(Timed(80, 0.01), workers=workers, backend=backend, batch_size=4, threads=threads) as loader:
        for _ in loader:
            pass
        found = loader.statistics().times.compute
    assert found.mean_s >= 0.95 * 4 * 0.01


def sleeping(value):
    time.sleep(0.01)
    return value


def test_a_threaded_map_of_a_stream_counts_the_time_of_its_threads():
    dataset = mpqueue.Dataset.range(64).filter(lambda value: value >= 0).map(sleeping, threads=4).batch(4)
    with Loader(dataset, workers=1, lanes=1) as loader:
        for _ in loader:
            pass
        stages = {stage.name: stage for stage in loader.statistics().stages}
    (mapped,) = [stage for name, stage in stages.items() if "map(" in name]
    assert mapped.num_out == 64
    assert mapped.total_s >= 0.95 * 64 * 0.01


def test_a_threaded_map_of_an_indexed_dataset_counts_the_time_of_its_threads():
    with Loader(mpqueue.Dataset.range(64).map(sleeping, threads=4).batch(8), workers=1) as loader:
        for _ in loader:
            pass
        (mapped,) = [stage for stage in loader.statistics().stages if "map(" in stage.name]
    assert mapped.total_s / mapped.num_out >= 0.95 * 0.01


def test_many_stages_share_one_row_beyond_a_bound():
    """Elements of all stages are counted."""
    parts = [mpqueue.Dataset.range(1) for _ in range(2 * MOST_ROWS)]
    with Loader(mpqueue.Dataset.concatenate(*parts).batch(len(parts)), workers=0) as loader:
        assert len(list(loader)) == 1
        stages = loader.statistics().stages
    assert len(stages) == MOST_ROWS + 1
    assert stages[-1].name == OTHERS and stages[-1].num_out > 1


@pytest.mark.parametrize("collate", [None, lambda samples: np.stack(samples)], ids=["default", "own"])
@KINDS
def test_what_collation_takes_is_told_of_a_source_of_samples(backend, workers, collate):
    with Loader(Timed(8, 0.003), workers=workers, backend=backend, batch_size=2, collate=collate) as loader:
        for _ in loader:
            pass
        found = loader.statistics().times
    assert found.collate.count == 4
    assert 0 < found.collate.total_s < found.compute.total_s


def test_fast_batches_are_timed_now_and_then_and_stand_for_all():
    with Loader(Timed(3000, 0), workers=1) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    assert 0.3 * 3000 < found.times.compute.count <= 3000
    assert found.workers[0].batches == 3000


@KINDS
def test_everything_is_kept_after_stop_and_time_stands_still(backend, workers):
    with Loader(Timed(), workers=workers, backend=backend) as loader:
        for _ in loader:
            pass
        running = loader.statistics()
    kept = loader.statistics()
    assert kept == loader.statistics()
    assert kept.elapsed_s >= running.elapsed_s > 0
    assert (kept.batches, kept.times.compute) == (running.batches, running.times.compute)


def test_an_enqueuer_tells_the_same():
    enqueuer = mpqueue.OrderedEnqueuer(Timed(), use_multiprocessing=True)
    enqueuer.start(workers=2)
    batches = enqueuer.get()
    for _ in range(8):
        next(batches)
    enqueuer.stop()
    found = enqueuer.statistics()
    assert found.batches == found.times.wait.count == 8
    assert len(found.workers) == 2


def test_rates_and_shares_follow_from_the_counters():
    found = Statistics(batches=50, bytes=1000, wait_s=5.0, elapsed_s=10.0)
    assert (found.batches_per_s, found.bytes_per_s, found.wait_share) == (5.0, 100.0, 0.5)
    assert found.compute_share == 0  # there are no workers


def test_before_the_first_start_everything_is_zero():
    found = Loader(Timed(), workers=1).statistics()
    assert (found.batches_per_s, found.wait_share, found.compute_share) == (0, 0, 0)
    assert "no batches yet" in str(found)


def test_a_death_is_counted_at_its_worker(tmp_path):
    with Loader(Dying(str(tmp_path / "died")), workers=2) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    assert found.deaths == sum(worker.deaths for worker in found.workers) == 1


def test_copies_are_told_with_their_reason():
    with Loader(Timed(12, 0), workers=1, copy=True) as loader:
        list(loader)
        asked = loader.statistics()
    with Loader(Timed(12, 0), workers=1) as loader:
        list(loader)
        held = loader.statistics()
    assert (asked.copies, asked.copies_asked, asked.copies_held) == (12, 12, 0)
    assert (held.copies, held.copies_asked, held.copies_held) == (4, 0, 4)


def test_processes_are_named_by_pid_while_they_run():
    with Loader(Timed(), workers=2) as loader:
        next(iter(loader))
        running = loader.statistics().workers
        assert all(worker.pid and worker.rss_bytes for worker in running)
        assert {worker.pid for worker in running}.isdisjoint({os.getpid()})
    assert [worker.pid for worker in loader.statistics().workers] == [None, None]


def test_a_difference_tells_what_happened_between():
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


# What only grows, so that a difference says how much; other numbers tell of a moment, and a difference has the later one.
KINDS = [Statistics, WorkerStatistics, StageStatistics, ConsumerStatistics, ServedConsumer]


def with_numbers(kind, number):
    """Statistics each of whose numbers is this one."""
    named = {"number": 0, "name": "", "rank": None, "pid": None, "ring_kind": ""}
    values = {field.name: number for field in fields(kind) if field.type in {int, float}}
    needed = {f.name: named.get(f.name) for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return kind(**(needed | values))


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_grows_unless_it_describes_a_moment(kind):
    """A difference has the growth of the former, and the latter as they were at the later moment."""
    difference = with_numbers(kind, 7) - with_numbers(kind, 4)
    for field in fields(kind):
        if field.type in {int, float}:
            assert getattr(difference, field.name) == (7 if field.name in _PRESENT else 3), field.name


def test_each_name_of_a_moment_is_one_of_a_field():
    named = {field.name for kind in [*KINDS, ServerStatistics] for field in fields(kind)}
    assert sorted(_PRESENT - named) == []


def test_earlier_minus_later_is_an_error():
    with pytest.raises(ValueError, match="expected later minus earlier"):
        Statistics(elapsed_s=1.0) - Statistics(elapsed_s=2.0)


def test_all_of_it_can_be_written_as_json():
    with Loader(Timed(), workers=2) as loader:
        for _ in loader:
            pass
        found = loader.statistics()
    written = json.loads(json.dumps(found.to_dict()))
    assert written["batches"] == 8
    assert written["batches_per_s"] == pytest.approx(found.batches_per_s)
    assert written["times"]["compute"]["p95_s"] == pytest.approx(found.times.compute.p95_s)
    assert written["workers"][1]["times"]["compute"]["count"] == found.workers[1].times.compute.count


def test_the_table_of_a_notebook_has_the_verdict_and_no_scripts():
    with Loader(Timed(), workers=2) as loader:
        for _ in loader:
            pass
    page = loader.statistics()._repr_html_()
    assert str(loader.statistics()) in page
    assert "<script" not in page
    assert "compute" in page
    assert page.count("<table") == page.count("</table>") == 2


def test_the_table_of_a_notebook_leaves_out_what_took_no_time_and_shows_no_part_of_a_clock_tick():
    wait, collate = Histogram(), Histogram()
    wait.add(0, 10), wait.add(1_000_000), collate.add(0, 11)
    page = replace(Statistics(), times=Times(wait=wait.snapshot(), collate=collate.snapshot()))._repr_html_()
    assert "collate" not in page
    assert ">0 µs<" in page


def test_statistics_compare_and_hash_as_values():
    assert Statistics(batches=1) == Statistics(batches=1)
    assert hash(Statistics(times=Times())) == hash(Statistics())
    assert ConsumerStatistics() != ConsumerStatistics(batches=1)
