"""Schedules and progress, without workers: whatever happens, each batch of each epoch is dealt and counted once."""

from functools import partial

import numpy as np
import pytest
from helpers.aiming import AimingMachine, run_and_require

from mpqueue.engine.lanes import LaneShare
from mpqueue.engine.ledger import Progress
from mpqueue.engine.schedule import Drawn, EpochSchedule, Place, StreamSchedule, Ticket
from mpqueue.engine.seeds import permutation

SEED = 7
EPOCH_ARROWS = [
    "deal", "deal none at the barrier", "deal across", "deal of skipped", "the length fails", "take", "take out of order",
    "take fills a gap", "epoch ends", "barrier is lifted", "go on", "go on elsewhere", "a length of 0",
]  # fmt: skip


class EpochsInAnyWay(AimingMachine):
    """A consumer takes dealt tickets in order, or any of the present epoch, goes on elsewhere, or begins anew."""

    def make(self):
        self.lengths = [self.choose(range(1, 7)) for _ in range(self.choose(range(1, 5)))]
        if len(self.lengths) > 2 and self.choose([False, True]):
            self.lengths[1] = 0
        self.ordered, self.shuffle, self.barrier = (self.choose([False, True]) for _ in range(3))
        if 0 in self.lengths:
            self.barrier = False  # an epoch without batches has no last one whose end would lift it
        self.fails = False
        self.schedule, self.progress = None, Progress(0)
        self.schedule = self.new_schedule()
        self.schedule.start_at(0)
        self.dealt, self.numbers, self.taken = [], [], {}

    def new_schedule(self):
        return EpochSchedule(self.length_of, SEED, shuffle=self.shuffle, barrier=self.barrier)

    def length_of(self):
        if self.fails:
            raise OSError("the index file is gone")
        return self.length(self.schedule.epoch) if self.schedule is not None else self.lengths[0]

    def length(self, epoch):
        return self.lengths[epoch % len(self.lengths)]

    def moves(self):
        moves = {f"deal {limit}": (2, partial(self.deal, limit)) for limit in (1, 2, 5)}
        moves["deal while the length fails"] = 2, self.deal_while_the_length_fails
        moves["go on"] = 1, partial(self.all_workers_are_lost, anew=False)
        moves["go on elsewhere"] = 1, partial(self.all_workers_are_lost, anew=True)
        own = [ticket for ticket in self.dealt if ticket.epoch == self.progress.epoch]
        for ticket in self.dealt[:1] if self.ordered else own:
            moves[f"take {ticket.number}"] = 12 if self.ordered else 3, partial(self.take, ticket)
        return moves

    def deal(self, limit):
        before = self.schedule.epoch
        tickets = self.schedule.deal(limit)
        assert len(tickets) <= limit
        assert len({ticket.epoch for ticket in tickets}) <= 1
        if self.barrier:
            assert all(ticket.epoch == self.progress.epoch for ticket in tickets)
            assert tickets or self.progress.epoch < self.schedule.epoch
            self.reached["deal none at the barrier"] += not tickets
        else:
            assert tickets
        if tickets:
            self.reached["deal"] += 1
            self.reached["deal across"] += self.schedule.epoch > before
            self.reached["a length of 0"] += any(not self.length(e) for e in range(before, self.schedule.epoch))
            self.reached["deal of skipped"] += bool(self.schedule._skip)
            assert {ticket.lane for ticket in tickets} == {-1}
        self.numbers += [ticket.number for ticket in tickets]
        self.dealt += tickets

    def deal_while_the_length_fails(self):
        """It is raised and asked for again; nothing is left out."""
        self.fails = True
        try:
            self.dealt += (tickets := self.schedule.deal(3))
            self.numbers += [ticket.number for ticket in tickets]
        except OSError:
            self.reached["the length fails"] += 1
        self.fails = False

    def take(self, ticket):
        self.dealt.remove(ticket)
        assert ticket.epoch == self.progress.epoch
        position = self.progress.position
        assert not self.progress.is_counted(ticket)
        counted = self.progress.count(ticket)
        assert counted == self.progress.position
        assert self.progress.is_counted(ticket)
        self.taken.setdefault(ticket.epoch, []).append(ticket)
        self.reached["take out of order" if counted == position else "take"] += 1
        self.reached["take fills a gap"] += counted > position + 1
        taken = {one.position for one in self.taken[ticket.epoch]}
        place = self.progress.place()
        assert place == Place(ticket.epoch, counted, tuple(sorted(one for one in taken if one > counted)))
        assert set(range(counted)) <= taken
        assert counted not in taken
        if self.progress.position == self.length(ticket.epoch):
            self.enter_next(ticket)

    def enter_next(self, ticket):
        self.reached["epoch ends"] += 1
        self.progress.enter(ticket.epoch + 1)
        assert self.progress.is_counted(ticket)
        self.schedule.forget(ticket.epoch)
        while not self.length(self.progress.epoch):
            self.schedule.forget(self.progress.epoch)
            self.progress.enter(self.progress.epoch + 1)
        if self.barrier:
            assert not self.dealt
            self.schedule.open_epoch()
            self.reached["barrier is lifted"] += 1

    def all_workers_are_lost(self, *, anew):
        """What was dealt and not taken is dealt again; also by another process that only has the place."""
        place = self.progress.place()
        if anew:
            number = self.schedule.next_number
            self.schedule, self.progress = self.new_schedule(), Progress(0)
            self.schedule.next_number = number
        self.schedule.start_at(place.epoch, place.position, place.ahead)
        self.progress.go_to(place)
        assert self.progress.place() == place
        self.dealt.clear()
        self.reached["go on elsewhere" if anew else "go on"] += 1

    def check(self):
        for epoch, tickets in self.taken.items():
            positions, units = [ticket.position for ticket in tickets], [ticket.unit for ticket in tickets]
            assert len(positions) == len(set(positions))
            if self.ordered:
                assert positions == list(range(len(positions)))
            if self.shuffle:
                order = permutation(SEED, epoch, self.length(epoch))
                assert units == [order[position] for position in positions]
            else:
                assert units == positions
            if epoch < self.progress.epoch:
                assert sorted(units) == sorted(positions) == list(range(self.length(epoch)))
        assert self.numbers == sorted(set(self.numbers))
        for epoch, length in self.schedule.lengths.items():
            assert epoch >= self.progress.epoch or not self.length(epoch)
            assert length == self.length(epoch)


