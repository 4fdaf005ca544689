"""Errors while the ledger deals work items."""

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.plan.position.cursors import EpochCursor


class Lengths:
    """Lengths of epochs, with an error that a test can set."""

    def __init__(self, length):
        self.length, self.error = length, None

    def __call__(self):
        if self.error is not None:
            raise self.error
        return self.length


def ledger_of(length):
    lengths = Lengths(length)
    cursor = EpochCursor(lengths, 1)
    cursor.start_at(0)
    ledger = Ledger(cursor, 4, ordered=True)
    ledger.lengths = lengths
    return ledger


def numbers(work_items):
    return [work_item.number for work_item in work_items]


def test_forget_deal_error_removes_next_error_in_dealing():
    ledger = ledger_of(length=1)
    ledger.forget_deal_error()  # no error to remove
    ledger.deal()
    ledger.ready[0] = Result(0)
    ledger.take()
    ledger.lengths.error = OSError()
    ledger.deal()
    ledger.lengths.error = None
    ledger.forget_deal_error()
    assert (ledger.head, ledger.work_items, ledger.ready) == (2, {}, {})
    assert numbers(ledger.deal()) == [2]
    ledger.forget_deal_error()  # a work item at the beginning of its epoch is not an error
    assert 2 in ledger.work_items
