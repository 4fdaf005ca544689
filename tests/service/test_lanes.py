"""Served streams with lanes: lanes of ranks, crashes of consumers, and restarts of the server."""

import itertools
import signal

import pytest
from helpers.consumer_processes import all_do, await_back, firsts
from helpers.logged_lanes import Counted, computed
from helpers.served_streams import loaded, stream
from helpers.server_processes import crash

import mpqueue
from mpqueue.errors import ServiceError

pytestmark = [pytest.mark.sample(1), pytest.mark.usefixtures("servers_directory")]

STREAM = stream(240)


def test_lanes_not_divisible_by_ranks_are_refused():
    with pytest.raises(ValueError, match=r"got 6 for 4 ranks: pass a multiple of 4"):
        mpqueue.Server("s", STREAM, workers=1, world=4, lanes=6)


def test_replacement_of_killed_rank_continues_in_lane(puppets):
    with mpqueue.Server("s", STREAM, workers=1, seed=3, world=2):
        first, second = (puppets("s", rank=rank).attached() for rank in range(2))
        first.do("loop"), second.do("loop")
        taken = [first.take(2), second.take(2)]
        first.kill()  # the last batch was not taken, and is delivered again
        third = puppets("s", rank=0).attached()
        second.tell("take_all"), third.tell("take_all")
        taken[0][-1:] = third.answer()
        taken[1] += second.answer()
    (whole,) = loaded(STREAM)
    together = [each for pair in zip(*taken, strict=True) for each in pair]
    assert together == whole[: len(together)]
    assert len(whole) - len(together) < 2


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


@pytest.mark.slow
def test_broadcast_with_lanes_resumes_at_slowest_consumer(puppets, start_server, tmp_path):
    options = {"lanes": 4, "mode": "broadcast", "world": 2}
    server = start_server(**options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    for _ in range(9):
        all_do(both, "take")
    both[0].do("take")
    both[1].process.send_signal(signal.SIGSTOP)
    crash(server)
    start_server(**options)
    both[0].tell("take_all")  # impossible before the other consumer has attached again
    await_back(both[0], tmp_path / "journal")
    both[1].process.send_signal(signal.SIGCONT)
    both[1].do("take_all"), both[0].answer()
    assert both[0].taken == both[1].taken
    assert len(both[0].taken) == 4 * 40 - 2


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
