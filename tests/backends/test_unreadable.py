"""A batch that the worker can pickle, but this process cannot unpickle: an error at its position, once.

An exception of a signal handler during the unpickling is an interrupt, and the batch arrives.
"""

import logging
import os
import signal
import sys
import types
from collections import Counter

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.engine_parts import pipeline_of
from helpers.numbered_batches import taken
from helpers.signal_handlers import handling, raising

import mpqueue
from mpqueue.errors import WorkerRaised
from mpqueue.worker import failures

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

HERE = os.getpid()
AT, LENGTH = 2, 6
SKIPPING = {"on_error": "skip"}


class Fragile:
    """Raises in the trainer, but in no worker."""

    def __init__(self, error):
        self.error, self.array = error, np.arange(5000.0)

    def __setstate__(self, state):
        if os.getpid() == HERE:
            raise state["error"]
        self.__dict__.update(state)


def source_of(make, *, at=(AT,)):
    """Return a source of batches; some of them create an object."""
    return Computed(lambda index: (np.full(3, index), make() if index in at else index), LENGTH)


def _only_there(body):
    """Run code in a module that exists only in this process."""
    module = types.ModuleType("mpqueue_test_of_the_worker")
    sys.modules[module.__name__] = module
    exec(body, module.__dict__)
    return module


def fragile():
    return Fragile(ValueError("cannot be loaded here"))


def of_another_module():
    return _only_there("class Thing: pass").Thing()


def key_of_another_module():
    """It is in the spec of the batch, but not in its pickles."""
    return {_only_there("import enum\nclass Key(enum.Enum): A = 1").Key.A: np.zeros(3)}


FORMS = {
    "its code raises": (fragile, ValueError),
    "its class is missing": (of_another_module, ModuleNotFoundError),
    "a class of its spec is missing": (key_of_another_module, ModuleNotFoundError),
    "it looks like an end": (lambda: Fragile(StopIteration()), RuntimeError),
}


def expected(found):
    return [AT if isinstance(each, Exception) else each for each in found] == list(range(LENGTH))


@pytest.mark.parametrize(("make", "kind"), FORMS.values(), ids=FORMS)
def test_error_is_raised_at_its_position_and_the_stream_continues(make, kind, caplog):
    with mpqueue.Loader(source_of(make), workers=2) as loader:
        for epoch in range(2):
            found = taken(iter(loader))
            assert expected(found)
            assert type(found[AT]) is kind
            (note,) = found[AT].__notes__
            assert note == f"raised in this process, when the batch of index {AT} of epoch {epoch} was unpickled"
        assert loader.statistics().deaths == 0
    assert not caplog.records


def test_unreadable_batch_is_skipped_like_errors(caplog):
    make, kind = FORMS["its class is missing"]
    with mpqueue.Loader(source_of(make), workers=2, **SKIPPING) as loader, caplog.at_level(logging.WARNING, "mpqueue"):
        assert taken(iter(loader)) == [0, 1, 3, 4, 5]
        assert loader.statistics().skipped == 1
    assert f"skipped index {AT} of epoch 0" in caplog.text
    assert kind.__name__ in caplog.text


def broken_or_fragile(index):
    """Return a sample; one raises in the worker, and one in the trainer."""
    if index == 1:
        raise ValueError("broken")
    return np.full(3, index), fragile() if index == 0 else index


def test_unreadable_partial_batch_is_skipped():
    with mpqueue.Loader(Computed(broken_or_fragile, 6), batch_size=2, collate=list, workers=1, **SKIPPING) as loader:
        assert [int(samples[0][0][0]) for samples in loader] == [2, 4]
        assert loader.statistics().skipped == 1  # the record of the sample is part of the batch


def is_any(_):
    return True


def fragile_at_one(number):
    return fragile() if number == 1 else number


@pytest.mark.parametrize("options", [{}, SKIPPING], ids=["raised", "skipped"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_unreadable_element_counts_for_no_part(options, is_stream):
    parts = {"plain": mpqueue.Dataset.range(3), "fragile": mpqueue.Dataset.range(3).map(fragile_at_one)}
    mixture = mpqueue.Dataset.mix(parts, stop="all")
    options = options | ({"lanes": 1} if is_stream else {})
    with mpqueue.Loader(mixture.filter(is_any) if is_stream else mixture, workers=1, **options) as loader:
        found, errors = Counter(plain=0, fragile=0), 0
        batches = iter(loader)
        while True:
            try:
                next(batches)
                found.update(part for part, _ in loader.last.samples)
            except StopIteration:
                break
            except ValueError:
                errors += 1
        assert (errors > 0) == ("on_error" not in options)  # the part that ends first is read again
        assert loader.statistics().parts == loader.state_dict()["parts"] == found
        assert found["plain"] and found["fragile"]


def test_kept_errors_keep_no_slots():
    source = source_of(fragile, at=range(LENGTH))
    with mpqueue.Loader(source, workers=2, max_queue_size=2) as loader:
        kept = [error for _ in range(8) for error in taken(iter(loader))]
        assert [str(error) for error in kept] == ["cannot be loaded here"] * 8 * LENGTH
        pipeline_of(loader).backend.pool.ring.collect()
        assert pipeline_of(loader).backend.pool.ring.slots.num_leased == 0


class Interrupted(Exception):
    """The error of a signal handler."""


class Signalling:
    """Sends a signal during its unpickling in the trainer, once."""

    strikes: list[int] = []

    def __setstate__(self, state):
        if os.getpid() == HERE and self.strikes:
            signal.raise_signal(self.strikes.pop())


def signalling():
    thing = Signalling()
    thing.text = "x"  # it has a state
    return thing


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGUSR1, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("options", [{}, SKIPPING])
def test_exception_of_a_signal_handler_is_an_interrupt_and_the_batch_arrives(options, number, kind, monkeypatch):
    monkeypatch.setattr(Signalling, "strikes", [number])
    source = source_of(signalling)
    with handling(raising(Interrupted), signal.SIGUSR1), mpqueue.Loader(source, workers=1, **options) as loader:
        batches = iter(loader)
        assert [int(next(batches)[0][0]) for _ in range(AT)] == list(range(AT))
        with pytest.raises(kind):
            next(batches)
        assert taken(batches) == list(range(AT, LENGTH))
        assert loader.statistics().skipped == 0


class Fleeting(Exception):
    is_gone = False

    def __reduce__(self):
        return made_again, ()


def made_again():
    if Fleeting.is_gone:
        raise LookupError("gone")
    return Fleeting()


def test_error_that_only_the_worker_can_unpickle_is_replaced_by_its_message(monkeypatch):
    packed = failures.pack(Fleeting("lost"), "index 3")
    monkeypatch.setattr(Fleeting, "is_gone", True)
    error = failures.unpack(packed)
    assert (type(error), "Fleeting: lost" in str(error)) == (WorkerRaised, True)
    assert error.__notes__ == ["index 3; it could not be unpickled here (LookupError)"]


@pytest.mark.parametrize("character", ["a", "\u6f22", "\U0001f600", "\udc80"])
def test_error_of_any_text_fits_into_a_slot(character):
    """Every slot has memory for that many bytes, also while memory is short."""
    packed = failures.pack(ValueError(character * 20_000), "index 3")
    assert len(packed) <= failures.MAX_FAILURE_BYTES
    error = failures.unpack(packed)
    assert str(error).count(character) + str(error).count("\\udc80") > 2000
