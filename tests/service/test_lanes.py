"""Served streams: lanes of ranks, restarts of the server, and epochs of n batches of endless streams."""

import itertools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.consumer_processes import all_do, await_back, firsts
from helpers.deadlock import DEADLOCK_S
from helpers.logged_lanes import Counted, computed
from helpers.server_processes import crash

import mpqueue
from mpqueue.errors import ServiceError

pytestmark = pytest.mark.usefixtures("servers_directory")


def stream(length):
    """Return a stream of pairs: a number that is not divisible by 4, and a random number."""
    return (
        mpqueue.Dataset.range(length)
        .shuffle()
        .map(lambda x: np.array([x, mpqueue.rng().random()]))
        .filter(lambda pair: pair[0] % 4 != 0)
        .shuffle(buffer=5)
        .batch(2)
    )


def plain(batches):
    return [batch.tolist() for batch in batches]


def some(loop, count):
    """Return the next batches of a loop."""
    return plain(itertools.islice(loop, count))


def loaded(source, num_epochs=1, **options):
    """Return the epochs of a loader."""
    with mpqueue.Loader(source, workers=0, seed=3, **options) as loader:
        return [plain(loader) for _ in range(num_epochs)]


STREAM, ENDLESS = stream(240), stream(60)


def test_lanes_not_divisible_by_ranks_are_refused():
    with pytest.raises(ValueError, match=r"got 6 for 4 ranks: pass a multiple of 4"):
        mpqueue.Server("s", STREAM, workers=1, world=4, lanes=6)


@pytest.mark.slow
def test_server_may_crash_repeatedly(puppets, start_server, tmp_path):
    options = {"lanes": 4, "max_queue_size": 4}
    server = start_server(**options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    for _ in range(2):
        for _ in range(10):
            all_do(both, "take")
        crash(server)
        server = start_server(**options)
    all_do(both, "take_all")
    taken = both[0].taken + both[1].taken
    lanes = sorted((lane, number) for lane, number, *_ in taken)
    assert lanes == sorted((lane, number) for lane in range(4) for number in range(40 - lane % 2))
    words = {lane: [word for of, _, word, _ in sorted(taken) if of == lane] for lane in range(4)}
    assert all(total == sum(words[lane][: number + 1]) for lane, number, _, total in taken)
    again = sum(count - 1 for count in computed(tmp_path / "log").values())
    assert again < 2 * 30  # and not twice all delivered batches


@pytest.mark.sample(1)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["fast one first", "slow one first"])
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "index"])
@pytest.mark.parametrize("mode", ["broadcast", "split"])
def test_consumers_at_different_counts_continue_after_crashes(puppets, start_server, tmp_path, mode, is_stream, order):
    """The next server begins where the slowest consumer is, and the other one skips the batches that it has."""
    options = {"mode": mode, "world": 2, "seed": 3, "is_stream": is_stream} | ({"lanes": 4} if is_stream else {})
    server = start_server(40, **options)
    both = [puppets("s", reconnect=True, rank=rank if mode == "split" else None).attached() for rank in range(2)]
    all_do(both, "loop")
    for _ in range(2):
        for _ in range(6):
            all_do(both, "take")
        if len(both[0].taken) == len(both[1].taken):
            both[0].do("take")
        crash(server)
        server = start_server(40, **options)
        for number in order:  # the second one returns when the first one has requested a batch
            both[number].tell("take")
            if mode == "split":
                await_back(both[number], tmp_path / "journal")
        for one in both:
            one.answer()
    all_do(both, "take_all")
    taken = [one.taken if is_stream else firsts(one.taken) for one in both]
    whole = loaded(Counted(tmp_path / "other log", 40), lanes=4)[0] if is_stream else list(range(40))
    assert taken == ([whole[::2], whole[1::2]] if mode == "split" else [whole, whole])


