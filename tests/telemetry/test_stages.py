"""Rows of the stages of a dataset: what each has done, by whomever, whatever happened on the way."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
from helpers.homes import servers_home  # noqa: F401 - a fixture

import mpqueue
from mpqueue import Dataset, Statistics
from mpqueue.commands.top_rows import rows_of
from mpqueue.telemetry.monitor.asking import MonitorAnswer
from mpqueue.telemetry.stage_rows import packed, unpacked
from mpqueue.telemetry.stats import StageStatistics, WorkerStatistics

KINDS = pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])


def is_even(value):
    return value % 2 == 0


def slow(value):
    time.sleep(0.0005)
    return value


STREAM = Dataset.range(400).map(slow).filter(is_even).batch(4)
WHOLE = [("0: range(0, 400)", 0, 400), ("1: map(slow)", 400, 400), ("2: filter(is_even)", 400, 200)]


def counts_of(statistics):
    return [(stage.name, stage.num_in, stage.num_out) for stage in statistics.stages]


@KINDS
def test_each_stage_of_a_stream_has_a_row_that_is_exact_at_its_end(backend, workers):
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


def test_a_death_counts_nothing_twice_and_loses_nothing(tmp_path):
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
    # What lay between the last snapshot and the death was never told: it is counted by the successor alone.
    assert [count[1:] for count in counts_of(found)] == [(0, 400), (400, 400), (400, 200)]


@KINDS
def test_a_resumed_stream_counts_from_the_snapshot_on(backend, workers):
    stream = Dataset.range(400).map(slow).filter(is_even).take(400).shuffle(buffer=3)
    with mpqueue.Loader(stream, workers=0) as loader:
        batches = iter(loader)
        for _ in range(150):
            next(batches)
        state = loader.state_dict()
    with mpqueue.Loader(stream, workers=workers, backend=backend) as loader:
        loader.load_state_dict(state)
        list(loader)
        rows = counts_of(loader.statistics())
    # A stage that has a position does not take it for work.
    assert rows[2][2] == rows[3][1] == rows[3][2] == rows[4][1]
    assert 50 <= rows[4][2] <= 200


def test_rows_of_pack_tell_of_padding_and_of_what_was_left_out():
    texts = Dataset([list(range(size)) for size in (5, 30, 3, 8, 0, 4)] * 16)
    with mpqueue.Loader(texts.pack(16, long="drop"), workers=1) as loader:
        rows = list(loader)
        found = {stage.name.partition(": pack")[2].partition(": ")[2]: stage for stage in loader.statistics().stages}
    padded = sum(int((row["segment_ids"] == 0).sum()) for row in rows)
    assert (found["places padded"].num_in, found["places padded"].num_out) == (16 * len(rows), padded)
    assert (found["samples cut"].num_out, found["samples left out"].num_out) == (0, 32)


def test_a_lane_of_another_kind_has_no_rows():
    def numbers():
        yield from range(8)

    with mpqueue.Loader(numbers, workers=1) as loader:
        list(loader)
        assert loader.statistics().stages == ()


def test_a_server_tells_of_the_stages(servers_home):  # noqa: F811
    with mpqueue.Server("stages", STREAM, workers=1) as server, mpqueue.attach("stages") as consumer:
        list(consumer)
        assert counts_of(server.statistics())[:3] == WHOLE


def test_a_trace_has_counters_of_the_stages(tmp_path):
    path = tmp_path / "trace.json"
    with mpqueue.Loader(STREAM, workers=1, trace=str(path)) as loader:
        list(loader)
    counters = {event["name"]: event["args"] for event in json.loads(path.read_text()) if event["ph"] == "C"}
    assert counters["stage 2: filter(is_even)"]["in"] == 400
    assert counters["stage 2: filter(is_even)"]["out"] == 200


def statistics_with(*stages, **fields):
    worker = WorkerStatistics(0, batches=100, compute_s=9.0)
    found = Statistics(batches=100, wait_s=8.0, compute_s=9.0, elapsed_s=10.0, ring_kind="memfd", workers=(worker,))
    return replace(found, stages=stages, **fields)


def test_the_verdict_names_the_stage_that_holds_up_and_that_it_waits():
    read = StageStatistics("1: map(read)", 10, 10, 6.0, 5.4)
    decode = StageStatistics("2: map(decode)", 10, 10, 2.0, 0.0)
    text = str(statistics_with(read, decode))
    assert "the stage that holds up is 1: map(read), which takes 75 % of the time of all stages" in text
    assert "waits for 90 % of it" in text
    assert "waits for" not in str(statistics_with(replace(read, wait_s=0.0), decode)).partition("holds up")[2]
    assert "stage" not in str(statistics_with())
    assert "stage" not in str(statistics_with(read, decode, wait_s=0.1))  # the trainer does


def test_a_notebook_shows_the_stages():
    page = statistics_with(StageStatistics("1: map(<lambda>)", 10, 9, 6.0, 5.4))._repr_html_()
    assert "1: map(&lt;lambda&gt;)" in page


def test_top_has_a_row_for_each_stage():
    def answer(clock_s, *stages):
        shown = {"id": 1, "kind": "Loader", "name": "photos", "statistics": statistics_with(*stages).to_dict()}
        return MonitorAnswer("socket", 7, {"clock_s": clock_s, "shown": [shown]})

    before = answer(0.0, StageStatistics("1: map(read)", 10, 10, 1.0, 0.0), StageStatistics("2: filter(is_even)"))
    now = answer(
        2.0, StageStatistics("1: map(read)", 30, 30, 2.5, 0.0), StageStatistics("2: filter(is_even)", 30, 8, 0.5, 0.0)
    )
    _, read, even = rows_of([now], [before])
    assert (read.kind, read.name, read.batches, read.batches_per_s) == ("stage", "1: map(read)", 30, 10.0)
    assert (read.note, even.note) == ("of 30, 75% of the time", "of 30, 25% of the time")
    assert rows_of([now])[1].note == "of 30"


@pytest.mark.parametrize("data", [b"\x80", packed([("a", 1, 2, 3, 4)])[:-4], packed([("a", 1, 2, 3)]), packed([1])])
def test_what_is_no_rows_is_told_of(data):
    assert unpacked(packed([("a", 1, 2, 3, 4)])) == [("a", 1, 2, 3, 4)]
    assert unpacked(packed([])) == []
    with pytest.raises(ValueError, match="rows of stages"):
        unpacked(data)
