"""The non-blocking pipeline, its blocking calls, and extra work items, without workers."""

import signal

import pytest
from helpers.meanwhile import meanwhile

from mpqueue.engine.backend import EndOfStream, NotYet
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import END, Partial, Result
from mpqueue.engine.pipeline import Pipeline
from mpqueue.plan.cursors import EpochCursor, Place, StreamCursor


class Hands:
    """A backend controlled by the test: `work` answers dealt work items, for the next `take_in`."""

    chunk = low_water = 1
    is_calm, has_waiting = True, False

    def __init__(self, ledger):
        self.ledger, self.dealt, self.answers = ledger, [], []
        self.looks, self.waits, self.while_waiting = [], [], []
        self.num_wakes = 0
        self.error = None  # an error for `take_in` that does not belong to a work item
        self.num_refreshed = 0

    def start(self):
        self.pump()

    def pump(self):
        while work_items := self.ledger.deal(4):
            self.dealt += work_items

    def work(self, count=None):
        for work_item in self.dealt[:count]:
            self.answers.append((work_item, Result((work_item.epoch, work_item.position, work_item.unit))))
        del self.dealt[:count]

    def answer(self, outcome):
        self.answers.append((self.dealt.pop(0), outcome))

    def take_in(self, head, *, may_fail):
        self.looks.append((head, may_fail))
        found, self.answers = self.answers, []
        for work_item, outcome in found:
            self.ledger.ready[work_item.number] = outcome
        if self.error is not None:
            self.ledger.fail(self.error)
        return bool(found) or self.error is not None

    def wait(self, head, timeout_s):
        self.waits.append((head, timeout_s))
        if self.while_waiting:
            self.while_waiting.pop(0)()

    def fileno(self):
        return 77

    def timeout_s(self):
        return 1.5

    def cancel(self):
        self.dealt.clear()
        self.answers.clear()
        self.ledger.ready.clear()

    reset = cancel

    def refresh(self):
        self.num_refreshed += 1

    def wake(self):
        self.num_wakes += 1

    def stop(self, timeout_s):
        """Stop; this backend has no workers."""


def pipeline_of(length=6, credit=3, *, ordered=True, hook=None, cursor=None, skips=None, **options):
    if cursor is None:
        cursor = EpochCursor(lambda: length, 1, barrier=hook is not None, **options)
    cursor.go_to(Place())
    cursor.keep(0)
    ledger = Ledger(cursor, credit, ordered=ordered)
    pipeline = Pipeline(ledger, epoch_end=hook, timed_epoch_end=False, ends_epochs=False, skips=skips)
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


def extras(pipeline):
    """Return the positions of the ready extra batches."""
    found = []
    while (taken := pipeline.step_extra()) is not None:
        work_item, outcome = taken
        found.append((work_item.position, outcome.open()[1]))
    return found


def test_step_raises_end_of_stream_after_epoch():
    pipeline = pipeline_of(length=2)
    pipeline.hand_out(0)
    assert positions(pipeline, 2) == [0, 1]
    for _ in range(2):
        with pytest.raises(EndOfStream):
            pipeline.step()
    pipeline.hand_out(1)
    assert positions(pipeline, 2) == [0, 1]


def test_hook_is_called_only_by_finish_epoch():
    calls = []
    pipeline = pipeline_of(length=1, hook=lambda: calls.append(1))
    pipeline.hand_out(0)
    positions(pipeline, 1)
    for _ in range(2):
        with pytest.raises(EndOfStream):
            pipeline.step()
        pipeline.look()
    assert not calls
    pipeline.finish_epoch()
    pipeline.finish_epoch()
    assert (calls, pipeline.backend.num_refreshed) == ([1], 1)
    pipeline.hand_out(1)
    assert positions(pipeline, 1) == [0]


def test_epoch_without_remaining_batches_is_due_to_end():
    calls = []
    pipeline = pipeline_of(length=3, hook=lambda: calls.append(1))
    pipeline.restart_at(Place(0, 3))
    pipeline.hand_out(0)
    with pytest.raises(EndOfStream):
        pipeline.step()
    pipeline.finish_epoch()
    assert calls == [1]


