"""Deferred signals, and finalizers that defer signals while handlers are replaced or restored."""

import signal

import pytest
from helpers.handling import handling

from mpqueue.system.signals import interrupts
from mpqueue.system.signals.interrupts import allow_signals, defer_signals

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
    change, is_within, times = interrupts.set_handler, [], []

    def finalize():
        if not is_within:
            is_within.append(True)
            times.append(True)
            with defer_signals():
                pass
            is_within.clear()

    def changed(number, handler):
        if request.param == "before":
            finalize()
        previous = change(number, handler)
        if request.param == "behind":
            finalize()
        return previous

    monkeypatch.setattr(interrupts, "set_handler", changed)
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
