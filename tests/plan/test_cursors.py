"""What is asked of every cursor: one that is new is entered in `MADE`, and these tests try it."""

import pytest

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.plan.cursors import Cursor, Drawn, DrawnCursor, EpochCursor, Place, StreamCursor

LENGTH = 4  # batches of an epoch
START = Place()


class Ascending:
    """A `Draw` of one epoch."""

    is_once, mark = False, None

    def __init__(self):
        self._left = list(range(LENGTH))

    def take(self, limit):
        taken, self._left = self._left[:limit], self._left[limit:]
        return [Drawn(unit) for unit in taken]

    @property
    def has_ended(self):
        return not self._left


# What makes each, with epochs of so many batches, and with the barrier that an `on_epoch_end` needs.
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


def at(kind, place=START, **options):
    cursor = MADE[kind](**options)
    cursor.go_to(place)
    return cursor


def deal(cursor, number):
    """So many work items, fewer if there is no more work for now; one call gives those of one epoch."""
    dealt = []
    while len(dealt) < number and (some := cursor.deal(number - len(dealt))):
        assert len({work_item.epoch for work_item in some}) == 1
        dealt += some
    return dealt


def places(work_items):
    return [(work_item.epoch, work_item.position) for work_item in work_items]


def test_each_schedule_of_the_package_is_tried_here():
    assert {kind for kind in subclasses(Cursor) if kind.__module__.startswith("mpqueue.")} == MADE.keys()


@ALL
def test_an_epoch_ends_with_its_last_batch_though_later_ones_are_dealt_already(kind):
    """`lengths` has each epoch that was opened and is not handed out, `forget` drops it."""
    ledger = Ledger(at(kind), credit=LENGTH + 2)
    for number in range(3 * LENGTH):
        for work_item in deal(ledger, LENGTH):
            ledger.ready[work_item.number] = Result(work_item)
        work_item, _ = ledger.take()
        is_last = ledger.count(work_item)
        assert (is_last, ledger.progress.epoch) == ((number + 1) % LENGTH == 0, (number + 1) // LENGTH)
    assert len(ledger.cursor.lengths) <= 2


@ALL
def test_a_number_is_used_once_wherever_it_goes(kind):
    cursor = at(kind)
    numbers = [work_item.number for work_item in deal(cursor, 3)]
    cursor.go_to(Place(1))
    numbers += [cursor.deal_failure().number, *(work_item.number for work_item in deal(cursor, 3))]
    assert numbers == list(range(7))


@OF_POSITIONS
def test_what_was_taken_ahead_of_a_place_is_left_out(kind):
    cursor = at(kind, Place(1, 1, ahead=(2,)))
    assert places(deal(cursor, 4)) == [(1, 1), (1, 3), (2, 0), (2, 1)]
    cursor.go_to(Place(1, 0))
    assert places(deal(cursor, 3)) == [(1, 0), (1, 1), (1, 2)]


@OF_POSITIONS
def test_a_place_is_the_same_work_whenever_it_is_dealt(kind):
    units = [work_item.unit for work_item in deal(at(kind), 3 * LENGTH)]
    assert [work_item.unit for work_item in deal(at(kind, Place(1, 2)), LENGTH)] == units[LENGTH + 2 : 2 * LENGTH + 2]


@OF_POSITIONS
def test_a_place_behind_the_end_is_refused(kind):
    with pytest.raises(ValueError, match=f"position {LENGTH + 1} does not exist"):
        at(kind, Place(0, LENGTH + 1))


@OF_POSITIONS
def test_nothing_is_dealt_behind_a_barrier_before_the_epoch_is_opened(kind):
    cursor = at(kind, barrier=True)
    assert len(deal(cursor, 9)) == LENGTH
    cursor.open_epoch()
    assert places(deal(cursor, 9)) == [(1, position) for position in range(LENGTH)]
    cursor.stand_before(5)
    assert cursor.deal(9) == []
    cursor.open_epoch()
    assert places(deal(cursor, 1)) == [(5, 0)]


@OF_POSITIONS
def test_nothing_is_dealt_of_epochs_behind_the_last_one(kind):
    cursor = at(kind)
    cursor.last_epoch = 0
    assert len(deal(cursor, 9)) == LENGTH


@OF_POSITIONS
def test_what_was_handed_out_can_be_asked_for_again(kind):
    """A server computes it for a consumer that comes later, also when all of the epoch was handed out."""
    cursor = MADE[kind]()
    cursor.keep(100)
    ledger = Ledger(cursor, credit=1)
    ledger.go_to(START)
    units = []
    for _ in range(LENGTH):
        (work_item,) = ledger.deal()
        ledger.ready[work_item.number] = Result(work_item)
        ledger.count(ledger.take()[0])
        units.append(work_item.unit)
    assert (ledger.progress.epoch, cursor.length_of(0)) == (1, LENGTH)
    assert [cursor.unit_at(0, position).unit for position in range(LENGTH)] == units
    with pytest.raises(LookupError):
        cursor.unit_at(0, LENGTH)


@OF_POSITIONS
def test_there_is_nothing_before_the_first_epoch(kind):
    cursor = at(kind)
    cursor.keep(100)
    with pytest.raises(LookupError):
        cursor.unit_at(-1, 0)


@OF_POSITIONS
def test_another_length_of_the_source_is_noticed(kind, monkeypatch):
    """What was dealt ahead is dropped then. An order that is drawn asks for no length."""
    cursor = at(kind)
    deal(cursor, LENGTH + 1)
    assert not cursor.has_new_length()
    monkeypatch.setitem(globals(), "LENGTH", LENGTH + 1)
    assert cursor.has_new_length() is not cursor.is_drawn