def test_epochs_in_any_way():
    run_and_require(EpochsInAnyWay, EPOCH_ARROWS, at_least=10, examples=200, steps=60)


STREAM_ARROWS = ["deal", "deal none", "take", "end of a lane", "go on", "end of all"]


class StreamsInAnyWay(AimingMachine):
    """Lanes that end at any time: what is taken goes round the lanes that live, as if nobody ran ahead."""

    def make(self):
        self.lengths = lengths = [self.choose(range(6)) for _ in range(self.choose(range(1, 5)))]
        self.schedule = StreamSchedule(len(lengths))
        self.progress = Progress(len(lengths), self.schedule.lanes)
        self.schedule.go_to(Place())
        self.dealt, self.taken, self.numbers, self.ended = [], [], [], set()
        counts, lanes, self.expected = [0] * len(lengths), set(range(len(lengths))), []
        while lanes:
            for lane in sorted(lanes):
                if counts[lane] == lengths[lane]:
                    lanes.remove(lane)
                    continue
                self.expected.append((lane, counts[lane]))
                counts[lane] += 1

    def moves(self):
        moves = {f"deal {limit}": (1, partial(self.deal, limit)) for limit in (1, 2, 5)}
        if self.dealt:
            moves["take"] = 6, self.take
        moves["go on"] = 1, self.all_workers_are_lost
        return moves

    def deal(self, limit):
        tickets = self.schedule.deal(limit)
        assert len(tickets) == (0 if len(self.ended) == len(self.lengths) else limit)
        self.reached["deal" if tickets else "deal none"] += 1
        assert all(ticket.position == ticket.unit for ticket in tickets)
        assert {ticket.epoch for ticket in tickets} <= {0}
        self.numbers += [ticket.number for ticket in tickets]
        self.dealt += tickets

    def take(self):
        ticket = self.dealt.pop(0)
        if ticket.unit >= self.lengths[ticket.lane]:
            self.schedule.end_lane(ticket.lane, ticket.unit)
            self.ended.add(ticket.lane)
            self.reached["end of a lane"] += 1
            return
        assert not self.progress.is_counted(ticket)
        assert self.progress.count(ticket) == len(self.taken) + 1
        assert self.progress.is_counted(ticket)
        self.taken.append((ticket.lane, ticket.unit))
        self.reached["take"] += 1

    def all_workers_are_lost(self):
        place = self.progress.place()
        assert sum(place.counts) == len(self.taken)
        self.schedule.go_to(place)
        self.progress.go_to(place)
        assert self.progress.place() == place
        self.dealt.clear()  # what has ended is known to have, and is not asked again
        self.reached["go on"] += 1

    def check(self):
        assert self.taken == self.expected[: len(self.taken)]
        assert self.numbers == list(range(len(self.numbers)))

    def finish(self):
        while True:
            self.dealt += self.schedule.deal(3)
            if not self.dealt:
                break
            self.take()
        assert self.taken == self.expected
        self.reached["end of all"] += 1


