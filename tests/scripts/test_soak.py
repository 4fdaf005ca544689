"""``scripts/soak``: a run reports its seed and result, and a lost batch or a lost interrupt is a deviation.

The full gate runs the loads of loaders for a minute.
"""

import subprocess
import sys
from collections import Counter

import pytest
from helpers.script_modules import SCRIPTS, script


def part(name):
    return script(f"parts.soak.{name}")


@pytest.mark.slow
def test_a_run_prints_its_seed_and_its_counts():
    command = [sys.executable, str(SCRIPTS / "soak"), "--service", "--minutes", "0.01", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed 2\n" in done.stdout
    assert "were correct" in done.stdout


@pytest.mark.parametrize("wrong", ["other", "missing", "twice"])
def test_a_wrong_a_missing_and_a_repeated_batch_are_deviations(wrong):
    rounds, content = part("rounds"), part("content")
    batches = [content.batch(3, 0, index) for index in range(5)]
    batches[2:3] = {"other": [content.batch(3, 1, 2)], "missing": [], "twice": batches[2:3] * 2}[wrong]
    one = rounds.Round(3)
    one.is_stream, one.length, one.ordered, one.kills_one_in, one.leaves_early = True, 5, True, 1 << 60, 0.0
    with pytest.raises(rounds.Deviation):
        one.epoch(batches, 0)


def test_a_batch_lost_between_signals_is_a_deviation(monkeypatch):
    interrupts, struck = part("interrupts"), part("struck")

    def lists(alarms):
        while True:
            yield struck.read_epoch(alarms, [[0], [1], [3], [4]], [[0], [1], [2], [3], [4]])

    monkeypatch.setattr(interrupts, "LOADS", {"lists": lists})
    with pytest.raises(part("rounds").Deviation, match="lists, interrupted by signals"):
        interrupts.strike("1", 0.1)


@pytest.mark.parametrize(("numbers", "lost", "repeated"), [([0, 1, 3], 1, 0), ([0, 1, 1, 2, 3], 0, 1)])
def test_lost_and_repeated_batches_of_a_front_end_are_counted(monkeypatch, numbers, lost, repeated):
    interrupts = part("interrupts")

    def front(alarms):
        while True:
            alarms.count += 1
            yield part("struck").Epoch([0, 1, 2, 3], numbers)

    monkeypatch.setattr(interrupts, "FRONTS", {"numbers": front})
    counts = interrupts.count_here("numbers", 1, 0)
    assert (counts["strikes"], counts["lost"], counts["repeated"]) == (1, lost, repeated)


@pytest.mark.parametrize(
    ("found", "is_kept"), [({"repeated": 1}, True), ({"lost": 1}, False), ({"hangs or crashes": 1}, False)]
)
def test_a_loss_or_a_hang_of_a_front_end_is_a_failure(monkeypatch, found, is_kept):
    interrupts = part("interrupts")
    monkeypatch.setattr(interrupts, "_apart", lambda *_: Counter(found))
    assert interrupts.count(["inline"], 1, 0) is is_kept
