"""Exceptions of any kind replace one batch and no other, in processes, in threads and without workers."""

import threading
from functools import partial

import pytest
from helpers.computed_source import Computed
from helpers.unusual_exceptions import AT, BASES, LENGTH, MISBEHAVING, Counting, Frozen, Raises, RefusingClass, taken

from mpqueue import Dataset, Loader
from mpqueue.errors import BatchTimeout, WorkerRaised

pytestmark = pytest.mark.sample(2)

BACKENDS = {"inline": {"workers": 0}, "thread": {"workers": 1, "backend": "thread"}, "process": {"workers": 1}}
backends = pytest.mark.parametrize("backend", BACKENDS)
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
