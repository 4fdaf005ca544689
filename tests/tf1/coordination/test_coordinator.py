"""The coordinator among threads: what TensorFlow's contract says, and what mpqueue adds to it."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
from helpers.alarms import nudged

from mpqueue import Coordinator
from mpqueue.errors import OutOfRangeError

DEADLOCK_S = 60


class Gate:
    """A member that ends when it is told to, and counts how often it was asked to stop."""

    def __init__(self, *, stops=False):
        self.name = "gate"
        self.asked = 0
        self._stops = stops
        self._open = threading.Event()

    def is_alive(self):
        return not self._open.is_set()

    def join(self, timeout=None):
        self._open.wait(timeout)

    def request_stop(self):
        self.asked += 1
        if self._stops:
            self._open.set()

    def open(self):
        self._open.set()


def in_thread(call, *args):
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(DEADLOCK_S)
    return not thread.is_alive()


@pytest.fixture
def coord():
    return Coordinator()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_blocked_join_does_not_wake_up(coord):
    """The threads that wait in a join are not scheduled: there is no polling in it."""

    def tasks():
        return {task.name for task in Path("/proc/self/task").iterdir()}

    def switches(names):
        found = {name: Path(f"/proc/self/task/{name}/status").read_text() for name in names}
        are_asleep = all("State:\tS" in status for status in found.values())  # one that waits for a CPU is not
        return are_asleep, {name: status.partition("ctxt_switches")[2] for name, status in found.items()}

    gate, watching = Gate(), threading.Event()
    gate.join = lambda timeout=None: (watching.set(), Gate.join(gate, timeout))
    others = tasks()
    joining = in_thread(coord.join, [gate])
    assert watching.wait(DEADLOCK_S)
    waiting = tasks() - others
    before = None
    while before != (before := switches(waiting)) or not before[0]:  # until both have fallen asleep
        time.sleep(0.1)
    time.sleep(1.2)  # the window in which nothing may happen; TensorFlow's join looks once a second
    assert switches(waiting) == before
    assert len(waiting) == 2
    gate.open()
    assert ended(joining)


def test_the_grace_period_begins_at_the_stop(coord):
    """A member that lives longer than the grace period before anybody asks for a stop is no straggler."""
    gate = Gate()
    caught = []

    def join():
        try:
            coord.join([gate], stop_grace_period_secs=0.3)
        except RuntimeError as error:
            caught.append(error)

    joining = in_thread(join)
    joining.join(0.6)
    assert joining.is_alive()
    coord.request_stop()
    assert ended(joining)
    assert "gate" in str(caught[0])
    gate.open()


def test_an_endless_grace_period_is_allowed(coord):
    gate = Gate()
    coord.request_stop()
    joining = in_thread(coord.join, [gate], float("inf"))
    gate.open()
    assert ended(joining)


def test_the_reported_exception_wins_over_stragglers(coord):
    gate = Gate()
    coord.request_stop(ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        coord.join([gate], stop_grace_period_secs=0)
    gate.open()


def test_a_thread_that_joins_itself_gets_an_error_instead_of_a_deadlock(coord):
    caught = []

    def body():
        try:
            coord.join()
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=body, name="narcissus")
    coord.register_thread(thread)
    thread.start()
    assert ended(thread)
    assert "narcissus" in caught[0]


def test_a_thread_that_was_never_started_counts_as_ended(coord):
    coord.register_thread(threading.Thread(target=print))
    coord.join()
    assert coord.joined


def test_registered_members_are_forgotten_by_join(coord):
    gate = Gate()
    coord.register_thread(gate)
    coord.request_stop()
    coord.join(stop_grace_period_secs=0, ignore_live_threads=True)
    coord.join()
    gate.open()


def test_a_process_is_a_member(coord):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_echo, args=(there,))
    process.start()
    there.close()
    coord.register_thread(process)
    joining = in_thread(coord.join)
    here.send("go")
    assert ended(joining)
    assert process.exitcode == 0
    here.close()
    process.close()


def _echo(pipe):
    pipe.recv()


def test_a_member_with_request_stop_is_asked_once(coord):
    gate = Gate(stops=True)
    coord.register_thread(gate)
    joining = in_thread(coord.join)
    coord.request_stop()
    coord.request_stop()
    assert ended(joining)
    assert gate.asked == 1


def test_a_member_registered_after_the_stop_is_asked_at_once(coord):
    gate = Gate(stops=True)
    coord.request_stop()
    coord.register_thread(gate)
    assert gate.asked == 1


def test_stop_callbacks_run_once_in_order(coord):
    called = []
    coord.add_stop_callback(lambda: called.append("first"))
    coord.add_stop_callback(lambda: called.append("second"))
    coord.request_stop()
    coord.request_stop()
    assert called == ["first", "second"]


def test_a_callback_added_after_the_stop_runs_at_once(coord):
    called = []
    coord.request_stop()
    coord.add_stop_callback(lambda: called.append(1))
    assert called == [1]


def test_a_removed_callback_does_not_run(coord):
    called = []
    coord.add_stop_callback(called.clear)
    coord.remove_stop_callback(called.clear)
    called.append("kept")
    coord.request_stop()
    assert called == ["kept"]
    with pytest.raises(ValueError):
        coord.remove_stop_callback(called.clear)


def test_a_failing_callback_is_logged_and_the_others_run(coord, caplog):
    called = []
    coord.add_stop_callback(lambda: 1 / 0)
    coord.add_stop_callback(lambda: called.append(1))
    coord.request_stop(ValueError("boom"))
    assert called == [1]
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(ValueError, match="boom"):
        coord.join()


def test_callbacks_run_while_other_threads_use_the_coordinator(coord):
    """A callback may wait for a thread that needs the coordinator's lock."""

    def callback():
        assert ended(in_thread(coord.wait_for_stop))

    coord.add_stop_callback(callback)
    assert ended(in_thread(coord.request_stop))


