"""Exceptions of any kind replace one batch and no other, in processes, in threads and without workers.

The same for `sys.exit` in source code, without a retry, and for a batch that this process cannot unpickle. An exception
of a signal handler during the unpickling is an interrupt, and the batch arrives.
"""

import logging
import os
import signal
import sys
import threading
import traceback
import types
from collections import Counter
from functools import partial

import numpy as np
import pytest
from helpers import numbered_batches
from helpers.computed_source import Computed
from helpers.engine_parts import pipeline_of
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.signal_handlers import handling, raising
from helpers.unusual_exceptions import AT, BASES, LENGTH, MISBEHAVING, Counting, Frozen, Raises, RefusingClass, taken

from mpqueue import Dataset, Loader
from mpqueue.backends.start import forker
from mpqueue.errors import BatchTimeout, WorkerDied, WorkerRaised
from mpqueue.worker import failures

pytestmark = [pytest.mark.sample(2), pytest.mark.shared_fork_server]

BACKENDS = {
    "inline": {"workers": 0},
    "thread": {"workers": 1, "backend": "thread"},
    "process": {"workers": 1},
    "fork": {"workers": 1, "start_method": "fork"},
    "spawn": {"workers": 1, "start_method": "spawn"},
}
backends = pytest.mark.parametrize("backend", ["inline", "thread", "process"])
WANTED = list(range(LENGTH))


def is_true(_):
    return True


def each(function):
    return Dataset.range(LENGTH).map(function).filter(is_true)


# For a function that raises: a source, and options of its loader.
SOURCES = {
    "index": lambda f: (Computed(f, LENGTH), {}),
    "samples": lambda f: (Computed(f, LENGTH), {"batch_size": 2}),
    "samples in threads": lambda f: (Computed(f, LENGTH), {"batch_size": 2, "threads": 2}),
    "map by index": lambda f: (Dataset.range(LENGTH).map(f, threads=2).batch(2), {}),
    "cache by index": lambda f: (Dataset.range(LENGTH).map(f).cache(), {}),
    "stream": lambda f: (each(f), {}),
    "threads": lambda f: (Dataset.range(LENGTH).filter(is_true).map(f, threads=2), {}),
    "batches": lambda f: (each(f).batch(2), {}),
    "shuffle": lambda f: (each(f).shuffle(3).batch(2), {}),
    "collate": lambda f: (each(int).batch(2, collate=lambda each: [f(one) for one in each]), {}),
    "flat_map": lambda f: (Dataset.range(LENGTH).flat_map(lambda number: (f(number) for _ in range(2))), {}),
    "cache": lambda f: (each(f).cache(), {}),
    "zip": lambda f: (Dataset.zip(Dataset.range(LENGTH).map(f), Dataset.range(LENGTH)).filter(is_true), {}),
    "mix": lambda f: (Dataset.mix([each(f), Dataset.range(100, 105)], [1, 1], stop="all"), {}),
    "stream source": lambda f: (Dataset(partial(Counting, f)), {"lanes": 1}),
    "elements": lambda f: (partial(Counting, f), {"lanes": 1}),
    "batches of elements": lambda f: (partial(Counting, f), {"lanes": 1, "batch_size": 2}),
}


def outcome(name, backend, make, **options):
    """Return the batches up to the error, the batches of a new loop after it, and of a loader resumed from there."""
    source, own = SOURCES[name](Raises(make))
    options |= {"seed": 3} | own | BACKENDS[backend]
    with Loader(source, **options) as loader, Loader(source, **options) as other:
        batches, before, error = iter(loader), [], None
        while error is None:
            try:
                before.append(next(batches))
            except BaseException as raised:
                error = raised
        other.load_state_dict(loader.state_dict())
        rest = taken(iter(loader).__next__)
        assert rest == taken(iter(other).__next__)
        return type(error), str(before), rest


@backends
@pytest.mark.sample(2)
@pytest.mark.parametrize("name", SOURCES)
def test_base_exception_replaces_one_batch_like_a_value_error(name, backend, caplog):
    kind = BASES["cancelled"]
    error, *wanted = outcome(name, backend, ValueError)
    assert error is ValueError
    assert outcome(name, backend, kind) == (kind, *wanted)
    error, _, _ = outcome(name, backend, kind, on_error="skip")
    assert error is kind
    assert not caplog.records  # nothing was skipped