def test_streams_in_any_way():
    run_and_require(StreamsInAnyWay, STREAM_ARROWS, at_least=10, examples=150, steps=50)


def units(tickets):
    return [ticket.unit for ticket in tickets]


def schedule_of(length, **options):
    schedule = EpochSchedule(lambda: length, SEED, **options)
    schedule.start_at(0)
    return schedule


def test_a_ticket_says_what_it_is_for():
    schedule = schedule_of(3)
    assert schedule.deal(5) == [Ticket(0, 0, 0, 0), Ticket(1, 0, 1, 1), Ticket(2, 0, 2, 2)]
    assert schedule.deal() == [Ticket(3, 1, 0, 0, -1)]


def test_an_endless_epoch_has_no_end_and_no_order():
    schedule = schedule_of(None, shuffle=True, order_of=lambda epoch, length: [length])
    assert schedule.is_endless
    assert units(schedule.deal(3) + schedule.deal(3)) == list(range(6))
    assert (schedule.epoch, schedule.lengths) == (0, {0: None})
    schedule.start_at(0, 1000)
    assert units(schedule.deal(2)) == [1000, 1001]


def test_an_epoch_with_an_end_is_not_endless():
    assert not schedule_of(3).is_endless


def test_a_user_may_give_the_order():
    asked = []

    def order_of(epoch, length):
        asked.append((epoch, length))
        return np.array([2, 0, -1])

    schedule = schedule_of(3, order_of=order_of, shuffle=True)
    tickets = schedule.deal(9) + schedule.deal(1)
    assert units(tickets) == [2, 0, -1, 2]
    assert all(type(ticket.unit) is int for ticket in tickets)
    assert asked == [(0, 3), (1, 3)]


def test_an_order_that_is_given_says_how_many_batches_the_epoch_has():
    orders = {0: [4, 2], 1: None, 2: [0]}
    schedule = schedule_of(3, order_of=lambda epoch, _length: orders[epoch])
    assert [units(schedule.deal(9)) for _ in range(3)] == [[4, 2], [0, 1, 2], [0]]
    assert schedule.lengths == {0: 2, 1: 3, 2: 1}


def test_the_order_of_an_epoch_is_known_until_it_is_forgotten():
    schedule = schedule_of(3, shuffle=True)
    schedule.deal(9)
    schedule.deal(9)
    assert {epoch: order.tolist() for epoch, order in schedule.orders.items()} == {
        epoch: permutation(SEED, epoch, 3).tolist() for epoch in (0, 1)
    }
    schedule.forget(0)
    assert list(schedule.orders) == [1]
    schedule.start_at(5)
    assert list(schedule.orders) == [5]
    schedule.stand_before(6)
    assert schedule.orders == {}


