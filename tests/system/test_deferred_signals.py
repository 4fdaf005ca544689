"""Deferred signals, and finalizers that defer signals while handlers are replaced or restored."""

import signal

import pytest
from helpers.repeated_signals import Repeated, Repeating
from helpers.signal_handlers import handling, leave_handler_of_a_block
from helpers.wrapped_functions import wrap

from mpqueue.system.signals import deferred
from mpqueue.system.signals.deferred import allow_signals, are_signals_deferred, defer_signals

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
