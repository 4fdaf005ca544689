"""``scripts/benchmark.py`` discards rounds if other programs used the machine. The readings are injected."""

import os
import subprocess
import sys

import pytest
from helpers.script_modules import script

quiet = script("parts.benchmark.quiet")
rounds = script("parts.benchmark.rounds")
results = script("parts.benchmark.results")
Used = quiet.Used


def reading(at_s, steal_s=0.0, **cpu_seconds):
    """Return a reading of two CPUs, with the CPU seconds of processes by name; names of own ones begin with own."""
    processes = {
        (index, 0.0): Used(name, cpu_s, name.startswith("own"))
        for index, (name, cpu_s) in enumerate(cpu_seconds.items())
    }
    return quiet.Reading(at_s, 2 * at_s, steal_s, processes)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (reading(0, idle=70.0, own=0.0), reading(10, idle=70.5, own=20.0), []),
        (reading(0, busy=70.0), reading(10, busy=70.6), ["busy (process 0) 6% of a CPU"]),
        (reading(0), reading(10, started=8.0), ["started (process 0) 80% of a CPU"]),
        (reading(0, ended=5.0), reading(10), []),
        (reading(0, 3.0), reading(10, 3.1), []),
        (reading(0, 3.0), reading(10, 3.4), ["steal 2.0%"]),
        (reading(0, 0.0, a=0.0, b=0.0), reading(1, 1.0, a=1.0, b=0.5), ["a (process 0) 100% of a CPU", "b (process 1) 50% of a CPU", "steal 50.0%"]),
    ],
)  # fmt: skip
def test_loads_are_other_processes_above_a_twentieth_of_a_cpu_and_steal_above_a_hundredth(before, after, expected):
    assert quiet.loads(before, after) == expected


def watch(readings, warn=None):
    return quiet.Watch(warn, iter(readings).__next__, lambda _: None)


def test_a_loaded_machine_is_refused_before_the_first_round_or_warned_about():
    readings = [reading(0, busy=0.0), reading(2, busy=1.0)]
    with pytest.raises(quiet.LoadedError, match=r"other programs use the machine: busy \(process 0\) 50% of a CPU"):
        watch(readings)
    warnings = []
    watch(readings, warnings.append)
    assert warnings == ["other programs use the machine: busy (process 0) 50% of a CPU"]


def measured(monkeypatch, readings, num_rounds=3):
    """Return the results of rounds with one measurement. Its rate is the number of the round."""
    one = rounds.Measurement("tiny", "mpqueue", rounds.Setting(1, 1.0))
    rates = iter(range(1, 10))
    monkeypatch.setattr(rounds.Measurement, "in_fresh_process", lambda _: {"rate": [next(rates)]})
    return rounds.measure([one], num_rounds, results.Results(), lambda _: None, check=watch(readings).check)


def test_a_later_round_on_a_loaded_machine_is_discarded_and_ends_the_run(monkeypatch):
    quiet_until = [reading(at, busy=0.0) for at in (0, 2, 60, 120)]
    found = measured(monkeypatch, [*quiet_until, reading(180, busy=30.0)])
    assert found.figures == {("tiny", "mpqueue"): {"rate": [1, 2]}}
    assert found.failed == {("round 3", "the round"): "other programs use the machine: busy (process 0) 50% of a CPU"}


def test_a_first_round_on_a_loaded_machine_leaves_no_results(monkeypatch):
    with pytest.raises(quiet.LoadedError, match="steal"):
        measured(monkeypatch, [reading(0), reading(2), reading(60, steal_s=10.0)])


def test_a_real_reading_knows_its_own_processes_by_their_environment():
    sleep = [sys.executable, "-c", "input()"]
    mark = {quiet.MARK: str(os.getpid())}
    with (
        subprocess.Popen(sleep, stdin=subprocess.PIPE, env=os.environ | mark) as own,
        subprocess.Popen(sleep, stdin=subprocess.PIPE) as other,
    ):
        # A process has the environment of its parent until it has executed its program.
        while not (found := {pid: used for (pid, _), used in quiet.read().processes.items()})[own.pid].is_own:
            pass
        assert not found[other.pid].is_own
        assert found[os.getpid()].is_own
        own.stdin.close()
        other.stdin.close()
