"""The dispatcher under any interleaving of completions, deaths, leases, lack of memory, jumps and stops.

Whatever happens in whatever order: every ticket is delivered once and in order, a slot has one owner, nothing is granted
without credit, and nobody waits for ever.
"""

import random

import pytest
from helpers.simulated import Source, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpqueue.control.backend import EndOfStream, Stopped
from mpqueue.control.progress import Place
from mpqueue.control.schedule import EpochSchedule, StreamSchedule
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.slots import SlotState
from mpqueue.workers.handle import Work

SIZES = [1, 100, 3000, 20_000]  # int64s: from a word to more than twice what a slot has at first
# Not of hypothesis's own: how often the world chooses depends on when garbage is collected.
randoms = st.integers(0, 1 << 32).map(random.Random)
FREE, GRANTED, READY, LEASED, RETIRED = SlotState


def opened(batch):
    """The words of a batch, all of which must be the same one; and its size."""
    array = batch["a"] if isinstance(batch, dict) else batch
    assert (array == array[0]).all()
    return int(array[0]), len(array)


class Dispatching(RuleBasedStateMachine):
    """What all kinds of sources have in common."""

    world = None

    def build(self, source, schedule, num_workers, credit, max_pages, **options):
        self.random = None
        self.source, self.views, self.num_taken = source, [], 0
        self.most_pages = max_pages
        self.world = World(source, schedule, num_workers, credit, self.choose, max_pages=max_pages, **options)

    def choose(self, things):
        return things[self.random.randrange(len(things))] if self.random is not None else things[0]

    def take(self, random):
        """The next batch, or the exception in its place; the world moves while the consumer waits."""
        self.random = random
        try:
            return self.world.pipeline.next()
        except (ValueError, SharedMemoryFull) as error:
            return error

    def check(self, found, word, size):
        """It is the batch that is expected, or the exception that the source raises there."""
        if isinstance(found, SharedMemoryFull):
            assert self.most_pages < 1 << 40
            assert found.bytes_asked > 0
        elif word is None:
            assert isinstance(found, ValueError)
        else:
            assert opened(found) == (word, size), self.world.describe()
            self.views.append((found, word, size))

    @rule(random=randoms, count=st.integers(1, 12))
    def the_world_goes_on(self, random, count):
        self.random = random
        for _ in range(count):
            if self.world is not None and self.world.has_moves():
                self.world.step()

    @rule(random=randoms)
    def somebody_dies(self, random):
        self.random = random
        self.world.kill_one()

    @rule(picks=st.lists(st.integers(0, 1000), max_size=8))
    def views_are_dropped(self, picks):
        for pick in picks:
            if self.views:
                del self.views[pick % len(self.views)]

    @rule(random=randoms)
    def somebody_looks(self, random):
        self.random = random
        assert 0 <= self.world.pipeline.num_ready <= self.world.pipeline.ledger.credit

    @rule(random=randoms, count=st.integers(0, 3))
    def it_pauses(self, random, count):
        """As a snapshot of the source does."""
        self.random = random
        pipeline = self.world.pipeline
        pipeline.pause()
        assert pipeline.ledger.failure is not None or not pipeline.ledger.at_work()
        pipeline.resume()

    @rule(random=randoms)
    def an_interrupt_tears_the_books(self, random):
        self.random = random
        pipeline = self.world.pipeline
        pipeline.recovery.is_inconsistent = pipeline.ledger.needs_attention = True

    @invariant()
    def views_are_unchanged(self):
        if self.world is not None:
            for found, word, size in self.views:
                assert opened(found) == (word, size)

    @invariant()
    def a_slot_has_one_owner(self):
        if self.world is None:
            return
        backend = self.world.backend
        ring, workers = backend.pool.ring, backend.pool.roster.workers
        ring.collect()
        owners = {}
        for worker in workers.values():
            for work in worker.in_flight.values():
                assert work.slot.state is GRANTED
                assert owners.setdefault(work.slot.number, worker) is worker
        for work in backend.pool.ready.values():
            if isinstance(work, Work) and not work.is_end:
                assert work.slot.state is READY
                assert owners.setdefault(work.slot.number, work) is work
        for slot, _ in backend.sync._loading.values():
            assert owners.setdefault(slot.number, "a state") == "a state"
        busy = {slot.number for slot in ring.slots.slots if slot.state in {GRANTED, READY}}
        gone = {w.slot.number for worker in backend.pool.roster._by_key.values() for w in worker.in_flight.values()}
        assert set(owners) <= busy
        assert busy <= set(owners) | gone
        leased = [slot.number for slot in ring.slots.slots if slot.state is LEASED]
        assert set(leased) == set(ring._leases._live)

    @invariant()
    def nothing_is_granted_without_credit(self):
        if self.world is None:
            return
        ledger, pool = self.world.pipeline.ledger, self.world.backend.pool
        assert ledger.num_outstanding <= ledger.credit
        granted = [w.ticket.number for worker in pool.roster.workers.values() for w in worker.in_flight.values()
                   if not w.cancelled]  # fmt: skip
        pending = [ticket.number for ticket in pool.pending]
        everywhere = [*granted, *pending, *pool.ready]
        assert len(everywhere) == len(set(everywhere))  # a ticket is in one place
        assert set(everywhere) <= set(ledger.tickets)

    def teardown(self):
        if self.world is not None:
            self.world.close()
            with pytest.raises(Stopped):
                self.world.pipeline.next()
            self.world = None
            self.views_are_unchanged_at_the_end()

    def views_are_unchanged_at_the_end(self):
        for found, word, size in self.views:
            assert opened(found) == (word, size)
        self.views.clear()