def test_callbacks_are_kept_over_clear_stop_and_forgotten_by_join(coord):
    called = []
    coord.add_stop_callback(lambda: called.append(1))
    coord.request_stop()
    coord.clear_stop()
    coord.request_stop()
    coord.join()
    coord.clear_stop()
    coord.request_stop()
    assert called == [1, 1]


def test_a_signal_handler_may_ask_for_the_stop_while_the_main_thread_joins(coord):
    gate = Gate()
    before = signal.signal(signal.SIGUSR1, lambda *_: coord.request_stop(ValueError("by signal")))
    try:
        in_thread(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with nudged(), pytest.raises(ValueError, match="by signal"):
            coord.join([gate], stop_grace_period_secs=0)
    finally:
        signal.signal(signal.SIGUSR1, before)
        gate.open()


def test_a_keyboard_interrupt_in_a_body_surfaces_in_join(coord):
    with coord.stop_on_exception():
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        coord.join()


def test_a_subclass_of_a_clean_type_is_clean():
    class Exhausted(OutOfRangeError):
        pass

    coord = Coordinator()
    coord.request_stop(Exhausted(None, None, "over"))
    coord.join()


def test_given_clean_types_replace_the_default():
    coord = Coordinator([StopIteration])
    coord.request_stop(OutOfRangeError(None, None, "over"))
    with pytest.raises(OutOfRangeError):
        coord.join()


def test_sys_exc_info_outside_of_a_handler_is_a_plain_stop(coord):
    coord.request_stop(sys.exc_info())
    assert coord.should_stop()
    coord.join()


def test_after_join_an_exception_is_raised_where_it_is_reported(coord):
    coord.join()
    with pytest.raises(ValueError, match="late"):
        coord.request_stop(ValueError("late"))
    coord.request_stop(OutOfRangeError(None, None, "clean"))
    assert coord.should_stop()


def test_a_report_that_comes_too_late_is_logged(coord, caplog):
    caplog.set_level(logging.INFO, "mpqueue")
    coord.request_stop(ValueError("first"))
    coord.request_stop(KeyError("second"))
    assert "second" in caplog.text


def test_raising_the_exception_again_does_not_lengthen_its_traceback(coord):
    try:
        raise ValueError("boom")
    except ValueError as error:
        coord.request_stop(error)
    lengths = set()
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            coord.join()
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1


def test_the_traceback_leads_to_where_the_exception_was_raised(coord):
    def culprit():
        raise ValueError("boom")

    with coord.stop_on_exception():
        culprit()
    with pytest.raises(ValueError) as caught:
        coord.join()
    assert "culprit" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_the_repr_tells_the_state(coord):
    assert repr(coord) == "<Coordinator: running, 0 registered>"
    coord.request_stop(ValueError("boom"))
    assert repr(coord) == "<Coordinator: stopping, 0 registered, ValueError('boom')>"


@pytest.mark.parametrize("wrong", ["boom", ValueError, ("boom",), 3])
def test_a_report_that_is_no_exception_is_a_type_error(coord, wrong):
    with pytest.raises(TypeError, match="exception"):
        coord.request_stop(wrong)
    assert not coord.should_stop()


@pytest.mark.parametrize("wrong", [3, ["boom"], (int,)])
def test_clean_types_that_are_no_exceptions_are_a_type_error(wrong):
    with pytest.raises(TypeError, match="clean_stop_exception_types"):
        Coordinator(wrong)


@pytest.mark.parametrize("wrong", [None, 3, object()])
def test_a_member_that_cannot_be_joined_is_a_type_error(coord, wrong):
    with pytest.raises(TypeError, match="is_alive"):
        coord.register_thread(wrong)
    with pytest.raises(TypeError, match="is_alive"):
        coord.join([wrong])


def test_an_error_of_a_member_while_it_is_joined_surfaces(coord):
    class Broken(Gate):
        def join(self, timeout=None):
            raise OSError("no such process")

    with pytest.raises(OSError, match="no such process"):
        coord.join([Broken()])


@pytest.mark.parametrize("given", [3, threading.Thread(target=print)])
def test_what_is_no_list_of_threads_is_refused(given):
    with pytest.raises(TypeError, match="threads must be a list of threads or None, got"):
        Coordinator().join(given)


def test_a_stop_callback_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="callback must be a callable without arguments, got 3"):
        Coordinator().add_stop_callback(3)
