"""The soak's own checks: they must be able to fail."""

import subprocess
import sys

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
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed 12\n")
    assert "arrived as they should" in done.stdout
