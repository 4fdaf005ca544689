"""Epochs with a fixed number of batches of endless lanes: cursor, ledger and pipeline, without workers."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.stream_cursor import StreamCursor


def ledger_of(num_lanes, epoch_batches, *, ordered=True):
    ledger = Ledger(StreamCursor(num_lanes, epoch_batches=epoch_batches), 100, ordered=ordered)
    ledger.go_to(ResumePoint())
    return ledger


def answer(ledger, work_items):
    for work_item in work_items:
        ledger.ready[work_item.work_id] = Result(work_item)


def take(ledger):
    """Take one item as the pipeline does; return it, and whether it was the last of its epoch."""
    work_item, _ = ledger.take()
    return work_item, ledger.counts.count(work_item)


def test_skipped_element_does_not_count_as_a_batch():
    ledger = ledger_of(2, 3)
    ledger.cursor.last_epoch = 0
    answer(ledger, ledger.deal(99))
    work_item, _ = ledger.take()
    ledger.progress.count_skipped(work_item)
    assert len(ledger.deal(99)) == 1
    assert ledger.progress.point() == ResumePoint(0, 0, (), (1, 0))


@pytest.mark.parametrize("num_held", range(5))
def test_place_is_before_held_batches(num_held):
    ledger = ledger_of(2, 3)
    answer(ledger, ledger.deal(10))
    points = [ledger.progress.point()]
    work_items = []
    for _ in range(5):
        work_items.append(take(ledger)[0])
        points.append(ledger.progress.point())
    for work_item in work_items[5 - num_held :]:
        ledger.progress.hold(Delivery((work_item, 0, 0, None)))
    assert ledger.progress.point() == points[5 - num_held]


@pytest.mark.sample(4)
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("position", range(7))
def test_place_is_after_the_batch_that_was_counted(position, length):
    ledger = ledger_of(2, length)
    answer(ledger, ledger.deal(9))
    for _ in range(position):
        take(ledger)
    assert take(ledger)[1] == (position % length == length - 1)
    epoch, in_epoch = divmod(position + 1, length)
    assert ledger.progress.point() == ResumePoint(epoch, in_epoch, (), ((position + 2) // 2, (position + 1) // 2))


def test_unordered_elements_of_the_next_epoch_may_arrive_first():
    """An epoch is a number of elements, in any order."""
    ledger = ledger_of(2, 3, ordered=False)
    work_items = ledger.deal(8)
    answer(ledger, [work_items[number] for number in (1, 3, 5, 0)])
    assert [take(ledger)[1] for _ in range(4)] == [False, False, True, False]
    assert ledger.progress.point() == ResumePoint(1, 1, (), (1, 3))
