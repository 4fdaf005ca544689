"""The ledger deals work items within the credit, takes outcomes in order, and counts each batch once."""

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


def ledger_of_streams(num_lanes=2, credit=4):
    cursor = StreamCursor(num_lanes)
    cursor.go_to(Place())
    return Ledger(cursor, credit)


def answer(ledger, *numbers):
    """Answer these work items; each batch is the item's number."""
    for number in numbers:
        ledger.ready[number] = Result(number)


def taken(ledger):
    """Take the next outcome; return the work item's number and the batch."""
    found = ledger.take()
    return None if found is None else (found[0].number, found[1].open())


def numbers(work_items):
    return [work_item.number for work_item in work_items]


def test_new_ledger_is_empty_and_starts_at_place_of_cursor():
    ledger = ledger_of(epoch=5)
    assert ledger.progress.place() == Place(5)
    assert (ledger.credit, ledger.allowance, ledger.head, ledger.num_batches, ledger.latest) == (4, 4, 0, 0, None)
    assert (ledger.epoch, ledger.is_stream, ledger.counts, ledger.num_outstanding) == (5, False, (), 0)
    assert (ledger.is_waiting, ledger.is_closed, ledger.needs_attention, ledger.failure) == (False, False, False, None)
    assert (ledger.ready, ledger.work_items, ledger.is_ordered) == ({}, {}, True)
    assert ledger.take() is None


def test_ledger_of_streams_counts_each_lane():
    ledger = ledger_of_streams(3)
    assert (ledger.is_stream, ledger.counts) == (True, (0, 0, 0))


def test_deal_is_limited_by_credit():
    ledger = ledger_of(length=10)
    assert numbers(ledger.deal()) == [0]
    assert numbers(ledger.deal(2)) == [1, 2]
    assert numbers(ledger.deal(9)) == [3]
    assert ledger.deal(9) == []
    assert ledger.num_outstanding == 4
    answer(ledger, 0)
    assert ledger.deal() == []  # an answer is outstanding until it is taken
    assert taken(ledger) == (0, 0)
    assert numbers(ledger.deal(9)) == [4]


def test_deal_returns_nothing_in_pause_and_after_close():
    ledger = ledger_of()
    ledger.allowance = 0
    assert ledger.deal() == []
    ledger.allowance = ledger.credit
    ledger.close()
    assert ledger.needs_attention
    assert ledger.deal() == []
    assert ledger.work_items == {}


def test_deal_returns_nothing_if_allowance_is_below_outstanding():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.allowance = 2
    assert ledger.deal() == []


def test_work_items_are_outstanding_until_taken_and_running_until_answered():
    ledger = ledger_of()
    ledger.deal(2)
    answer(ledger, 0)
    assert (ledger.is_outstanding(0), ledger.is_outstanding(1), ledger.is_outstanding(2)) == (True, True, False)
    assert ledger.at_work() == {1}
    ledger.take()
    assert not ledger.is_outstanding(0)
    assert ledger.ready == {}


def test_outcomes_are_taken_in_order_of_work_items():
    ledger = ledger_of()
    ledger.deal(3)
    answer(ledger, 2, 1)
    assert ledger.take() is None
    assert ledger.num_outstanding == 3
    answer(ledger, 0)
    assert [taken(ledger) for _ in range(4)] == [(0, 0), (1, 1), (2, 2), None]


def test_unordered_outcomes_are_taken_as_answered_within_epoch():
    ledger = ledger_of(length=2, ordered=False)
    ledger.deal(2)
    ledger.deal(2)
    answer(ledger, 3, 1)
    assert taken(ledger) == (1, 1)
    assert ledger.head == 0
    assert ledger.take() is None  # work item 3 belongs to the next epoch
    answer(ledger, 0)
    (work_item, _) = ledger.take()
    assert (work_item.number, ledger.head) == (0, 2)  # not 1, which was taken before
    ledger.progress.enter(1)
    assert taken(ledger) == (3, 3)
    answer(ledger, 2)
    assert (taken(ledger), ledger.head) == ((2, 2), 4)


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


def test_fail_sets_needs_attention():
    ledger, error = ledger_of(), ValueError()
    ledger.fail(error)
    assert ledger.failure is error
    assert ledger.needs_attention


def counting(ledger, count=1):
    """Deal, answer and take a number of batches; return their work items."""
    found = []
    for _ in range(count):
        answer(ledger, *numbers(ledger.deal()))
        found.append(ledger.take()[0])
    return found


def test_last_batch_of_epoch_enters_next_epoch():
    ledger = ledger_of(length=2)
    first, last = counting(ledger, 2)
    assert ledger.count(first) is False
    assert (ledger.latest, ledger.num_batches, ledger.progress.place()) == (first, 1, Place(0, 1))
    assert ledger.count(last) is True
    assert (ledger.latest, ledger.num_batches, ledger.progress.place()) == (last, 2, Place(1))
    assert ledger.cursor.lengths == {}


