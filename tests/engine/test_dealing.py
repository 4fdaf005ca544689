"""Errors while the ledger deals work items, and the share of a slow worker."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import END, Result
from mpqueue.plan.cursors import EpochCursor, Place, StreamCursor


class Lengths:
    """Lengths of epochs, with an error that a test can set."""

    def __init__(self, length):
        self.length, self.error = length, None

    def __call__(self):
        if self.error is not None:
            raise self.error
        return self.length


def ledger_of(length=3, credit=4, *, ordered=True, epoch=0, **options):
    lengths = Lengths(length)
    cursor = EpochCursor(lengths, 1, **options)
    cursor.start_at(epoch)
    ledger = Ledger(cursor, credit, ordered=ordered)
    ledger.lengths = lengths
    return ledger


def answer(ledger, *numbers):
    """Answer these work items; each batch is the item's number."""
    for number in numbers:
        ledger.ready[number] = Result(number)


def numbers(work_items):
    return [work_item.number for work_item in work_items]


def test_error_in_dealing_is_delivered_once():
    ledger = ledger_of(length=1)
    ledger.deal()
    ledger.lengths.error = error = OSError("the index file was removed")
    assert ledger.deal() == ledger.deal() == []
    assert ledger.num_outstanding == 2
    answer(ledger, 0)
    ledger.take()
    work_item, outcome = ledger.take()
    assert (work_item.number, work_item.position) == (1, -1)
    with pytest.raises(OSError) as caught:
        outcome.open()
    assert caught.value is error
    assert ledger.deal() == []  # dealing is retried, and fails again
    assert ledger.num_outstanding == 1
    ledger.take()
    ledger.lengths.error = None
    assert numbers(ledger.deal()) == [3]


def counting(ledger, count=1):
    """Deal, answer and take a number of batches; return their work items."""
    found = []
    for _ in range(count):
        answer(ledger, *numbers(ledger.deal()))
        found.append(ledger.take()[0])
    return found


def test_forget_deal_error_removes_next_error_in_dealing():
    ledger = ledger_of(length=1)
    ledger.forget_deal_error()  # no error to remove
    counting(ledger)
    ledger.lengths.error = OSError()
    ledger.deal()
    ledger.lengths.error = None
    ledger.forget_deal_error()
    assert (ledger.head, ledger.work_items, ledger.ready) == (2, {}, {})
    assert numbers(ledger.deal()) == [2]
    ledger.forget_deal_error()  # a work item at the beginning of its epoch is not an error
    assert ledger.is_outstanding(2)


def test_slow_worker_holds_only_its_share_of_credit():
    cursor = StreamCursor(4)
    cursor.go_to(Place())
    ledger = Ledger(cursor, 4, ordered=False)
    ledger.owner_of = lambda lane: lane % 2
    dealt = ledger.deal(99)
    assert [work_item.lane for work_item in dealt] == [0, 1, 2, 3]
    for _ in range(6):  # worker 1 answers, worker 0 is slow
        fast = [work_item for work_item in dealt if work_item.lane % 2]
        for work_item in fast:
            ledger.ready[work_item.number] = Result(work_item)
            assert ledger.take()[0] is work_item
            ledger.count(work_item)
        dealt = ledger.deal(99)
        assert [work_item.lane for work_item in dealt] == [1, 3]
    for work_item in dealt:
        ledger.ready[work_item.number] = END
        ledger.take()
        cursor.end_lane(work_item.lane, work_item.unit)
    assert [(work_item.lane, work_item.unit) for work_item in ledger.deal(99)] == [(0, 1), (2, 1)]  # the full credit
