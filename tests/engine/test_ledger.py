"""The ledger alone: what is dealt within the credit, taken in its order, and counted once, interrupted or not."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import END, Result
from mpqueue.plan.cursors import EpochCursor, Place, StreamCursor


class Lengths:
    """Gives the length of an epoch, or fails while it is told to."""

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
    """Batches for these work items: their numbers."""
    for number in numbers:
        ledger.ready[number] = Result(number)


def taken(ledger):
    """What is taken next: the work item's number and the batch."""
    found = ledger.take()
    return None if found is None else (found[0].number, found[1].open())


def numbers(work_items):
    return [work_item.number for work_item in work_items]


def test_a_new_ledger_is_empty_and_stands_where_its_schedule_does():
    ledger = ledger_of(epoch=5)
    assert ledger.progress.place() == Place(5)
    assert (ledger.credit, ledger.allowance, ledger.head, ledger.num_batches, ledger.latest) == (4, 4, 0, 0, None)
    assert (ledger.epoch, ledger.is_stream, ledger.counts, ledger.num_outstanding) == (5, False, (), 0)
    assert (ledger.is_waiting, ledger.is_closed, ledger.needs_attention, ledger.failure) == (False, False, False, None)
    assert (ledger.ready, ledger.work_items, ledger.is_ordered) == ({}, {}, True)
    assert ledger.take() is None


def test_a_ledger_of_streams_counts_for_each_lane():
    ledger = ledger_of_streams(3)
    assert (ledger.is_stream, ledger.counts) == (True, (0, 0, 0))


def test_no_more_is_dealt_than_there_is_credit_for():
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


def test_nothing_is_dealt_in_a_pause_or_after_the_end():
    ledger = ledger_of()
    ledger.allowance = 0
    assert ledger.deal() == []
    ledger.allowance = ledger.credit
    ledger.close()
    assert ledger.needs_attention
    assert ledger.deal() == []
    assert ledger.work_items == {}


def test_a_credit_that_is_cut_below_what_is_out_deals_nothing():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.allowance = 2
    assert ledger.deal() == []


def test_work_items_are_outstanding_until_they_are_taken_and_at_work_until_they_are_answered():
    ledger = ledger_of()
    ledger.deal(2)
    answer(ledger, 0)
    assert (ledger.is_outstanding(0), ledger.is_outstanding(1), ledger.is_outstanding(2)) == (True, True, False)
    assert ledger.at_work() == {1}
    ledger.take()
    assert not ledger.is_outstanding(0)
    assert ledger.ready == {}


def test_outcomes_are_taken_in_the_order_of_their_work_items():
    ledger = ledger_of()
    ledger.deal(3)
    answer(ledger, 2, 1)
    assert ledger.take() is None
    assert ledger.num_outstanding == 3
    answer(ledger, 0)
    assert [taken(ledger) for _ in range(4)] == [(0, 0), (1, 1), (2, 2), None]


def test_out_of_order_they_are_taken_as_they_come_but_of_this_epoch_first():
    ledger = ledger_of(length=2, ordered=False)
    ledger.deal(2)
    ledger.deal(2)
    answer(ledger, 3, 1)
    assert taken(ledger) == (1, 1)
    assert ledger.head == 0
    assert ledger.take() is None  # work item 3 is of the next epoch
    answer(ledger, 0)
    (work_item, _) = ledger.take()
    assert (work_item.number, ledger.head) == (0, 2)  # and not 1, which was taken before
    ledger.progress.enter(1)
    assert taken(ledger) == (3, 3)
    answer(ledger, 2)
    assert (taken(ledger), ledger.head) == ((2, 2), 4)


def test_what_cannot_be_dealt_is_an_error_in_its_place_once():
    ledger = ledger_of(length=1)
    ledger.deal()
    ledger.lengths.error = error = OSError("the index file is gone")
    assert ledger.deal() == ledger.deal() == []
    assert ledger.num_outstanding == 2
    answer(ledger, 0)
    ledger.take()
    work_item, outcome = ledger.take()
    assert (work_item.number, work_item.position) == (1, -1)
    with pytest.raises(OSError) as caught:
        outcome.open()
    assert caught.value is error
    assert ledger.deal() == []  # asked again, it fails again
    assert ledger.num_outstanding == 1
    ledger.take()
    ledger.lengths.error = None
    assert numbers(ledger.deal()) == [3]


def test_an_error_of_no_work_item_asks_for_attention():
    ledger, error = ledger_of(), ValueError()
    ledger.fail(error)
    assert ledger.failure is error
    assert ledger.needs_attention


def counting(ledger, count=1):
    """Have so many batches dealt, answered and taken; their work items."""
    found = []
    for _ in range(count):
        answer(ledger, *numbers(ledger.deal()))
        found.append(ledger.take()[0])
    return found


def test_the_last_batch_of_an_epoch_enters_the_next_one():
    ledger = ledger_of(length=2)
    first, last = counting(ledger, 2)
    assert ledger.count(first) is False
    assert (ledger.latest, ledger.num_batches, ledger.progress.place()) == (first, 1, Place(0, 1))
    assert ledger.count(last) is True
    assert (ledger.latest, ledger.num_batches, ledger.progress.place()) == (last, 2, Place(1))
    assert ledger.cursor.lengths == {}


def test_an_endless_epoch_has_no_last_batch():
    ledger = ledger_of(length=None)
    assert [ledger.count(work_item) for work_item in counting(ledger, 3)] == [False] * 3
    assert ledger.progress.place() == Place(0, 3)
    assert ledger.recount(ledger.latest) is False


