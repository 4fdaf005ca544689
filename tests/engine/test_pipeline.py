"""The core that never waits, the calls that do, and work items beside the order, without workers."""

import signal

import pytest
from helpers.meanwhile import meanwhile

from mpqueue.engine.backend import EndOfStream, NotYet, Stopped
from mpqueue.engine.ledger import FIRST_EXTRA, Ledger
from mpqueue.engine.outcomes import END, Partial, Result
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import Skips
from mpqueue.plan.cursors import EpochCursor, Place, StreamCursor


class Hands:
    """A backend whose work is done by the test: `work` answers what was dealt, at the next look."""

    chunk = low_water = 1
    is_calm, has_waiting = True, False

    def __init__(self, ledger):
        self.ledger, self.dealt, self.answers = ledger, [], []
        self.looks, self.waits, self.while_waiting = [], [], []
        self.num_wakes = 0
        self.error = None  # what a look finds, that belongs to no work item
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
        """There is nobody."""


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
    """The next one, which is there."""
    return pipeline.step()[1]


def positions(pipeline, count):
    """Positions of the next ones, which the hands compute."""
    found = []
    for _ in range(count):
        pipeline.backend.work()
        found.append(batch(pipeline)[1])
    return found


def extras(pipeline):
    """Positions of the extra ones that are there."""
    found = []
    while (taken := pipeline.step_extra()) is not None:
        work_item, outcome = taken
        found.append((work_item.position, outcome.open()[1]))
    return found


def test_what_is_not_there_is_not_waited_for():
    pipeline = pipeline_of()
    for _ in range(2):
        assert pipeline.step() is None
    pipeline.backend.work(1)
    assert batch(pipeline) == (0, 0, 0)
    assert pipeline.step() is None


def test_a_look_that_has_found_something_is_followed_by_another():
    pipeline = pipeline_of()
    second = pipeline.backend.dealt.pop(1)
    pipeline.backend.answers.append((second, Result("late")))
    pipeline.backend.looks.clear()
    assert pipeline.step() is None
    assert len(pipeline.backend.looks) == 2


def test_no_recovery_follows_when_nothing_was_there():
    pipeline = pipeline_of()
    assert pipeline.step() is None
    assert not pipeline.is_inconsistent


def test_whether_the_next_one_may_fail_is_passed_on():
    pipeline = pipeline_of()
    pipeline.may_fail = True
    assert pipeline.step() is None
    assert pipeline.backend.looks[-1] == (0, True)


def test_it_ends_with_the_epoch_that_is_handed_out():
    pipeline = pipeline_of(length=2)
    pipeline.hand_out(0)
    assert positions(pipeline, 2) == [0, 1]
    for _ in range(2):
        with pytest.raises(EndOfStream):
            pipeline.step()
    pipeline.hand_out(1)
    assert positions(pipeline, 2) == [0, 1]


def test_the_hook_is_called_by_finish_epoch_alone():
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


def test_an_epoch_of_which_nothing_is_left_is_due_to_end():
    calls = []
    pipeline = pipeline_of(length=3, hook=lambda: calls.append(1))
    pipeline.restart_at(Place(0, 3))
    pipeline.hand_out(0)
    with pytest.raises(EndOfStream):
        pipeline.step()
    pipeline.finish_epoch()
    assert calls == [1]


def test_the_end_of_the_last_stream_is_seen_at_once():
    cursor = StreamCursor(2)
    pipeline = pipeline_of(cursor=cursor, credit=2)
    for _ in range(2):
        pipeline.backend.answer(END)
    with pytest.raises(EndOfStream):
        pipeline.step()


def test_an_error_that_belongs_to_no_work_item_is_raised():
    pipeline = pipeline_of()
    pipeline.backend.error = OSError("no more processes")
    with pytest.raises(OSError, match="no more processes"):
        pipeline.step()
    assert pipeline.failed is None


def test_the_work_item_that_has_failed_is_known():
    pipeline = pipeline_of()
    pipeline.backend.answer(Result.failed(ValueError("bad")))
    pipeline.backend.work()
    with pytest.raises(ValueError, match="bad"):
        pipeline.step()
    assert pipeline.failed.position == 0
    assert batch(pipeline) == (0, 1, 1)


