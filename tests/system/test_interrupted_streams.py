"""Exceptions of signal handlers while a stream is read: no batch is lost or repeated, and states are correct.

Each place where Python checks for signals is interrupted in turn, and then random moments by real signals.
"""

import contextlib
import gc
import itertools
import random
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.engine_parts import lock_of
from helpers.faults import Fault, Growing, Numbers, StrikesAt
from helpers.injected_exceptions import Alarms, Strike, Struck, StruckError, StruckException, StruckLimit, each_strike
from helpers.signal_handlers import handling, raising
from helpers.slow_sources import Slow
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue.backends.waiting_consumers import WaitingConsumers
from mpqueue.seeding.permutation import SampleOrder
from mpqueue.worker.runners import lane_runner
from mpqueue.worker.runners.runner import StreamEnd

pytestmark = [pytest.mark.sample(1), pytest.mark.shared_fork_server]

KINDS = {
    "process": {"workers": 2, "max_queue_size": 4},
    "thread": {"workers": 2, "backend": "thread", "max_queue_size": 4},
    "inline": {"workers": 0},
}
RANDOM_S = 0.6  # per test; the soak test runs longer


def until_done(call, function, *arguments):
    while not (found := call(function, *arguments)):
        pass
    return found[0]


def unless_struck(function, *arguments):
    try:
        return [function(*arguments)]
    except Struck:
        return []


def rest_of(batches, call):
    """Return the numbers of the batches that are left, with calls that may be interrupted."""
    found = []
    with contextlib.suppress(StopIteration):
        while True:
            found += [int(batch[0]) for batch in call(next, batches)]
    return found


def one_epoch(loader, call, number):
    """Read an epoch with calls that may be interrupted; return the received numbers, and the wrong states."""
    batches = until_done(call, iter, loader)
    found, wrong = [], []
    while True:
        try:
            got = call(next, batches)
        except StopIteration:
            return found, wrong
        found += [int(batch[0]) for batch in got]
        got.clear()
        state = until_done(call, loader.state_dict)
        position = state["epoch"], state["position"]
        if position != (number, len(found)) and (position != (number + 1, 0) or len(found) != loader.source.length):
            wrong.append((position, list(found)))


@pytest.mark.parametrize(("kind", "step"), [("process", 101), ("thread", 7), ("inline", 7)])
def test_interrupted_epoch_is_complete_with_correct_states(kind, step):
    for after, strike in each_strike(step):
        with mpqueue.Loader(Numbers(3), **KINDS[kind]) as loader:
            with strike:
                struck = one_epoch(loader, unless_struck, 0)
            following = one_epoch(loader, unless_struck, 1)
        assert (struck, following) == (([0, 1, 2], []), ([0, 1, 2], [])), after


@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_interrupted_epoch_ends_after_last_batch(kind):
    for after, strike in each_strike(2):
        with mpqueue.Loader(Growing(3), **KINDS[kind]) as loader:
            with strike:
                batches = until_done(unless_struck, iter, loader)
                found = [int(until_done(unless_struck, next, batches)[0]) for _ in range(3)]
            found += [int(batch[0]) for batch in loader]
        assert found == [0, 1, 2, 100, 101, 102], after


@pytest.mark.parametrize("kind", ["thread", "inline"])
@pytest.mark.parametrize(("place", "call"), [(0, list), (2, lambda loader: next(iter(loader)))], ids=["new", "resumed"])
def test_loop_after_an_interrupted_one_starts_at_the_first_batch_or_the_resumed_place(kind, place, call):
    with mpqueue.Loader(Numbers(4), **KINDS[kind]) as loader:
        assert [int(batch[0]) for _, batch in zip(range(place), loader, strict=False)] == list(range(place))
        state = loader.state_dict()
    for after, strike in each_strike(3):
        with mpqueue.Loader(Numbers(4), **KINDS[kind]) as loader:
            loader.load_state_dict(state)
            with strike:
                unless_struck(call, loader)
            if strike.left <= 0:
                assert [int(batch[0]) for batch in loader] == list(range(4))[place:], after


class Lane:
    """Numbers from an offset on, with a state."""

    def __init__(self, run):
        self.number = run.state or 0

    def next(self):
        if self.number == 3:
            raise StreamEnd
        self.number += 1
        return np.full(2, self.number - 1)

    def save(self):
        return self.number


class Lanes:
    open_lane = staticmethod(Lane)

    def shape(self):
        return ["Lanes"]


def numbers():
    yield from (np.full(2, number) for number in range(3))


