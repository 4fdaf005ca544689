"""Simulated workers: they read real grants out of real pipes, and write real reports.

A worker of the trainer's node reads a grant when it has nothing to do, as `mpqueue.worker.main` does. For one
of another node the relay reads grants ahead, so many that the way is covered; what is left in the pipe can be taken
back.
"""

import os
import random
from collections import deque
from collections.abc import Callable

from mpqueue.worker.records import GRANT, MAGIC, REPORT, GrantKind, ReportKind
from mpqueue.workers.handle import WorkerHandle
from parts.scaling.clock import Clock
from parts.scaling.nodes import Way

LOCAL_AHEAD_S, MOST_AHEAD = 100e-6, 16  # what a worker reads at once, as in mpqueue.worker.main
WAY_S, MOST_ON_THE_WAY = 2e-3, 64  # what a relay reads, as in mpqueue.cluster.remote_worker


class Handle(WorkerHandle):
    """The trainer's handle of a simulated worker.

    Args:
        number: Of the worker.
        granted: Workers that something was granted to are noted here.
    """

    def __init__(self, number: int, granted: list["Handle"]) -> None:
        super().__init__(number, number)
        self._granted = granted
        self.specs[0] = None  # type: ignore[assignment] - of all batches; nobody opens them
        grants, self.reports_end, _ = self.pipes.worker_ends
        os.set_blocking(grants, False)
        self.grants_end = grants

    def flush(self) -> None:
        """Write the grants that were collected."""
        if self.outbox:
            super().flush()
            self._granted.append(self)

    def close(self) -> None:
        """Close both ends of all pipes."""
        self.pipes.close_worker_ends()
        super().close()


class Costs:
    """The seconds that batches take.

    Args:
        mean_s: Of all of them.
        jitter: By which share of it they differ, evenly spread.
        batch_bytes: Bytes of each.
        seed: Of the random numbers.
    """

    def __init__(self, mean_s: float, jitter: float, batch_bytes: int, seed: int) -> None:
        self.mean_s, self.batch_bytes = mean_s, batch_bytes
        self._jitter, self._rng = jitter, random.Random(seed)

    def next_s(self) -> float:
        """Return the seconds of the next batch."""
        return self.mean_s * (1 + self._jitter * (2 * self._rng.random() - 1))


class Worker:
    """A worker at a node.

    Args:
        clock: The time.
        handle: The trainer's handle of it.
        way: To the trainer.
        costs: Gives the seconds that each batch takes.
        ahead: Grants beside the one at work, if it is on another node.
        report: Called when a report is in the trainer's pipe.
    """

    def __init__(
        self, clock: Clock, handle: Handle, way: Way, costs: Costs, ahead: int, report: Callable[[Handle], None]
    ) -> None:
        self._clock, self._handle, self._way, self._costs, self._report = clock, handle, way, costs, report
        if way.is_local:
            self._room = max(1, min(MOST_AHEAD, int(LOCAL_AHEAD_S / costs.mean_s)))
        else:
            self._room = min(MOST_ON_THE_WAY, 1 + ahead + int(WAY_S / costs.mean_s))
        self._held = 0  # grants that were read, and whose reports are not in the pipe
        self._waiting: deque[tuple[int, ...]] = deque()
        self._is_computing = False

    def look(self) -> None:
        """Read grants, if there is room for them."""
        room = self._room - self._held
        if room <= 0 or (self._way.is_local and self._held):
            return
        try:
            data = os.read(self._handle.grants_end, room * GRANT.size)
        except BlockingIOError:
            return
        for grant in GRANT.iter_unpack(data):
            assert grant[1] == GrantKind.WORK
            self._held += 1
            self._way.grant(lambda grant=grant: self._begin(grant))

    def _begin(self, grant: tuple[int, ...]) -> None:
        self._waiting.append(grant)
        if not self._is_computing:
            self._compute()

    def _compute(self) -> None:
        grant, cost_s = self._waiting.popleft(), self._costs.next_s()
        self._is_computing = True
        self._clock.after(cost_s, lambda: self._done(grant, cost_s))

    def _done(self, grant: tuple[int, ...], cost_s: float) -> None:
        self._is_computing = False
        self._way.carry(lambda: self._arrived(grant, cost_s))
        if self._waiting:
            self._compute()

    def _arrived(self, grant: tuple[int, ...], cost_s: float) -> None:
        _, _, slot, turn, _, _, _ = grant
        nbytes = self._costs.batch_bytes
        os.write(
            self._handle.reports_end,
            REPORT.pack(MAGIC, ReportKind.BATCH, 0, slot, turn, 0, 0, nbytes, nbytes, round(1e9 * cost_s), 0, 0),
        )
        self._held -= 1
        self._report(self._handle)
        self.look()