def test_a_failure_behind_one_that_was_left_out_is_not_its_own(caplog):
    pipeline = pipeline_of(skips=Skips(None))
    pipeline.backend.answer(Result.failed(ValueError("left out")))
    pipeline.backend.take_in(0, may_fail=False)
    pipeline.backend.error = OSError("of nobody")
    with pytest.raises(OSError, match="of nobody"):
        pipeline.step()
    assert pipeline.failed is None
    assert "left out" in caplog.text


# -- Those who wait


def test_next_waits_for_a_batch_and_steps_again():
    pipeline = pipeline_of()
    hands = pipeline.backend
    hands.while_waiting = [lambda: None, hands.work]
    assert [pipeline.next()[1] for _ in range(2)] == [0, 1]
    assert hands.waits == [(0, 1.5)] * 2


def test_what_another_thread_has_taken_in_is_not_waited_for():
    pipeline = pipeline_of()
    assert pipeline.step() is None
    pipeline.backend.work()
    pipeline.look()
    pipeline.wait()
    assert not pipeline.backend.waits


@pytest.mark.parametrize("change", ["failure", "loop", "stop"])
def test_nobody_waits_who_is_to_be_told_of_something(change):
    pipeline = pipeline_of()
    assert pipeline.step() is None
    {"failure": lambda: pipeline.ledger.fail(OSError()), "loop": pipeline.begin_loop, "stop": pipeline.stop}[change]()
    pipeline.wait()
    assert not pipeline.backend.waits


def test_a_deadline_ends_the_wait():
    pipeline = pipeline_of()
    with pytest.raises(NotYet):
        pipeline.next(deadline=0.0)
    assert not pipeline.backend.waits
    pipeline.backend.work()
    assert pipeline.next(deadline=0.0) == (0, 0, 0)  # what is there is not waited for


def test_whoever_polls_is_woken_once_more_for_what_came_with_a_batch():
    pipeline = pipeline_of()
    assert (pipeline.fileno(), pipeline.timeout_s()) == (77, 1.5)
    pipeline.backend.work(2)
    assert batch(pipeline)[1] == 0
    assert pipeline.backend.num_wakes == 1
    assert batch(pipeline)[1] == 1
    assert pipeline.backend.num_wakes == 1


def test_the_error_of_a_batch_whose_count_was_struck_is_raised_behind_the_interrupt(monkeypatch):
    pipeline = pipeline_of()
    pipeline.backend.answer(Result.failed(OSError("the disk is gone")))
    count = pipeline.ledger.count

    def struck(work_item):
        monkeypatch.undo()
        count(work_item)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.ledger, "count", struck)
    with pytest.raises(KeyboardInterrupt):
        pipeline.step()
    with pytest.raises(OSError, match="the disk is gone"):
        pipeline.step()
    assert pipeline.step() is None
    assert positions(pipeline, 2) == [1, 2]


def test_a_batch_that_ends_an_epoch_of_n_belongs_to_the_epoch_that_it_ends():
    """Of a stream without end, whose work items know no epochs."""
    pipeline = pipeline_of()
    cursor, progress = pipeline.ledger.cursor, pipeline.ledger.progress
    cursor.lane_share = cursor.lane_share._replace(is_endless=True)
    pipeline.backend.work(2)
    first, _ = pipeline.step()
    progress.epoch = 3
    assert pipeline.epoch_of(first) == 3
    progress.position = 0  # as it is behind the last batch of epoch 2
    assert pipeline.epoch_of(first) == 2
    assert pipeline.epoch_of(first._replace(position=9)) == 3


