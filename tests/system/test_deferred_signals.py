"""Signals that are deferred, and finalizers that defer them, too, while their handlers are replaced or put back."""

import signal

import pytest

from mpqueue.system import interrupts
from mpqueue.system.interrupts import allow_signals, defer_signals

STRUCK = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def handled():
    """Numbers of signals, as their handlers see them."""
    seen = []
    before = {number: signal.signal(number, lambda got, _: seen.append(got)) for number in STRUCK}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=["before", "behind"])
def collected(request, monkeypatch):
    """Has a finalizer run right before, or behind, the change of a handler; but not in the midst of its own."""
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


def test_a_finalizer_that_holds_signals_back_disturbs_nothing(handled, collected, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in STRUCK}
    with defer_signals():
        for number in STRUCK:
            signal.raise_signal(number)
        assert handled == [], "the finalizer's end is not the end of this"
    monkeypatch.undo()
    assert sorted(handled) == sorted(STRUCK)
    assert {number: signal.getsignal(number) for number in STRUCK} == handlers
    assert interrupts._handlers == {}


def test_nor_does_it_where_signals_are_let_through(handled, collected, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in STRUCK}
    with defer_signals():
        allow_signals(lambda: [signal.raise_signal(number) for number in STRUCK])
        assert handled == list(STRUCK)
        signal.raise_signal(STRUCK[0])
        assert handled == list(STRUCK)
    monkeypatch.undo()
    assert handled == [*STRUCK, STRUCK[0]]
    assert {number: signal.getsignal(number) for number in STRUCK} == handlers
    assert interrupts._handlers == {}
