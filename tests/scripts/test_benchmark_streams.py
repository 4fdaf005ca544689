"""The benchmark's workload of streams: the batches that are measured, and the peers."""

import pytest
from helpers.scripts import script

streams = script("parts.benchmark.streams")


@pytest.mark.parametrize("peer", [name for name in streams.FEEDS if name != "mpqueue"])
def test_a_peer_gives_what_the_stream_has(peer, request):
    """In a process of its own: peers leave segments and descriptors behind."""
    if not request.config.getoption("--peers"):
        pytest.skip("peers are tried with --peers")
    if not streams.FEEDS[peer].is_installed:
        pytest.skip(f"{peer} is not installed")
    assert script("parts.benchmark.measure").Measurement("streams", peer, "streams", 1, 0.05).in_fresh_process() > 0


def test_all_that_are_installed_are_planned():
    planned = script("parts.benchmark.rounds").plan(["streams"], [], 2, 1.0)
    assert [one.name for one in planned] == streams.stream_feeds()
    assert {one.what for one in planned} == {"streams"}
    assert sorted(streams.stream_feeds() + streams.absent()) == sorted(streams.FEEDS)


def test_the_functions_keep_six_of_seven():
    assert list(filter(streams.is_kept, map(streams.more, range(8)))) == [1, 2, 3, 4, 5, 6, 8]