def test_an_ascending_epoch_has_no_order():
    assert schedule_of(3).orders == {0: None}
    assert EpochSchedule(lambda: 3, SEED).orders == {}


def test_an_epoch_is_not_shuffled_unless_it_is_to_be():
    assert units(schedule_of(50).deal(50)) == list(range(50))
    assert units(schedule_of(50, shuffle=True).deal(50)) == permutation(SEED, 0, 50).tolist()


def test_there_is_no_barrier_unless_it_is_wanted():
    schedule = schedule_of(2)
    assert len(schedule.deal(5) + schedule.deal(5)) == 4


def test_positions_that_were_taken_are_left_out_of_their_epoch_only():
    schedule = schedule_of(4)
    schedule.start_at(5, 1, skip=[3, 0, 2])
    assert units(schedule.deal(1)) == [1]
    again = schedule.deal(9)
    assert [(ticket.epoch, ticket.unit) for ticket in again] == [(6, 0), (6, 1), (6, 2), (6, 3)]


def test_positions_to_leave_out_are_left_behind_by_another_start():
    schedule = schedule_of(3)
    schedule.start_at(0, 0, skip=[1])
    schedule.start_at(0)
    assert units(schedule.deal(5)) == [0, 1, 2]
    schedule.start_at(1, 0, skip=[1])
    schedule.stand_before(2)
    assert units(schedule.deal(5)) == [0, 1, 2]


def test_the_end_of_an_epoch_is_a_position():
    schedule = schedule_of(3)
    schedule.start_at(0, 3)
    assert [(ticket.epoch, ticket.unit) for ticket in schedule.deal(2)] == [(1, 0), (1, 1)]


def test_a_position_beyond_the_end_does_not_exist():
    with pytest.raises(ValueError, match=r"^position 4 does not exist: epoch 2 has 3 batches$"):
        schedule_of(3).start_at(2, 4)


def test_what_cannot_be_dealt_has_a_place_in_the_order_and_none_in_an_epoch():
    schedule = schedule_of(2)
    schedule.deal(1)
    assert schedule.deal_failure() == Ticket(1, 0, -1, -1)
    assert schedule.deal(1) == [Ticket(2, 0, 1, 1)]


def test_behind_a_barrier_nothing_is_dealt_until_it_is_lifted():
    schedule = schedule_of(2, barrier=True)
    assert units(schedule.deal(9)) == [0, 1]
    assert schedule.deal(9) == schedule.deal(1) == []
    schedule.open_epoch()
    assert schedule.deal(9) == [Ticket(2, 1, 0, 0), Ticket(3, 1, 1, 1)]
    schedule.open_epoch()  # before anybody has asked in vain
    schedule.open_epoch()  # once more changes nothing
    assert [ticket.epoch for ticket in schedule.deal(1)] == [2]


def test_an_epoch_whose_last_positions_are_left_out_is_over_with_the_one_before_them():
    """Else its barrier would be lifted too early, and never again."""
    schedule = schedule_of(4, barrier=True)
    schedule.start_at(0, 1, skip=[2, 3])
    assert units(schedule.deal(1)) == [1]
    schedule.open_epoch()
    assert [(ticket.epoch, ticket.unit) for ticket in schedule.deal(1)] == [(1, 0)]


def test_to_stand_before_an_epoch_is_to_wait_at_its_barrier():
    schedule = schedule_of(4, barrier=True)
    schedule.deal(2)
    schedule.stand_before(3)
    assert schedule.lengths == {}
    assert schedule.deal(1) == []
    schedule.open_epoch()
    assert schedule.deal(9)[0] == Ticket(2, 3, 0, 0)
    assert schedule.lengths == {3: 4}


