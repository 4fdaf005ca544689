"""The soak's own checks: they must be able to fail."""

import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.scripts import SCRIPTS, script


def part(name):
    """Import a part of the soak."""
    return script(f"parts.soak.{name}")


def test_content_follows_from_its_numbers():
    content = part("content")
    for index in range(50):
        assert content.same(content.batch(1, 0, index), content.batch(1, 0, index))
        assert not content.same(content.batch(1, 0, index), content.batch(2, 0, index))


def test_a_single_wrong_bit_is_seen():
    content = part("content")
    wanted = {"x": [np.arange(100)], "name": "a"}
    found = {"x": [np.arange(100)], "name": "a"}
    assert content.same(found, wanted)
    found["x"][0].view(np.uint8)[-1] ^= 1
    assert not content.same(found, wanted)
    assert not content.same({"x": [np.arange(100, dtype=np.int32)], "name": "a"}, wanted)


@pytest.mark.parametrize("wrong", ["other", "missing", "twice"])
def test_a_wrong_a_missing_and_a_doubled_batch_are_deviations(wrong):
    rounds, content = part("rounds"), part("content")
    batches = [content.batch(3, 0, index) for index in range(5)]
    batches[2:3] = {"other": [content.batch(3, 1, 2)], "missing": [], "twice": batches[2:3] * 2}[wrong]
    one = rounds.Round(3)
    one.is_stream, one.length, one.ordered, one.kills_one_in = True, 5, True, 1 << 60
    one.leaves_early = 0.0
    with pytest.raises(rounds.Deviation):
        one._epoch(batches, 0)


@pytest.fixture
def service_round(tmp_path):
    """Make a round of a service whose consumers have written these logs; the last one was killed."""
    services, attached = part("services"), part("attached")

    class Log:
        def __init__(self, number, lines):
            self.log, self._lines = str(tmp_path / f"consumer{number}"), lines

        def lines(self):
            return self._lines

    def make(mode, *logs, length=4):
        one = services.ServiceRound(1, str(tmp_path))
        one.mode, one.size = mode, 1
        one.plan = attached.Plan(1, "soak", str(tmp_path), length, 1, {"ordered": True, "slow": "wait"})
        rank = 0 if mode == "ranks" else None
        one.past = [(Log(number, lines), rank, "next") for number, lines in enumerate(logs, start=1)]
        return one

    return make


def given(*positions, end="D"):
    return ["A 0", *[f"G 0 {position} 8" for position in positions], *([end] if end else [])]


@pytest.mark.parametrize("mode", ["ranks", "first come"])
def test_what_a_killed_consumer_was_given_last_may_come_again(service_round, mode):
    service_round(mode, given(0, 1, end=""), given(1, 2, 3))._check()
    service_round(mode, given(0, 1, end=""), given(2, 3))._check()


@pytest.mark.parametrize("mode", ["ranks", "first come"])
@pytest.mark.parametrize(
    ("second", "words"),
    [(given(0, 1, 2, 3), "twice 1"), (given(3), "lost 1"), (["! it is broken"], "broken")],
)
def test_a_position_that_is_lost_or_taken_twice_is_a_deviation(service_round, mode, second, words):
    with pytest.raises(part("rounds").Deviation, match=words):
        service_round(mode, given(0, 1, end=""), second)._check()


def test_ranks_out_of_order_are_a_deviation(service_round):
    with pytest.raises(part("rounds").Deviation, match="rank 0 got"):
        service_round("ranks", given(0, 2, 1, 3))._check()


@pytest.mark.parametrize(
    ("log", "words"),
    [(given(0, 1, 3), "and not 0 to 3"), (given(1, 2, 3), "and not 0 to 3"), (given(0, 0, 1, 2, 3), "some twice")],
)
def test_a_gap_in_a_broadcast_is_a_deviation(service_round, log, words):
    with pytest.raises(part("rounds").Deviation, match=words):
        service_round("broadcast", log)._check()


def test_a_batch_that_is_lost_amid_signals_is_a_deviation(monkeypatch):
    interrupts, struck = part("interrupts"), part("struck")

    def lists(alarms):
        while True:
            yield struck._read(alarms, [[0], [1], [3], [4]], [[0], [1], [2], [3], [4]])

    monkeypatch.setattr(interrupts, "LOADS", {"lists": lists})
    with pytest.raises(part("rounds").Deviation, match="lists, struck by signals"):
        interrupts.strike(1, 0.1)


def test_an_interrupt_that_does_not_reach_the_caller_is_a_deviation(monkeypatch):
    interrupts, alarms = part("interrupts"), part("alarms")
    monkeypatch.setattr(alarms, "_ENGINE", __file__)
    monkeypatch.setattr(alarms, "_KINDS", (alarms.StruckException,))

    def swallowing():
        end = time.monotonic() + 0.01
        with contextlib.suppress(Exception):
            while time.monotonic() < end:
                pass

    def calls(struck):
        while True:
            yield len(struck.call(swallowing))

    monkeypatch.setattr(interrupts, "LOADS", {"calls": calls})
    with pytest.raises(part("rounds").Deviation, match="the caller got None for StruckException"):
        interrupts.strike(1, 60)


def test_loads_are_struck_until_there_were_as_many_interrupts_as_were_asked_for(monkeypatch):
    interrupts, struck = part("interrupts"), part("struck")
    monkeypatch.setattr(interrupts, "LOADS", {"a queue": struck.LOADS["a queue"]})
    monkeypatch.setattr(interrupts, "_SLICE_S", 0.1)
    reports = []
    tally = interrupts.strike_often(1, 50, reports.append)
    assert interrupts.count_of(tally) >= 50
    assert reports[-1] is tally


def test_growth_is_seen_in_the_slope():
    growth = part("growth")
    samples = [growth.Sample(1000 * number, 0, 4096 * number, 10, 2, number) for number in range(20)]
    slopes = growth.slopes(samples)
    assert slopes["shared_bytes"] == pytest.approx(4096)
    assert slopes["processes"] == pytest.approx(1)
    assert slopes["descriptors"] == pytest.approx(0)


@pytest.mark.slow
def test_a_run_prints_its_seed_and_what_it_did():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "soak"), "--minutes", "0.01", "--seed", "12"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed 12\n")
    assert "arrived as they should" in done.stdout


@pytest.mark.slow
def test_a_run_with_a_service_prints_its_seed_and_what_it_did():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "soak"), "--service", "--minutes", "0.01", "--seed", "12"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "seed 12\n" in done.stdout
    assert "arrived as they should" in done.stdout