def test_elements_of_streams_are_counted_for_their_lane():
    ledger = ledger_of_streams()
    assert [ledger.count(work_item) for work_item in counting(ledger, 3)] == [False] * 3
    assert ledger.counts == (2, 1)
    assert ledger.progress.place() == Place(0, 3, (), (2, 1))


@pytest.mark.parametrize("position", [0, 1])
def test_an_interrupt_before_the_count_counts_afterwards(position):
    ledger = ledger_of(length=2)
    work_items = counting(ledger, position + 1)
    for work_item in work_items[:-1]:
        ledger.count(work_item)
    assert ledger.recount(work_items[-1]) is (position == 1)
    assert ledger.num_batches == position + 1


def test_an_interrupt_after_the_count_counts_no_more():
    ledger = ledger_of(length=2)
    (first,) = counting(ledger)
    ledger.progress.count(first)
    assert ledger.recount(first) is False
    assert ledger.progress.place() == Place(0, 1)
    assert ledger.num_batches == 0  # its line was not reached


def test_an_interrupt_between_the_count_and_the_end_of_the_epoch_ends_it():
    ledger = ledger_of(length=1)
    (last,) = counting(ledger)
    ledger.progress.count(last)
    assert ledger.recount(last) is True
    assert ledger.progress.place() == Place(1)
    assert ledger.cursor.lengths == {}


def test_an_interrupt_in_the_middle_of_the_end_ends_it_once():
    ledger = ledger_of(length=1)
    (last,) = counting(ledger)
    ledger.progress.count(last)
    ledger.progress.enter(1)  # and the length is not forgotten yet
    assert ledger.recount(last) is True
    assert ledger.progress.place() == Place(1)
    assert ledger.cursor.lengths == {}


def test_an_interrupt_after_the_last_batch_of_an_epoch_that_is_forgotten():
    ledger = ledger_of(length=2)
    (first,) = counting(ledger)
    ledger.progress.count(first)
    ledger.cursor.lengths.clear()
    assert ledger.recount(first) is False


def test_going_elsewhere_forgets_what_was_dealt():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.go_to(Place(2, 4, (5,)))
    assert (ledger.work_items, ledger.head, ledger.progress.place()) == ({}, 3, Place(2, 4, (5,)))
    assert [(work_item.number, work_item.epoch, work_item.unit) for work_item in ledger.deal(3)] == [
        (3, 2, 4),
        (4, 2, 6),
    ]


def test_streams_go_on_at_the_lane_whose_turn_it_was():
    ledger = ledger_of_streams()
    ledger.deal(3)
    ledger.go_to(Place(1, 0, (), (5, 4)))
    assert ledger.counts == (5, 4)
    assert [(work_item.number, work_item.epoch, work_item.lane, work_item.unit) for work_item in ledger.deal(2)] == [
        (3, 1, 1, 4),
        (4, 1, 0, 5),
    ]


def test_before_an_epoch_nothing_is_dealt_until_it_is_opened():
    ledger = ledger_of(length=9, barrier=True)
    ledger.deal(3)
    ledger.stand_before(4)
    assert (ledger.work_items, ledger.head, ledger.deal()) == ({}, 3, [])
    ledger.cursor.open_epoch()
    (work_item,) = ledger.deal()
    assert (work_item.number, work_item.epoch) == (3, 4)


def test_work_items_that_are_forgotten_are_not_taken_when_they_are_answered():
    ledger = ledger_of(length=9)
    ledger.deal(3)
    ledger.forget_work_items()
    answer(ledger, 1)
    assert ledger.head == 3
    assert ledger.take() is None


def test_an_outcome_is_a_batch_an_error_or_an_end():
    batch, failed = Result([1]), Result.failed(ValueError("no"))
    assert (batch.is_plain, batch.is_end, batch.open()) == (True, False, [1])
    assert (failed.is_plain, failed.is_end) == (False, False)
    with pytest.raises(ValueError, match="no"):
        failed.open()
    assert (END.is_plain, END.is_end, END.open()) == (False, True, None)


def test_a_batch_of_the_next_epoch_is_not_taken_for_one_of_this():
    ledger = ledger_of(length=1, ordered=False)
    ledger.deal()
    ledger.deal()
    answer(ledger, 1)
    assert ledger.take() is None
    assert ledger.is_outstanding(1)


def test_a_ledger_is_ordered_and_knows_of_no_lane_that_did_not_ask():
    cursor = EpochCursor(lambda: 3, 1)
    ledger = Ledger(cursor, 2)
    assert (ledger.is_ordered, ledger.unsharded) == (True, set())


def test_an_error_in_dealing_that_comes_next_is_forgotten_to_ask_again():
    ledger = ledger_of(length=1)
    ledger.forget_undealt()  # there is nothing
    counting(ledger)
    ledger.lengths.error = OSError()
    ledger.deal()
    ledger.lengths.error = None
    ledger.forget_undealt()
    assert (ledger.head, ledger.work_items, ledger.ready) == (2, {}, {})
    assert numbers(ledger.deal()) == [2]
    ledger.forget_undealt()  # a work item at the beginning of its epoch is none
    assert ledger.is_outstanding(2)


def test_slow_worker_holds_its_share_of_the_credit_alone():
    cursor = StreamCursor(4)
    cursor.go_to(Place())
    ledger = Ledger(cursor, 4, ordered=False)
    ledger.owner_of = lambda lane: lane % 2
    dealt = ledger.deal(99)
    assert [work_item.lane for work_item in dealt] == [0, 1, 2, 3]
    for _ in range(6):  # those of worker 1 are answered, and worker 0 is slow
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
    assert [(work_item.lane, work_item.unit) for work_item in ledger.deal(99)] == [(0, 1), (2, 1)]  # all of the credit
