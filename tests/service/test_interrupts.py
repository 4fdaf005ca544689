"""Signal handlers that raise inside a consumer: no batch is lost or duplicated, and no request is sent twice."""

import contextlib
import os
import signal
import threading
import time
from functools import partial

import pytest
from helpers import injected_exceptions
from helpers.alarms import AGAIN_S, Alarm
from helpers.injected_exceptions import Alarms, Strike, Struck, StruckLimit, each_strike
from helpers.scripted_server import AutoServer, ScriptedServer, attached, batch_of
from helpers.service_parts import stream_of
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue.service.consuming import attachment
from mpqueue.service.consuming.consumer import Consumer
from mpqueue.service.protocol.records import ToServer
from mpqueue.service.serving import server as server_module

RANDOM_S = 1.0


def taken_with(strike, path, num_epochs=3):
    """Run through epochs with one interrupt; return the epochs and numbers of all batches."""
    yielded = []
    with mpqueue.attach(path, timeout=60) as consumer:
        with strike:
            while len(yielded) < 4 * num_epochs:
                with contextlib.suppress(Struck):
                    for array, _ in consumer:
                        yielded.append(int(array[0, 0]))
                        del array, _
        in_use = consumer.statistics().slots_in_use
        with contextlib.suppress(StopIteration):
            next(iter(consumer))
    assert in_use <= 1
    return yielded


def struck(tmp_path, step, *, least=100, make=Strike, num_batches=4, **options):
    """Yield an interrupt at each place, its number, and a server.

    The server has few slots and records invalid requests, such as a turn released twice.
    """
    for after, strike in each_strike(step, least=least, make=make):
        with AutoServer(
            tmp_path / f"directory{after}", num_batches, **{"num_slots": 6, "window": 3} | options
        ).start() as server:
            yield after, strike, server
        assert server.faults == [], after


# Code of the consumer could mistake its exception for an error of the connection.
StrikeWithLimit = partial(Strike, error=StruckLimit)


@pytest.mark.slow
@pytest.mark.parametrize(("make_strike", "step"), [(Strike, 5), (StrikeWithLimit, 17)])
def test_interrupt_anywhere_loses_and_repeats_nothing(tmp_path, make_strike, step):
    for after, strike, server in struck(tmp_path, step, least=200, make=make_strike):
        assert taken_with(strike, server.path) == [0, 1, 2, 3] * 3, after


def test_interrupt_anywhere_loses_nothing_if_taken_batches_are_counted_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(attachment, "_SILENT_NS", 1 << 62)
    for after, strike, server in struck(tmp_path, 17, shares_taken=True):
        assert taken_with(strike, server.path) == [0, 1, 2, 3] * 3, after


def test_real_signals_at_random_moments_lose_no_batch(tmp_path):
    end, num_batches = time.monotonic() + RANDOM_S, 0
    with (
        AutoServer(tmp_path / "directory", 4, num_slots=6, window=3).start() as server,
        mpqueue.attach(server.path, timeout=60) as consumer,
        Alarms(4) as alarms,
    ):
        while time.monotonic() < end or not alarms.count:
            while not (begun := alarms.call(iter, consumer)):
                pass
            yielded = []
            while True:
                try:
                    got = alarms.call(next, begun[0])
                except StopIteration:
                    break
                yielded += [int(batch[0][0, 0]) for batch in got]
                got.clear()
            assert yielded == [0, 1, 2, 3]
            num_batches += len(yielded)
        assert consumer.statistics().batches == num_batches
    assert server.faults == []


def test_traceback_of_interrupt_may_be_kept(tmp_path):
    """It references the batch that was being opened."""
    for after, strike, server in struck(tmp_path, 19, num_slots=8):
        kept, yielded = [], []
        with mpqueue.attach(server.path, timeout=60) as consumer, strike:
            while len(yielded) < 16:
                try:
                    for array, _ in consumer:
                        yielded.append(int(array[0, 0]))
                        if len(yielded) == 12:
                            kept.clear()
                except Struck as error:
                    kept.append(error)
        del array, _
        assert yielded == [0, 1, 2, 3] * 4, after


def test_consumer_closed_after_interrupt_repeats_no_request(tmp_path):
    for _, strike, server in struck(tmp_path, 7):
        with mpqueue.attach(server.path, timeout=60) as consumer, contextlib.suppress(Struck), strike:
            for array, _ in consumer:
                del array, _


