"""A server and its consumers in separate processes: distribution of batches, crashes and stops."""

import contextlib
import errno
import json
import os
import pickle
import select
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.consumer_processes import Indices, Raised, all_do, await_back, firsts
from helpers.consumer_requests import ConsumerRequest
from helpers.forked_calls import status_of_fork
from helpers.refused_calls import refusing
from helpers.server_processes import RawConsumer, crash, num_descriptors
from helpers.service_parts import loop_of, specs_of, unvetted_of
from helpers.waits import until
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue.errors import ServiceError, ServiceStateError
from mpqueue.service.protocol import server_directory, specs
from mpqueue.service.protocol.records import ToServer
from mpqueue.service.serving import journal
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.service.serving.journal import read_journal

pytestmark = pytest.mark.usefixtures("servers_directory")


def any_number(number):
    return number >= 0


def test_broadcast_yields_all_to_all_and_computes_each_batch_once(puppets):
    with mpqueue.Server("s", Indices(20), mode="broadcast", world=3, workers=2) as server:
        taken = all_do([puppets("s") for _ in range(3)], "take_all")
        assert [firsts(batches) for batches in taken] == [list(range(20))] * 3
        assert server.statistics().batches == 20


def test_length_of_a_consumer_is_its_number_of_batches_in_an_epoch():
    options = [{"mode": "broadcast"}, {"world": 2}, {}, {"epoch_batches": 5, "mode": "broadcast"}]
    sources = [Indices(20), Indices(21), Indices(20), mpqueue.Dataset.range(20).filter(any_number).batch(2)]
    for source, option, length in zip(sources, options, [20, 11, None, 5], strict=True):
        rank = 0 if "world" in option else None
        with mpqueue.Server("s", source, workers=1, **option), mpqueue.attach("s", timeout=60, rank=rank) as consumer:
            if length is not None:
                assert len(consumer) == length
                continue
            with pytest.raises(TypeError, match="delivers each batch to the consumer that requests it first"):
                len(consumer)


def test_group_is_notified_of_rank_that_is_not_replaced(puppets):
    with mpqueue.Server("s", Indices(100), world=2, workers=1, grace_s=0.1):
        first, second = (puppets("s", rank=rank).attached() for rank in range(2))
        second.kill()
        with pytest.raises(Raised, match=r"ConsumerDied.*rank 1 left"):
            for _ in range(2):  # it may get the rest of this epoch, and cannot begin the next one
                first.do("take_all")


def test_slots_of_killed_consumer_are_freed(puppets):
    with mpqueue.Server("s", Indices(400, 1000), workers=1) as server:
        first = puppets("s").attached()
        for _ in range(5):
            first.do("take"), first.do("keep")
        first.kill()
        second = puppets("s")
        assert len(second.do("take_all")) == 395 + 1
        second.do("close")
        until(lambda: not server.statistics().consumers, "the consumer has not left")
        until(lambda: server.statistics().slots_in_use <= 10, "slots were not given back")


def test_suspended_consumer_is_detached_and_its_views_stay(puppets):
    with mpqueue.Server("s", Indices(3000, 100), workers=1, max_queue_size=4, lease_timeout=2.0):
        first, second = puppets("s").attached(), puppets("s").attached()
        first.do("take")
        kept = first.do("keep")
        first.process.send_signal(signal.SIGSTOP)
        others = firsts(second.do("take_all"))
        first.process.send_signal(signal.SIGCONT)
        assert sorted(others) == list(range(3000)), "including the batches that it had not taken"
        with pytest.raises(Raised, match=r"ConsumerDied.*this consumer sent no request for 2 s"):
            first.do("take")
        assert first.do("keep")[0] == kept[0], "its slot was not overwritten"


def test_restarted_server_does_not_wait_for_detached_consumer(puppets, tmp_path):
    path = tmp_path / "journal"
    with mpqueue.Server("s", Indices(3), workers=1, lease_timeout=2.0, journal=path) as server:
        first = puppets("s").attached()
        first.do("take")
        first.process.send_signal(signal.SIGSTOP)
        until(lambda: not server.statistics().consumers, "the consumer was not detached")
        assert read_journal(path).survivors == {}
        first.process.send_signal(signal.SIGCONT)


