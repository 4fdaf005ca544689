"""Calls that an error, an interrupt, another thread, the lack of a thread or a wrong timeout disturbs."""

import contextlib
import math
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.faults import Numbers
from helpers.injected_exceptions import Struck, each_strike
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture
from helpers.signal_handlers import handling, raising
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import Loader
from mpqueue.engine import pipeline as pipeline_module
from mpqueue.engine.backend import NotYet
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.stopping import checked_wait
from mpqueue.plan.position.cursors import EpochCursor, ResumePoint


class Hands:
    """A backend controlled by the test: `work` answers dealt work items, for the next `take_in`."""

    chunk = low_water = 1
    is_calm, has_waiting = True, False

    def __init__(self, ledger):
        self.ledger, self.dealt, self.answers = ledger, [], []

    def start(self):
        self.pump()

    def pump(self):
        while work_items := self.ledger.deal(4):
            self.dealt += work_items

    def work(self, count=None):
        for work_item in self.dealt[:count]:
            self.answers.append((work_item, Result((work_item.epoch, work_item.position, work_item.source_index))))
        del self.dealt[:count]

    def answer(self, outcome):
        self.answers.append((self.dealt.pop(0), outcome))

    def take_in(self, head, *, may_fail):
        found, self.answers = self.answers, []
        for work_item, outcome in found:
            self.ledger.ready[work_item.work_id] = outcome
        return bool(found)

    def reset(self):
        self.dealt.clear()
        self.answers.clear()
        self.ledger.ready.clear()

    def refresh(self):
        """The source does not change."""

    def wake(self):
        """No thread waits."""

    def stop(self, timeout_s):
        """Stop; this backend has no workers."""


def pipeline_of(cursor=None, *, epoch_end=None):
    cursor = cursor or EpochCursor(lambda: 6, 1)
    cursor.go_to(ResumePoint())
    ledger = Ledger(cursor, 3, ordered=True)
    ends_epochs = epoch_end is not None
    pipeline = Pipeline(ledger, epoch_end=epoch_end, timed_epoch_end=False, ends_epochs=ends_epochs, skips=None)
    pipeline.start(Hands(ledger))
    return pipeline


def batch(pipeline):
    """Return the next batch, which is ready."""
    return pipeline.step()[1]


def positions(pipeline, count):
    """Return the positions of the next batches, which the backend computes."""
    found = []
    for _ in range(count):
        pipeline.backend.work()
        found.append(batch(pipeline)[1])
    return found


def test_last_batch_belongs_to_the_epoch_that_it_ends():
    """In an endless stream, work items belong to no epoch."""
    pipeline = pipeline_of()
    cursor, progress = pipeline.ledger.cursor, pipeline.progress
    cursor.lane_share = cursor.lane_share._replace(is_endless=True)
    pipeline.backend.work(2)
    first, _ = pipeline.step()
    progress.epoch = 3
    assert pipeline.ledger.counts.epoch_of(first) == 3
    progress.position = 0  # as after the last batch of epoch 2
    assert pipeline.ledger.counts.epoch_of(first) == 2
    assert pipeline.ledger.counts.epoch_of(first._replace(position=9)) == 3


@pytest.mark.parametrize("is_interrupt", [False, True])
def test_failed_is_outdated_changes_no_state_unless_interrupted(is_interrupt):
    """`is_outdated` fails: otherwise the work in flight would be dropped, and the workers stopped."""
    requested = []

    def length_of():
        if requested:
            requested.pop()()
        return 6

    def fails():
        raise OSError("the disk was removed")

    pipeline = pipeline_of(cursor=EpochCursor(length_of, 1))
    requested.append((lambda: signal.raise_signal(signal.SIGUSR1)) if is_interrupt else fails)
    with handling(raising(OSError("the handler")), signal.SIGUSR1):
        with pytest.raises(OSError, match="the handler" if is_interrupt else "the disk") as caught:
            pipeline.epochs.is_outdated()
        assert pipeline.guard.is_failure(caught.value) is not is_interrupt
    assert pipeline.guard.is_inconsistent is is_interrupt
    assert pipeline.step() is None
    assert positions(pipeline, 3) == [0, 1, 2]


