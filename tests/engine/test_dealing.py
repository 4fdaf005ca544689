"""Errors while the ledger deals work items."""

from unittest.mock import Mock

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.plan.position.cursors import EpochCursor


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
