"""Endless streams served in epochs of n batches, which the server counts for all consumers."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.consumer_processes import all_do
from helpers.deadlock import DEADLOCK_S
from helpers.logged_lanes import Counted
from helpers.served_streams import loaded, plain, some, stream
from helpers.server_processes import crash

import mpqueue

pytestmark = pytest.mark.usefixtures("servers_directory")

STREAM = stream(60)
LANES = 4


def epochs(num_epochs, *consumers):
    """Take epochs with all consumers at once; return a list of epochs for each consumer."""
    # Otherwise, a fast consumer may take the whole epoch before the thread of a slow one begins.
    begun = threading.Barrier(len(consumers), timeout=DEADLOCK_S)

    def loops(consumer):
        for _ in range(num_epochs):
            loop = iter(consumer)
            begun.wait()
            yield plain(loop)

    with ThreadPoolExecutor(len(consumers)) as threads:
        return list(threads.map(lambda consumer: list(loops(consumer)), consumers))


def test_first_come_consumers_share_n_batches():
    with mpqueue.Server("s", STREAM, workers=2, seed=3, epoch_batches=30):
        with mpqueue.attach("s", timeout=30) as first, mpqueue.attach("s", timeout=30) as second:
            results = epochs(3, first, second)
    together = [sorted(one + other) for one, other in zip(*results, strict=True)]
    assert together == [sorted(epoch) for epoch in loaded(STREAM, 3, epoch_batches=30)]


def test_consumers_of_broadcast_may_join_late_and_leave():
    whole = loaded(STREAM, 3, epoch_batches=30)
    with mpqueue.Server("s", STREAM, workers=1, seed=3, mode="broadcast", epoch_batches=30, max_queue_size=4):
        first = mpqueue.attach("s", timeout=30)
        assert len(first) == 30
        loop = iter(first)
        assert some(loop, 12) == whole[0][:12]
        second, third = (mpqueue.attach("s", timeout=30, join=join) for join in ("now", "next"))
        with second:
            rest = iter(second)
            assert some(loop, 4) == whole[0][12:16]
            seen = some(rest, 1)
        assert seen[0] in whole[0][12:30]
        assert plain(loop) == whole[0][16:]
        assert epochs(2, first, third) == [whole[1:], whole[1:]]
        first.close(), third.close()


def test_abandoned_epoch_ends_and_next_one_continues():
    window = 4
    whole = list(itertools.chain.from_iterable(loaded(STREAM, 3, epoch_batches=30)))
    with mpqueue.Server("s", STREAM, workers=1, seed=3, mode="broadcast", epoch_batches=30, max_queue_size=window):
        with mpqueue.attach("s", timeout=30) as consumer:
            assert some(consumer, 10) == whole[:10]
        with mpqueue.attach("s", timeout=30) as consumer:
            assert consumer.epoch == 1
            results = plain(consumer) + plain(consumer)
    begin = whole.index(results[0])
    assert 10 <= begin <= 10 + window + 1  # offers to the previous consumer are dropped
    assert results == whole[begin : begin + 60]


def take(both, count, taken):
    """Make two consumers take this many batches each; return a list of pairs per epoch."""
    while count:
        batches = all_do(both, "take")
        if None in batches:
            assert batches == [None, None]
            all_do(both, "loop")
            taken.append([])
        else:
            taken[-1].append(batches)
            count -= 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("mode", ["broadcast", "split"])
def test_server_may_crash_in_any_epoch(puppets, start_server, tmp_path, mode):
    """In the middle of an epoch, and after its last batch."""
    options = {"lanes": LANES, "mode": mode, "world": 2, "epoch_batches": 15, "seed": 3, "length": 6}
    server = start_server(**options)
    both = [puppets("s", reconnect=True, rank=None if mode == "broadcast" else rank).attached() for rank in range(2)]
    all_do(both, "loop")
    taken = [[]]
    for count in (20, 10):
        take(both, count, taken)
        crash(server)
        server = start_server(**options)
    take(both, 20, taken)
    assert [len(epoch) for epoch in taken] == [15, 15, 15, 5]
    first, second = zip(*itertools.chain.from_iterable(taken), strict=True)
    source = Counted(tmp_path / "log of a loader", 6)
    whole = list(itertools.chain.from_iterable(loaded(source, 2, lanes=LANES, epoch_batches=50)))
    if mode == "broadcast":
        assert list(first) == list(second) == whole[:50]
    else:
        assert (list(first), list(second)) == (whole[::2], whole[1::2])


@pytest.mark.parametrize(("options", "rank"), [({}, None), ({"mode": "split", "world": 2}, 1)])
def test_stream_without_elements_has_no_epochs(options, rank):
    empty = mpqueue.Dataset.range(4).filter(lambda number: number > 9)
    with (
        mpqueue.Server("s", empty, workers=1, epoch_batches=3, **options),
        mpqueue.attach("s", rank=rank, timeout=30) as consumer,
        pytest.raises(RuntimeError, match=r"of 3 batches is impossible: the stream of Dataset is empty: it returned"),
    ):
        next(iter(consumer))


def test_epoch_batches_of_indexed_source_are_refused_as_by_loader():
    with pytest.raises(ValueError, match="epoch_batches=20 applies to streams"):
        mpqueue.Server("s", range(40), workers=1, world=4, epoch_batches=20)