class Lock:
    """The lock of a pipeline; its release calls a function, once."""

    def __init__(self, lock, call):
        self._lock, self._calls = lock, [call]

    def __enter__(self):
        self._lock.__enter__()

    def __exit__(self, *error):
        self._lock.__exit__(*error)
        if self._calls:
            self._calls.pop()()


@pytest.mark.sample(5)
@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("count", [0, 1, 6])
def test_state_lacks_only_the_batch_that_an_interrupt_kept(position, count):
    """Another thread receives batches of this epoch and the next one before the interrupt is raised."""
    pipeline = pipeline_of()

    def strike():
        positions(pipeline, count)
        raise KeyboardInterrupt

    positions(pipeline, position)
    pipeline.backend.work()
    pipeline.guard.lock = Lock(pipeline.guard.lock, strike)
    with pytest.raises(KeyboardInterrupt):
        pipeline.step()
    assert pipeline.progress.point() == ResumePoint(
        0, position, tuple(range(position + 1, min(position + 1 + count, 6)))
    )
    assert pipeline.step() is None
    assert positions(pipeline, 1) == [position]


def answer_all(pipeline):
    """Answer the dealt work items: the last one of an epoch of two with an error."""
    backend = pipeline.backend
    while backend.dealt:
        if backend.dealt[0].position == 1:
            backend.answer(Result.failed(OSError("the disk was removed")))
        else:
            backend.work(1)


@pytest.mark.parametrize("holds", [False, True])
def test_interrupt_of_the_error_that_ends_an_epoch_keeps_its_end_and_the_counts(holds):
    """The error is raised, or it is the context of the interrupt, once or twice."""
    for after, strike in each_strike(least=20):
        ends = []
        pipeline = pipeline_of(EpochCursor(lambda: 2, 1, barrier=True), epoch_end=lambda ends=ends: ends.append(0))
        pipeline.ledger.holds, raised, found = holds, [], []
        with strike:
            while len(found) < 2:
                try:
                    answer_all(pipeline)
                    taken = pipeline.step()
                    for delivery in pipeline.progress.deliveries:
                        pipeline.progress.pass_on(delivery)
                    found += [] if taken is None else [taken[1][:2]]
                except (OSError, Struck) as error:
                    raised += [each for each in (error, error.__context__) if isinstance(each, OSError)]
                    # As frontends do: batches that are held after an interrupt are computed again.
                    progress = pipeline.progress
                    if isinstance(error, OSError):
                        progress.deliveries = ()
                    elif progress.deliveries:
                        pipeline.guard.is_inconsistent = pipeline.ledger.needs_attention = True
        assert found == [(0, 0), (1, 0)], after
        assert raised, after
        assert ends == [0], after
        assert (pipeline.ledger.counts.num_taken, pipeline.ledger.counts.num_returned) == (3, 2), after


def test_interrupted_stop_does_not_block_the_stop_of_another_thread():
    for after, strike in each_strike(least=20):
        pipeline = pipeline_of()
        with contextlib.suppress(Struck), strike:
            pipeline.stop()
        other = threading.Thread(target=pipeline.stop, daemon=True)
        other.start()
        other.join(DEADLOCK_S)
        assert pipeline.guard.lifetime.has_ended, after