def test_end_of_last_lane_raises_end_of_stream_at_once():
    cursor = StreamCursor(2)
    pipeline = pipeline_of(cursor=cursor, credit=2)
    for _ in range(2):
        pipeline.backend.answer(END)
    with pytest.raises(EndOfStream):
        pipeline.step()


def test_error_without_work_item_is_raised():
    pipeline = pipeline_of()
    pipeline.backend.error = OSError("no more processes")
    with pytest.raises(OSError, match="no more processes"):
        pipeline.step()
    assert pipeline.failed is None


# -- Waiting


def test_next_raises_not_yet_after_deadline():
    pipeline = pipeline_of()
    with pytest.raises(NotYet):
        pipeline.next(deadline=0.0)
    assert not pipeline.backend.waits
    pipeline.backend.work()
    assert pipeline.next(deadline=0.0) == (0, 0, 0)  # a ready batch needs no wait


def test_descriptor_is_readable_again_if_more_batches_are_ready():
    pipeline = pipeline_of()
    assert (pipeline.fileno(), pipeline.timeout_s()) == (77, 1.5)
    pipeline.backend.work(2)
    assert batch(pipeline)[1] == 0
    assert pipeline.backend.num_wakes == 1
    assert batch(pipeline)[1] == 1
    assert pipeline.backend.num_wakes == 1


def test_error_of_batch_is_raised_after_interrupted_count(monkeypatch):
    pipeline = pipeline_of()
    pipeline.backend.answer(Result.failed(OSError("the disk was removed")))
    count = pipeline.ledger.count_empty

    def struck(work_item):
        monkeypatch.undo()
        count(work_item)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.ledger, "count_empty", struck)
    with pytest.raises(KeyboardInterrupt):
        pipeline.step()
    with pytest.raises(OSError, match="the disk was removed"):
        pipeline.step()
    assert pipeline.step() is None
    assert positions(pipeline, 2) == [1, 2]


def test_last_batch_belongs_to_the_epoch_that_it_ends():
    """In an endless stream, work items belong to no epoch."""
    pipeline = pipeline_of()
    cursor, progress = pipeline.ledger.cursor, pipeline.ledger.progress
    cursor.lane_share = cursor.lane_share._replace(is_endless=True)
    pipeline.backend.work(2)
    first, _ = pipeline.step()
    progress.epoch = 3
    assert pipeline.epoch_of(first) == 3
    progress.position = 0  # as after the last batch of epoch 2
    assert pipeline.epoch_of(first) == 2
    assert pipeline.epoch_of(first._replace(position=9)) == 3


def test_returned_batch_is_delivered_first_and_not_counted_before():
    pipeline = pipeline_of()
    pipeline.backend.work(2)
    taken = pipeline.step()
    assert pipeline.place() == Place(0, 1)
    pipeline.give_back(taken)
    assert (pipeline.place(), pipeline.num_taken) == (Place(0, 0), 0)
    assert [batch(pipeline)[1] for _ in range(2)] == [0, 1]


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

    def strike(*_):
        raise OSError("the handler")

    pipeline = pipeline_of(cursor=EpochCursor(length_of, 1))
    requested.append((lambda: signal.raise_signal(signal.SIGUSR1)) if is_interrupt else fails)
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(OSError, match="the handler" if is_interrupt else "the disk") as caught:
            pipeline.is_outdated()
        assert pipeline.is_failure(caught.value) is not is_interrupt
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert pipeline.is_inconsistent is is_interrupt
    assert pipeline.step() is None
    assert positions(pipeline, 3) == [0, 1, 2]


class Watcher:
    """Counts its wake-ups."""

    num_wakes = 0

    def wake(self):
        self.num_wakes += 1


def test_stop_wakes_all_watchers_during_concurrent_registration():
    pipeline, watchers = pipeline_of(), [Watcher(), Watcher()]
    for watcher in watchers:
        pipeline.watchers.add(watcher)

    def begin_to_wait():
        watchers.append(Watcher())
        pipeline.watchers.add(watchers[-1])

    meanwhile(begin_to_wait, pipeline.stop)
    assert pipeline.has_ended
    assert [watcher.num_wakes for watcher in watchers[:2]] == [1, 1]


