"""The snapshots, turns and epochs of lanes, without workers."""

import random

import pytest
from helpers.call_counts import instructions_of

from mpqueue.backends.processes.lane_owners import LaneOwners
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.engine.progress.deliveries import Delivery
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import BEGINNING, LaneStart, LaneTable, ends_before, starts
from mpqueue.plan.position.stream_cursor import StreamCursor


def stream_cursor(num_lanes, **options):
    cursor = StreamCursor(num_lanes, **options)
    cursor.go_to(ResumePoint())
    return cursor


def ledger_of(num_lanes=2, epoch_batches=None, *, ordered=True):
    ledger = Ledger(stream_cursor(num_lanes, epoch_batches=epoch_batches), 100, ordered=ordered)
    ledger.go_to(ResumePoint())
    return ledger


def hand_out(ledger, count):
    """Deliver this number of elements."""
    work_items = []
    for _ in range(count):
        (work_item,) = ledger.deal()
        ledger.ready[work_item.work_id] = Result(None)
        ledger.counts.count(ledger.take()[0])
        work_items.append(work_item)
    return work_items


def test_a_lane_begins_at_the_newest_snapshot_that_is_not_ahead():
    table = LaneTable(2)
    for number in (30, 10, 20):  # in any order: snapshots of a crashed worker are taken again
        table.note(1, number, b"%d" % number)
    found = [table.start(1, number) for number in (9, 10, 19, 20, 99)]
    assert [start.element_index for start in found] == [0, 10, 10, 20, 30]
    assert found[-1] == LaneStart(30, b"30")
    assert table.start(0, 99) == BEGINNING
    assert starts(table.known(), (99, 29)) == (BEGINNING, LaneStart(20, b"20"))


def test_last_batch_has_its_snapshot_after_a_move_to_the_place_behind_it():
    ledger = ledger_of(num_lanes=1)
    ledger.lanes.note(0, 3, b"3")
    last = hand_out(ledger, 5)[-1]
    ledger.progress.returned = last, 0, 5, None
    ledger.lanes.note(0, 5, b"5")
    assert ledger.counts.start_of_returned() == LaneStart(3, b"3")
    for _ in range(2):
        point = ledger.progress.point()
        assert point.starts == (LaneStart(5, b"5"),)
        ledger.go_to(point)
        assert ledger.counts.start_of_returned() == LaneStart(3, b"3")
    ledger.progress.returned = hand_out(ledger, 1)[0], 0, 6, None
    assert ledger.counts.start_of_returned() == LaneStart(5, b"5")


def test_only_ends_before_a_place_are_known_there():
    assert ends_before((2, -1, 1), (2, 2, 1)) == (2, -1, 1)  # lane 1 has the next turn, after the turn of lane 0
    assert ends_before((1, -1, 0), (1, 0, 0)) == (-1, -1, -1)  # lane 1 has its first turn before both
    assert ends_before((3, -1), (2, 2)) == (-1, -1)
    assert ends_before((2, 1), (2, 1)) == (2, 1)


def test_unreachable_snapshots_are_dropped():
    """Drops all but the newest that is not ahead of the delivered elements, and one before it for returned batches."""
    counts = [0]
    table = LaneTable(1)
    table.follow(counts.__getitem__)
    for number in range(1, 100):
        counts[0] = max(0, number - 5)
        table.note(0, number, b"")
        assert table.start(0, counts[0]).element_index == counts[0]
        assert len(table.known()[0]) <= 7
    assert [start.element_index for start in table.known()[0]] == list(range(93, 100))


def test_a_lane_ends_at_the_first_element_that_it_lacks():
    table = LaneTable(3)
    for number in (7, 5, 6):
        table.end(1, number)
    assert table.ends_by_lane() == (-1, 5, -1)


@pytest.mark.parametrize("num_held", [0, 1, 2])
def test_place_contains_no_snapshots_ahead_of_it(num_held):
    """Counted but undelivered elements do not count as delivered."""
    ledger = ledger_of(2)
    work_items = hand_out(ledger, 8)
    for lane in (0, 1):
        for number in (1, 3, 4, 5):
            ledger.lanes.note(lane, number, b"%d" % number)
    for work_item in work_items[len(work_items) - num_held :]:
        ledger.progress.hold(Delivery((work_item, 0, 0, None)))
    point = ledger.progress.point()
    assert point.counts == [(4, 4), (4, 3), (3, 3)][num_held]
    assert tuple(start.element_index for start in point.starts) == point.counts


@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", range(30))
def test_fair_dealing_takes_the_first_turns_of_the_workers_with_room(seed):
    draw, num_lanes, num_workers = random.Random(seed), 7, 3
    cursor = stream_cursor(num_lanes)
    owners = LaneOwners(cursor, num_workers)
    turns = dict.fromkeys(range(num_lanes), 0)
    while turns:
        held = {worker: draw.randrange(4) for worker in range(num_workers) if draw.random() < 0.7}
        credit, limit = draw.randrange(1, 12), draw.randrange(1, 6)
        most = -(-credit // len({owners.owner(lane) for lane in turns}))
        room = {worker: most - held.get(worker, 0) for worker in range(num_workers)}
        expected = []
        while len(expected) < limit and (
            free := [(count, lane) for lane, count in turns.items() if room[owners.owner(lane)] > 0]
        ):
            count, lane = min(free)
            expected.append((count, lane))
            turns[lane] += 1
            room[owners.owner(lane)] -= 1
        dealt = cursor.deal_fairly(limit, credit, held, owners.owner)
        assert [(work_item.source_index, work_item.lane) for work_item in dealt] == expected
        if draw.random() < 0.3:
            lane = draw.choice(list(turns))
            cursor.end_lane(lane, turns.pop(lane))
        if draw.random() < 0.3:
            owners.move(draw.randrange(num_lanes), draw.randrange(num_workers))
        if turns and draw.random() < 0.2:
            (work_item,) = cursor.deal()
            first = min(turns, key=lambda lane: (turns[lane], lane))
            assert (work_item.source_index, work_item.lane) == (turns[first], first)
            turns[first] += 1
    assert cursor.deal_fairly(1, 8, {}, owners.owner) == cursor.deal() == []


def deal_in_order(cursor):
    return cursor.deal(8)


def deal_to_workers(cursor):
    """Worker 0 is slow, and has no room."""
    return cursor.deal_fairly(8, 16, {0: 8}, lambda lane: lane % 2)


def run_of(deal, num_lanes):
    """Return a function that deals one element of each lane, and ends the lane."""
    cursor = stream_cursor(num_lanes)

    def run():
        while work_items := deal(cursor):
            for work_item in work_items:
                cursor.end_lane(work_item.lane, work_item.source_index)

    return run


@pytest.mark.parametrize("deal", [deal_in_order, deal_to_workers])
def test_cost_of_a_lane_does_not_grow_with_the_number_of_lanes(deal):
    few, many = (instructions_of(run_of(deal, num_lanes)) for num_lanes in (64, 1024))
    assert many < 1.5 * 16 * few


# -- Epochs with a fixed number of batches of endless lanes


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