class Clock:
    """A clock that only `stop` advances, and waits that take as long as they are requested."""

    def __init__(self, monkeypatch, backend, stops):
        self.now, self.num_waits, self._stops = 100.0, 0, stops
        monkeypatch.setattr(pipeline_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(backend, "timeout_s", lambda: None, raising=False)
        monkeypatch.setattr(backend, "wait", self.wait, raising=False)

    def wait(self, _head, timeout_s):
        self.now += timeout_s + self._stops.get(self.num_waits, 0.0)
        self.num_waits += 1


@pytest.mark.parametrize("stops", [{}, {0: 60.0}, {2: 3600.0, 3: 5.0}])
def test_time_limit_does_not_count_time_in_which_the_process_was_stopped(monkeypatch, stops):
    pipeline = pipeline_of()
    clock = Clock(monkeypatch, pipeline.backend, stops)
    with pytest.raises(NotYet):
        pipeline.next(deadline=clock.now + 5.0)
    assert clock.now == 105.0 + sum(stops.values())


def test_hook_runs_in_the_next_call_if_no_thread_can_be_started(monkeypatch):
    def start(begin, thread):
        if thread.name == "mpqueue-epoch-end":
            raise RuntimeError("can't start new thread")
        begin(thread)

    wrap(monkeypatch, threading.Thread, "start", start)
    source, ends = Computed(int, 2), []
    source.on_epoch_end = lambda: ends.append(1)
    with Loader(source, workers=1, backend="thread") as loader:
        batches = iter(loader)
        assert [next(batches), next(batches)] == [0, 1]
        assert ends == []
        assert next(batches, None) is None
        assert ends == [1]


def test_forget_deal_error_removes_next_error_in_dealing():
    length = Mock(return_value=1)
    cursor = EpochCursor(length, 1)
    cursor.start_at(0)
    ledger = Ledger(cursor, 4, ordered=True)
    ledger.forget_deal_error()  # no error to remove
    ledger.deal()
    ledger.ready[0] = Result(0)
    ledger.take()
    length.side_effect = OSError()
    ledger.deal()
    length.side_effect = None
    ledger.forget_deal_error()
    assert (ledger.head, ledger.work_items, ledger.ready) == (2, {}, {})
    assert [work_item.work_id for work_item in ledger.deal()] == [2]
    ledger.forget_deal_error()  # a work item at the beginning of its epoch is not an error
    assert 2 in ledger.work_items


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None), (math.inf, None), (1e300, threading.TIMEOUT_MAX), (10**400, threading.TIMEOUT_MAX),
        (0, 0.0), (-1, 0.0), (-math.inf, 0.0), (Fraction(1, 4), 0.25), (np.float32(0.5), 0.5), (np.int8(3), 3.0),
    ],
)  # fmt: skip
def test_timeout_is_number_of_seconds_from_zero_or_unlimited(given, seconds):
    assert checked_wait(given) == seconds


def stop_loader(given):
    with mpqueue.Loader(Numbers(), workers=1) as loader:
        batches = iter(loader)
        next(batches)
        try:
            loader.stop(timeout=given)
        finally:
            assert loader.is_alive()
            assert next(batches) is not None  # the loader was not stopped


def join_loader(given):
    with mpqueue.Loader(Numbers(), workers=0) as loader:
        iter(loader)
        loader.join(given)


def stop_enqueuer(given):
    with mpqueue.OrderedEnqueuer(Numbers(), use_multiprocessing=False) as enqueuer:
        enqueuer.start(workers=1)
        try:
            enqueuer.stop(timeout=given)
        finally:
            assert enqueuer.is_running()


def stop_server(given):
    with mpqueue.Server("timeouts", Numbers(), workers=1) as server:
        try:
            server.stop(timeout=given)
        finally:
            assert not server.wait(0)


def wait_for_server(given):
    with mpqueue.Server("timeouts", Numbers(), workers=1) as server:
        server.wait(given)


@pytest.mark.parametrize(
    ("call", "given", "error"),
    [
        (stop_loader, "3", TypeError),
        (stop_loader, math.nan, ValueError),
        (join_loader, "3", TypeError),
        (join_loader, math.nan, ValueError),
        (stop_enqueuer, math.nan, ValueError),
        (stop_server, "3", TypeError),
        (wait_for_server, math.nan, ValueError),
    ],
)
@pytest.mark.usefixtures("servers_directory")
def test_invalid_timeout_raises_and_stops_nothing(call, given, error):
    with pytest.raises(error, match=r"must be (a number of|at least 0) seconds,? or None"):
        call(given)


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300])
def test_join_without_a_limit_returns_when_another_thread_has_stopped_the_loader(timeout):
    with mpqueue.Loader(Numbers(), workers=0) as loader, ThreadPoolExecutor(1) as pool:
        iter(loader)
        joining = pool.submit(loader.join, timeout)
        assert wait([joining], 0.05).not_done
        loader.stop(timeout=timeout)
        assert joining.result(60) is None
    loader.join(timeout)  # of a stopped one, at once
