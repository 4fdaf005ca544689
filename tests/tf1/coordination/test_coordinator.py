"""The coordinator among threads: TensorFlow's contract, and mpqueue's additions."""

import os
import signal
import sys
import threading
import traceback
from functools import partial
from pathlib import Path

import pytest
from golden.outcomes import DEADLOCK_S, Background, ended
from helpers.alarms import nudged
from helpers.signal_handlers import handling, raising
from tf1.helpers.scheduled_threads import are_never_scheduled, thread_ids

from mpqueue import Coordinator
from mpqueue.errors import OutOfRangeError


class Gate:
    """A member that finishes on request, and counts the requests to stop."""

    name = "gate"

    def __init__(self, *, stops=False):
        self.num_stop_requests = 0
        self._stops = stops
        self._open = threading.Event()
        self.open = self._open.set

    def is_alive(self):
        return not self._open.is_set()

    def join(self, timeout=None):
        self._open.wait(timeout)

    def request_stop(self):
        self.num_stop_requests += 1
        if self._stops:
            self.open()


def in_thread(call, *args):
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_blocked_join_does_not_poll(coord):
    """The threads that wait in a join are not scheduled."""
    gate, watching = Gate(), threading.Event()
    gate.join = lambda timeout=None: (watching.set(), Gate.join(gate, timeout))
    others = thread_ids()
    joining = in_thread(coord.join, [gate])
    assert watching.wait(DEADLOCK_S)
    waiting = thread_ids() - others
    assert len(waiting) == 2
    assert are_never_scheduled(waiting, 1.2)  # TensorFlow's join polls once per second
    gate.open()
    assert ended(joining)


def test_grace_period_begins_at_the_stop(coord):
    """A member that runs longer than the grace period before the stop request is not a straggler."""
    gate = Gate()
    joining = Background(lambda: coord.join([gate], stop_grace_period_secs=0.3))
    assert joining.is_blocked(0.6)
    coord.request_stop()
    with pytest.raises(RuntimeError, match="gate"):
        joining.finish()
    gate.open()


def test_infinite_grace_period_is_allowed(coord):
    gate = Gate()
    coord.request_stop()
    joining = in_thread(coord.join, [gate], float("inf"))
    gate.open()
    assert ended(joining)


def test_reported_exception_takes_precedence_over_stragglers(coord):
    gate = Gate()
    coord.request_stop(ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        coord.join([gate], stop_grace_period_secs=0)
    gate.open()


def test_thread_that_joins_itself_raises(coord):
    may_join = threading.Event()
    joining = Background(lambda: may_join.wait(DEADLOCK_S) and coord.join())
    joining.thread.name = "narcissus"
    coord.register_thread(joining.thread)
    may_join.set()
    with pytest.raises(RuntimeError, match="narcissus"):
        joining.finish()


def test_join_removes_registered_members(coord):
    gate = Gate()
    coord.register_thread(gate)
    coord.request_stop()
    coord.join(stop_grace_period_secs=0, ignore_live_threads=True)
    coord.join()
    gate.open()


def test_request_stop_of_member_is_called_once(coord):
    gate = Gate(stops=True)
    coord.register_thread(gate)
    joining = in_thread(coord.join)
    coord.request_stop()
    coord.request_stop()
    assert ended(joining)
    assert gate.num_stop_requests == 1


def test_member_registered_after_the_stop_is_stopped_at_once(coord):
    gate = Gate(stops=True)
    coord.request_stop()
    coord.register_thread(gate)
    assert gate.num_stop_requests == 1


def test_stop_callbacks_run_once_in_order(coord):
    called = []
    for name in ("first", "second"):
        coord.add_stop_callback(partial(called.append, name))
    coord.request_stop()
    coord.request_stop()
    coord.add_stop_callback(partial(called.append, "after the stop"))
    assert called == ["first", "second", "after the stop"]


def test_removed_callback_does_not_run(coord):
    called = []
    coord.add_stop_callback(called.clear)
    coord.remove_stop_callback(called.clear)
    called.append("kept")
    coord.request_stop()
    assert called == ["kept"]
    with pytest.raises(ValueError):
        coord.remove_stop_callback(called.clear)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_failing_callback_is_logged_and_others_run(coord, caplog, error):
    called = []
    coord.add_stop_callback(raising(error))
    coord.add_stop_callback(partial(called.append, 1))
    coord.request_stop(ValueError("boom"))
    assert called == [1]
    assert error.__name__ in caplog.text
    with pytest.raises(ValueError, match="boom"):
        coord.join()


def test_callbacks_run_without_the_coordinators_lock(coord):
    """A callback may wait for a thread that needs the lock."""
    called = []
    coord.add_stop_callback(lambda: called.append(ended(in_thread(coord.wait_for_stop))))
    coord.request_stop()
    assert called == [True]


def test_callbacks_survive_clear_stop_and_are_removed_by_join(coord):
    called = []
    coord.add_stop_callback(lambda: called.append(1))
    coord.request_stop()
    coord.clear_stop()
    coord.request_stop()
    coord.join()
    coord.clear_stop()
    coord.request_stop()
    assert called == [1, 1]


def test_signal_handler_may_request_stop_during_join(coord):
    gate = Gate()
    with handling(lambda *_: coord.request_stop(ValueError("by signal")), signal.SIGUSR1):
        in_thread(os.kill, os.getpid(), signal.SIGUSR1)
        with nudged(), pytest.raises(ValueError, match="by signal"):
            coord.join([gate], stop_grace_period_secs=0)
    gate.open()


def test_subclass_of_clean_type_is_clean(coord):
    class Exhausted(OutOfRangeError):
        pass

    coord.request_stop(Exhausted(None, None, "over"))
    coord.join()


def test_empty_exc_info_is_a_stop_without_exception(coord):
    coord.request_stop(sys.exc_info())
    assert coord.should_stop()
    coord.join()


def test_repeated_raise_keeps_the_origin_and_does_not_extend_the_traceback(coord):
    def culprit():
        raise ValueError("boom")

    with coord.stop_on_exception():
        culprit()
    frames = []
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            coord.join()
        frames.append([frame.name for frame in traceback.extract_tb(caught.value.__traceback__)])
    assert "culprit" in frames[0]
    assert frames == frames[:1] * 3


NOT_MEMBERS = [None, 3, object()]


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        *(("request_stop", wrong, "exception") for wrong in ("boom", ValueError, ("boom",), 3)),
        *(("register_thread", wrong, "is_alive") for wrong in NOT_MEMBERS),
        *(("join", [wrong], "is_alive") for wrong in NOT_MEMBERS),
        *(
            ("join", wrong, "threads must be a list of threads or None, got")
            for wrong in (3, threading.Thread(target=print))
        ),
        ("add_stop_callback", 3, "callback must be a callable without arguments, got 3"),
    ],
)
def test_argument_of_wrong_type_raises_type_error(coord, method, wrong, words):
    with pytest.raises(TypeError, match=words):
        getattr(coord, method)(wrong)
    assert not coord.should_stop()


@pytest.mark.parametrize("wrong", [3, ["boom"], (int,)])
def test_invalid_clean_types_raise_type_error(wrong):
    with pytest.raises(TypeError, match="clean_stop_exception_types"):
        Coordinator(wrong)


def test_error_while_joining_a_member_is_raised(coord):
    class Broken(Gate):
        def join(self, timeout=None):
            raise OSError("no such process")

    with pytest.raises(OSError, match="no such process"):
        coord.join([Broken()])
