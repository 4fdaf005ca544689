"""A batch that the worker could pickle, and that this process cannot unpickle: an error at its place, once.

What the handler of a signal raises in the middle of it is an interrupt, and the batch comes.
"""

import dataclasses
import enum
import logging
import os
import signal
import sys
import types

import numpy as np
import pytest
from helpers.numbered import taken

import mpqueue
from mpqueue.engine.outcomes import Result, Unreadable
from mpqueue.errors import WorkerRaised
from mpqueue.worker import failures

HERE = os.getpid()
AT, LENGTH = 2, 6
SKIPPING = {"on_error": "skip"}


class Fragile:
    """Raises in the trainer, and in no worker."""

    def __init__(self, error):
        self.error, self.array = error, np.arange(5000.0)

    def __setstate__(self, state):
        if os.getpid() == HERE:
            raise state["error"]
        self.__dict__.update(state)


class Source:
    """Batches of which one makes its object when it is asked for."""

    def __init__(self, make, *, at=(AT,)):
        self.make, self.at = make, at

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        return np.full(3, index), self.make() if index in self.at else index


def _only_there(body):
    """Run code in a module that exists in this process alone."""
    module = types.ModuleType("mpqueue_test_of_the_worker")
    module.__dict__.update(dataclasses=dataclasses, enum=enum)
    sys.modules[module.__name__] = module
    exec(body, module.__dict__)
    return module


def fragile():
    return Fragile(ValueError("cannot be loaded here"))


def of_another_module():
    return _only_there("class Thing:\n    pass").Thing()


def key_of_another_module():
    """It is part of the spec of the batch, and of no pickle in it."""
    return {_only_there("class Key(enum.Enum):\n    A = 1").Key.A: np.zeros(3)}


FORMS = {
    "its code raises": (fragile, ValueError),
    "its class is missing": (of_another_module, ModuleNotFoundError),
    "a class of its spec is missing": (key_of_another_module, ModuleNotFoundError),
    "it looks like an end": (lambda: Fragile(StopIteration()), RuntimeError),
}
forms = pytest.mark.parametrize(("make", "kind"), FORMS.values(), ids=FORMS)


def expected(found):
    return [AT if isinstance(each, Exception) else each for each in found] == list(range(LENGTH))


@forms
def test_it_is_an_error_at_its_place_and_the_stream_goes_on(make, kind, caplog):
    with mpqueue.Loader(Source(make), workers=2) as loader:
        for epoch in range(2):
            found = taken(iter(loader))
            assert expected(found)
            assert type(found[AT]) is kind
            (note,) = found[AT].__notes__
            assert note == f"raised in this process, when the batch of index {AT} of epoch {epoch} was unpickled"
        assert loader.statistics().deaths == 0
    assert not caplog.records


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_other_start_methods_raise_the_error_in_its_place(start_method):
    with mpqueue.Loader(Source(fragile), workers=1, start_method=start_method) as loader:
        assert expected(taken(iter(loader)))


@forms
def test_it_is_left_out_where_errors_are(make, kind, caplog):
    with mpqueue.Loader(Source(make), workers=2, **SKIPPING) as loader, caplog.at_level(logging.WARNING, "mpqueue"):
        assert taken(iter(loader)) == [0, 1, 3, 4, 5]
        assert loader.statistics().skipped == 1
    assert f"skipped index {AT} of epoch 0" in caplog.text
    assert kind.__name__ in caplog.text


