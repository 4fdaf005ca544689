"""A loader that was not stopped is collected: all resources are released, and Ctrl-C is raised in the user's code."""

import gc
import itertools
import signal
import threading
import weakref

import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.engine_parts import pipeline_of
from helpers.faults import Numbers
from helpers.injected_exceptions import Struck
from helpers.signal_handlers import handling, raising

import mpqueue
from mpqueue.backends.processes.roster import Roster
from mpqueue.backends.threads import ThreadBackend
from mpqueue.system.signals import deferred


class Circle:
    """An object that only the garbage collector deletes."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def struck():
    with handling(raising(Struck), signal.SIGUSR1):
        yield


@pytest.fixture
def callback():
    """A Python callback of the collector, as JAX has one: Python checks for signals when it begins."""
    phases = []

    def note(phase, _info):
        phases.append(phase)

    gc.callbacks.append(note)
    yield phases
    gc.callbacks.remove(note)


@pytest.fixture
def handled():
    """The signals that were handled, by handlers that do not raise."""
    numbers = []
    with handling(lambda number, _frame: numbers.append(number), signal.SIGUSR1, signal.SIGUSR2):
        yield numbers


@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("place", ["end_workers", "events", "close"])
def test_interrupt_during_collection_is_raised_after_cleanup(place, monkeypatch):
    """A fixture checks for remaining resources."""
    method, times = getattr(Roster, place), itertools.count()

    def interrupted(*args, **keywords):
        if not next(times):
            signal.raise_signal(signal.SIGUSR1)
        return method(*args, **keywords)

    loader = mpqueue.Loader(Numbers(), workers=2)
    batches = iter(loader)
    next(batches)
    monkeypatch.setattr(Roster, place, interrupted)
    with pytest.raises(Struck):
        del loader, batches
        gc.isenabled()  # Python checks for signals after any call: before other callbacks of the collector run
        gc.collect()
        raise AssertionError("the interrupt was lost")
    assert next(times) > 0


@pytest.mark.usefixtures("struck")
def test_signal_during_collection_in_deferred_block_is_raised_after_block():
    """For instance, one loader's workers are stopped while another's are: an exception in a callback would be lost."""
    done = []

    def work():
        deferred.allow_signals(signal.raise_signal, signal.SIGUSR1)
        done.append("all of it")

    with pytest.raises(Struck), deferred.defer_signals():
        deferred.deliver_after_return(work)
        done.append("the surrounding block")
    assert done == ["all of it", "the surrounding block"]
    with pytest.raises(Struck), deferred.defer_signals():
        deferred.allow_signals(signal.raise_signal, signal.SIGUSR1)
        raise AssertionError("too late for signals")


@pytest.mark.parametrize("name", ["_answer", "_take"])
def test_loader_collected_in_its_own_thread_leaves_no_thread(name, monkeypatch):
    """A thread may hold the stream's lock when the collector runs in it: a stop in it cannot end the stream."""
    call, is_dropped, may_go_on = getattr(ThreadBackend, name), threading.Event(), threading.Event()

    def collect_first(*given):
        if is_dropped.is_set():
            gc.collect()
        return call(*given)

    def wait_at_8(index):
        if index == 8:
            may_go_on.wait()
        return index

    monkeypatch.setattr(ThreadBackend, name, collect_first)
    gc.disable()
    try:
        loader = mpqueue.Loader(Computed(wait_at_8, 100), workers=2, backend="thread", max_queue_size=20)
        circle = [loader]
        circle.append(circle)
        assert next(iter(loader)) == 0
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("mpqueue-worker")]
        assert len(threads) == 2
        del loader, circle
        is_dropped.set()
        may_go_on.set()
        for thread in threads:
            thread.join(DEADLOCK_S)
    finally:
        gc.enable()
    assert not any(thread.is_alive() for thread in threads)


def test_signals_during_collection_of_two_loaders_are_handled_later(handled):
    circles = [Circle(), Circle()]

    def end_by(number):
        return lambda _: deferred.deliver_after_return(lambda: signal.raise_signal(number))

    watches = [
        weakref.ref(circle, end_by(number))
        for circle, number in zip(circles, (signal.SIGUSR1, signal.SIGUSR2), strict=True)
    ]
    before = list(gc.callbacks)
    del circles[:]
    gc.collect()
    assert [watch() for watch in watches] == [None, None]
    assert sorted(handled) == [signal.SIGUSR1, signal.SIGUSR2]
    assert gc.callbacks == before


def is_even(number):
    return number % 2 == 0


def test_answer_about_a_batch_keeps_no_workers_alive():
    loader = mpqueue.Loader(mpqueue.Dataset.range(40).filter(is_even), workers=1)
    batches = iter(loader)
    next(batches)
    answer, pipeline = loader.last, pipeline_of(loader)
    del loader, batches
    assert pipeline.is_stopped
    assert list(answer.samples) == [0]  # found after that


class Whole:
    """What an item of a `flat_map` is made of."""


def test_errors_before_the_place_of_a_resume_keep_nothing():
    """Their frames would keep arrays in the slot of a worker until the next collection."""
    alive = []

    def items(number):
        whole = Whole()
        alive.append(weakref.ref(whole))
        yield number
        raise ValueError(number)

    dataset = mpqueue.Dataset.range(6).flat_map(items)
    with mpqueue.Loader(dataset, lanes=1, workers=0) as loader:
        batches = iter(loader)
        for number in range(2):
            assert next(batches) == number
            with pytest.raises(ValueError, match=str(number)):
                next(batches)
        state = loader.state_dict()
    alive.clear()
    gc.disable()
    try:
        with mpqueue.Loader(dataset, lanes=1, workers=0) as loader:
            loader.load_state_dict(state)
            assert next(iter(loader)) == 2
            assert [whole() for whole in alive[:2]] == [None, None]
    finally:
        gc.enable()


class RaisesLater:
    """A sampler that yields four indices, and raises."""

    def __len__(self):
        return 10

    def __iter__(self):
        yield from range(4)
        raise ValueError("it ends")


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_is_collected_though_its_sampler_has_raised_ahead(workers):
    loader = mpqueue.Loader(Numbers(), batch_size=1, sampler=RaisesLater(), workers=workers)
    batches, pipeline = iter(loader), None
    for _ in range(4):
        next(batches)
        pipeline = pipeline or weakref.ref(pipeline_of(loader))
    del loader, batches
    gc.collect()
    assert pipeline() is None


def test_error_of_a_sampler_that_is_raised_later_has_the_text_of_its_traceback():
    loader = mpqueue.Loader(Numbers(), batch_size=1, sampler=RaisesLater(), workers=0)
    with pytest.raises(ValueError, match="it ends") as raised:
        list(loader)
    (note,) = raised.value.__notes__
    assert "in __iter__\n" in note
    loader.stop()