@pytest.mark.sample(1)
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "index"])
def test_consumer_that_reconnects_late_begins_with_the_next_epoch(puppets, start_server, tmp_path, is_stream):
    options = {"mode": "broadcast", "world": 2, "grace_s": 0.5, "is_stream": is_stream}
    options |= {"lanes": 4} if is_stream else {}
    server = start_server(30, **options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    for _ in range(10):
        all_do(both, "take")
    both[1].process.send_signal(signal.SIGSTOP)
    crash(server)
    start_server(30, **options)
    both[0].take(5)  # as soon as no consumer waits for the other one anymore
    both[1].process.send_signal(signal.SIGCONT)
    assert both[1].do("take_all") == []
    both[0].do("take_all")
    assert both[0].taken[:10] == both[1].taken
    length = len(both[0].taken)
    assert length == (118 if is_stream else 30)
    again = all_do(both, "take_all")
    assert again[0] == again[1]
    assert len(again[0]) == length


def test_stream_with_only_a_state_dict_continues_after_restart(tmp_path):
    class Source:
        def __call__(self):
            info = mpqueue.worker_info()
            yield from range(info.shard_id, 12, info.num_shards)

        def state_dict(self):
            return {}

    taken = []
    for count in (3, None):  # the last batch before a stop is not taken, and is delivered again
        options = {"world": 1, "workers": 1, "lanes": 2, "journal": tmp_path / "journal"}
        with mpqueue.Server("s", Source(), **options), mpqueue.attach("s", rank=0) as consumer:
            taken.append(list(itertools.islice(consumer, count)))
    assert taken == [[0, 1, 2], list(range(2, 12))]


def test_journal_of_different_lanes_is_refused(tmp_path):
    options = {"workers": 1, "seed": 1, "journal": tmp_path / "journal"}
    with mpqueue.Server("s", STREAM, **options):
        pass
    for other in (STREAM.take(8), STREAM.repeat(2)):
        with pytest.raises(ServiceError, match="belongs to another stream"):
            mpqueue.Server("s", other, **options).start()
    with pytest.raises(ServiceError, match="belongs to another stream"):
        mpqueue.Server("s", STREAM, lanes=8, **options).start()


def test_epoch_of_a_server_without_batches_is_logged_once(caplog):
    short = mpqueue.Dataset.range(20).filter(lambda number: number > 0)
    with (
        mpqueue.Server("dropped", short, batch_size=4, drop_last=True, workers=1),
        mpqueue.attach("dropped", timeout=60) as consumer,
    ):
        assert [list(consumer) for _ in range(2)] == [[], []]
    assert sum("returned no batches: stage 2, batch(4, drop_last=True)" in text for text in caplog.messages) == 1


# -- Epochs of n batches


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
    with mpqueue.Server("s", ENDLESS, workers=2, seed=3, epoch_batches=30):
        with mpqueue.attach("s", timeout=30) as first, mpqueue.attach("s", timeout=30) as second:
            results = epochs(3, first, second)
    together = [sorted(one + other) for one, other in zip(*results, strict=True)]
    assert together == [sorted(epoch) for epoch in loaded(ENDLESS, 3, epoch_batches=30)]


def test_consumers_of_broadcast_may_join_late_and_leave():
    whole = loaded(ENDLESS, 3, epoch_batches=30)
    with mpqueue.Server("s", ENDLESS, workers=1, seed=3, mode="broadcast", epoch_batches=30, max_queue_size=4):
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
    whole = list(itertools.chain.from_iterable(loaded(ENDLESS, 3, epoch_batches=30)))
    with mpqueue.Server("s", ENDLESS, workers=1, seed=3, mode="broadcast", epoch_batches=30, max_queue_size=window):
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
    options = {"lanes": 4, "mode": mode, "world": 2, "epoch_batches": 15, "seed": 3, "length": 6}
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
    whole = list(itertools.chain.from_iterable(loaded(source, 2, lanes=4, epoch_batches=50)))
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
