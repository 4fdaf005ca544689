"""Handlers of signals: deferred while a block needs it, and otherwise those of the user remain installed."""

import logging
import signal
import subprocess
import sys
import threading

import pytest
from helpers.computed_source import Computed
from helpers.gates import Gate, pass_gate
from helpers.injected_exceptions import Struck
from helpers.repeated_signals import Repeated, Repeating
from helpers.signal_handlers import handling, leave_handler_of_a_block, raising
from helpers.waits import until_main_thread_is_in
from helpers.wrapped_functions import wrap

from mpqueue import OrderedEnqueuer
from mpqueue.system import log
from mpqueue.system.signals import deferred
from mpqueue.system.signals.deferred import allow_signals, are_signals_deferred, defer_signals
from mpqueue.system.signals.interrupts import not_of_handler

STRUCK = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def handled():
    """The numbers of signals that the handlers received."""
    seen = []
    with handling(lambda got, _: seen.append(got), *STRUCK):
        yield seen


@pytest.fixture(params=["before", "behind"])
def collected(request, monkeypatch):
    """Run a finalizer right before, or after, a handler is changed; but not within another finalizer."""
    is_within, times = [], []

    def finalize():
        if not is_within:
            is_within.append(True)
            times.append(True)
            with defer_signals():
                pass
            is_within.clear()

    def changed(change, number, handler):
        if request.param == "before":
            finalize()
        previous = change(number, handler)
        if request.param == "behind":
            finalize()
        return previous

    wrap(monkeypatch, deferred, "set_handler", changed)
    yield
    monkeypatch.undo()
    assert len(times) > len(STRUCK), "no finalizer ran as handlers were replaced and put back"


def test_finalizer_that_defers_signals_is_harmless(handled, collected, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in STRUCK}
    with defer_signals():
        for number in STRUCK:
            signal.raise_signal(number)
        assert handled == [], "the finalizer's end is not the end of this"
    monkeypatch.undo()
    assert sorted(handled) == sorted(STRUCK)
    assert {number: signal.getsignal(number) for number in STRUCK} == handlers


def test_finalizer_that_defers_signals_is_harmless_in_allow_signals(handled, collected, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in STRUCK}
    with defer_signals():
        allow_signals(lambda: [signal.raise_signal(number) for number in STRUCK])
        assert handled == list(STRUCK)
        signal.raise_signal(STRUCK[0])
        assert handled == list(STRUCK)
    monkeypatch.undo()
    assert handled == [*STRUCK, STRUCK[0]]
    assert {number: signal.getsignal(number) for number in STRUCK} == handlers


@pytest.mark.parametrize("num_raised", range(1, 12))
def test_handler_runs_though_it_has_raised_at_each_step_of_a_block(num_raised):
    number, handler = STRUCK[0], Repeating(num_raised)

    def strike():
        with defer_signals():
            allow_signals(signal.raise_signal, number)

    with handling(handler, number):
        with pytest.raises(Repeated):
            strike()
        assert not are_signals_deferred()
        handler.num_left = handler.num_quiet = 0
        with defer_signals():
            allow_signals(int)
        signal.raise_signal(number)
        assert handler.num_quiet == 1
        assert signal.getsignal(number) is handler


def test_signal_restores_the_handlers_of_a_block_that_has_gone(handled):
    leave_handler_of_a_block(*STRUCK)
    signal.raise_signal(STRUCK[0])
    assert handled == [STRUCK[0]]
    signal.raise_signal(STRUCK[1])
    assert handled == list(STRUCK)


def mine(*_):
    """A signal handler of the user."""


def test_user_handlers_remain_installed_while_batches_are_computed():
    seen = []

    def look():
        seen.append(signal.getsignal(signal.SIGTERM))

    def look_while_the_consumer_waits():
        for _ in range(2):
            arrival = gate.arrival()
            until_main_thread_is_in("_poll")
            look()
            arrival.let_go()

    with handling(mine, signal.SIGTERM), Gate() as gate:
        address = gate.address
        source = Computed(lambda index: index if index != 3 else pass_gate(address) or index, 4)
        source.on_epoch_end = look
        with OrderedEnqueuer(source, True) as enqueuer:
            enqueuer.start(1, 4)
            thread = threading.Thread(target=look_while_the_consumer_waits)
            thread.start()
            batches = enqueuer.get()
            assert [next(batches) for _ in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
            thread.join()
        assert seen == [mine] * 3
        assert signal.getsignal(signal.SIGTERM) is mine


def test_handlers_are_deferred_without_main_thread_object(monkeypatch):
    """It replaces the main thread's object if a handler raises a KeyError in `threading.current_thread`."""
    came = []
    monkeypatch.setattr(threading, "current_thread", object)
    with handling(lambda *_: came.append(True), signal.SIGUSR1):
        with defer_signals():
            signal.raise_signal(signal.SIGUSR1)
            assert came == []
        assert came == [True]


def size_of(path, *, during=lambda: None):
    try:
        during()
        return path.stat().st_size
    except not_of_handler(OSError, ValueError):
        return 0


def test_expected_error_is_caught_but_not_that_of_a_signal_handler(tmp_path):
    assert size_of(tmp_path / "absent") == 0
    # A time limit of the user: TimeoutError is an OSError, as an error of a file is.
    with handling(raising(TimeoutError("time limit")), signal.SIGUSR1):
        with pytest.raises(TimeoutError, match="time limit"):
            size_of(tmp_path, during=lambda: signal.raise_signal(signal.SIGUSR1))


@pytest.mark.parametrize("call", [log.debugs, lambda: log.debug("said"), lambda: log.warn("said")])
def test_handler_that_raises_is_deferred_during_logging(call, monkeypatch, caplog):
    get_logger, ended = logging.getLogger, []

    def struck_inside(name):
        signal.raise_signal(signal.SIGUSR1)
        found = get_logger(name)
        ended.append(name)
        return found

    caplog.set_level(logging.DEBUG, "mpqueue")
    with handling(raising(Struck), signal.SIGUSR1), monkeypatch.context() as patched, pytest.raises(Struck):
        patched.setattr(logging, "getLogger", struck_inside)
        call()
    assert ended == ["mpqueue"]


SCRIPT = """
import os, signal, sys
from mpqueue.system.signals.masks import set_signal_mask

numbers = [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGRTMIN]
seen = []

def handle(number, _):
    seen.append(number)
    if sys.argv[1] == "raises" and len(seen) in (1, 3):
        raise TimeoutError

for number in numbers:
    signal.signal(number, handle)
signal.pthread_sigmask(signal.SIG_BLOCK, {*numbers, signal.SIGTERM})
for number in numbers:
    os.kill(os.getpid(), number)
try:
    set_signal_mask({signal.SIGTERM})
except TimeoutError:
    pass
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM}
print(sorted(seen) == sorted(numbers))
"""


@pytest.mark.parametrize("handler", ["returns", "raises"])
def test_each_pending_signal_is_handled(handler):
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, handler]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "True\n", "")