@backends
@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", [*MISBEHAVING, *BASES])
def test_any_exception_replaces_only_its_batch(kind, backend):
    make = (MISBEHAVING | BASES)[kind]
    wanted = type(make(AT))
    if wanted is RefusingClass and backend == "process":
        wanted = WorkerRaised
    for name in ("index", "stream"):
        source, _ = SOURCES[name](Raises(make))
        with Loader(source, **BACKENDS[backend]) as loader:
            found = taken(iter(loader).__next__)
        if kind == "local":  # each call has its own class
            wanted = found[AT]
            assert wanted.__name__ == "Local"
        assert found == [*WANTED[:AT], wanted, *WANTED[AT + 1 :]]


@backends
@pytest.mark.parametrize("kind", ["frozen", "silent", "opaque", "incomparable"])
def test_any_exception_can_be_skipped(kind, backend):
    source, _ = SOURCES["stream"](Raises(MISBEHAVING[kind]))
    with Loader(source, on_error="skip", **BACKENDS[backend]) as loader:
        assert taken(iter(loader).__next__) == WANTED[:AT] + WANTED[AT + 1 :]
        assert loader.statistics().skipped == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_start_method_keeps_class_of_frozen_exception(method):
    with Loader(Computed(Raises(Frozen), LENGTH), workers=1, start_method=method) as loader:
        assert taken(iter(loader).__next__) == [*WANTED[:AT], Frozen, *WANTED[AT + 1 :]]


released = threading.Event()


class Hanging(Exception):
    def __str__(self):
        released.wait()
        return "released"


class HangingReduction(Exception):
    def __reduce__(self):
        released.wait()
        return type(self), ()


OF_THREAD = {"backend": "thread", "on_error": "skip"}


@pytest.mark.parametrize(
    ("kind", "options"), [(Hanging, {"restarts": 0}), (HangingReduction, {"restarts": 0}), (Hanging, OF_THREAD)]
)
def test_batch_timeout_ends_an_exception_that_hangs(kind, options):
    source = Computed(Raises(lambda _: kind()), LENGTH)
    with Loader(source, workers=1, batch_timeout=1.0, **options) as loader:
        try:
            assert taken(iter(loader).__next__) == [*WANTED[:AT], BatchTimeout, *WANTED[AT + 1 :]]
        finally:
            released.set()
    released.clear()


def leave(code):
    sys.exit(code)


# A source that calls `sys.exit` for one item.
LEAVING = Computed(lambda index: np.full(64, index) if index != AT else leave(3), LENGTH)


def elements():
    yield np.array([0])
    leave("no more files")


def look_at(error, text, note):
    assert type(error) is WorkerRaised
    assert (error.type_name, error.text) == ("SystemExit", text)
    (said,) = error.__notes__
    assert note in said
    shown = "".join(traceback.format_exception(error))
    assert "in leave" in shown
    assert "sys.exit(code)" in shown


@pytest.mark.parametrize("backend", BACKENDS)
def test_exit_is_an_error_of_its_batch_and_the_stream_continues(backend, caplog):
    with Loader(LEAVING, **BACKENDS[backend]) as loader:
        for epoch in range(2):
            batches = iter(loader)
            assert numbers(batches, AT) == list(range(AT))
            with pytest.raises(WorkerRaised) as caught:
                next(batches)
            look_at(caught.value, "3", f"raised for index {AT} of epoch {epoch}")
            assert [int(batch[0]) for batch in batches] == list(range(AT + 1, LENGTH))
        statistics = loader.statistics()
        assert (statistics.deaths, statistics.retries) == (0, 0)
    assert not caplog.records


@backends
def test_exit_in_a_generator_is_an_error(backend):
    with Loader(elements, **BACKENDS[backend]) as loader:
        batches = iter(loader)
        assert int(next(batches)[0]) == 0
        with pytest.raises(WorkerRaised) as caught:
            next(batches)
        look_at(caught.value, "no more files", "raised for index 1 of epoch 0")
        assert list(batches) == []


@backends
@pytest.mark.parametrize("batch_size", [None, 2])
def test_exit_in_a_sample_is_an_error_that_can_be_skipped(backend, batch_size):
    with Loader(LEAVING, batch_size=batch_size, on_error="skip", **BACKENDS[backend]) as loader:
        assert [batch.ravel()[0] for batch in loader] == ([0, 2, 4] if batch_size else [0, 1, 2, 4, 5])
        assert loader.statistics().skipped == 1