def test_handler_that_closes_ends_waiting_loop(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        before = signal.signal(signal.SIGALRM, lambda *_: consumer.close())
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        try:
            assert list(consumer) == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert "closed" in repr(consumer)


def test_handler_may_close_anywhere_in_next(tmp_path):
    for _, strike, server in struck(tmp_path, 7):
        consumer = mpqueue.attach(server.path, timeout=60)
        yielded, batches = [], iter(consumer)
        with strike:
            signal.signal(signal.SIGUSR1, lambda *_, consumer=consumer: consumer.close())
            yielded += [int(array[0, 0]) for array, _ in batches]  # no view exists after this line
        assert yielded == [0, 1, 2, 3][: len(yielded)]
        consumer.close()
        assert "closed" in repr(consumer)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("the user's own"), ConnectionResetError("the user's own")], ids=repr
)
def test_loop_continues_after_an_interrupt_of_its_wait(tmp_path, error):
    """A handler may raise a TimeoutError or a ConnectionError, which the system raises, too."""
    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        batches = iter(consumer)
        with pytest.raises(type(error), match="the user's own"), Alarm(error) as alarm:
            alarm.set()
            next(batches)
        server.offer(batch_of(5))
        assert next(batches)[0][0, 0] == 5


def test_interrupt_anywhere_in_attach_leaks_nothing(tmp_path):
    """Checked by the fixture for leaks."""
    for _, strike, server in struck(tmp_path, 5, num_batches=2):
        with strike, contextlib.suppress(Struck):
            mpqueue.attach(server.path, timeout=60).close()
        with mpqueue.attach(server.path, timeout=60) as consumer:
            assert len(list(consumer)) == 2


def test_interrupt_anywhere_during_reconnect_loses_nothing(tmp_path):
    for after, strike, server in struck(tmp_path, 19, least=200, num_batches=6, num_slots=8, dies_after=2):
        with mpqueue.attach(server.path, timeout=60, reconnect=True) as consumer:
            yielded = []
            with strike:
                while len(yielded) < 6:
                    with contextlib.suppress(Struck):
                        for array, _ in consumer:
                            yielded.append(int(array[0, 0]))
                            del array, _
        assert (yielded, consumer.statistics().reconnects) == (list(range(6)), 1), after


@pytest.mark.parametrize("method", ["start", "stop"])
def test_server_interrupted_anywhere_in_start_or_stop_can_be_stopped(servers_directory, monkeypatch, method):
    """A second stop leaves neither the name in use nor workers."""
    monkeypatch.setattr(
        injected_exceptions, "is_ours", lambda frame: frame.f_code.co_filename == server_module.__file__
    )
    monkeypatch.setattr(injected_exceptions, "_tables", {})
    for after, strike in each_strike(least=5):
        server = mpqueue.Server("s", [1, 2], workers=1)
        if method == "stop":
            server.start()
        with strike, contextlib.suppress(Struck):
            getattr(server, method)()
        server.stop()
        assert not os.path.exists(server.folder), after
        assert stream_of(server).slots.ring is None, after
        assert not any(thread.name == "mpqueue-server" for thread in threading.enumerate()), after


def test_last_batch_is_the_one_that_is_returned_after_an_interrupt(tmp_path):
    for after, strike in each_strike(least=30):
        with ScriptedServer(tmp_path / f"directory{after}") as server, attached(server) as consumer:
            for position in range(2):
                server.offer(batch_of(position), position=position)
            batches = iter(consumer)
            next(batches)
            with strike, contextlib.suppress(Struck):
                next(batches)
            if strike.left <= 0:
                array, _ = next(batches)
                assert array[0, 0] == 1, after


def test_interrupted_loop_over_nothing_but_the_end_of_an_epoch_becomes_the_next_epoch(tmp_path):
    """It never ends as an empty epoch, wherever the handler of a signal raises."""
    for after, strike in each_strike(3, least=30):
        with ScriptedServer(tmp_path / f"directory{after}") as server, attached(server) as consumer:
            server.offer(batch_of(0))
            assert next(iter(consumer))[0][0, 0] == 0
            batches = iter(consumer)  # the rest of the epoch, which is empty
            server.end(0, 1)
            server.offer(batch_of(1), epoch=1)
            with strike, contextlib.suppress(Struck):
                array, _ = next(batches)
            if strike.left <= 0:
                array, _ = next(batches)
            assert (array[0, 0], consumer.epoch) == (1, 1), after
            server.end(1, 1)
            assert next(batches, None) is None, after
            requests = server.hear_all()
        assert [each.value for each in requests if each.kind == ToServer.BEGIN] == [0, 1], after


@pytest.mark.timeout(20)
def test_iterator_goes_on_after_an_interrupt_when_another_server_was_just_attached(tmp_path, monkeypatch):
    """The new server must get a `BEGIN`: otherwise it and the consumer wait for each other."""
    left = [Struck()]

    def begin_struck_once(begin, self):
        if self._loop is not None and left:
            raise left.pop()
        begin(self)

    wrap(monkeypatch, Consumer, "_begin", begin_struck_once)
    with (
        AutoServer(tmp_path, 6, num_slots=8, window=3, dies_after=2).start() as server,
        mpqueue.attach(server.path, timeout=60, reconnect=True) as consumer,
    ):
        batches, yielded = iter(consumer), []
        while len(yielded) < 6:
            with contextlib.suppress(Struck):
                yielded.append(int(next(batches)[0][0, 0]))
    assert (yielded, left, server.faults) == (list(range(6)), [], [])