@pytest.mark.parametrize("kind", ["process", "thread", "inline"])
@pytest.mark.parametrize("source", [numbers, Lanes()], ids=["function", "lanes"])
def test_interrupted_stream_loses_no_element(monkeypatch, kind, source):
    """A virtual shard that an interrupt left inconsistent is reopened, and continues after the delivered elements."""
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 0)
    options = KINDS[kind] | {"lanes": 1} | ({"workers": 1} if kind != "inline" else {})
    for after, strike in each_strike(307 if kind == "process" else 5):
        with mpqueue.Loader(source, **options) as loader:
            with strike:
                assert rest_of(until_done(unless_struck, iter, loader), unless_struck) == [0, 1, 2], after
            assert [int(batch[0]) for batch in loader] == [0, 1, 2], after


@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_lost_element_of_iterator_raises_until_the_next_loop(kind):
    """It yields each element once. An interrupt that requires an element again is an error, until the next loop."""
    reported = []
    options = KINDS[kind] | ({"workers": 1} if kind != "inline" else {})
    for after, strike in each_strike(3):
        with mpqueue.Loader(iter(range(3)), **options) as loader:
            with strike:
                batches, found = until_done(unless_struck, iter, loader), []
                try:
                    while True:
                        found += unless_struck(next, batches)
                except StopIteration:
                    assert found == [0, 1, 2], after
                except RuntimeError as error:
                    reported.append(str(error))
                    assert found == [0, 1, 2][: len(found)], after
                    rest = list(loader)  # a new loop restarts the stream, and gets the elements that are left
                    assert rest == [0, 1, 2][3 - len(rest) :], after
    assert reported
    assert all("an interrupt occurred" in text for text in reported)


@pytest.mark.parametrize("kind", KINDS)
def test_random_signals_lose_no_batch(kind):
    end = time.monotonic() + RANDOM_S
    with mpqueue.Loader(Numbers(5), **KINDS[kind]) as loader, Alarms(4) as alarms:
        for number in itertools.count():
            if alarms.count and time.monotonic() > end:
                break
            assert one_epoch(loader, alarms.call, number) == ([0, 1, 2, 3, 4], [])


def signalling():
    """Return a source that sends this process a signal before it computes index 1, once."""
    signals = [signal.SIGUSR1]
    return StrikesAt(lambda: signals and signal.raise_signal(signals.pop()), 1, 3)


# A source with an error at index 1.
DAMAGED = StrikesAt(Fault("raise"), 1, 3)


def limited(exception=TimeoutError):
    """Raise an exception at SIGUSR1 until the block ends."""
    return handling(raising(exception("the user's own limit")), signal.SIGUSR1)


@pytest.mark.parametrize("exception", [TimeoutError, ValueError])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_exception_of_handler_in_source_is_not_its_error(exception, on_error):
    """Without workers, the source's own code is interrupted: the batch is computed again."""
    with limited(exception), mpqueue.Loader(signalling(), workers=0, on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches)[0] == 0
        with pytest.raises(exception, match="the user's own limit"):
            next(batches)
        assert [int(batch[0]) for batch in batches] == [1, 2]
        assert loader.statistics().skipped == 0


def test_exception_of_handler_while_source_is_sent_is_not_its_error():
    """Otherwise the source would count as one that cannot be pickled, and the workers would be forked."""
    signals = [signal.SIGUSR1]

    class SignallingWhenSent(Numbers):
        def __getstate__(self):
            if signals:
                signal.raise_signal(signals.pop())
            return vars(self)

    with limited(), mpqueue.Loader(SignallingWhenSent(3), workers=1) as loader:
        with pytest.raises(TimeoutError, match="the user's own limit"):
            next(iter(loader))
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]


def test_error_of_batch_is_raised_or_is_the_context_of_the_interrupt():
    for after, strike in each_strike(3):
        with mpqueue.Loader(DAMAGED, workers=0) as loader:
            with strike:
                batches, found = until_done(unless_struck, iter, loader), []
                while True:
                    try:
                        found.append(int(next(batches)[0]))
                    except ValueError:
                        found.append("error")
                    except Struck as struck:
                        if isinstance(struck.__context__, ValueError):
                            found.append("error")
                    except StopIteration:
                        break
            assert [key for key, _ in itertools.groupby(found)] == [0, "error", 2], after


