"""A trainer: real ledger, schedule, dispatcher, pool and slots, whose consumer takes batches in simulated time.

`turn` is what `mpqueue.engine.pipeline.Pipeline` and `mpqueue.workers.process.ProcessBackend` do in one call of
``next``: take what is ready, or take in reports and have idle workers served, or wait. It takes no simulated time by
itself; the interpreter is charged for it when a batch is handed out.
"""

import time

from mpqueue.engine.ledger import Ledger
from mpqueue.plan.cursors import EpochCursor
from mpqueue.plan.ranks import Ranks, Shard
from mpqueue.telemetry.recorder import WorkerTally
from mpqueue.workers.dispatcher import Dispatcher
from mpqueue.workers.handle import Work
from mpqueue.workers.pool import WorkerPool
from mpqueue.workers.pressure import Pressure
from parts.scaling.clock import Clock, Line
from parts.scaling.cluster import Cluster
from parts.scaling.ring import Ring
from parts.scaling.workers import Handle, Worker

_cpu_ns = time.thread_time_ns


class Crew:
    """The part of a `mpqueue.workers.roster.Roster` that a dispatcher calls; nobody here dies or lies."""

    def __init__(self, workers: dict[int, Handle]) -> None:
        self.workers = workers


class Trainer:
    """A training loop that takes batches as fast as it can.

    Args:
        clock: The time.
        cluster: How many batches may be under way, and what each costs the trainer.
        interpreter: The trainer's.
        num_workers: How many feed it.
        shard: Which of the trainers it is: it takes its share of the batches.
        num_batches: Of an epoch, of all trainers together.

    Attributes:
        handles: Of its workers, by number.
        workers: The workers themselves; whoever makes them puts them in.
        num_taken: Batches that it was handed out.
        cpu_ns: Nanoseconds of CPU, of this machine, that the real code has taken for them.
        ledger: The real one,
        ring: and the slots.
    """

    def __init__(
        self,
        clock: Clock,
        cluster: Cluster,
        interpreter: Line,
        num_workers: int,
        shard: Shard,
        num_batches: int,
    ) -> None:
        self._granted: list[Handle] = []
        self.handles = {number: Handle(number, self._granted) for number in range(num_workers)}
        self.workers: dict[Handle, Worker] = {}
        self.num_taken = self.cpu_ns = 0
        numbers = Ranks(shard).numbers(num_batches)
        cursor = EpochCursor(lambda: num_batches, 0, order_of=lambda *_: numbers)
        cursor.start_at(0)
        self.ledger = Ledger(cursor, cluster.credit_of_trainer)
        self.ring = Ring(cluster.credit_of_trainer, num_workers, round(1e6 * cluster.batch_mb))
        pool = WorkerPool(self.ledger, self.ring, Crew(self.handles))  # type: ignore[arg-type]
        self._dispatcher = Dispatcher(
            pool, Pressure(pool, can_replay=True), [WorkerTally() for _ in range(num_workers)]
        )
        self._clock, self._cluster, self._interpreter = clock, cluster, interpreter
        self._reported: dict[Handle, None] = {}
        self._low_water = 2 * num_workers
        self._num_waits = 0
        self._is_waiting = False

    def turn(self) -> None:
        """Take the next batch, or wait for it."""
        self._is_waiting = False
        began = _cpu_ns()
        while not (has_taken := self._take()) and self._take_in():
            pass
        self.cpu_ns += _cpu_ns() - began
        granted, self._granted[:] = set(self._granted), []
        for handle in sorted(granted, key=lambda handle: handle.number):  # a dispatcher flushes in any order
            self.workers[handle].look()
        if has_taken:
            step_s = self._cluster.step_s
            self._interpreter.serve(self._cluster.record_s, lambda: self._clock.after(step_s, self.turn))

    def _take(self) -> bool:
        ledger, dispatcher = self.ledger, self._dispatcher
        taken = ledger.take()
        if taken is None:
            return False
        ticket, work = taken
        assert isinstance(work, Work)
        if ledger.credit - len(ledger.tickets) >= dispatcher.lot:
            dispatcher.pump()
        self.ring.lease(work.slot)
        ledger.count(ticket)
        self.num_taken += 1
        return True

    def _take_in(self) -> bool:
        """Take in all reports; False if there are none: then the trainer waits."""
        ledger, dispatcher = self.ledger, self._dispatcher
        under_way = len(ledger.tickets)
        if ledger.credit - under_way >= dispatcher.lot or under_way - len(ledger.ready) < self._low_water:
            dispatcher.pump()
        again_s = dispatcher.balance()
        if not self._reported:
            self._wait(again_s)
            return False
        reported, self._reported = self._reported, {}
        for handle in reported:
            dispatcher.drain(handle)
        return True

    def _wait(self, again_s: float | None) -> None:
        self._num_waits += 1
        self._is_waiting, number = True, self._num_waits
        if again_s is not None:
            self._clock.after(again_s, lambda: self._wake(number))

    def _wake(self, number: int) -> None:
        if self._is_waiting and self._num_waits == number:
            self.turn()

    def note_report(self, handle: Handle) -> None:
        """Enter that a worker's pipe has a report."""
        self._reported[handle] = None
        if self._is_waiting:
            self.turn()

    def close(self) -> None:
        """Close all pipes."""
        for handle in self.handles.values():
            handle.close()