# -- Extra work items


def test_extra_positions_are_computed_again_and_not_counted():
    pipeline = pipeline_of()
    assert positions(pipeline, 2) == [0, 1]
    place, count = pipeline.place(), pipeline.ledger.num_batches
    for position in (1, 0):
        pipeline.want(0, [position])
    pipeline.look()
    pipeline.backend.work()
    found = []
    while (taken := pipeline.step_extra()) is not None:
        found.append((taken[0].number < 0, taken[1].open()))
    assert found == [(True, (0, 1, 1)), (True, (0, 0, 0))]
    assert (pipeline.place(), pipeline.ledger.num_batches) == (place, count)
    assert positions(pipeline, 4) == [2, 3, 4, 5]


def test_extra_batches_are_delivered_in_order_of_requests():
    pipeline = pipeline_of(credit=4)
    for position in range(3):
        pipeline.want(0, [position])
    pipeline.look()
    hands = pipeline.backend
    late = [hands.dealt.pop(next(i for i, t in enumerate(hands.dealt) if t.number < 0)) for _ in range(3)]
    hands.answers = [(late[2], Result((0, 2, 2))), (late[1], Result((0, 1, 1)))]
    assert extras(pipeline) == []
    hands.answers = [(late[0], Result((0, 0, 0)))]
    assert extras(pipeline) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("ordered", [True, False])
def test_extra_batch_is_not_delivered_by_step(ordered):
    pipeline = pipeline_of(ordered=ordered)
    pipeline.backend.work(1)
    assert batch(pipeline)[1] == 0
    pipeline.want(0, [0])
    pipeline.look()
    extra = next(work_item for work_item in pipeline.backend.dealt if work_item.number < 0)
    pipeline.backend.dealt.remove(extra)
    pipeline.backend.answers.append((extra, Result((0, 0, 0))))
    assert pipeline.step() is None
    assert extras(pipeline) == [(0, 0)]


def test_stream_with_extra_batches_in_flight_has_not_ended():
    pipeline = pipeline_of(length=1)
    assert positions(pipeline, 1) == [0]
    pipeline.want(0, [0])
    pipeline.ledger.cursor.last_epoch = 0
    pipeline.backend.cancel()
    pipeline.ledger.forget_work_items()
    pipeline.look()
    assert pipeline.step() is None


def test_extra_batches_are_dealt_again_after_recovery():
    pipeline = pipeline_of()
    positions(pipeline, 2)
    for position in (1, 0):
        pipeline.want(0, [position])
    pipeline.look()
    pipeline.is_inconsistent = pipeline.ledger.needs_attention = True
    assert extras(pipeline) == []
    pipeline.backend.work()
    assert extras(pipeline) == [(1, 1), (0, 0)]
    assert positions(pipeline, 2) == [2, 3]


def test_unsettled_outcome_is_retried_and_blocks_no_other_batch():
    pipeline = pipeline_of(ordered=False)
    requested, may_settle = [], []
    pipeline.ledger.settle = lambda work_item, outcome: (
        requested.append((work_item.number, outcome)) or bool(may_settle)
    )
    rare = Result(Partial(("rest", 0), [], False))
    pipeline.backend.answer(rare)
    assert pipeline.step() is None
    assert requested[-1] == (0, rare)
    assert pipeline.ledger.is_outstanding(0)
    pipeline.backend.work(1)
    assert batch(pipeline) == (0, 1, 1)  # other batches do not wait for the unsettled one
    may_settle.append(True)
    assert pipeline.step() is None
    assert not pipeline.ledger.is_outstanding(0)


def test_last_delivered_epoch_can_be_computed_again():
    pipeline = pipeline_of(length=5, shuffle=True, credit=2)
    order = list(pipeline.ledger.cursor.orders[0])
    positions(pipeline, 5)
    assert pipeline.epoch == 1
    assert [pipeline.ledger.cursor.unit_at(0, position).unit for position in range(5)] == order