def test_journal_stays_in_its_folder(puppets, tmp_path, monkeypatch):
    """A new file is written at each epoch."""
    for folder in ("first", "second"):
        os.mkdir(tmp_path / folder)
    monkeypatch.chdir(tmp_path / "first")
    with mpqueue.Server("s", Indices(2), workers=1, journal="journal"):
        monkeypatch.chdir(tmp_path / "second")
        assert firsts(puppets("s").do("take_all")) == [0, 1]
    assert os.listdir(tmp_path / "second") == []
    assert read_journal(tmp_path / "first" / "journal").epoch == 1


def test_tilde_in_journal_and_folder_is_the_home_folder(puppets, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with mpqueue.Server("~/s", Indices(2), workers=1, journal="~/journal") as server:
        assert server.folder == str(tmp_path / "s")
        assert firsts(puppets(server.folder).do("take_all")) == [0, 1]
    assert read_journal(tmp_path / "journal").epoch == 1


def test_seat_of_detached_rank_goes_to_waiting_consumer(puppets):
    with mpqueue.Server("s", Indices(6), world=1, workers=1, lease_timeout=2.0):
        first = puppets("s", rank=0).attached()
        with_one = num_descriptors(os.getpid())
        second = puppets("s", rank=0, timeout=60.0)
        until(lambda: num_descriptors(os.getpid()) > with_one, "the second one is not connected")
        first.do("loop")  # not earlier: it sends no message anymore, and has batches
        first.do("take")
        first.process.send_signal(signal.SIGSTOP)
        assert firsts(second.do("take_all")) == list(range(6))


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["indexed", "lanes"])
def test_ranks_wait_while_seat_of_suspended_rank_is_vacant(puppets, kind):
    """Its replacement gets the batches that it has not taken, and no batch is computed again."""
    source = Indices(60) if kind == "indexed" else mpqueue.Dataset.range(60).filter(any_number).batch(1)
    options = {"lanes": 4} if kind == "lanes" else {}
    with mpqueue.Server(
        "s", source, world=2, workers=1, max_queue_size=4, lease_timeout=2.0, grace_s=600.0, **options
    ) as server:
        first, second = (puppets("s", rank=rank).attached() for rank in range(2))
        taken = firsts(first.take(3))[:2]
        first.process.send_signal(signal.SIGSTOP)
        second.tell("take_all")
        until(lambda: len(server.statistics().consumers) == 1, "the suspended consumer was not detached")
        first.process.kill()
        again, others = firsts(puppets("s", rank=0).do("take_all")), firsts(second.answer())
        assert len(others) == 30
        assert sorted(taken + again + others) == list(range(60))
        assert server.statistics().batches == 60


def test_request_sent_during_detachment_counts(puppets, monkeypatch):
    """The consumer was silent, and requests its next batch at the moment of its detachment."""

    def cut_late(cut, deliveries, consumer, *why):
        first.tell("take")
        assert select.select([deliveries.peers[consumer].sock], [], [], 60)[0]
        cut(deliveries, consumer, *why)

    wrap(monkeypatch, Deliveries, "cut", cut_late)
    with mpqueue.Server("s", Indices(20), workers=1, lease_timeout=2.0):
        first = puppets("s").attached()
        assert first.do("take")[:1] == [0]
        assert sorted(firsts(puppets("s").do("take_all"))) == list(range(1, 20))
        with pytest.raises(Raised, match="ConsumerDied"):
            first.answer()


def test_views_outlive_close_and_their_slots_are_not_overwritten(puppets):
    with mpqueue.Server("s", Indices(500, 50), workers=1, max_queue_size=3) as server:
        first = puppets("s").attached()
        first.do("take")
        kept = first.do("keep")
        first.do("close")
        second = puppets("s")
        assert len(second.do("take_all")) == 500
        assert first.do("keep")[0] == kept[0]
        in_use = server.statistics().slots_in_use
        first.do("drop")
        until(lambda: server.statistics().slots_in_use < in_use, "the slot of the last view was not freed")


