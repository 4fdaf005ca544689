"""The dispatcher under random interleavings of completions, crashes, leases, lack of memory, jumps and stops.

In any order of events, every work item is delivered once and in order, a slot has one owner, no work item is granted
without credit, and no call hangs.
"""

import pytest
from helpers.engine_parts import loading_in
from helpers.simulated_pool import MachineOfAWorld, Source, World
from helpers.state_machines import run_and_require

from mpqueue.backends.processes import lane_dispatcher
from mpqueue.backends.processes.handle import Work
from mpqueue.backends.processes.ring_memory import slot_reuse
from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory import slots
from mpqueue.memory.slots import SlotState
from mpqueue.plan.position.cursors import EpochCursor, ResumePoint
from mpqueue.plan.position.stream_cursor import StreamCursor

SIZES = [1, 100, 3000, 20_000]  # int64 values: from one word to more than twice the first memory of a slot
WORLD = [
    "batch", "views are dropped", "a look", "a pause", "inconsistent", "written in the slot", "held by the worker",
    "released by the worker", "worker crashes while busy", "worker crashes while idle", "fork server crashes",
    "slots exchanged",
]  # fmt: skip
FREE, GRANTED, READY, LEASED, SHARED, RETIRED = SlotState


def opened(batch):
    """Return the word that a batch consists of, and its size."""
    array = batch["a"] if isinstance(batch, dict) else batch
    assert (array == array[0]).all()
    return int(array[0]), len(array)


class Dispatching(MachineOfAWorld):
    """Moves and checks for all kinds of sources."""

    def build(self, source, cursor, num_workers, credit, max_pages, **options):
        self.source, self.views = source, []
        self.most_pages = max_pages
        options |= {"max_pages": max_pages, "death_rate": self.choose([0, 30, 8]), "reached": self.reached}
        self.world = World(source, cursor, num_workers, credit, self.chance, **options)

    def moves(self):
        return {
            "batches are taken": (8, self.batches_are_taken),
            "the world continues": (5, self.the_world_continues),
            "somebody dies": (2, self.somebody_dies),
            "views are dropped": (3, self.views_are_dropped),
            "somebody looks": (1, self.somebody_looks),
            "it pauses": (2, self.it_pauses),
            "the state is inconsistent": (2, self.the_state_is_inconsistent),
        }

    def take(self):
        """Return the next batch, or the exception instead; the world moves while the consumer waits."""
        try:
            return self.world.pipeline.next()
        except (ValueError, SharedMemoryFull) as error:
            return error

    def compare(self, found, word, size):
        """Check for the expected batch, or for the exception that the source raises there."""
        if isinstance(found, SharedMemoryFull):
            assert self.most_pages < 1 << 40
            assert found.bytes_asked > 0
            self.reached["no room for a batch"] += 1
        elif word is None:
            assert isinstance(found, ValueError)
            self.reached["exception"] += 1
        else:
            assert opened(found) == (word, size), self.world.describe()
            self.views.append((found, word, size))
            self.reached["batch"] += 1

    def views_are_dropped(self):
        for _ in range(self.choose(range(9))):
            if self.views:
                self.reached["views are dropped"] += 1
                del self.views[self.choose(range(len(self.views)))]

    def somebody_looks(self):
        self.new_chance()
        assert 0 <= self.world.pipeline.num_ready <= self.world.pipeline.ledger.credit
        self.reached["a look"] += 1

    def it_pauses(self):
        """Pause, as a snapshot of the source does."""
        self.new_chance()
        pipeline = self.world.pipeline
        pipeline.dealing.pause()
        assert pipeline.ledger.failure is not None or not pipeline.ledger.at_work()
        pipeline.dealing.resume()
        self.reached["a pause"] += 1

    def check(self):
        self.views_are_unchanged()
        self.a_slot_has_one_owner()
        ledger = self.world.pipeline.ledger
        assert len(ledger.work_items) <= ledger.credit, "granted without credit"
        self.each_work_item_is_in_one_place()

    def views_are_unchanged(self):
        for found, word, size in self.views:
            assert opened(found) == (word, size)

    def a_slot_has_one_owner(self):
        backend = self.world.backend
        ring, workers = backend.pool.ring, backend.pool.roster.workers
        ring.collect()
        owners = {}
        for worker in workers.values():
            for work in worker.in_flight.values():
                assert work.slot.state is GRANTED
                assert owners.setdefault(work.slot.index, worker) is worker
        for work in backend.pool.ready.values():
            if isinstance(work, Work) and not work.is_end:
                assert work.slot.state is READY
                assert owners.setdefault(work.slot.index, work) is work
        for slot in loading_in(backend.sync):
            assert owners.setdefault(slot.index, "a state") == "a state"
        busy = {slot.index for slot in ring.slots.slots if slot.state in {GRANTED, READY}}
        gone = {w.slot.index for worker in backend.pool.roster.living for w in worker.in_flight.values()}
        assert set(owners) <= busy
        assert busy <= set(owners) | gone
        if not self.views:
            assert not any(slot.state is LEASED for slot in ring.slots.slots)

    def run(self):
        try:
            super().run()
        finally:
            self.reached["slots exchanged"] += self.world.num_exchanged
            self.world.close()
        with pytest.raises(Stopped):
            self.world.pipeline.next()
        self.views_are_unchanged()  # also at the end
        self.views.clear()


