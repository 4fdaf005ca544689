"""A stream under any interleaving of takes, shares, releases, crashes, interrupts and memory pressure.

Each batch arrives once and in order, held slots are never overwritten, and the stream never blocks while a holder can
release a slot.
"""

from types import SimpleNamespace

import pytest
from helpers.faults import Numbers
from helpers.service_parts import use_pipeline
from helpers.simulated_pool import Deadlock, MachineOfAWorld, Source, World
from helpers.state_machines import run_and_require
from helpers.wrapped_functions import wrap

from mpqueue.backends.job import RingPlan
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.layout import ReadSpec, base_over
from mpqueue.memory.slots import SlotState
from mpqueue.plan.position.cursors import EpochCursor
from mpqueue.service.routing.holders import Holders
from mpqueue.service.routing.seat_batches import Failure
from mpqueue.service.stream.making import make_stream
from mpqueue.service.stream.stream import PendingHandle, Stashed

SIZES = [1, 100, 3000, 20_000]  # int64s: from one word to more than twice the initial size of a slot
ARROWS = [
    "handle", "exception", "no room for a batch", "epoch", "shared by several", "released",
    "inconsistent", "no memory", "tried again", "given up", "worker crashes while busy", "worker crashes while idle",
    "fork server crashes",
    "held by the worker", "a holder releases under memory pressure", "moved out", "moved back", "the source changes",
    "all slots are held",
]  # fmt: skip


