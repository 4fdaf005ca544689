"""The benchmark's workloads of single samples: each feed gives the same batches, and each byte is copied once."""

import itertools

import numpy as np
import pytest
from helpers.scripts import script


@pytest.mark.parametrize("workload", ["samples", "small samples"])
def test_the_feed_gives_what_numpy_stacks(workload):
    made = script("parts.benchmark.samples")
    known = made.SAMPLES[workload]
    source = known.make()
    with made.FEEDS["mpqueue"](source, 4, 2, 4) as batches:
        found = list(itertools.islice(batches, 3))
    expected = made.Stacked(source, 4)
    for number, batch in enumerate(found):
        pairs = [(batch, expected[number])] if workload == "samples" else zip(batch, expected[number], strict=True)
        assert all((one == other).all() for one, other in pairs)


@pytest.mark.parametrize("peer", ["torch", "grain", "spdl"])
def test_a_peer_is_measured(peer, request):
    """In a process of its own: peers leave segments and descriptors behind."""
    if not request.config.getoption("--peers"):
        pytest.skip("peers are tried with --peers")
    pytest.importorskip(peer)
    made = script("parts.benchmark.measure").Measurement("samples", peer, "small samples", 1, 0.05)
    assert made.in_fresh_process() > 0


@pytest.mark.parametrize("workload", ["samples", "small samples"])
def test_each_byte_is_copied_once(workload):
    assert script("parts.benchmark.samples").copied_per_byte(workload) == 1


def test_a_second_copy_would_be_counted(monkeypatch):
    made = script("parts.benchmark.samples")
    finish = made.Collation.finish

    def twice(self, indices):
        batch = finish(self, indices)
        batch[:] = np.array(batch)
        return batch

    monkeypatch.setattr(made.Collation, "finish", twice)
    assert made.copied_per_byte("samples") == 2


def test_a_rate_is_measured():
    assert script("parts.benchmark.samples").sample_rate("small samples", "mpqueue", 1, 0.05) > 0