def test_sleeping_thread_does_not_hide_interrupt_of_main_thread(monkeypatch):
    """It has released the lock: the main thread may be anywhere when a handler raises."""

    class Later(Numbers):
        may_begin, has_two = threading.Event(), threading.Event()

        def __getitem__(self, index):
            self.may_begin.wait()
            if index == 2:  # its only thread has recorded the earlier ones
                self.has_two.set()
            return super().__getitem__(index)

    def sleep_until_awake(really_sleep, consumers, head, timeout_s):
        if threading.current_thread() is threading.main_thread():
            really_sleep(consumers, head, timeout_s)
            return
        lock = lock_of(consumers)
        lock.release()
        asleep.set()
        awake.wait()
        lock.acquire()

    wrap(monkeypatch, WaitingConsumers, "sleep", sleep_until_awake)
    for after, strike in each_strike(least=5):
        asleep, awake, found = threading.Event(), threading.Event(), []
        Later.may_begin.clear()
        Later.has_two.clear()
        with mpqueue.Loader(Later(6), workers=1, backend="thread") as loader:
            batches = iter(loader)
            other = threading.Thread(target=lambda: found.extend(int(batch[0]) for batch in batches))  # noqa: B023
            other.start()
            asleep.wait()
            Later.may_begin.set()
            Later.has_two.wait()
            with strike:
                mine = [int(batch[0]) for batch in unless_struck(next, batches)]
            awake.set()
            other.join()
        assert sorted(found + mine) == list(range(6)), after


@pytest.mark.parametrize(
    "make",
    [lambda: Numbers(3), lambda: lambda: iter(range(3)), lambda: mpqueue.Dataset(range(3)).filter(lambda number: True)],
    ids=["index", "generator function", "stages"],
)
def test_interrupted_loop_without_workers_leaves_worker_context(make):
    found = []
    for _, strike in each_strike():
        with mpqueue.Loader(make(), workers=0) as loader:  # a new one: after an interrupt, other places follow
            batches = iter(loader)
            with strike:
                unless_struck(next, batches)
            found.append(mpqueue.worker_info())
    assert found == [None] * len(found)


def doubled(number):
    return 2 * number


def mixed():
    return mpqueue.Dataset.mix([mpqueue.Dataset.range(6).repeat(), mpqueue.Dataset.range(100, 106)], [1, 3])


def samples():
    """Return samples of numbers."""
    return Computed(lambda index: np.full(2, index), 7)


