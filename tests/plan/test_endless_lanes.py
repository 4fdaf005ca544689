"""Epochs with a fixed number of batches of endless lanes: cursor, ledger and pipeline, without workers."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import END, Result
from mpqueue.plan.cursors import Place, StreamCursor


def ledger_of(num_lanes, epoch_batches, *, credit=100, ordered=True, place=None):
    ledger = Ledger(StreamCursor(num_lanes, epoch_batches=epoch_batches), credit, ordered=ordered)
    ledger.go_to(place or Place())
    return ledger


def answer(ledger, work_items, lengths):
    """Answer with elements of lanes of these lengths; None for missing elements."""
    for work_item in work_items:
        ledger.ready[work_item.number] = Result(work_item) if work_item.unit < lengths[work_item.lane] else END


def take(ledger):
    """Take one item as the pipeline does; return it, and whether it was the last of its epoch."""
    work_item, outcome = ledger.take()
    if outcome.is_end:
        ledger.cursor.end_lane(work_item.lane, work_item.unit)
        return None, False
    return work_item, ledger.count(work_item)


@pytest.mark.parametrize("last_epoch", [0, 2])
def test_only_requested_epochs_are_dealt(last_epoch):
    ledger = ledger_of(3, 5)
    ledger.cursor.last_epoch = last_epoch
    assert len(ledger.deal(99)) == (last_epoch + 1) * 5
    assert ledger.deal(99) == []
    ledger.cursor.last_epoch = None
    assert len(ledger.deal(999)) == 100 - (last_epoch + 1) * 5


def test_epochs_are_consecutive_batches_and_items_dealt_ahead_remain():
    ledger = ledger_of(3, 5)
    answer(ledger, ledger.deal(14), [99] * 3)
    taken = [take(ledger) for _ in range(14)]
    assert [(work_item.unit, work_item.lane) for work_item, _ in taken] == [divmod(number, 3) for number in range(14)]
    assert [number for number, (_, is_last) in enumerate(taken) if is_last] == [4, 9]
    assert ledger.progress.place() == Place(2, 4, (), (5, 5, 4))
    assert [ledger.cursor.length_of(epoch) for epoch in (0, 1, 99)] == [5, 5, 5]


def test_epoch_has_all_of_its_batches_although_lanes_end():
    """A work item that reports the end of a lane is not a batch."""
    ledger = ledger_of(3, 4)
    ledger.cursor.last_epoch = 1
    lengths, batches = [99, 0, 99], []
    while ledger.progress.epoch < 2:
        answer(ledger, ledger.deal(99), lengths)
        work_item, _ = take(ledger)
        if work_item is not None:
            batches.append((work_item.unit, work_item.lane))
    assert batches == [(unit, lane) for unit in range(4) for lane in (0, 2)]
    assert ledger.deal(99) == []
    assert ledger.progress.place() == Place(2, 0, (), (4, 0, 4), (), (-1, 0, -1))


def test_skipped_element_does_not_count_as_a_batch():
    ledger = ledger_of(2, 3)
    ledger.cursor.last_epoch = 0
    answer(ledger, ledger.deal(99), [99] * 2)
    work_item, _ = ledger.take()
    ledger.progress.count_skipped(work_item)
    assert len(ledger.deal(99)) == 1
    assert ledger.progress.place() == Place(0, 0, (), (1, 0))


@pytest.mark.parametrize("num_unclaimed", range(5))
def test_place_is_before_counted_but_undelivered_batches(num_unclaimed):
    ledger = ledger_of(2, 3)
    answer(ledger, ledger.deal(10), [99] * 2)
    places = [ledger.progress.place()]
    work_items = []
    for _ in range(5):
        work_items.append(take(ledger)[0])
        places.append(ledger.progress.place())
    ledger.progress.unclaimed = tuple((work_item, None) for work_item in work_items[5 - num_unclaimed :])
    assert ledger.progress.place() == places[5 - num_unclaimed]


@pytest.mark.parametrize("position", range(7))
def test_interrupted_count_is_finished_once(position):
    """After each step: before the count, before the epoch is entered, within this step, and at the end."""
    for steps in range(3):
        ledger = ledger_of(2, 3)
        answer(ledger, ledger.deal(9), [99] * 2)
        for _ in range(position):
            take(ledger)
        work_item, _ = ledger.take()
        ledger.latest = work_item
        if steps > 0:
            ledger.progress.count(work_item)
        if steps > 1 and ledger.progress.position == 3:
            ledger.progress.epoch += 1
            ledger.progress.position = 0
        assert ledger.recount(work_item) == (position % 3 == 2)
        epoch, in_epoch = divmod(position + 1, 3)
        assert ledger.progress.place() == Place(epoch, in_epoch, (), ((position + 2) // 2, (position + 1) // 2))


def test_stream_resumes_in_the_middle_of_any_epoch():
    ledger = ledger_of(2, 3, place=Place(7, 2, (), (4, 3)))
    ledger.cursor.last_epoch = 7
    work_items = ledger.deal(99)
    assert [(work_item.unit, work_item.lane) for work_item in work_items] == [(3, 1)]
    answer(ledger, work_items, [99] * 2)
    assert take(ledger) == (work_items[0], True)
    assert ledger.progress.place() == Place(8, 0, (), (4, 4))


def test_unordered_elements_of_the_next_epoch_may_arrive_first():
    """An epoch is a number of elements, in any order."""
    ledger = ledger_of(2, 3, ordered=False)
    work_items = ledger.deal(8)
    answer(ledger, [work_items[number] for number in (1, 3, 5, 0)], [99] * 2)
    assert [take(ledger)[1] for _ in range(4)] == [False, False, True, False]
    assert ledger.progress.place() == Place(1, 1, (), (1, 3))