class Sequences(Dispatching):
    """Epochs of batches, shuffled or not, with a source that changes between epochs, and jumps to other places."""

    def make(self):
        self.length, shuffle = self.choose(range(1, 10)), self.choose([False, True])
        has_end = self.choose([False, True])
        source = Source(SIZES, self.choose([(), (3,), (0, 5)]))
        cursor = EpochCursor(lambda: self.length, 3, shuffle=shuffle, barrier=has_end)
        cursor.start_at(0)
        self.orders = EpochCursor(lambda: self.length, 3, shuffle=shuffle)
        workers, credit = self.choose(range(1, 4)), self.choose(range(1, 7))
        max_pages, copy = self.choose([1 << 40, 1 << 40, 200, 90, 45, 17, 5]), self.choose([False, True])
        epoch_end = self.change if has_end else None
        self.build(source, cursor, workers, credit, max_pages, copy=copy, epoch_end=epoch_end)
        self.at = (0, 0)

    def moves(self):
        return super().moves() | {"the consumer goes elsewhere": (1, self.the_consumer_goes_elsewhere)}

    def change(self):
        self.source.version += 1
        self.reached["the source changes"] += 1

    def take_one(self):
        found = self.take()
        epoch, position = self.at
        self.orders.start_at(epoch, position)
        index = self.orders.deal()[0].source_index
        expected = Source(SIZES, self.source.bad)
        expected.version = self.source.version
        try:
            content = expected.content(epoch, index)
        except ValueError:
            content = None
        word, size = (None, None) if content is None else opened(content)
        self.compare(found, word, size)
        self.at = (epoch, position + 1) if position + 1 < self.length else (epoch + 1, 0)

    def the_consumer_goes_elsewhere(self):
        self.new_chance()
        self.world.pipeline.epochs.finish()
        self.at = (self.at[0], self.choose(range(self.length)))
        self.world.pipeline.epochs.restart_at(ResumePoint(*self.at))
        self.reached["elsewhere"] += 1