def broken():
    """Return the same, with one sample that raises."""
    return Computed(lambda index: np.full(2, index // (index != 4)), 7)


class Reversed:
    """A sampler that is a generator."""

    def __iter__(self):
        yield from reversed(range(7))


COMPUTED = {
    "broken samples": (broken, {"batch_size": 3, "on_error": "skip"}),
    "broken samples in threads": (broken, {"batch_size": 3, "on_error": "skip", "threads": 2}),
    "broken batches": (broken, {"on_error": "skip"}),
    "sampler": (samples, {"batch_size": 3, "sampler": Reversed()}),
    "samples": (samples, {"batch_size": 3, "shuffle": True}),
    "samples in threads": (samples, {"batch_size": 3, "threads": 2}),
    "stages": (lambda: mpqueue.Dataset.range(7).shuffle().map(doubled).batch(2), {}),
    "stages in threads": (lambda: mpqueue.Dataset.range(7).map(doubled, threads=2).batch(4), {}),
    "mix": (lambda: mixed().batch(4), {}),
    "sequence": (lambda: mpqueue.Dataset(samples()).map(doubled), {}),
}


def epochs_of(loader, call, count):
    """Read some epochs by calls that may be interrupted."""
    found = []
    for _ in range(count):
        batches, epoch = until_done(call, iter, loader), []
        with contextlib.suppress(StopIteration):
            while True:
                epoch += [batch.tolist() for batch in call(next, batches)]
        found.append(epoch)
    return found


def plainly(function, *arguments):
    return [function(*arguments)]


# The class of the error decides where it is caught, and the source decides which state may be left inconsistent. Each
# value of one is combined with one value of the other in turn, and one source with all classes.
ERRORS = (Struck, StruckException, StruckError)
STRUCK = [(source, ERRORS[index % 3]) for index, source in enumerate(COMPUTED)]
STRUCK += [("samples", error) for error in ERRORS if ("samples", error) not in STRUCK]


@pytest.mark.parametrize(("source", "error"), STRUCK)
def test_interrupts_without_workers_keep_order_and_samples(source, error):
    """The runner of the source keeps state between batches, which may be left inconsistent. Some places are interrupted."""
    make, options = COMPUTED[source]
    with mpqueue.Loader(make(), workers=0, seed=3, **options) as loader:
        wanted = epochs_of(loader, plainly, 2)
    step, first = 241 if source in {"mix", "stages"} else 97, 1 + list(COMPUTED).index(source)
    for after, strike in each_strike(step, first=first, least=100, make=partial(Strike, error=error)):
        with mpqueue.Loader(make(), workers=0, seed=3, **options) as loader, strike:
            assert epochs_of(loader, unless_struck, 2) == wanted, after


@pytest.mark.parametrize("length", [9, 70_000])
def test_interrupt_in_sample_order_keeps_order(length):
    """An order that was stored before it was shuffled would give later batches other samples, some of them twice."""
    wanted = SampleOrder(3, shuffle=True).indices(1, length, 2, 5)
    for after, strike in each_strike(2 if length > 9 else 1, least=5):
        order = SampleOrder(3, shuffle=True)
        order.indices(0, length, 0, 1)
        with strike:
            unless_struck(order.indices, 1, length, 2, 5)
        assert list(order.indices(1, length, 2, 5)) == list(wanted), after


@pytest.mark.parametrize("error", [Struck, StruckException])
@pytest.mark.parametrize("make", [lambda: mpqueue.Dataset.range(7).shuffle().map(doubled), mixed], ids=["map", "mix"])
def test_interrupt_in_indexed_dataset_keeps_elements(make, error):
    """The caller computes the elements, without a loader."""
    wanted = [make()[position] for position in range(7)]
    for after, strike in each_strike(make=partial(Strike, error=error)):
        dataset = make()
        with strike:
            unless_struck(dataset.__getitem__, 3)
        assert [dataset[position] for position in range(7)] == wanted, after


def test_error_of_source_during_interrupt_replaces_its_batch():
    """The interrupt is its ``__context__``, but not its cause."""
    with limited(), mpqueue.Loader(DAMAGED, workers=0) as loader:
        batches = iter(loader)
        assert next(batches)[0] == 0
        try:
            signal.raise_signal(signal.SIGUSR1)
        except TimeoutError:
            with pytest.raises(ValueError, match="a bad record") as raised:
                next(batches)
        assert isinstance(raised.value.__context__, TimeoutError)
        assert [int(batch[0]) for batch in batches] == [2]


def test_second_interrupt_at_end_of_sleep_releases_lock_once():
    """A lock released twice would raise a RuntimeError. Only a wait of the thread backend is interrupted."""

    def strike(_number, frame):
        while frame is not None and frame.f_code.co_name != "sleep":
            frame = frame.f_back
        if is_armed and frame is not None:
            struck.append(True)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 3e-5))
            raise Struck

    def struck_next(batches):
        nonlocal is_armed
        try:
            is_armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-4))
            found = [next(batches)]
            is_armed = False
        except Struck:
            return []
        finally:
            is_armed = False
        return found

    is_armed, struck, chance, end = False, [], random.Random(4), time.monotonic() + RANDOM_S
    before = signal.signal(signal.SIGALRM, strike)
    gc.disable()  # exceptions of handlers in callbacks of the collector are ignored and reported
    try:
        with mpqueue.Loader(Slow(5, 0.0003), workers=2, backend="thread") as loader:
            while time.monotonic() < end or not struck:
                assert rest_of(iter(loader), lambda _, batches: struck_next(batches)) == [0, 1, 2, 3, 4]
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("frontend", ["loader", "enqueuer"])
def test_two_interrupts_are_raised_by_one_call(frontend, monkeypatch):
    """The first interrupt must not be kept and raised by the next call in place of a batch."""

    def strike_once(*_):
        monkeypatch.undo()
        raise Struck

    with contextlib.ExitStack() as stack:
        stack.enter_context(limited())
        if frontend == "loader":
            loader = stack.enter_context(mpqueue.Loader(signalling(), workers=0))
            batches = iter(loader)
            monkeypatch.setattr(batches, "_note_failure", strike_once)
        else:
            enqueuer = stack.enter_context(mpqueue.OrderedEnqueuer(signalling(), use_multiprocessing=False))
            enqueuer.start(0)
            batches = enqueuer.get()
            monkeypatch.setattr(type(batches), "_note_failure", strike_once)
        assert next(batches)[0] == 0
        with pytest.raises(Struck):
            next(batches)
        assert [int(next(batches)[0]) for _ in range(2)] == [1, 2]


def test_timeout_by_signal_reaches_caller():
    """It is a TimeoutError, which is also raised by the system."""

    with mpqueue.Loader(Numbers(3), workers=1) as loader:
        assert len(list(loader)) == 3
        for after, strike in each_strike(5, least=100, make=partial(Strike, error=StruckLimit)):
            batches, found, num_struck = until_done(unless_struck, iter, loader), [], 0
            with strike, contextlib.suppress(StopIteration):
                while True:
                    got = unless_struck(next, batches)
                    num_struck += not got
                    found += [int(batch[0]) for batch in got]
            assert (found, num_struck) == ([0, 1, 2], int(strike.left <= 0)), after