def test_endless_epoch_has_no_last_batch():
    ledger = ledger_of(length=None)
    assert [ledger.count(work_item) for work_item in counting(ledger, 3)] == [False] * 3
    assert ledger.progress.place() == Place(0, 3)
    assert ledger.recount(ledger.latest) is False


def test_elements_are_counted_for_their_lane():
    ledger = ledger_of_streams()
    assert [ledger.count(work_item) for work_item in counting(ledger, 3)] == [False] * 3
    assert ledger.counts == (2, 1)
    assert ledger.progress.place() == Place(0, 3, (), (2, 1))


@pytest.mark.parametrize("position", [0, 1])
def test_recount_counts_batch_interrupted_before_count(position):
    ledger = ledger_of(length=2)
    work_items = counting(ledger, position + 1)
    for work_item in work_items[:-1]:
        ledger.count(work_item)
    assert ledger.recount(work_items[-1]) is (position == 1)
    assert ledger.num_batches == position + 1


def test_recount_does_not_count_batch_twice():
    ledger = ledger_of(length=2)
    (first,) = counting(ledger)
    ledger.progress.count(first)
    assert ledger.recount(first) is False
    assert ledger.progress.place() == Place(0, 1)
    assert ledger.num_batches == 0  # the interrupt preceded this line


def test_recount_ends_epoch_interrupted_after_count():
    ledger = ledger_of(length=1)
    (last,) = counting(ledger)
    ledger.progress.count(last)
    assert ledger.recount(last) is True
    assert ledger.progress.place() == Place(1)
    assert ledger.cursor.lengths == {}


def test_recount_ends_epoch_once_if_interrupted_within_end():
    ledger = ledger_of(length=1)
    (last,) = counting(ledger)
    ledger.progress.count(last)
    ledger.progress.enter(1)  # the length is not removed yet
    assert ledger.recount(last) is True
    assert ledger.progress.place() == Place(1)
    assert ledger.cursor.lengths == {}


def test_recount_returns_false_if_length_is_forgotten():
    ledger = ledger_of(length=2)
    (first,) = counting(ledger)
    ledger.progress.count(first)
    ledger.cursor.lengths.clear()
    assert ledger.recount(first) is False


def test_go_to_forgets_dealt_work_items():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.go_to(Place(2, 4, (5,)))
    assert (ledger.work_items, ledger.head, ledger.progress.place()) == ({}, 3, Place(2, 4, (5,)))
    assert [(work_item.number, work_item.epoch, work_item.unit) for work_item in ledger.deal(3)] == [
        (3, 2, 4),
        (4, 2, 6),
    ]


def test_go_to_continues_streams_at_next_lane():
    ledger = ledger_of_streams()
    ledger.deal(3)
    ledger.go_to(Place(1, 0, (), (5, 4)))
    assert ledger.counts == (5, 4)
    assert [(work_item.number, work_item.epoch, work_item.lane, work_item.unit) for work_item in ledger.deal(2)] == [
        (3, 1, 1, 4),
        (4, 1, 0, 5),
    ]


def test_epoch_is_not_dealt_until_opened():
    ledger = ledger_of(length=9, barrier=True)
    ledger.deal(3)
    ledger.stand_before(4)
    assert (ledger.work_items, ledger.head, ledger.deal()) == ({}, 3, [])
    ledger.cursor.open_epoch()
    (work_item,) = ledger.deal()
    assert (work_item.number, work_item.epoch) == (3, 4)


def test_answers_to_forgotten_work_items_are_not_taken():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.forget_work_items()
    answer(ledger, 1)
    assert ledger.head == 3
    assert ledger.take() is None


def test_outcome_is_batch_error_or_end():
    batch, failed = Result([1]), Result.failed(ValueError("no"))
    assert (batch.is_plain, batch.is_end, batch.open()) == (True, False, [1])
    assert (failed.is_plain, failed.is_end) == (False, False)
    with pytest.raises(ValueError, match="no"):
        failed.open()
    assert (END.is_plain, END.is_end, END.open()) == (False, True, None)


def test_batch_of_next_epoch_is_not_taken_early():
    ledger = ledger_of(length=1, ordered=False)
    ledger.deal()
    ledger.deal()
    answer(ledger, 1)
    assert ledger.take() is None
    assert ledger.is_outstanding(1)


def test_new_ledger_is_ordered_and_has_no_unsharded_lanes():
    cursor = EpochCursor(lambda: 3, 1)
    ledger = Ledger(cursor, 2)
    assert (ledger.is_ordered, ledger.unsharded) == (True, set())


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