def test_an_epoch_that_is_over_is_forgotten_once_or_twice():
    schedule = schedule_of(2)
    schedule.deal(2)
    schedule.deal(1)
    assert schedule.lengths == {0: 2, 1: 2}
    schedule.forget(0)
    schedule.forget(0)
    assert schedule.lengths == {1: 2}


def test_streams_begin_where_they_are_told_to():
    schedule = StreamSchedule(3)
    assert (schedule.lengths, schedule.epoch, schedule.num_lanes) == ({}, 0, 3)
    assert schedule.deal(2) == []
    schedule.go_to(Place(4, counts=(6, 6, 5)))
    assert schedule.deal(4) == [
        Ticket(0, 4, 5, 5, 2),
        Ticket(1, 4, 6, 6, 0),
        Ticket(2, 4, 6, 6, 1),
        Ticket(3, 4, 6, 6, 2),
    ]
    schedule.go_to(Place(5))
    assert schedule.epoch == 5
    assert schedule.deal() == [Ticket(4, 5, 0, 0, 0)]


def test_a_lane_that_ends_twice_has_ended():
    schedule = StreamSchedule(2)
    schedule.go_to(Place())
    for number in (0, 2):
        schedule.end_lane(0, number)
    assert [ticket.lane for ticket in schedule.deal(3)] == [1, 1, 1]
    assert schedule.lanes.ends == {0: 0}


def test_a_lane_that_is_known_to_end_gets_no_more_than_it_has():
    schedule = StreamSchedule(3)
    schedule.go_to(Place(0, counts=(2, 2, 1), ends=(2, -1, 5)))
    assert [(ticket.lane, ticket.unit) for ticket in schedule.deal(4)] == [(2, 1), (1, 2), (2, 2), (1, 3)]
    schedule.go_to(Place(0, counts=(2, 2, 1), ends=(2, 2, 1)))
    assert schedule.deal(4) == []


def test_an_element_has_a_number_among_those_of_all_lanes_and_ranks():
    """Lane l of n has l, l + n, l + 2 n ...; rank r of a world has the lanes that are r modulo world."""
    found = set()
    for rank in (0, 1, 2):
        schedule = StreamSchedule(LaneShare(2, 6, first=rank, step=3))
        assert list(schedule.lane_share.lanes()) == [rank, rank + 3]
        schedule.go_to(Place())
        elements = [schedule.element(ticket) for ticket in schedule.deal(8)]
        assert {element % 6 % 3 for element in elements} == {rank}
        found |= set(elements)
    assert found == set(range(24))


def test_progress_begins_at_the_beginning():
    assert Progress(0).place() == Place() == (0, 0, (), (), (), ())
    assert Progress(2).place() == Place(0, 0, (), (0, 0))


def test_a_place_without_counts_is_the_beginning_of_all_streams():
    progress = Progress(2)
    progress.count(Ticket(0, 0, 3, 3, 1))
    assert progress.place() == Place(0, 1, (), (0, 4))
    progress.count(Ticket(0, 0, 0, 0, 0))
    assert progress.place() == Place(0, 2, (), (1, 4))
    progress.go_to(Place(2))
    assert progress.place() == Place(2, 0, (), (0, 0))


def test_an_element_is_counted_in_whatever_epoch():
    progress = Progress(2)
    progress.count(Ticket(0, 5, 0, 0, 1))
    assert [progress.is_counted(Ticket(0, 5, 0, 0, lane)) for lane in (0, 1)] == [False, True]
    assert not progress.is_counted(Ticket(0, 5, 1, 1, 1))


def test_progress_in_a_new_epoch_is_none():
    progress = Progress(0)
    progress.count(Ticket(0, 0, 0, 0))
    progress.count(Ticket(3, 0, 3, 3))
    progress.enter(1)
    assert progress.place() == Place(1)
    assert progress.is_counted(Ticket(1, 0, 1, 1))  # all of the epoch before is


def test_a_schedule_that_was_not_started_begins_at_the_beginning():
    schedule = EpochSchedule(lambda: 3, SEED)
    assert (schedule.epoch, schedule.lengths, schedule.is_endless) == (0, {}, True)
    assert schedule.deal(5) == [Ticket(0, 0, 0, 0), Ticket(1, 0, 1, 1), Ticket(2, 0, 2, 2)]


