"""The benchmark's measurement of what it costs to be seen: times, a trace, the monitor."""

import os
import sys
import time

import pytest
from helpers.scripts import script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the clocks of other processes are Linux's")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["times", "trace", "monitor"])
def test_each_way_is_measured_in_pairs(way):
    made = script("parts.benchmark.seen")
    found = script("parts.benchmark.measure").Measurement("seen", way, "seen tiny", 1, 0.01).in_fresh_process()
    assert set(found) == {made.COST}
    assert len(found[made.COST]) == made.NUM_STARTS * made.SEEN["seen tiny"].num_pairs
    assert min(found[made.COST]) > -100


@pytest.mark.parametrize("turn", [1, -1])
def test_a_stream_that_costs_a_quarter_more_is_told_so_whoever_is_read_first(monkeypatch, turn):
    made = script("parts.benchmark.seen")
    now, taken = [0.0], []

    def stream(name, seconds):
        while True:
            now[0] += seconds
            taken.append(name)
            yield name

    monkeypatch.setattr(made.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(made.time, "clock_gettime", lambda _clock: now[0])
    pair = made._Stream(stream("plain", 1.0), []), made._Stream(stream("seen", 1.25), [])
    assert made._added(pair, 3, 50.0, turn) == pytest.approx(25.0)
    assert taken[0] == ("plain" if turn == 1 else "seen")


def test_the_clock_of_a_process_counts_its_cpu_time():
    clock = script("parts.benchmark.seen").clock_of(os.getpid())
    before, until = time.clock_gettime(clock), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.05 <= time.clock_gettime(clock) - before < time.process_time() - until + 0.1


def test_times_are_switched_off_in_the_stream_beside_which_they_are_measured(monkeypatch):
    made = script("parts.benchmark.seen")
    without, beside = made._options("times", None)
    monkeypatch.setattr(made.worker_main, "EVERY_NS", made.worker_main.EVERY_NS)
    without["worker_init"]()
    assert made.worker_main.EVERY_NS == made.NEVER_NS
    assert beside == {}


def test_the_report_tells_the_middle_of_all_pairs_and_whether_it_is_reached():
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
        "trace cost 0.70 % of the CPU time of a batch (of 4 pairs, half 0.1 to 1.0), at most 1 wanted: reached",
        "monitor cost 1.50 % of the CPU time of a batch (of 3 pairs, half 1.0 to 2.0), at most 1 wanted: MISSED",
    ]


def test_all_ways_are_planned():
    planned = script("parts.benchmark.rounds").plan(["seen decode"], [], 2, 0.1)
    assert [(one.what, one.name) for one in planned] == [("seen", way) for way in ("times", "trace", "monitor")]