def test_forked_child_with_connection_does_not_hide_crash_of_consumer(puppets):
    with mpqueue.Server("s", Indices(10), world=1, workers=1):
        first = puppets("s", rank=0).attached()
        first.take(2)
        child = first.do("fork")
        try:
            first.kill()
            assert firsts(puppets("s", rank=0).do("take_all")) == list(range(1, 10))
        finally:
            os.kill(child, signal.SIGKILL)


def test_slow_consumer_is_detached_with_slow_detach(puppets):
    with mpqueue.Server("s", Indices(40), mode="broadcast", world=2, workers=1, max_queue_size=2, slow="detach"):
        first, second = puppets("s").attached(), puppets("s").attached()
        second.do("loop")
        assert firsts(first.do("take_all")) == list(range(40))
        with pytest.raises(Raised, match=r"ConsumerDied.*this consumer was so slow that the others had to wait"):
            second.do("take")


class Uneven(Indices):
    def __getitem__(self, index):
        if index % 4 == 0:
            time.sleep(0.01)  # so that the batches after them are ready first
        return super().__getitem__(index)


class Failing(Indices):
    def __getitem__(self, index):
        if index == 3:
            raise KeyError("no such picture")
        return super().__getitem__(index)


def test_slow_skip_skips_batches_of_slow_consumer(puppets):
    with mpqueue.Server(
        "s", Indices(40), mode="broadcast", world=2, workers=1, max_queue_size=3, slow="skip"
    ) as server:
        first, second = puppets("s").attached(), puppets("s").attached()
        assert second.do("take")[0] == 0
        assert firsts(first.do("take_all")) == list(range(40))
        skipped = {one.pid: one.skipped for one in server.statistics().consumers}[second.process.pid]
        rest = firsts(second.do("take_all"))
        assert len(rest) + 1 + skipped == 40
        assert rest == sorted(rest)
        assert second.do("statistics")["skipped"] == skipped  # notified before the end
        assert first.do("statistics")["skipped"] == 0


def test_loop_that_yields_only_exceptions_ends_with_its_epoch():
    """It is not empty, so it does not become the loop over the next epoch."""
    with mpqueue.Server("s", Failing(4), mode="broadcast", workers=1), mpqueue.attach("s", timeout=60) as consumer:
        assert len(list(zip(range(3), consumer, strict=False))) == 3
        batches = iter(consumer)
        with pytest.raises(KeyError):
            next(batches)
        assert list(batches) == []
        assert consumer.epoch == 1


def test_on_epoch_end_runs_once_after_all_batches_are_taken(puppets, tmp_path):
    class Ending(Indices):
        def on_epoch_end(self):
            kept_out = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # its child processes would inherit them
            with open(tmp_path / "ends", "a") as file:
                file.write(f"end, without {len(kept_out)}\n")

    with mpqueue.Server("s", Ending(4), world=2, workers=1):
        first, second = (puppets("s", rank=rank).attached() for rank in range(2))
        assert len(first.do("take_all")) == 2
        assert not (tmp_path / "ends").exists()
        assert len(second.do("take_all")) == 2
        first.do("take")
        assert (tmp_path / "ends").read_text() == "end, without 0\n"


def test_stop_is_raised_in_consumers_and_views_stay(puppets):
    server = mpqueue.Server("s", Indices(100), workers=1).start()
    first = puppets("s").attached()
    first.do("take")
    kept = first.do("keep")
    server.stop()
    with pytest.raises(Raised, match=r"ServiceDied.*was stopped"):
        first.take(100)
    assert first.do("keep")[0] == kept[0]
    assert server.statistics().batches > 0


def test_consumer_that_connects_to_a_stopping_server_waits_for_the_next_one(monkeypatch):
    connected, restarted = threading.Event(), threading.Event()

    def greet_later(greet, *arguments):
        connected.set()
        assert restarted.wait(60)
        greet(*arguments)

    wrap(monkeypatch, server_directory, "greet", greet_later)
    server = mpqueue.Server("s", Indices(4), workers=1).start()
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(mpqueue.attach, "s", timeout=60)
        assert connected.wait(60)
        until(lambda: unvetted_of(server), "the connection was not accepted")
        server.stop()
        with server:
            restarted.set()
            with consumer.result(60) as attached:
                assert firsts(attached) == [0, 1, 2, 3]