class SomeBroken:
    """Samples of which one raises in the worker, and one in the trainer."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 1:
            raise ValueError("broken")
        return np.full(3, index), fragile() if index == 0 else index


def test_so_is_one_of_which_something_was_left_out_before():
    with mpqueue.Loader(SomeBroken(), batch_size=2, collate=list, workers=1, **SKIPPING) as loader:
        assert [int(samples[0][0][0]) for samples in loader] == [2, 4]
        assert loader.statistics().skipped == 1  # what is said of the sample lies in the batch


def test_whoever_keeps_the_errors_keeps_no_slots():
    source = Source(fragile, at=range(LENGTH))
    with mpqueue.Loader(source, workers=2, max_queue_size=2) as loader:
        kept = [error for _ in range(8) for error in taken(iter(loader))]
        assert [str(error) for error in kept] == ["cannot be loaded here"] * 8 * LENGTH
        loader._engine.pipeline.backend.pool.ring.collect()
        assert loader._engine.pipeline.backend.pool.ring.slots.num_leased == 0


def test_an_enqueuer_stops_at_it_as_at_any_other_error():
    enqueuer = mpqueue.OrderedEnqueuer(Source(fragile), use_multiprocessing=True)
    enqueuer.start(workers=2)
    batches = enqueuer.get()
    assert [int(next(batches)[0][0]) for _ in range(AT)] == list(range(AT))
    with pytest.raises(ValueError, match="cannot be loaded here"):
        next(batches)
    assert not enqueuer.is_running()


def test_one_that_was_moved_out_of_the_ring_is_unreadable_when_its_turn_has_come():
    with mpqueue.Loader(Source(fragile), workers=1, max_queue_size=LENGTH) as loader:
        batches = iter(loader)
        next(batches)
        pipeline = loader._engine.pipeline
        pipeline.pause()
        while pipeline.backend.pool.evict(beyond=0) and not isinstance(pipeline.ledger.ready[AT], Result):
            pass
        with pytest.raises(Unreadable):
            pipeline.ledger.ready[AT].open()
        pipeline.resume()
        found = taken(batches)
        assert [each if isinstance(each, int) else type(each) for each in found] == [1, ValueError, 3, 4, 5]


class Interrupted(Exception):
    """Raised by the handler of a signal."""


class Signalling:
    """Has a signal strike in the middle of its unpickling, in the trainer, once."""

    strikes: list[int] = []

    def __setstate__(self, state):
        if os.getpid() == HERE and self.strikes:
            signal.raise_signal(self.strikes.pop())


class SignallingError(Exception):
    """The same of an exception."""

    def __reduce__(self):
        return _strike_and_make, ()


def _strike_and_make():
    Signalling().__setstate__({})
    return SignallingError()


class Raising:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise SignallingError


@pytest.fixture
def handler():
    """A handler that raises, an error like those of code of the user."""

    def strike(*_):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, before)


def signalling():
    thing = Signalling()
    thing.text = "x"  # it has a state
    return thing


STRIKES = pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGUSR1, Interrupted), (signal.SIGINT, KeyboardInterrupt)]
)


@STRIKES
@pytest.mark.parametrize("options", [{}, SKIPPING])
@pytest.mark.usefixtures("handler")
def test_what_the_handler_of_a_signal_raises_is_an_interrupt_and_the_batch_comes(options, number, kind, monkeypatch):
    monkeypatch.setattr(Signalling, "strikes", [number])
    with mpqueue.Loader(Source(signalling), workers=1, **options) as loader:
        batches = iter(loader)
        assert [int(next(batches)[0][0]) for _ in range(AT)] == list(range(AT))
        with pytest.raises(kind):
            next(batches)
        assert taken(batches) == list(range(AT, LENGTH))
        assert loader.statistics().skipped == 0


@STRIKES
@pytest.mark.usefixtures("handler")
def test_so_it_is_in_the_unpickling_of_an_exception(number, kind, monkeypatch):
    monkeypatch.setattr(Signalling, "strikes", [number])
    with mpqueue.Loader(Raising(), workers=1) as loader:
        batches = iter(loader)
        with pytest.raises(kind):
            next(batches)


class Fleeting(Exception):
    def __reduce__(self):
        return made_again, ()


def made_again():
    if "MPQUEUE_TEST_IS_GONE" in os.environ:
        raise LookupError("gone")
    return Fleeting()


def test_an_error_that_only_the_worker_can_unpickle_comes_by_its_text_and_says_so(monkeypatch):
    packed = failures.pack(Fleeting("lost"), "index 3")
    monkeypatch.setenv("MPQUEUE_TEST_IS_GONE", "1")
    error = failures.unpack(packed)
    assert (type(error), "Fleeting: lost" in str(error)) == (WorkerRaised, True)
    assert error.__notes__ == ["index 3; it could not be unpickled here (LookupError)"]
