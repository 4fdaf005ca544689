"""Tests of every cursor. Enter a new cursor in `MADE`."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.plan.position.cursors import Cursor, Drawn, EpochCursor, ResumePoint
from mpqueue.plan.position.drawn_cursor import DrawnCursor
from mpqueue.plan.position.stream_cursor import StreamCursor

LENGTH = 4  # batches per epoch
START = ResumePoint()


class Ascending:
    """A `Draw` of one epoch."""

    is_once, mark = False, None

    def __init__(self):
        self._left = list(range(LENGTH))

    def take(self, limit):
        taken, self._left = self._left[:limit], self._left[limit:]
        return [Drawn(index) for index in taken]

    @property
    def has_ended(self):
        return not self._left


# How to make each cursor, with this number of batches per epoch, and with the barrier of an `on_epoch_end`.
MADE = {
    EpochCursor: lambda **options: EpochCursor(lambda: LENGTH, 7, shuffle=True, **options),
    DrawnCursor: lambda **options: DrawnCursor(lambda _epoch, _base: Ascending(), **options),
    StreamCursor: lambda: StreamCursor(2, epoch_batches=LENGTH),
}
ALL = pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
OF_POSITIONS = pytest.mark.parametrize(
    "kind", [kind for kind in MADE if kind is not StreamCursor], ids=lambda kind: kind.__name__
)


def subclasses(kind):
    for below in kind.__subclasses__():
        yield from (below, *subclasses(below))


def at(kind, point=START, **options):
    cursor = MADE[kind](**options)
    cursor.go_to(point)
    return cursor


def deal(cursor, number):
    """Return up to this many work items, fewer if no more are available. A single call returns items of one epoch."""
    dealt = []
    while len(dealt) < number and (some := cursor.deal(number - len(dealt))):
        assert len({work_item.epoch for work_item in some}) == 1
        dealt += some
    return dealt


def points(work_items):
    return [(work_item.epoch, work_item.position) for work_item in work_items]


def test_every_order_has_a_cursor_that_is_tested_here():
    assert {kind for kind in subclasses(Cursor) if kind.__module__.startswith("mpqueue.plan.")} == MADE.keys()


@ALL
def test_epoch_ends_with_its_last_batch_although_later_ones_are_dealt(kind):
    """`lengths` contains each epoch that was opened and not delivered; `forget` removes it."""
    ledger = Ledger(at(kind), credit=LENGTH + 2)
    for number in range(3 * LENGTH):
        for work_item in deal(ledger, LENGTH):
            ledger.ready[work_item.work_id] = Result(work_item)
        work_item, _ = ledger.take()
        is_last = ledger.counts.count(work_item)
        if is_last:
            ledger.forget_epochs()
        assert (is_last, ledger.progress.epoch) == ((number + 1) % LENGTH == 0, (number + 1) // LENGTH)
    assert len(ledger.cursor.lengths) <= 2
    assert len(getattr(ledger.cursor, "orders", ())) <= 2


@ALL
def test_numbers_are_never_reused(kind):
    cursor = at(kind)
    numbers = [work_item.work_id for work_item in deal(cursor, 3)]
    cursor.go_to(ResumePoint(1))
    failed = cursor.deal_failure()
    assert (failed.position, failed.source_index) == (-1, -1)
    numbers += [failed.work_id, *(work_item.work_id for work_item in deal(cursor, 3))]
    assert numbers == list(range(7))


@OF_POSITIONS
def test_batches_taken_out_of_order_are_skipped(kind):
    cursor = at(kind, ResumePoint(1, 1, ahead=(2,)))
    assert points(deal(cursor, 4)) == [(1, 1), (1, 3), (2, 0), (2, 1)]
    cursor.go_to(ResumePoint(1, 0))
    assert points(deal(cursor, 3)) == [(1, 0), (1, 1), (1, 2)]


@OF_POSITIONS
def test_place_after_the_end_is_rejected(kind):
    with pytest.raises(ValueError, match=f"^position {LENGTH + 1} does not exist: .* {LENGTH} batches"):
        at(kind, ResumePoint(0, LENGTH + 1))


@OF_POSITIONS
def test_barrier_blocks_dealing_until_epoch_is_opened(kind):
    cursor = at(kind, barrier=True)
    assert len(deal(cursor, 9)) == LENGTH
    cursor.open_epoch()
    assert points(deal(cursor, 9)) == [(1, position) for position in range(LENGTH)]
    cursor.stand_before(5)
    assert cursor.deal(9) == []
    cursor.open_epoch()
    assert points(deal(cursor, 9)) == [(5, position) for position in range(LENGTH)]


@OF_POSITIONS
def test_no_epoch_after_the_last_one_is_dealt(kind):
    cursor = at(kind)
    cursor.last_epoch = 0
    assert len(deal(cursor, 9)) == LENGTH


@OF_POSITIONS
def test_changed_length_of_source_is_detected(kind, monkeypatch):
    """Items dealt ahead are then dropped. A drawn order does not read the length."""
    cursor = at(kind)
    deal(cursor, LENGTH + 1)
    assert not cursor.has_new_length()
    monkeypatch.setitem(globals(), "LENGTH", LENGTH + 1)
    assert cursor.has_new_length() is not cursor.is_drawn