class Streams(Dispatching):
    """Virtual shards of any lengths, in any number of workers, for several epochs."""

    def make(self):
        self.lengths, self.epoch = [self.choose(range(7)) for _ in range(self.choose([1, 2, 3, 5]))], 0
        self.num_workers = self.choose([1, 2, 3])
        cursor = StreamCursor(len(self.lengths))
        cursor.go_to(ResumePoint())
        credit = self.choose(range(1, 12))
        self.build(Source(SIZES, (), self.lengths), cursor, self.num_workers, credit, 1 << 40)
        self.expected = self.of_an_epoch()

    def moves(self):
        return super().moves() | {"the consumer goes elsewhere": (1, self.the_consumer_goes_elsewhere)}

    def the_consumer_goes_elsewhere(self):
        """Restart at the beginning of the epoch, or at the current place."""
        self.new_chance()
        pipeline, point = self.world.pipeline, ResumePoint(self.epoch)
        if self.choose([False, True]):
            point = pipeline.progress.point()
        else:
            self.expected = self.of_an_epoch()
        pipeline.epochs.restart_at(point)
        self.reached["elsewhere"] += 1

    def of_an_epoch(self):
        order, counts = [], [0] * len(self.lengths)
        while any(count < length for count, length in zip(counts, self.lengths, strict=True)):
            for lane, length in enumerate(self.lengths):
                if counts[lane] < length:
                    order.append((lane, counts[lane]))
                    counts[lane] += 1
        return order

    def take_one(self):
        if not self.expected:
            with pytest.raises(EndOfStream):
                self.take()
            self.epoch += 1
            self.reached["end"] += 1
            self.world.pipeline.epochs.restart_at(ResumePoint(self.epoch, counts=(0,) * len(self.lengths)))
            self.expected = self.of_an_epoch()
            return
        lane, number = self.expected.pop(0)
        found = self.take()
        owners = map(self.world.backend.pool.owners.owner, range(len(self.lengths)))
        self.reached["lane moved"] += any(owner != lane % self.num_workers for lane, owner in enumerate(owners))
        self.compare(found, *opened(self.source.content(0, number, lane)))


class Unordered(Dispatching):
    """Batches in the order of completion: each batch once, and no batch of the next epoch before the last one."""

    def make(self):
        self.length = self.choose(range(1, 10))
        cursor = EpochCursor(lambda: self.length, 3)
        cursor.start_at(0)
        workers, credit = self.choose(range(1, 4)), self.choose(range(1, 7))
        self.build(Source(SIZES), cursor, workers, credit, self.choose([1 << 40, 400, 360, 330]), ordered=False)
        self.epoch, self.missing = 0, set(range(self.length))

    def check(self):
        super().check()
        self.the_head_is_the_oldest_outstanding_work_item()

    def the_head_is_the_oldest_outstanding_work_item(self):
        """Otherwise, no warning would report a slow batch."""
        ledger = self.world.pipeline.ledger
        assert ledger.head == min(ledger.work_items, default=ledger.cursor.next_work_id)

    def take_one(self):
        found = self.take()
        word, size = opened(found)
        epoch, index = divmod(word, 10**6)
        assert epoch == self.epoch, (word, self.missing, self.world.describe())
        assert size == SIZES[index % len(SIZES)]
        self.reached["batch" if index == min(self.missing) else "batch out of order"] += 1
        self.missing.remove(index)
        if self.most_pages == 1 << 40:  # otherwise keep none, so that the workers' batches and one more have room
            self.views.append((found, word, size))
        if not self.missing:
            self.epoch, self.missing = self.epoch + 1, set(range(self.length))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "arrows"),
    [
        (Sequences, [
            "exception", "no room for a batch", "the source changes", "source sent", "elsewhere", "no memory", "tried again",
            "given up", "worker crashes while starved",
        ]),
        (Streams, ["end", "elsewhere", "lane restarted", "lane started from a snapshot", "lane moved"]),
        (Unordered, ["batch out of order", "no memory", "tried again"]),
    ],
)  # fmt: skip
def test_any_interleaving_delivers_every_work_item_once(machine, arrows, monkeypatch):
    monkeypatch.setattr(slots, "LARGE_BYTES", 100_000)  # some batches are larger, some are smaller
    monkeypatch.setattr(slot_reuse, "_WORTH_BYTES", 1)
    monkeypatch.setattr(lane_dispatcher, "_MOVE_AFTER_NS", 1)
    monkeypatch.setattr(lane_dispatcher, "_MOVE_PAUSE_NS", 1)
    monkeypatch.setattr(lane_dispatcher, "_WORTH_MOVING", 0)
    run_and_require(machine, [*WORLD, *arrows], at_least=3, examples=120, steps=70, shrinks=False)
