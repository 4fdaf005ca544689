"""The benchmark's measurement of what it costs to be seen: times, a trace, the monitor."""

import dataclasses
import itertools
import os
import signal
import sys
import time
import types
from unittest import mock

import pytest
from helpers.scripts import script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the clocks of other processes are Linux's")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["times", "trace", "monitor"])
def test_each_way_is_measured_in_slices_by_turns(way, monkeypatch):
    made = script("parts.benchmark.seen")
    monkeypatch.setattr(made, "NUM_STARTS", 1)
    monkeypatch.setitem(made.SEEN, "seen tiny", dataclasses.replace(made.SEEN["seen tiny"], num_figures=3))
    found = script("parts.benchmark.measure").Measurement("seen", way, "seen tiny", 1, 0.01).run()
    assert set(found) == {made.COST}
    assert len(found[made.COST]) == 3
    assert min(found[made.COST]) > -100


def test_a_stream_that_costs_a_quarter_more_while_it_is_seen_is_told_so_on_a_machine_that_slows_down(monkeypatch):
    made = script("parts.benchmark.seen")
    now, batch_s, turns = [0.0], [1.0], []

    def show(is_seen):
        batch_s[0] = 1.25 if is_seen else 1.0
        turns.append(is_seen)

    def stream():
        for number in itertools.count():
            now[0] += batch_s[0] * (1 + number / 1e5)
            yield number

    monkeypatch.setattr(made.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(made.time, "clock_gettime", lambda _clock: now[0])
    assert made._added(made._Stream(stream(), [], show), 3, 50.0) == pytest.approx(25.0, abs=0.01)
    assert turns[::2] == [False, True, True, False]


def test_a_trace_is_switched_off_and_on_and_is_written_in_the_slice_in_which_it_came():
    made = script("parts.benchmark.seen")
    seen = types.SimpleNamespace(flushes=0)
    timeline = types.SimpleNamespace(flush=lambda: setattr(seen, "flushes", seen.flushes + 1))
    recorder = types.SimpleNamespace(timeline=timeline)
    engine = types.SimpleNamespace(pipeline=types.SimpleNamespace(recorder=recorder))
    switch = made._switch("trace", engine, [])
    switch(False)
    assert (recorder.timeline, seen.flushes) == (None, 1)
    switch(True)
    assert (recorder.timeline, seen.flushes) == (timeline, 2)


def test_the_error_of_the_middle_shrinks_with_the_root_of_the_number_and_forgives_what_is_far_off():
    error_of = script("parts.benchmark.seen").error_of
    assert error_of([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1.2533 * 1.4826 / 5**0.5)
    assert error_of([1.0, 2.0, 3.0, 4.0, 500.0]) == error_of([1.0, 2.0, 3.0, 4.0, 5.0])


def test_the_clock_of_a_process_counts_its_cpu_time():
    clock = script("parts.benchmark.seen").clock_of(os.getpid())
    before, until = time.clock_gettime(clock), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.05 <= time.clock_gettime(clock) - before < time.process_time() - until + 0.1


def test_a_worker_times_nothing_until_it_is_told_to(monkeypatch):
    made = script("parts.benchmark.seen")
    usual = made.worker_main._Worker._plan_timing
    monkeypatch.setattr(made.worker_main._Worker, "_plan_timing", usual)
    handlers = [signal.getsignal(number) for number in (made.NOT_SEEN, made.SEEN_AGAIN)]
    try:
        made.obey()
        switch = made._switch("times", types.SimpleNamespace(pipeline=mock.MagicMock()), [os.getpid()])
        switch(False)
        assert made.worker_main._Worker._plan_timing is made._time_nothing
        switch(True)
        assert made.worker_main._Worker._plan_timing is usual
    finally:
        for number, handler in zip((made.NOT_SEEN, made.SEEN_AGAIN), handlers, strict=True):
            signal.signal(number, handler)


def test_the_report_tells_the_middle_of_all_figures_its_error_and_whether_it_is_reached():
    made = script("parts.benchmark.seen")
    results = script("parts.benchmark.results").Results(
        {},
        {},
        service={
            ("seen tiny", "trace"): {made.COST: [0.0, 0.5, 0.9, 1.0]},
            ("seen tiny", "monitor"): {made.COST: [1.0, 1.5, 2.0]},
        },
    )
    assert [line.partition(": ")[2] for line in script("parts.benchmark.goals").lines(results)] == [
        "trace cost 0.70 % of the CPU time of a batch (the middle of 4, error 0.23), at most 1 wanted: reached",
        "monitor cost 1.50 % of the CPU time of a batch (the middle of 3, error 0.54), at most 1 wanted: MISSED",
    ]


def test_all_ways_are_planned():
    planned = script("parts.benchmark.rounds").plan(["seen decode"], [], 2, 0.1)
    assert [(one.what, one.name) for one in planned] == [("seen", way) for way in ("times", "trace", "monitor")]