class Sequences(Dispatching):
    """Epoch after epoch, shuffled or not, with a state that changes at their ends, from one place to another."""

    @initialize(
        length=st.integers(1, 9), num_workers=st.integers(1, 3), credit=st.integers(1, 6), shuffle=st.booleans(),
        has_end=st.booleans(), bad=st.sampled_from([(), (3,), (0, 5)]), copy=st.booleans(), random=randoms,
        max_pages=st.sampled_from([1 << 40, 1 << 40, 200, 90, 45, 17, 5]), death_rate=st.sampled_from([0, 30, 8]),
    )  # fmt: skip
    def make(self, length, num_workers, credit, shuffle, has_end, bad, copy, random, max_pages, death_rate):
        self.length, self.has_end = length, has_end
        source = Source(SIZES, bad)
        schedule = EpochSchedule(lambda: length, 3, shuffle=shuffle, barrier=has_end)
        schedule.start_at(0)
        self.orders = EpochSchedule(lambda: length, 3, shuffle=shuffle)
        self.build(source, schedule, num_workers, credit, max_pages, copy=copy,
                   epoch_end=self.change if has_end else None, death_rate=death_rate)  # fmt: skip
        self.at = (0, 0)
        self.versions = {0: 0}

    def change(self):
        self.source.version += 1

    @rule(random=randoms, count=st.integers(1, 6))
    def batches_are_taken(self, random, count):
        for _ in range(count):
            found = self.take(random)
            epoch, position = self.at
            self.orders.start_at(epoch, position)
            unit = self.orders.deal()[0].unit
            expected = Source(SIZES, self.source.bad)
            expected.version = self.source.version
            try:
                content = expected.content(epoch, unit)
            except ValueError:
                content = None
            word, size = (None, None) if content is None else opened(content)
            self.check(found, word, size)
            self.at = (epoch, position + 1) if position + 1 < self.length else (epoch + 1, 0)

    @rule(random=randoms, position=st.integers(0, 8))
    def the_consumer_goes_elsewhere(self, random, position):
        self.random = random
        self.world.pipeline.finish_epoch()
        epoch = self.at[0]
        self.world.pipeline.restart_at(Place(epoch, min(position, self.length - 1)))
        self.at = (epoch, min(position, self.length - 1))


class Streams(Dispatching):
    """One generator per worker, of any lengths, to the end of all of them; then again."""

    @initialize(
        lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3), credit=st.integers(1, 6), random=randoms,
        death_rate=st.sampled_from([0, 30, 8]),
    )  # fmt: skip
    def make(self, lengths, credit, random, death_rate):
        self.lengths, self.epoch = lengths, 0
        schedule = StreamSchedule(len(lengths))
        schedule.start_at(0)
        self.build(Source(SIZES, (), lengths), schedule, len(lengths), credit, 1 << 40, death_rate=death_rate)
        self.expected = self.of_an_epoch()

    def of_an_epoch(self):
        order, counts = [], [0] * len(self.lengths)
        while any(count < length for count, length in zip(counts, self.lengths, strict=True)):
            for lane, length in enumerate(self.lengths):
                if counts[lane] < length:
                    order.append((lane, counts[lane]))
                    counts[lane] += 1
        return order

    @rule(random=randoms, count=st.integers(1, 6))
    def elements_are_taken(self, random, count):
        for _ in range(count):
            if not self.expected:
                with pytest.raises(EndOfStream):
                    self.take(random)
                    raise AssertionError("more than there is")
                self.epoch += 1
                self.world.pipeline.restart_at(Place(self.epoch, counts=(0,) * len(self.lengths)))
                self.expected = self.of_an_epoch()
                continue
            lane, number = self.expected.pop(0)
            found = self.take(random)
            self.check(found, *opened(self.source.content(0, number, lane)))


class Unordered(Dispatching):
    """As they come: each batch of an epoch once, and all of them before the first of the next one."""

    @initialize(
        length=st.integers(1, 9), num_workers=st.integers(1, 3), credit=st.integers(1, 6), random=randoms,
        death_rate=st.sampled_from([0, 30, 8]), max_pages=st.sampled_from([1 << 40, 520]),
    )  # fmt: skip
    def make(self, length, num_workers, credit, random, death_rate, max_pages):
        self.length = length
        schedule = EpochSchedule(lambda: length, 3)
        schedule.start_at(0)
        self.build(Source(SIZES), schedule, num_workers, credit, max_pages, ordered=False, death_rate=death_rate)
        self.epoch, self.missing = 0, set(range(length))

    @rule(random=randoms, count=st.integers(1, 6))
    def batches_are_taken(self, random, count):
        for _ in range(count):
            found = self.take(random)
            word, size = opened(found)
            epoch, unit = divmod(word, 10**6)
            assert epoch == self.epoch, (word, self.missing, self.world.describe())
            assert size == SIZES[unit % len(SIZES)]
            self.missing.remove(unit)
            if self.most_pages == 1 << 40:  # else none is kept, and what workers hold and one more batch have room
                self.views.append((found, word, size))
            if not self.missing:
                self.epoch, self.missing = self.epoch + 1, set(range(self.length))


thorough = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
for machine in (Sequences, Streams, Unordered):
    machine.TestCase.settings = thorough
TestSequences = pytest.mark.slow(Sequences.TestCase)
TestStreams = pytest.mark.slow(Streams.TestCase)
TestUnordered = pytest.mark.slow(Unordered.TestCase)