def test_start_twice_and_wait_before_start_are_errors():
    server = mpqueue.Server("s", Indices(), workers=1)
    with pytest.raises(ServiceStateError, match="is not running"):
        server.wait()
    with server, pytest.raises(ServiceStateError, match="already running") as caught:
        server.start()
    assert isinstance(caught.value, RuntimeError)
    with server:
        assert server.wait(0.01) is False


def test_with_accepts_a_started_server_and_refuses_one_that_another_with_has_entered():
    with mpqueue.Server("s", Indices(), workers=1).start() as server:
        assert server.wait(0) is False
        with pytest.raises(ServiceStateError, match="already"), server:
            pytest.fail("a second `with` would stop the server of the first")
        assert server.wait(0) is False
        server.stop()
    with pytest.raises(ServiceStateError, match="not running"):
        server.wait()
    with server:
        assert server.wait(0) is False


class Hooked(Indices):
    """A source with an `on_epoch_end` that calls a function, in the server's process."""

    def __getstate__(self):
        return {**vars(self), "hook": None}

    def on_epoch_end(self):
        self.hook()


def test_call_that_would_wait_for_its_own_thread_is_an_error(puppets):
    source, caught = Hooked(4), []

    def call_all():
        for call in (server.stop, server.wait):
            with pytest.raises(ServiceStateError, match="in another thread") as error:
                call()
            caught.append(error)

    source.hook = call_all
    with mpqueue.Server("s", source, workers=1) as server:
        consumer = puppets("s")
        for _ in range(2):
            assert firsts(consumer.do("take_all")) == [0, 1, 2, 3]
        assert len(caught) >= 3


def test_error_of_a_hook_names_no_batch():
    source = Hooked(4)

    def fail():
        raise ValueError("of the hook")

    source.hook = fail
    with mpqueue.Server("s", source, workers=1), mpqueue.attach("s", timeout=30) as consumer:
        assert len(list(consumer)) == 4
        with pytest.raises(ValueError, match="of the hook") as error:
            next(iter(consumer))
    (note,) = [note for note in error.value.__notes__ if "in the server" in note]
    assert note == "raised in the server before the next batch of epoch 1"


def test_forked_child_can_leave_the_block_of_its_parents_server(puppets):
    with mpqueue.Server("s", Indices(4), workers=1) as server:

        def leave():
            signal.alarm(60)  # ends a child that hangs
            server.stop()
            assert "stopped" in repr(server)

        assert status_of_fork(leave) == 0
        assert firsts(puppets("s").do("take_all")) == [0, 1, 2, 3]


def test_two_servers_with_one_journal_are_refused(tmp_path):
    path = tmp_path / "journal"
    other = mpqueue.Server("other", Indices(3), workers=1, journal=path)
    with mpqueue.Server("first", Indices(3), workers=1, journal=path):
        with pytest.raises(ServiceError, match=f"the journal {path} is in use by the server in process {os.getpid()}"):
            other.start()
        with pytest.raises(ServiceError, match="no server"):
            mpqueue.attach("other", timeout=0)
    with other:  # the name and the journal are free again
        assert sorted(os.listdir(tmp_path)) == ["journal", "journal.lock"]
    assert os.listdir(tmp_path) == ["journal"]


