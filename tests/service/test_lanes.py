"""Served streams with lanes: lanes of ranks, crashes of consumers, and restarts of the server."""

import itertools
import signal

import pytest
from helpers.laned import computed
from helpers.puppets import all_do, await_back
from helpers.served_streams import loaded, stream

import mpqueue
from mpqueue.errors import ServiceError

pytestmark = pytest.mark.usefixtures("servers_directory")

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


def test_server_may_crash_repeatedly(puppets, start_server, tmp_path):
    options = {"lanes": 4, "max_queue_size": 4}
    server = start_server(**options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    taken = []
    for _ in range(2):
        for _ in range(10):
            taken += all_do(both, "take")
        server.kill()
        server.wait()
        server = start_server(**options)
    for one in both:
        one.tell("take_all")
    taken += [batch for one in both for batch in one.answer()]
    lanes = sorted((lane, number) for lane, number, *_ in taken)
    assert lanes == sorted((lane, number) for lane in range(4) for number in range(40 - lane % 2))
    words = {lane: [word for of, _, word, _ in sorted(taken) if of == lane] for lane in range(4)}
    assert all(total == sum(words[lane][: number + 1]) for lane, number, _, total in taken)
    again = sum(count - 1 for count in computed(tmp_path / "log").values())
    assert again < 2 * 30  # and not twice all delivered batches


def test_broadcast_with_lanes_resumes_at_slowest_consumer(puppets, start_server, tmp_path):
    options = {"lanes": 4, "mode": "broadcast", "world": 2}
    server = start_server(**options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    taken = [[], []]
    for _ in range(9):
        for own, batch in zip(taken, all_do(both, "take"), strict=True):
            own.append(batch)
    taken[0].append(both[0].do("take"))
    both[1].process.send_signal(signal.SIGSTOP)
    server.kill()
    server.wait()
    start_server(**options)
    both[0].tell("take_all")  # impossible before the other consumer has attached again
    await_back(both[0], tmp_path / "journal")
    both[1].process.send_signal(signal.SIGCONT)
    both[1].tell("take_all")
    for own, one in zip(taken, both, strict=True):
        own += one.answer()
    assert taken[0] == taken[1]
    assert len(taken[0]) == 4 * 40 - 2


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