@pytest.mark.parametrize("is_over", [False, True])
def test_the_work_of_a_position_follows_from_the_order(is_over):
    schedule = schedule_of(3, order_of=lambda epoch, _length: None if epoch else [3, 1, 2])
    schedule.keep(1)
    for epoch, units in ((0, [3, 1, 2]), (1, [0, 1, 2])):
        schedule.deal(3)
        if is_over:
            schedule.forget(epoch)
        assert schedule.length_of(epoch) == 3
        assert [schedule.unit_at(epoch, position).unit for position in range(3)] == units
        for other, position in ((epoch, -1), (epoch, 3), (7, 0)):
            with pytest.raises(LookupError, match="there is no batch"):
                schedule.unit_at(other, position)


def test_an_endless_order_has_every_position():
    schedule = schedule_of(None)
    assert schedule.unit_at(0, 1 << 40) == Drawn(1 << 40)


def test_an_order_that_was_handed_out_is_kept_on_request_only():
    schedule = schedule_of(3, shuffle=True)
    schedule.deal(3)
    schedule.forget(0)
    assert schedule.length_of(0) is None
    with pytest.raises(LookupError):
        schedule.unit_at(0, 0)


def test_lanes_have_no_positions_to_be_asked_for():
    schedule = StreamSchedule(2)
    schedule.keep(5)
    with pytest.raises(LookupError, match="comes from a lane"):
        schedule.unit_at(0, 0)


def test_a_start_elsewhere_forgets_the_lengths_of_other_epochs():
    schedule = schedule_of(4)
    schedule.deal(4)
    schedule.deal(4)
    schedule.start_at(5)
    assert schedule.lengths == {5: 4}


def counted_schedule(length=2, **options):
    """A schedule, and the epochs for which the length was asked."""
    asked = []

    def length_of():
        asked.append(schedule.epoch)
        return length

    schedule = EpochSchedule(length_of, SEED, **options)
    return schedule, asked


def test_the_length_of_an_epoch_is_asked_once_and_when_its_barrier_is_lifted():
    schedule, asked = counted_schedule(barrier=True)
    schedule.start_at(0)
    schedule.deal(9)
    assert asked == [0]
    schedule.open_epoch()
    assert asked == [0, 1]
    schedule.open_epoch()
    schedule.deal(9)
    assert asked == [0, 1]


def test_an_unstarted_schedule_stands_before_its_barrier():
    schedule, asked = counted_schedule(barrier=True)
    assert schedule.deal(9) == []
    assert asked == []
    schedule.open_epoch()
    assert units(schedule.deal(9)) == [0, 1]


def test_a_start_at_an_epoch_that_is_not_to_be_dealt_asks_for_nothing():
    schedule, asked = counted_schedule()
    schedule.start_at(0)
    schedule.last_epoch = 1
    schedule.start_at(2, 1)
    assert (asked, schedule.lengths, schedule.deal(9)) == ([0], {}, [])


def test_nothing_is_dealt_beyond_the_last_epoch_until_there_is_a_later_one():
    schedule, asked = counted_schedule()
    schedule.last_epoch = 1
    schedule.start_at(0)
    assert [(ticket.epoch, ticket.unit) for _ in range(5) for ticket in schedule.deal(9)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    schedule.open_epoch()
    assert asked == [0, 1]
    schedule.last_epoch = 2
    assert [ticket.epoch for ticket in schedule.deal(9)] == [2, 2]


def test_a_barrier_far_ahead_is_lifted_for_that_epoch_alone():
    schedule, _ = counted_schedule(barrier=True)
    schedule.start_at(0)
    schedule.stand_before(3)
    assert schedule.deal(9) == []
    schedule.open_epoch()
    assert [ticket.epoch for _ in range(3) for ticket in schedule.deal(9)] == [3, 3]