@pytest.mark.parametrize("with_journal", [True, False], ids=["journal", "no journal"])
def test_missing_thread_is_an_os_error_without_leaks(puppets, tmp_path, monkeypatch, with_journal):
    server = mpqueue.Server("s", Indices(4), workers=1, journal=tmp_path / "journal" if with_journal else None)
    with server:  # opened once per process, such as the fork server
        pass
    before = len(os.listdir("/proc/self/fd"))

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            server.start()
    assert len(os.listdir("/proc/self/fd")) <= before
    with server:
        assert firsts(puppets("s").do("take_all")) == [0, 1, 2, 3]


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"mode": "scatter"}, ValueError, 'mode must be "split" or "broadcast"'),
        ({"slow": np.zeros(2)}, ValueError, 'slow must be "wait", "skip" or "detach"'),
        ({"world": 0}, ValueError, "world must be 1 or more"),
        ({"world": "4"}, TypeError, "world must be an integer"),
        ({"slow": "skip"}, ValueError, 'requires mode="broadcast"'),
        ({"slow": "detach", "world": 2}, ValueError, 'slow="detach" requires mode="broadcast"'),
        ({"slow": "detach"}, ValueError, "lease_timeout=SECONDS"),
        ({"grace_s": -1}, ValueError, "grace_s must be"),
        ({"grace_s": 10**400}, ValueError, "grace_s must be a number that fits into a float"),
        ({"grace_s": "3"}, TypeError, "grace_s must be a number of seconds, got '3'"),
        ({"lease_timeout": "3"}, TypeError, "lease_timeout must be a number of seconds or None, got '3'"),
        ({"epoch_batches": 20}, ValueError, "epoch_batches=20 applies to streams"),
        ({"lease_timeout": 0}, ValueError, "lease_timeout must be a number of seconds above 0, or None, got 0"),
        ({"workers": 0}, ValueError, "workers=0"),
        ({"shard": "auto"}, ValueError, "shard is not an option of a server"),
        ({"copy": True}, ValueError, "writable"),
        ({"backend": "thread"}, ValueError, "backend='thread'"),
        ({"num_workers": 2}, TypeError, "workers"),
        ({"rank": 2}, TypeError, 'mode="split" and world=N to the server, and rank=R to mpqueue.attach'),
        ({"world_size": 2}, TypeError, "world=N to the server"),
        ({"journal": "/"}, ValueError, "journal must be the path of a file, got '/', which is empty or a folder"),
        ({"journal": 3}, TypeError, "journal must be the path of a file or None, got 3"),
        ({"journal": "/no/j"}, ValueError, "journal must be the path of a file in an existing folder, got '/no/j'"),
        ({"journal": "x", "ordered": False}, ValueError, "journal requires ordered=True, got ordered=False"),
        ({"allow_uids": ["root"]}, TypeError, "each of allow_uids must be an integer user id, got 'root'"),
        ({"allow_uids": 3}, TypeError, "allow_uids must be a list of integer user ids, got 3"),
        ({"allow_uids": [-1]}, ValueError, r"each of allow_uids must be a user id from 0 to 2\*\*32 - 1, got -1"),
        (
            {"allow_uids": [1 << 32]},
            ValueError,
            r"each of allow_uids must be a user id from 0 to 2\*\*32 - 1, got 42949",
        ),
    ],
)
def test_invalid_option_is_refused_at_construction(options, kind, words):
    with pytest.raises(kind, match=words):
        mpqueue.Server("s", Indices(), **{"workers": 1} | options)


def test_statistics_show_progress_and_slow_consumers(puppets):
    with mpqueue.Server("s", Indices(50), mode="broadcast", world=2, workers=1, max_queue_size=3) as server:
        first, second = puppets("s").attached(), puppets("s").attached()
        first.do("loop"), second.do("loop")
        first.tell("take_all")
        until(lambda: any(one.holds_up for one in server.statistics().consumers), "no consumer is reported as slow")
        slow = next(one for one in server.statistics().consumers if one.holds_up)
        assert slow.pid == second.process.pid
        assert slow.behind >= 3
        second.do("take_all"), first.answer()

        def served():
            return {one.pid: one for one in server.statistics().consumers}

        # The end of an epoch is sent after its last batch, before that batch is reported as taken.
        until(lambda: served()[first.process.pid].batches == 50, "not all of the epoch was taken")
        assert served()[first.process.pid].bytes > 50 * 16
        assert served()[first.process.pid].wait_s > 0


