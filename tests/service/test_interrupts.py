"""Signal handlers that raise inside a consumer: no batch is lost or duplicated, and no request is sent twice."""

import contextlib
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from helpers import strikes
from helpers.alarms import Alarm, nudged
from helpers.scripted_server import AutoServer, ScriptedServer, attached, batch_of
from helpers.strikes import Alarms, Strike, StrikeBeforeLine, Struck, StruckError, each_strike

import mpqueue
from mpqueue.service import server as server_module
from mpqueue.service.records import Text, ToConsumer, ToServer

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


# Code of the consumer could mistake its exception for invalid data from the server.
StrikeWithError = partial(Strike, error=StruckError)


@pytest.mark.slow
@pytest.mark.parametrize(("make_strike", "step"), [(Strike, 5), (StrikeWithError, 17), (StrikeBeforeLine, 9)])
def test_interrupt_anywhere_loses_and_repeats_nothing(tmp_path, make_strike, step):
    """The server has few slots and records invalid requests, such as a turn released twice."""
    for after, strike in each_strike(step, least=200, make=make_strike):
        with AutoServer(tmp_path / f"directory{after}", 4, num_slots=6, window=3).start() as server:
            yielded = taken_with(strike, server.path)
        assert (yielded, server.faults) == ([0, 1, 2, 3] * 3, []), after


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
    for after, strike in each_strike(19, least=100):
        kept = []
        with AutoServer(tmp_path / f"directory{after}", 4, num_slots=8, window=3).start() as server:
            yielded = []
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
        assert (yielded, server.faults) == ([0, 1, 2, 3] * 4, []), after


def test_consumer_closed_after_interrupt_repeats_no_request(tmp_path):
    for after, strike in each_strike(7, least=100):
        with AutoServer(tmp_path / f"directory{after}", 4, num_slots=6, window=3).start() as server:
            with mpqueue.attach(server.path, timeout=60) as consumer, contextlib.suppress(Struck), strike:
                for array, _ in consumer:
                    del array, _
        assert server.faults == [], after


@contextlib.contextmanager
def struck_while_waiting(server, number):
    """Send this process a signal when its consumer waits for a batch."""
    server.hear()  # BEGIN

    def strike():
        server.hear()
        os.kill(os.getpid(), number)

    other = threading.Thread(target=strike)
    other.start()
    with nudged():
        yield
    other.join()


def test_ctrl_c_during_wait_is_prompt_and_loop_continues(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        batches = iter(consumer)
        with struck_while_waiting(server, signal.SIGINT), pytest.raises(KeyboardInterrupt):
            next(batches)
        server.offer(batch_of(5))
        assert next(batches)[0][0, 0] == 5


def test_handler_that_closes_ends_waiting_loop(tmp_path):
    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        previous = signal.signal(signal.SIGUSR1, lambda *_: consumer.close())
        batches = iter(consumer)
        with struck_while_waiting(server, signal.SIGUSR1):
            assert list(batches) == []
        signal.signal(signal.SIGUSR1, previous)
        assert "closed" in repr(consumer)


def test_handler_may_close_anywhere_in_next(tmp_path):
    for after, strike in each_strike(7, least=100):
        with AutoServer(tmp_path / f"directory{after}", 4, num_slots=6, window=3).start() as server:
            consumer = mpqueue.attach(server.path, timeout=60)
            yielded, batches = [], iter(consumer)
            with strike:
                signal.signal(signal.SIGUSR1, lambda *_, consumer=consumer: consumer.close())
                yielded += [int(array[0, 0]) for array, _ in batches]  # no view exists after this line
            assert yielded == [0, 1, 2, 3][: len(yielded)]
            consumer.close()
            assert "closed" in repr(consumer)
            assert server.faults == []


def test_timeout_error_of_handler_is_not_a_server_crash(tmp_path):
    """A handler may raise a TimeoutError or a ConnectionError, which the system raises, too."""
    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        batches = iter(consumer)
        limit = ConnectionResetError("the user's own")
        with pytest.raises(ConnectionResetError, match="the user's own"), Alarm(limit) as alarm:
            alarm.set()
            next(batches)
        server.offer(batch_of(5))
        assert next(batches)[0][0, 0] == 5


def test_interrupt_anywhere_in_attach_leaks_nothing(tmp_path):
    """Checked by the fixture for leaks."""
    for after, strike in each_strike(5, least=100):
        with AutoServer(tmp_path / f"directory{after}", 2).start() as server:
            with strike, contextlib.suppress(Struck):
                mpqueue.attach(server.path, timeout=60).close()
            with mpqueue.attach(server.path, timeout=60) as consumer:
                assert len(list(consumer)) == 2


def test_interrupt_anywhere_during_reconnect_loses_nothing(tmp_path):
    for after, strike in each_strike(19, least=200):
        with AutoServer(tmp_path / f"directory{after}", 6, num_slots=8, window=3, dies_after=2).start() as server:
            with mpqueue.attach(server.path, timeout=60, reconnect=True) as consumer:
                yielded = []
                with strike:
                    while len(yielded) < 6:
                        with contextlib.suppress(Struck):
                            for array, _ in consumer:
                                yielded.append(int(array[0, 0]))
                                del array, _
            assert (yielded, consumer.statistics().reconnects) == (list(range(6)), 1), after
        assert server.faults == [], after


@pytest.mark.parametrize("method", ["start", "stop"])
def test_server_interrupted_anywhere_in_start_or_stop_can_be_stopped(servers_directory, monkeypatch, method):
    """A second stop leaves neither the name in use nor workers."""
    monkeypatch.setattr(strikes, "is_ours", lambda frame: frame.f_code.co_filename == server_module.__file__)
    monkeypatch.setattr(strikes, "_tables", {})
    for after, strike in each_strike(least=5):
        server = mpqueue.Server("s", [1, 2], workers=1)
        if method == "stop":
            server.start()
        with strike, contextlib.suppress(Struck):
            getattr(server, method)()
        server.stop()
        assert not os.path.exists(server.folder), after
        assert not server._stream.is_running, after
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
                assert array[0, 0] == consumer._returned.offer.position == 1, after


def answering(server, answer):
    """Answer the next question with this body."""
    while server.hear().kind != ToServer.EXPLAIN:
        pass
    server.send(Text(ToConsumer.EXPLAINED, 0, 1, answer).pack())


def test_value_error_of_handler_in_last_is_not_invalid_data(tmp_path, monkeypatch):
    def strike(body):
        signal.raise_signal(signal.SIGUSR1)
        return loads(body)

    def handle(*_):
        raise ValueError("the user's own")

    with ScriptedServer(tmp_path / "directory") as server, attached(server) as consumer:
        server.offer(batch_of(5))
        server.offer(batch_of(6))
        batches = iter(consumer)
        next(batches)
        loads, before = json.loads, signal.signal(signal.SIGUSR1, handle)
        monkeypatch.setattr(json, "loads", strike)
        with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="the user's own"):
            pool.submit(answering, server, b'{"seed": 1}')
            _ = consumer.last
        signal.signal(signal.SIGUSR1, before)
        assert next(batches)[0][0, 0] == 6
