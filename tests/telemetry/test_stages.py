"""Rows of the stages of a dataset count each stage's work, in any worker and despite crashes."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
from helpers.numbered_batches import iter_after
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture

import mpqueue
from mpqueue import Dataset, Statistics
from mpqueue.telemetry.clock import EVERY_NS
from mpqueue.telemetry.stage_rows import MOST_ROWS, at_most
from mpqueue.telemetry.stats import StageStatistics
from mpqueue.telemetry.worker_stats import WorkerStatistics


def is_even(value):
    return value % 2 == 0


def slow(value):
    time.sleep(0.0005)
    return value


STREAM = Dataset.range(400).map(slow).filter(is_even).batch(4)
WHOLE = [("0: range(0, 400)", 0, 400), ("1: map(slow)", 400, 400), ("2: filter(is_even)", 400, 200)]


def counts_of(statistics):
    return [(stage.name, stage.num_in, stage.num_out) for stage in statistics.stages]


def slower(value):
    time.sleep(2 * EVERY_NS / 4e9)  # so that each batch of four is long enough to be timed
    return value


INDEXED = Dataset.range(32).shuffle().map(slower).batch(4)


def by_four(number):
    """Return the rows of a number of batches."""
    size = 4 * number
    return [
        ("0: range(0, 32)", 0, size), ("1: shuffle()", size, size), ("2: map(slower)", size, size),
        ("3: batch(4)", size, number),
    ]  # fmt: skip


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("backend", "workers", "threads"), [("process", 2, 1), ("process", 1, 2), ("thread", 2, 1), ("process", 0, 1)]
)
def test_stages_of_indexed_dataset_count_timed_batches(backend, workers, threads):
    with mpqueue.Loader(INDEXED, workers=workers, backend=backend, threads=threads) as loader:
        first, second = list(loader), list(loader)
    found = loader.statistics()  # after all batches computed ahead are finished
    num_computed = sum(worker.batches for worker in found.workers)
    assert num_computed >= len(first) + len(second) == 16
    assert counts_of(found) == by_four(num_computed)
    read, _, slept, _ = found.stages
    assert 4 * num_computed * 2 * EVERY_NS / 4e9 <= slept.total_s
    assert read.total_s < slept.total_s  # without the time of the stages before it
    assert all(0 <= stage.wait_s <= stage.total_s for stage in found.stages)
    assert slept.wait_s > 0


def test_timed_batch_represents_earlier_batches():
    with mpqueue.Loader(Dataset.range(8_000).map(abs).batch(2), workers=1) as loader:
        seen = [loader.statistics().stages for index, _ in enumerate(loader, 1) if index % 500 == 0]
    assert all(read.num_out == mapped.num_in == mapped.num_out == row.num_in for read, mapped, row in seen)
    assert all(row.num_in == 2 * row.num_out for _, _, row in seen)
    outs = [row.num_out for _, _, row in seen]
    assert outs == sorted(outs)
    assert 1 <= outs[0] < outs[-1] <= 8_000


def test_each_branch_of_indexed_tree_counts_its_elements():
    kept = Dataset.range(8).map(slower).cache()
    pairs = Dataset.zip(Dataset.mix([kept, Dataset.range(8)]), Dataset.range(8).batch(2).repeat().skip(1))
    with mpqueue.Loader(pairs.batch(16), workers=0) as loader:
        list(loader)
        found = loader.statistics()
    assert [row[1:] for row in counts_of(found)] == [
        (0, 8), (8, 8), (8, 8), (0, 8), (16, 16), (0, 32), (32, 16), (16, 16), (16, 16), (32, 16), (16, 1),
    ]  # fmt: skip
    assert [row.name for row in found.stages] == [
        "0: range(0, 8)", "1: map(slower)", "2: cache()", "3: range(0, 8)",
        "4: mix(weights=(1.0, 1.0), stop='first')", "5: range(0, 8)", "6: batch(2)", "7: repeat()", "8: skip(1)",
        "9: zip()", "10: batch(16)",
    ]  # fmt: skip


def test_batch_that_raises_hides_no_other_work():
    def picky(value):
        if value == 9:
            raise ValueError("nine")
        return slower(value)

    for workers in (0, 1):
        with mpqueue.Loader(Dataset.range(32).map(picky).batch(4), workers=workers, on_error="raise") as loader:
            batches, num_raised = iter(loader), 0
            for _ in range(8):
                try:
                    next(batches)
                except ValueError:
                    num_raised += 1
            found = loader.statistics()
        assert num_raised == 1
        num_computed = sum(worker.batches for worker in found.workers)
        # A worker process does not time a batch that raises: the next one represents it.
        assert 7 <= counts_of(found)[2][2] <= num_computed
        assert counts_of(found)[1][2] == counts_of(found)[2][1] == 4 * counts_of(found)[2][2]


@pytest.mark.sample(2)
@pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])
def test_stages_of_stream_are_exact_at_end(backend, workers):
    with mpqueue.Loader(STREAM, workers=workers, backend=backend) as loader:
        num_batches = len(list(loader))
        found = loader.statistics()
        assert counts_of(found)[:3] == WHOLE
        assert found.stages[3] == replace(found.stages[3], name="3: batch(4)", num_in=200, num_out=num_batches)
        slept = found.stages[1]
        assert 400 * 0.0005 <= slept.total_s
        assert all(0 <= stage.wait_s <= stage.total_s for stage in found.stages)
        list(loader)
        again = loader.statistics()
    assert counts_of(again - found) == counts_of(found)
    assert json.loads(json.dumps(again.to_dict()))["stages"][1]["num_out"] == 800


def test_crash_neither_repeats_nor_loses_counts(tmp_path):
    path = tmp_path / "died"

    def die_once(value):
        slow(value)
        if value == 300 and not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    with mpqueue.Loader(Dataset.range(400).map(die_once).filter(is_even), workers=2) as loader:
        assert len(list(loader)) == 200
        found = loader.statistics()
    assert found.deaths == 1
    # Work between the last snapshot and the crash was never reported: only the successor counts it.
    assert [count[1:] for count in counts_of(found)] == [(0, 400), (400, 400), (400, 200)]


def test_resumed_stream_counts_from_snapshot():
    stream = Dataset.range(400).map(slow).filter(is_even).take(400).shuffle(buffer=3)
    with mpqueue.Loader(stream, workers=0) as loader:
        _unfinished = iter_after(loader, 150)
        state = loader.state_dict()
    with mpqueue.Loader(stream, workers=2) as loader:
        loader.load_state_dict(state)
        list(loader)
        rows = counts_of(loader.statistics())
    # A stage with a position does not count it as work.
    assert rows[2][2] == rows[3][1] == rows[3][2] == rows[4][1]
    assert 50 <= rows[4][2] <= 200


def test_rows_of_pack_count_padding_and_dropped_samples():
    texts = Dataset([list(range(size)) for size in (5, 30, 3, 8, 0, 4)] * 16)
    with mpqueue.Loader(texts.pack(16, long="drop"), workers=1) as loader:
        rows = list(loader)
        found = {stage.name.partition(": pack")[2].partition(": ")[2]: stage for stage in loader.statistics().stages}
    padded = sum(int((row["segment_ids"] == 0).sum()) for row in rows)
    assert (found["places padded"].num_in, found["places padded"].num_out) == (16 * len(rows), padded)
    assert (found["samples cut"].num_out, found["samples left out"].num_out) == (0, 32)


def test_other_sources_have_no_rows():
    def numbers():
        yield from range(8)

    for source in (numbers, list(range(8))):
        with mpqueue.Loader(source, workers=1, batch_size=2) as loader:
            list(loader)
            assert loader.statistics().stages == ()


@pytest.mark.parametrize(("dataset", "whole"), [(STREAM, WHOLE), (INDEXED, by_four(8)[:3])])
def test_server_reports_stages(servers_directory, dataset, whole):  # noqa: F811
    with mpqueue.Server("stages", dataset, workers=1) as server, mpqueue.attach("stages") as consumer:
        list(consumer)
        rows = counts_of(server.statistics())
    # An indexed dataset may be computed ahead into the next epoch.
    assert [row[0] for row in rows][:3] == [row[0] for row in whole]
    assert rows[2][1:] >= whole[2][1:]
    assert rows[2] == whole[2] or dataset is INDEXED


@pytest.mark.parametrize(("dataset", "stage"), [(STREAM, "2: filter(is_even)"), (INDEXED, "2: map(slower)")])
def test_trace_has_counters_of_stages(tmp_path, dataset, stage):
    path = tmp_path / "trace.json"
    with mpqueue.Loader(dataset, workers=1, trace=str(path)) as loader:
        list(loader)
        rows = {row.name: row for row in loader.statistics().stages}
    counters = {event["name"]: event["args"] for event in json.loads(path.read_text()) if event["ph"] == "C"}
    assert counters[f"stage {stage}"]["in"] == rows[stage].num_in > 0
    assert counters[f"stage {stage}"]["out"] == rows[stage].num_out > 0


def statistics_with(*stages, **fields):
    worker = WorkerStatistics(0, batches=100, compute_s=9.0)
    found = Statistics(batches=100, wait_s=8.0, compute_s=9.0, elapsed_s=10.0, ring_kind="memfd", workers=(worker,))
    return replace(found, **{"stages": stages} | fields)


def test_verdict_names_slowest_stage_and_its_waiting():
    read = StageStatistics("1: map(read)", 10, 10, 6.0, 5.4)
    decode = StageStatistics("2: map(decode)", 10, 10, 2.0, 0.0)
    text = str(statistics_with(read, decode))
    assert "the slowest stage is 1: map(read), which takes 75 % of the time of all stages" in text
    assert "waits for 90 % of it" in text
    assert "waits for" not in str(statistics_with(replace(read, wait_s=0.0), decode)).partition("holds up")[2]
    assert "stage" not in str(statistics_with())
    assert "stage" not in str(statistics_with(read, decode, wait_s=0.1))  # the trainer is the bottleneck


def test_notebook_escapes_names_of_stages():
    page = statistics_with(StageStatistics("1: map(<lambda>)", 10, 9, 6.0, 5.4))._repr_html_()
    assert "1: map(&lt;lambda&gt;)" in page


def test_parts_after_many_are_counted_together():
    parts = at_most(dict.fromkeys(range(MOST_ROWS + 10), 2))
    assert (parts[0], parts["other parts"], len(parts)) == (2, 20, MOST_ROWS + 1)
    assert at_most({"web": 0}) == {"web": 0}