def behind(server):
    """Return the number of batches that a server has offered its first consumer, and that are not taken."""
    server.stdin.write("\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@pytest.fixture
def start_server(start_server):
    """Start servers of shuffled indices for two ranks."""
    options = {"is_stream": False, "world": 2, "shuffle": True}
    return lambda length, **others: start_server(length, **options | others)


@contextlib.contextmanager
def suspended(server):
    """Suspend the process of a server until the context exits."""
    server.send_signal(signal.SIGSTOP)
    # The signal reaches one thread, and the others run until that thread has got a CPU.
    threads = list(Path(f"/proc/{server.pid}/task").iterdir())
    until(lambda: all(") T " in (thread / "stat").read_text() for thread in threads), "the server was not suspended")
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


def test_suspended_server_reads_requests_before_lease_timeout(puppets, start_server):
    server = start_server(40, world=1, journal=None, lease_timeout=2.0)
    first = puppets("s", rank=0).attached()
    taken = firsts(first.take(1))
    until(lambda: behind(server) >= 9, "the window was not filled")
    with suspended(server):
        taken += firsts(first.take(5))
        time.sleep(2.2)  # longer than `lease_timeout`, with unread requests
    assert sorted(taken + firsts(first.do("take_all"))) == list(range(40))


def test_all_requests_of_killed_consumer_count(puppets, start_server):
    server = start_server(300, world=None, journal=None, max_queue_size=100, at_once=2)
    first = puppets("s").attached()
    taken = firsts(first.take(1))
    until(lambda: behind(server) == 100, "the window was not filled")
    with suspended(server):
        taken += firsts(first.take(50))
        first.kill()
    again = firsts(puppets("s").do("take_all"))
    assert sorted(taken[:-1] + again) == list(range(300))


def test_server_killed_before_all_are_back_leaves_survivors_to_next_one(puppets, start_server, tmp_path):
    server = start_server(12, world=None)
    first, second = (puppets("s", reconnect=True).attached() for _ in range(2))
    first.do("loop"), second.do("loop")
    first.do("take"), second.do("take")
    second.process.send_signal(signal.SIGSTOP)
    for number in range(2):
        crash(server)
        if number == 0:  # not earlier: the first one might take everything, and the second loop be the next epoch
            second.tell("take_all"), first.tell("take_all")
        server = start_server(12, world=None)
        await_back(first, tmp_path / "journal")
    second.process.send_signal(signal.SIGCONT)
    first.answer(), second.answer()
    assert sorted(firsts(first.taken + second.taken)) == list(range(12))


def test_restarted_broadcast_does_not_end_its_epoch_before_all_survivors_are_back(puppets, start_server, tmp_path):
    server = start_server(12, mode="broadcast")
    first, second = (puppets("s", reconnect=True).attached() for _ in range(2))
    for _ in range(3):
        all_do([first, second], "take")
    second.process.send_signal(signal.SIGSTOP)
    crash(server)
    first.tell("take_all")
    start_server(12, mode="broadcast")
    await_back(first, tmp_path / "journal")
    # The first consumer gets no batch yet. If it did, it would need far less time than this for the whole epoch.
    assert not first.has_answered(within=1)
    second.process.send_signal(signal.SIGCONT)
    second.tell("take_all")
    first.answer(), second.answer()
    assert first.taken == second.taken
    assert sorted(firsts(first.taken)) == list(range(12))


def test_crashed_rank_of_crashed_server_is_replaced(puppets, start_server):
    server = start_server(20)
    first, second = (puppets("s", rank=rank, reconnect=rank == 1).attached() for rank in range(2))
    first.do("loop"), second.do("loop")
    for _ in range(3):
        first.do("take"), second.do("take")
    first.do("take")  # the last one without a later request
    first.kill()
    crash(server)
    second.tell("take_all")
    start_server(20)
    rest = puppets("s", rank=0).do("take_all")
    second.answer()
    assert sorted(firsts(first.taken[:-1] + rest + second.taken)) == list(range(20))


def test_server_with_unwritable_journal_stops_with_reason(puppets, tmp_path, monkeypatch, caplog):
    with mpqueue.Server("s", Indices(8), world=1, workers=1, journal=tmp_path / "journal") as server:
        first = puppets("s", rank=0).attached()
        first.do("take")
        monkeypatch.setattr(journal, "_write", refusing(errno.ENOSPC))
        with pytest.raises(Raised, match=r"ServiceDied.*the journal cannot be written \(No space left on device\)"):
            first.take(2)
        with pytest.raises(OSError, match="No space left on device"):
            server.wait(30)
        assert "No space left on device" in caplog.text, "also without a call of wait()"
        with pytest.raises(ServiceError, match="found no server"):
            mpqueue.attach("s", rank=0, timeout=0.1)


def test_changing_structure_of_batches_uses_bounded_memory(monkeypatch):
    monkeypatch.setattr(specs, "MAX_SPECS", 4)
    restructuring = Computed(lambda index: {f"sample {index}": np.full(2, index)}, 30)
    with mpqueue.Server("s", restructuring, mode="broadcast", workers=1) as server, mpqueue.attach("s") as consumer:
        for _ in range(2):
            assert [{key: int(rows[0])} for batch in consumer for key, rows in batch.items()] == [
                {f"sample {index}": index} for index in range(30)
            ]
        (peer,) = loop_of(server).consumers.peers.values()
        assert len(peer.specs) <= 4
        assert len(specs_of(consumer)) <= 4


@pytest.mark.parametrize("mode", ["split", "broadcast"])
def test_unordered_batches_all_arrive(puppets, mode):
    with mpqueue.Server("s", Uneven(40), mode=mode, world=2, workers=2, ordered=False, max_queue_size=4):
        both = [puppets("s", rank=rank if mode == "split" else None).attached() for rank in range(2)]
        taken = [firsts(batches) for batches in all_do(both, "take_all")]
        if mode == "split":
            assert sorted(taken[0] + taken[1]) == list(range(40))
        else:
            assert [sorted(one) for one in taken] == [list(range(40))] * 2


def test_journal_of_source_that_cannot_be_restarted_is_refused(tmp_path):
    class Changing(Indices):
        def on_epoch_end(self):
            self.length += 1

    class Saved(Indices):
        def state_dict(self):
            return {}

    def generator():
        yield np.zeros(1)

    sources = ((Changing(), "state_dict"), (Saved(), r"add load_state_dict\(state\)"), (generator, "pass lanes=n"))
    for source, words in sources:
        with pytest.raises(ValueError, match=words):
            mpqueue.Server("s", source, workers=1, journal=tmp_path / "journal")


def test_trace_of_server_has_a_row_for_each_consumer(puppets, tmp_path):
    with mpqueue.Server("s", Indices(6), world=2, workers=1, trace=tmp_path / "run.json"):
        both = [puppets("s", rank=rank).attached() for rank in range(2)]
        all_do(both, "take_all")
    events = json.loads((tmp_path / "run.json").read_text())
    assert any(event["name"].startswith("compute") for event in events), "the batches of the worker"
    rows = {event["args"]["name"]: event["tid"] for event in events if event["name"] == "thread_name"}
    for rank, one in enumerate(both):
        row = rows[f"consumer {rank + 1} (process {one.process.pid})"]
        slices = [event["name"] for event in events if event["ph"] == "X" and event["tid"] == row]
        assert slices[0] == f"batch {rank}", "the first batch is always drawn"


def test_server_cannot_be_pickled():
    with mpqueue.Server("pickled", [1, 2], workers=1) as server:
        with pytest.raises(TypeError, match=r"a Server cannot be pickled .* Use mpqueue.attach\('pickled'\)"):
            pickle.dumps(server)


def test_all_slots_may_wait_for_the_message_of_a_consumer_that_has_taken_its_batches():
    """It shows its request in shared memory first. The server must not conclude that no consumer will release a slot."""
    with (
        mpqueue.Server("s", Indices(100_000), workers=1, max_queue_size=2) as server,
        RawConsumer("s") as first,
        RawConsumer("s") as second,
    ):
        first.begin()
        num_slots = first.welcome.segment_bytes // first.welcome.stride
        for index in range(num_slots):
            assert first.next()[1][0] == index
            if first.taken < num_slots:
                first.say(ConsumerRequest(ToServer.ASK, first.taken))  # and keeps the slot
        first.word[0] = first.taken
        second.begin()  # wakes the server
        until(lambda: all(seat.has_begun for seat in loop_of(server).core.group.seats), "the second one does not begin")
        first.ask()
        assert {first.next()[1][0], second.next()[1][0]} == {num_slots, num_slots + 1}
