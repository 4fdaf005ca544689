"""Late consumers of a broadcast of a stream with lanes get the whole epoch: missed batches are computed again."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from helpers.faults import burns
from helpers.laned import Counted, computed
from helpers.puppets import all_do, await_back
from helpers.served_streams import loaded, plain, some, stream

import mpqueue
from mpqueue.errors import ServiceError

pytestmark = pytest.mark.usefixtures("servers_directory")

STREAM = stream(240)
BROADCAST = {"mode": "broadcast", "workers": 2, "seed": 3, "max_queue_size": 4}


def at_once(*loops):
    """Make several consumers take all remaining batches, each in a thread."""
    with ThreadPoolExecutor(len(loops)) as threads:
        return list(threads.map(plain, loops))


def late(**options):
    return mpqueue.attach("s", join="replay", timeout=30, **options)


def num_replays():
    return sum(thread.name == "mpqueue-replay" for thread in threading.enumerate())


def until_no_replay():
    """Wait for the replays to end: the server stops them without waiting."""
    while num_replays():
        threading.Event().wait(0.01)


def num_workers():
    """Return the number of workers of this process, except for workers of parked fork servers."""
    fork_servers = psutil.Process().children()
    return sum(len(fork_server.children()) for fork_server in fork_servers)


def test_late_consumer_gets_whole_epoch_and_then_next_one_with_the_others():
    whole = loaded(STREAM, 2)
    with mpqueue.Server("s", STREAM, **BROADCAST), mpqueue.attach("s", timeout=30) as first:
        begun = iter(first)
        had = some(begun, 50)
        before = num_workers()
        with late() as second:
            assert second.epoch == 0
            loop = iter(second)
            yielded = some(loop, 20)
            assert num_replays() == 1
            rest = at_once(begun, loop)
            assert had + rest[0] == yielded + rest[1] == whole[0]
            assert at_once(first, second) == [whole[1], whole[1]]
        until_no_replay()
        assert num_workers() == before


def test_late_consumers_proceed_independently_and_may_be_the_only_ones_left():
    (whole,) = loaded(STREAM)
    with mpqueue.Server("s", STREAM, **BROADCAST):
        first = mpqueue.attach("s", timeout=30)
        begun = iter(first)
        some(begun, 40)
        with late() as second, late() as third:
            loops = iter(second), iter(third)
            yielded = some(loops[0], 30), some(loops[1], 3)
            assert some(begun, 10) == whole[40:50]  # no consumer waits for late ones
            first.close()
            rest = at_once(*loops)
    assert [before + after for before, after in zip(yielded, rest, strict=True)] == [whole] * 2


def test_crash_of_late_consumer_leaves_nothing_behind(puppets):
    (whole,) = loaded(STREAM)
    with mpqueue.Server("s", STREAM, **BROADCAST), mpqueue.attach("s", timeout=30) as first:
        begun = iter(first)
        had = some(begun, 40)
        before = num_workers()
        second = puppets("s", join="replay").attached()
        second.take(2)
        second.kill()
        third = puppets("s", join="replay").attached()
        third.tell("take_all")
        assert had + plain(begun) == whole
        assert third.answer() == whole
        third.kill()
        until_no_replay()
        assert num_workers() == before


class KillsTheSecond:
    """Kills the process that computes an element for the second time, once."""

    def __init__(self, log, fuse, lane, number):
        self.log, self.fuse, self.place = str(log), str(fuse), (lane, number)

    def __call__(self, run, number):
        if (run.lane, number) == self.place and computed(self.log)[self.place] and burns(self.fuse):
            os.kill(os.getpid(), signal.SIGKILL)


def test_worker_of_replay_may_be_killed(tmp_path):
    lanes = {"lanes": 4}
    (whole,) = loaded(Counted(tmp_path / "other log", 20), **lanes)
    source = Counted(tmp_path / "log", 20, at=KillsTheSecond(tmp_path / "log", tmp_path / "fuse", 2, 4))
    with mpqueue.Server("s", source, **BROADCAST, **lanes), mpqueue.attach("s", timeout=30) as first:
        begun = iter(first)
        had = some(begun, 40)
        with late() as second:
            rest = at_once(begun, second)
        assert [had + rest[0], rest[1]] == [whole] * 2
        assert not (tmp_path / "fuse").exists() or computed(tmp_path / "log")[2, 4] >= 2


class Shrinks:
    """A generator function that yields fewer elements each time that it runs."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        for number in range(20 if burns(self.folder / "fuse") else 4):
            yield np.array(number)


def test_source_that_yields_less_in_replay_is_an_error(tmp_path):
    options = BROADCAST | {"workers": 1}
    with mpqueue.Server("s", Shrinks(tmp_path), **options, lanes=1), mpqueue.attach("s", timeout=30) as first:
        begun = iter(first)
        assert some(begun, 12) == list(range(12))
        with late() as second:
            loop = iter(second)
            assert some(loop, 4) == list(range(4))
            with pytest.raises(RuntimeError, match=r"after 4 batches\. The source must yield the same"):
                next(loop)
        assert plain(begun) == list(range(12, 20))


def test_source_that_cannot_be_replayed_is_an_error(tmp_path):
    for source, options in ((Shrinks(tmp_path), {}), (STREAM, {"ordered": False})):
        with (
            mpqueue.Server("s", source, mode="broadcast", workers=1, **options),
            pytest.raises(ServiceError, match=r"requires a stream .*lanes=n.*without ordered=False"),
        ):
            late()


def test_replay_continues_after_server_restart(puppets, start_server, tmp_path):
    """In an epoch that did not begin at the beginning of the source."""
    options = {"lanes": 4, "mode": "broadcast", "epoch_batches": 40, "length": 30, "seed": 3, "max_queue_size": 4}
    whole = loaded(Counted(tmp_path / "other log", 30), 2, lanes=4, epoch_batches=40)
    server = start_server(**options)
    first = puppets("s", reconnect=True).attached()
    assert first.do("take_all") == whole[0]
    had = first.take(20)
    second = puppets("s", reconnect=True, join="replay").attached()
    yielded = second.take(5)
    server.kill()
    server.wait()
    start_server(**options)
    first.tell("take"), second.tell("take")
    had.append(first.answer()), yielded.append(second.answer())
    third = puppets("s", join="replay").attached()
    for one in (first, second, third):
        one.tell("take_all")
    assert had + first.answer() == yielded + second.answer() == third.answer() == whole[1]


def test_consumer_that_reconnects_late_gets_missed_batches(puppets, start_server, tmp_path):
    options = {"lanes": 4, "mode": "broadcast", "world": 2, "length": 30, "seed": 3, "grace_s": 0.5}
    (whole,) = loaded(Counted(tmp_path / "other log", 30), lanes=4)
    server = start_server(**options)
    both = [puppets("s", reconnect=True).attached() for _ in range(2)]
    all_do(both, "loop")
    taken = [[], []]
    for _ in range(10):
        for yielded, batch in zip(taken, all_do(both, "take"), strict=True):
            yielded.append(batch)
    both[1].process.send_signal(signal.SIGSTOP)
    server.kill()
    server.wait()
    start_server(**options)
    taken[0] += both[0].take(30)  # as soon as no consumer waits for the other one anymore
    both[1].process.send_signal(signal.SIGCONT)
    both[1].tell("take")
    taken[1].append(both[1].answer())
    await_back(both[1], tmp_path / "journal")
    for yielded, batches in zip(taken, all_do(both, "take_all"), strict=True):
        yielded += batches
    assert taken == [whole, whole]
