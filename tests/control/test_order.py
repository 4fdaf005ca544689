"""Schedules and progress, without workers: whatever happens, each batch of each epoch is dealt and counted once."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mpqueue.control.progress import Progress
from mpqueue.control.schedule import EpochSchedule, StreamSchedule

SEED = 7


class EpochsInAnyWay(RuleBasedStateMachine):
    """A consumer takes dealt tickets in order, or any of the present epoch, goes on elsewhere, or begins anew."""

    @initialize(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), ordered=st.booleans(),
                shuffle=st.booleans(), barrier=st.booleans())  # fmt: skip
    def make(self, lengths, ordered, shuffle, barrier):
        self.lengths, self.ordered, self.shuffle, self.barrier = lengths, ordered, shuffle, barrier
        self.asked, self.fails = [], False
        self.schedule, self.progress = self.new_schedule(), Progress(0)
        self.schedule.start_at(0)
        self.dealt, self.numbers = [], []
        self.taken = {}

    def new_schedule(self):
        return EpochSchedule(self.length_of, SEED, shuffle=self.shuffle, barrier=self.barrier)

    def length_of(self):
        if self.fails:
            raise OSError("the index file is gone")
        return self.length(self.schedule.epoch) if hasattr(self, "schedule") else self.lengths[0]

    def length(self, epoch):
        return self.lengths[epoch % len(self.lengths)]

    @rule(limit=st.integers(1, 5))
    def deal(self, limit):
        tickets = self.schedule.deal(limit)
        assert len(tickets) <= limit
        assert len({ticket.epoch for ticket in tickets}) <= 1
        if self.barrier:
            assert all(ticket.epoch == self.progress.epoch for ticket in tickets)
            assert tickets or self.progress.epoch < self.schedule.epoch
        else:
            assert tickets
        self.numbers += [ticket.number for ticket in tickets]
        self.dealt += tickets

    @rule(limit=st.integers(1, 3))
    def deal_while_the_length_fails(self, limit):
        """It is raised and asked for again; nothing is left out."""
        self.fails = True
        try:
            self.dealt += (tickets := self.schedule.deal(limit))
            self.numbers += [ticket.number for ticket in tickets]
        except OSError:
            pass
        self.fails = False

    @precondition(lambda self: self.dealt)
    @rule(pick=st.integers(0, 20))
    def take(self, pick):
        own = [ticket for ticket in self.dealt if ticket.epoch == self.progress.epoch]
        ticket = self.dealt[0] if self.ordered else own[pick % len(own)]
        self.dealt.remove(ticket)
        assert ticket.epoch == self.progress.epoch
        self.progress.count(ticket)
        assert self.progress.is_counted(ticket)
        self.taken.setdefault(ticket.epoch, []).append(ticket)
        if self.progress.position == self.length(ticket.epoch):
            self.progress.enter(ticket.epoch + 1)
            self.schedule.forget(ticket.epoch)
            if self.barrier:
                assert not self.dealt
                self.schedule.open_epoch()

    @rule(anew=st.booleans())
    def all_workers_are_lost(self, anew):
        """What was dealt and not taken is dealt again; also by another process that only has the place."""
        place = self.progress.place()
        if anew:
            number = self.schedule.next_number
            self.schedule, self.progress = self.new_schedule(), Progress(0)
            self.schedule.next_number = number
        self.schedule.start_at(place.epoch, place.position, place.ahead)
        self.progress.go_to(place)
        self.dealt.clear()

    @invariant()
    def each_batch_was_taken_once(self):
        for epoch, tickets in getattr(self, "taken", {}).items():
            positions = [ticket.position for ticket in tickets]
            assert len(positions) == len(set(positions))
            units = [ticket.unit for ticket in tickets]
            if self.ordered:
                assert positions == list(range(len(positions)))
            if not self.shuffle:
                assert units == positions
            if epoch < self.progress.epoch:
                assert sorted(units) == sorted(positions) == list(range(self.length(epoch)))

    @invariant()
    def no_number_is_used_twice(self):
        numbers = getattr(self, "numbers", [])
        assert numbers == sorted(set(numbers))

    @invariant()
    def lengths_do_not_pile_up(self):
        if hasattr(self, "schedule"):
            assert all(epoch >= self.progress.epoch for epoch in self.schedule.lengths)


EpochsInAnyWay.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=120, stateful_step_count=50)
TestEpochsInAnyWay = pytest.mark.slow(EpochsInAnyWay.TestCase)


class StreamsInAnyWay(RuleBasedStateMachine):
    """Lanes that end at any time: what is taken goes round the lanes that live, as if nobody ran ahead."""

    @initialize(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def make(self, lengths):
        self.lengths = lengths
        self.schedule, self.progress = StreamSchedule(len(lengths)), Progress(len(lengths))
        self.schedule.start_at(0)
        self.dealt, self.taken = [], []
        counts, lanes, self.expected = [0] * len(lengths), set(range(len(lengths))), []
        while lanes:
            for lane in sorted(lanes):
                if counts[lane] == lengths[lane]:
                    lanes.remove(lane)
                    continue
                self.expected.append((lane, counts[lane]))
                counts[lane] += 1

    @rule(limit=st.integers(1, 5))
    def deal(self, limit):
        tickets = self.schedule.deal(limit)
        assert len(tickets) == limit or self.schedule.has_ended
        self.dealt += tickets

    @precondition(lambda self: self.dealt)
    @rule()
    def take(self):
        ticket = self.dealt.pop(0)
        if ticket.unit >= self.lengths[ticket.lane]:
            self.schedule.end_lane(ticket.lane)
            return
        self.progress.count(ticket)
        self.taken.append((ticket.lane, ticket.unit))

    @rule()
    def all_workers_are_lost(self):
        place = self.progress.place()
        self.schedule.start_at(place.epoch, place.counts, place.lane)
        self.progress.go_to(place)
        self.dealt.clear()

    @invariant()
    def in_the_order_of_the_lanes(self):
        if hasattr(self, "schedule"):
            assert self.taken == self.expected[: len(self.taken)]

    def teardown(self):
        while hasattr(self, "schedule") and not (self.schedule.has_ended and not self.dealt):
            self.dealt += self.schedule.deal(3)
            if self.dealt:
                self.take()
        assert not hasattr(self, "schedule") or self.taken == self.expected


StreamsInAnyWay.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=120, stateful_step_count=40)
TestStreamsInAnyWay = pytest.mark.slow(StreamsInAnyWay.TestCase)