def test_a_batch_that_is_given_back_comes_first_and_has_not_come_before():
    pipeline = pipeline_of()
    pipeline.backend.work(2)
    taken = pipeline.step()
    assert pipeline.place() == Place(0, 1)
    pipeline.give_back(taken)
    assert (pipeline.place(), pipeline.num_taken) == (Place(0, 0), 0)
    assert [batch(pipeline)[1] for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("is_interrupt", [False, True])
def test_a_question_that_fails_leaves_all_as_it_is_but_an_interrupt_does_not(is_interrupt):
    """Whether the source is another one: else what is under way would be dropped, and the workers ended."""
    asked = []

    def length_of():
        if asked:
            asked.pop()()
        return 6

    def fails():
        raise OSError("the disk is gone")

    def strike(*_):
        raise OSError("the handler")

    pipeline = pipeline_of(cursor=EpochCursor(length_of, 1))
    asked.append((lambda: signal.raise_signal(signal.SIGUSR1)) if is_interrupt else fails)
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
    """Notes how often it is woken."""

    num_wakes = 0

    def wake(self):
        self.num_wakes += 1


@pytest.mark.parametrize("change", [Pipeline.stop, Pipeline.begin_loop])
def test_those_who_wait_for_the_descriptor_are_woken_by_a_stop_and_by_a_later_loop(change):
    pipeline, watcher = pipeline_of(), Watcher()
    pipeline.watchers.add(watcher)
    change(pipeline)
    assert watcher.num_wakes == 1


def test_a_stop_wakes_all_though_another_thread_begins_to_wait_meanwhile():
    pipeline, watchers = pipeline_of(), [Watcher(), Watcher()]
    for watcher in watchers:
        pipeline.watchers.add(watcher)

    def begin_to_wait():
        watchers.append(Watcher())
        pipeline.watchers.add(watchers[-1])

    meanwhile(begin_to_wait, pipeline.stop)
    assert pipeline.has_ended
    assert [watcher.num_wakes for watcher in watchers[:2]] == [1, 1]


# -- Work items beside the order


def test_positions_are_computed_again_and_counted_by_nobody():
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


def test_they_come_in_the_order_of_the_requests():
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


def test_neither_the_order_nor_they_use_the_others_credit():
    pipeline = pipeline_of(length=100, credit=3)
    ledger = pipeline.ledger
    pipeline.want(0, range(10))
    assert (ledger.num_in_order, len(ledger.extras), len(ledger.wanted)) == (3, 3, 7)
    pipeline.backend.work()
    assert len(extras(pipeline)) == 3
    assert (ledger.num_in_order, len(ledger.extras), len(ledger.wanted)) == (3, 3, 4)
    pipeline.backend.work()
    assert positions(pipeline, 3) == [0, 1, 2]
    pipeline.look()
    assert (ledger.num_in_order, len(ledger.extras)) == (3, 3)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_extra_one_never_comes_as_the_next_of_the_order(ordered):
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


def test_with_extra_ones_under_way_a_stream_of_batches_has_not_ended():
    pipeline = pipeline_of(length=1)
    assert positions(pipeline, 1) == [0]
    pipeline.want(0, [0])
    pipeline.ledger.cursor.last_epoch = 0
    pipeline.backend.cancel()
    pipeline.ledger.forget_work_items()
    pipeline.look()
    assert pipeline.step() is None


def test_they_are_dealt_again_when_all_work_is_lost():
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


def test_one_of_them_is_urgent_if_none_is_under_way():
    ledger = pipeline_of().ledger
    assert not ledger.has_urgent
    ledger.want(0, 0)
    assert ledger.has_urgent
    assert [work_item.number for work_item in ledger.deal()] == [FIRST_EXTRA]
    ledger.want(0, 1)
    assert not ledger.has_urgent


def test_nothing_comes_of_a_stopped_one():
    pipeline = pipeline_of()
    pipeline.want(0, [0])
    pipeline.stop()
    pipeline.look()
    assert pipeline.step_extra() is None
    with pytest.raises(Stopped):
        pipeline.step()


def test_an_outcome_that_cannot_be_settled_waits_in_its_place():
    pipeline = pipeline_of(ordered=False)
    asked, may_settle = [], []
    pipeline.ledger.settle = lambda work_item, outcome: asked.append((work_item.number, outcome)) or bool(may_settle)
    rare = Result(Partial(("rest", 0), [], False))
    pipeline.backend.answer(rare)
    assert pipeline.step() is None
    assert asked[-1] == (0, rare)
    assert pipeline.ledger.is_outstanding(0)
    pipeline.backend.work(1)
    assert batch(pipeline) == (0, 1, 1)  # the others do not wait for it
    may_settle.append(True)
    assert pipeline.step() is None
    assert not pipeline.ledger.is_outstanding(0)


def test_the_epoch_that_was_handed_out_last_can_be_computed_again():
    pipeline = pipeline_of(length=5, shuffle=True, credit=2)
    order = list(pipeline.ledger.cursor.orders[0])
    positions(pipeline, 5)
    assert pipeline.epoch == 1
    assert [pipeline.ledger.cursor.unit_at(0, position).unit for position in range(5)] == order