def test_sigterm_handler_that_raises_system_exit_ends_the_worker_at_once(monkeypatch):
    monkeypatch.setattr("mpqueue.backends.processes.roster._GRACE_S", 0.05)
    monkeypatch.setattr("mpqueue.backends.processes.roster._TERM_S", 20.0)

    def wait_from_1_on(index):
        if index:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            pass_gate(address)
        return index

    with Gate() as gate:
        address = gate.address
        loader = Loader(Computed(wait_from_1_on), workers=1)
        batches = iter(loader)
        next(batches)
        waiting = gate.arrival()
        loader.stop()  # SIGKILL would follow after 20 s
        waiting.let_go()
        assert not gate.has_arrivals  # later batches were granted, too


def reset_and_leave():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    leave(6)


@pytest.mark.parametrize(
    "handler",
    [lambda *_: leave(5), lambda *_: reset_and_leave(), lambda number, frame: reset_and_leave()],
    ids=["is kept", "is reset", "is reset, and names its argument"],
)
def test_exit_of_a_signal_handler_without_workers_leaves_the_loop_and_loses_nothing(handler):
    struck = []

    def signalled(index):
        if index == AT and not struck:
            struck.append(index)
            signal.raise_signal(signal.SIGUSR1)
        return index

    with handling(handler, signal.SIGUSR1), Loader(Computed(signalled, LENGTH), workers=0) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(AT)] == list(range(AT))
        with pytest.raises(SystemExit):
            next(batches)
        assert list(batches) == list(range(AT, LENGTH))


def test_forked_worker_that_cannot_start_does_not_run_the_trainers_code(monkeypatch):
    trainer = os.getpid()

    def fails(*_):
        if os.getpid() != trainer:
            raise OSError("no thread can be started")

    monkeypatch.setattr(forker.parent_death, "arm", fails)
    with Loader(Numbers(2), workers=1, start_method="fork", restarts=0) as loader:
        with pytest.raises(WorkerDied, match="exit code 1"):
            next(iter(loader))


HERE = os.getpid()
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
    with Loader(source_of(make), workers=2) as loader:
        for epoch in range(2):
            found = numbered_batches.taken(iter(loader))
            assert expected(found)
            assert type(found[AT]) is kind
            (note,) = found[AT].__notes__
            assert note == f"raised in this process, when the batch of index {AT} of epoch {epoch} was unpickled"
        assert loader.statistics().deaths == 0
    assert not caplog.records


def test_unreadable_batch_is_skipped_like_errors(caplog):
    make, kind = FORMS["its class is missing"]
    with Loader(source_of(make), workers=2, **SKIPPING) as loader, caplog.at_level(logging.WARNING, "mpqueue"):
        assert numbered_batches.taken(iter(loader)) == [0, 1, 2, 4, 5]
        assert loader.statistics().skipped == 1
    assert f"skipped index {AT} of epoch 0" in caplog.text
    assert kind.__name__ in caplog.text


def broken_or_fragile(index):
    """Return a sample; one raises in the worker, and one in the trainer."""
    if index == 1:
        raise ValueError("broken")
    return np.full(3, index), fragile() if index == 0 else index


def test_unreadable_partial_batch_is_skipped():
    with Loader(Computed(broken_or_fragile, 6), batch_size=2, collate=list, workers=1, **SKIPPING) as loader:
        assert [int(samples[0][0][0]) for samples in loader] == [2, 4]
        assert loader.statistics().skipped == 1  # the record of the sample is part of the batch


def is_any(_):
    return True


def fragile_at_one(number):
    return fragile() if number == 1 else number


@pytest.mark.parametrize("options", [{}, SKIPPING], ids=["raised", "skipped"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_unreadable_element_counts_for_no_part(options, is_stream):
    parts = {"plain": Dataset.range(3), "fragile": Dataset.range(3).map(fragile_at_one)}
    mixture = Dataset.mix(parts, stop="all")
    options = options | ({"lanes": 1} if is_stream else {})
    with Loader(mixture.filter(is_any) if is_stream else mixture, workers=1, **options) as loader:
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
    with Loader(source, workers=2, max_queue_size=2) as loader:
        kept = [error for _ in range(8) for error in numbered_batches.taken(iter(loader))]
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
    with handling(raising(Interrupted), signal.SIGUSR1), Loader(source, workers=1, **options) as loader:
        batches = iter(loader)
        assert [int(next(batches)[0][0]) for _ in range(AT)] == list(range(AT))
        with pytest.raises(kind):
            next(batches)
        assert numbered_batches.taken(batches) == list(range(AT, LENGTH))
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