class Serving(MachineOfAWorld):
    """A server with three holders, which release batches at random, or when no other event is possible."""

    def make(self):
        self.length = self.choose(range(1, 12))
        shuffle, has_end = self.choose([False, True]), self.choose([False, True])
        self.source = Source(SIZES, self.choose([(), (3,), (0, 5)]))
        self.credit, self.most_pages = self.choose(range(1, 7)), self.choose([1 << 40, 200, 90, 45, 17, 5])
        self.workers = self.choose(range(1, 4))
        cursor = EpochCursor(lambda: self.length, 3, shuffle=shuffle, barrier=has_end)
        cursor.start_at(0)
        self.orders = EpochCursor(lambda: self.length, 3, shuffle=shuffle)
        self.world = World(
            self.source, cursor, self.workers, self.credit, self.chance, max_pages=self.most_pages,
            death_rate=self.choose([0, 30, 8]), reached=self.reached, epoch_end=self.change if has_end else None,
            ends_epochs=False, ring=RingPlan("memfd", self.choose([2, 6, 60]), PendingHandle),
        )  # fmt: skip
        self.stream = make_stream(Numbers(self.length), workers=self.workers, max_queue_size=self.credit)
        self.holders = Holders(SimpleNamespace(share=self.stream.slots.share, free=self.stream.slots.release))
        use_pipeline(self.stream, self.world.pipeline)
        self.held = []
        self.next_epoch, self.frontier = 0, 0
        self.begin()

    def begin(self):
        self.stream.open_epoch(self.next_epoch)
        self.epoch, self.next_epoch, self.frontier = self.next_epoch, self.next_epoch + 1, 0

    def change(self):
        self.source.version += 1
        self.reached["the source changes"] += 1

    def moves(self):
        return {
            "batches are taken": (8, self.batches_are_taken),
            "a holder lets go": (6, self.a_holder_lets_go),
            "the world continues": (5, self.the_world_continues),
            "the server looks": (2, self.the_server_looks),
            "somebody dies": (2, self.somebody_dies),
            "the state is inconsistent": (1, self.the_state_is_inconsistent),
        }

    # -- Events

    def take_one(self):
        outcome = self.waited_for()
        if outcome is None:
            assert self.frontier == self.length
            self.reached["epoch"] += 1
            self.stream.finish_epoch()
            self.begin()
            return
        position, self.frontier = self.frontier, self.frontier + 1
        assert (outcome.epoch, outcome.position) == (self.epoch, position)
        self.compare(outcome, *self.expected(position))

    def waited_for(self):
        """Return the next outcome; when no other event is possible, release a batch."""
        for _ in range(10_000):
            outcome = self.stream.take(may_fail=not self.held)
            if outcome is not None or self.stream.has_ended:
                return outcome
            if self.world.has_moves():
                self.world.step()
                self.stream.advance()
            elif self.is_quiet():
                if not self.held:
                    raise Deadlock(self.world.describe())
                self.reached["a holder releases under memory pressure"] += 1
                if not self.world.ring.slots.num_free:
                    self.reached["all slots are held"] += 1
                self.release(0)
        raise Deadlock("the events repeat forever: " + self.world.describe())

    def is_quiet(self):
        """Return whether `advance` has no effect and requests no further call."""
        before = self.world.describe()
        self.stream.advance()
        given_timeout = self.stream.timeout_s()
        if given_timeout is not None:
            self.world.now_ns += int(given_timeout * 1e9)
        return not self.world.has_moves() and self.world.describe() == before

    def compare(self, outcome, word, size):
        if isinstance(outcome, Failure):
            if isinstance(outcome.error, SharedMemoryFull):
                assert self.most_pages < 1 << 40
                self.reached["no room for a batch"] += 1
            else:
                assert isinstance(outcome.error, ValueError), outcome.error
                assert word is None
                self.reached["exception"] += 1
            return
        assert self.opened(outcome) == (word, size), self.world.describe()
        self.reached["handle"] += 1
        holders = [holder for holder in (1, 2, -3) if self.choose([False, True])] or [1]
        for holder in holders:
            self.holders.hold(outcome, holder)
        self.reached["shared by several"] += len(holders) > 1
        self.held.append((outcome, holders, word, size))

    def expected(self, position):
        self.orders.start_at(self.epoch, position)
        try:
            content = self.source.content(self.epoch, self.orders.deal()[0].source_index)
        except ValueError:
            return None, None
        array = content["a"] if isinstance(content, dict) else content
        return int(array[0]), len(array)

    def opened(self, handle):
        """Return the repeated word of a batch, and its size."""
        memory, start = self.world.ring.segment.memory, handle.slot.index * self.stream.slots.ring.stride
        spec = ReadSpec(handle.spec)
        recipe = spec.recipes[bytes(memory[start + handle.header_offset : start + handle.nbytes])]
        batch = spec.rebuild(recipe, base_over(memory, start, handle.header_offset, recipe.structure))
        array = batch["a"] if isinstance(batch, dict) else batch
        assert (array == array[0]).all()
        return int(array[0]), len(array)

    def a_holder_lets_go(self):
        if self.held:
            self.reached["released"] += 1
            self.release(self.choose(range(len(self.held))))

    def release(self, number):
        handle, holders, _, _ = self.held[number]
        self.holders.let_go(handle, holders.pop())
        if not holders:
            del self.held[number]

    def the_server_looks(self):
        self.new_chance()
        self.stream.advance()

    # -- Invariants

    def check(self):
        for handle, _, word, size in self.held:
            assert self.opened(handle) == (word, size)
        slots = self.world.ring.slots.slots
        shared = {slot.index for slot in slots if slot.state is SlotState.SHARED}
        assert shared == {handle.slot.index for handle, _, _, _ in self.held}
        ledger = self.world.pipeline.ledger
        assert len(ledger.work_items) <= self.credit, "granted without credit"
        self.each_work_item_is_in_one_place()

    def run(self):
        try:
            super().run()
        finally:
            self.world.close()
            self.stream.stop()


@pytest.mark.slow
def test_any_interleaving_yields_each_batch_once(monkeypatch):
    reached = {"moved out": 0, "moved back": 0}

    def counted_evict(evict, self):
        moved = evict(self)
        reached["moved out"] += isinstance(moved, Stashed)
        return moved

    def counted_settle(settle, self, make_slot):
        is_settled = settle(self, make_slot)
        reached["moved back"] += is_settled and self._error is None
        return is_settled

    wrap(monkeypatch, PendingHandle, "evict", counted_evict)
    wrap(monkeypatch, Stashed, "settle", counted_settle)
    required = [arrow for arrow in ARROWS if arrow not in reached]
    run_and_require(Serving, required, at_least=3, examples=200, steps=70, shrinks=False)
    assert min(reached.values()) >= 3
