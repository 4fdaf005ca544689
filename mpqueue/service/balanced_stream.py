"""A stream of finished batches that are divided among ranks by their costs.

The cost of a batch of a stream is known only when it is finished. So the stream collects the batches of a *window*, a
number of consecutive positions that begins at a multiple of it, and yields them in another order::

    workers --position in the stream--> window --divide--> position of a rank --> core, journal, consumers

Only this module knows the position in the stream. All others know the position that `take` yields: batch i still goes
to rank i mod world. It follows from the costs of the batches of one window alone. So a restarted server and a replay,
which begin at the beginning of a window, yield the same batches at the same positions.

Some windows are not divided: the last one of an epoch if it is incomplete, and those in which the plan changes. A
change begins after the windows from which a consumer got a batch.
"""

import traceback
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from mpqueue.memory.layout import MAX_SPECS, ReadSpec, base_over
from mpqueue.plan.balance import Balance, Numbers
from mpqueue.plan.balanced import as_integers
from mpqueue.plan.balancing import divide
from mpqueue.plan.batch_costs import Attention, checked_cost, function_of
from mpqueue.plan.cursors import Place
from mpqueue.service.lane_stream import MOST_ELEMENTS, LaneStream
from mpqueue.service.records import PARTIAL
from mpqueue.service.routing import BatchHandle, Failure
from mpqueue.service.stream import StreamStart
from mpqueue.system.exceptions import add_note, traceback_of
from mpqueue.worker.failures import never_an_end
from mpqueue.workers.job import Job


def divided(costs: Numbers, world: int, number: int) -> list[int]:
    """Return the batches of a window in their new order.

    Args:
        costs: The cost of each batch.
        world: Number of ranks: they get the batches in turn.
        number: Number of the window.
    """
    # The sums are only nearly equal. No rank gets the largest one always.
    of_ranks = np.roll(divide(as_integers(costs[None]), world)[0], number, axis=0)
    # Batches of similar cost are in the same round, because the ranks wait for each other in each step. With 8 ranks
    # and 4 steps, the slowest rank has 1.26 times the mean of a step, and 1.83 times if each rank keeps its order.
    by_cost = np.argsort(-costs[of_ranks], axis=1, kind="stable")
    of_ranks = np.take_along_axis(of_ranks, by_cost, 1)
    items: list[int] = of_ranks.T[np.argsort(of_ranks.min(axis=0))].ravel().tolist()
    return items


class BalancedStream(LaneStream):
    """A stream of elements of lanes that yields the batches of each window in another order.

    Args:
        job: The plan of the stream, and the resources to run it.
        start: Where it begins. Positions count the batches that `take` yields.
        world: Number of ranks.
    """

    def __init__(self, job: Job, start: StreamStart, world: int) -> None:
        self._balance: Balance = job.options.balance
        self._world, self._size = world, int(self._balance.window * world)
        self._cost, self._read = function_of(self._balance.cost), lru_cache(MAX_SPECS)(ReadSpec)
        self._window: list[tuple[BatchHandle | Failure, float]] = []  # with their costs
        self._yielded: deque[BatchHandle | Failure] = deque()  # for `take`, in their new order
        self._is_over = False
        super().__init__(job, start)
        self._elements = deque(maxlen=MOST_ELEMENTS + self._size)
        self._begin_at(self._place)

    def identity(self) -> list[Any]:
        """Return the values that identify the stream; functions are not compared."""
        cost = str(self._balance.cost) if isinstance(self._balance.cost, (str, Attention)) else ""
        return [*super().identity(), *self._balance.settings(), cost]

    # -- Places

    def _request(self, epoch: int) -> None:
        super()._request(epoch)
        self._drop_from(-1)
        self._begin_at(self._here())

    def _begin_at(self, place: Place) -> None:
        self._border, self._is_over = place, False  # the last place between two windows
        # Only a change has a place within a window, and such a window is not divided.
        self._divides_from = self._next_border(place.position)

    def _next_border(self, position: int) -> int:
        return -(-position // self._size) * self._size

    def lane_place(self) -> Place:
        """Return the place before the present window: a restarted server divides the window as a whole."""
        return self._border

    def _place_before(self, now: Place, position: int) -> Place:
        border = self._next_border(position)
        # Consumers got batches of an undivided window, or, after a restart, of a window that is collected again.
        if border > self.count and (self._is_over or not self._is_whole(now, border)):
            border = position
        return super()._place_before(now, border)

    def _is_whole(self, now: Place, border: int) -> bool:
        """Return whether the stream has all batches of a window that ends at this border."""
        try:
            self.questions_at(now).place_of(self.epoch, border - 1)
        except LookupError:
            return False
        return True

    def _go_to(self, place: Place) -> None:
        super()._go_to(place)
        self._drop_from(place.position)
        # Earlier batches of the window of this place are in an undivided window now.
        self._yield(outcome for outcome, _ in self._window)
        self._window.clear()
        self._begin_at(place)

    def _drop_from(self, position: int) -> None:
        """Drop the batches from a position on that were not yielded."""
        collected = [outcome for outcome, _ in self._window]
        for outcome in (*collected, *self._yielded):
            if outcome.position >= position and isinstance(outcome, BatchHandle):
                self.release(outcome)
        self._window = [each for each in self._window if each[0].position < position]
        self._yielded = deque(outcome for outcome in self._yielded if outcome.position < position)

    # -- Batches

    def take(self, *, is_wanted: bool = True, may_fail: bool = False) -> BatchHandle | Failure | None:
        """Return the next batch in the new order; otherwise like `Stream.take`."""
        outcome = super().take(is_wanted=is_wanted and not self._yielded, may_fail=may_fail)
        if outcome is None and is_wanted and self._yielded:
            outcome = self._yielded.popleft()
        if self._is_over:
            self.has_ended = not self._yielded
        return outcome

    def _end(self) -> BatchHandle | Failure | None:
        outcome = super()._end()
        self._is_over = self.has_ended
        if self._is_over:
            self._yield(outcome for outcome, _ in self._window)
            self._window.clear()
        return outcome

    def _needed(self, outcome: BatchHandle | Failure) -> BatchHandle | Failure | None:
        position = outcome.position
        if position < self._divides_from:
            self._yield((outcome,))
        else:
            self._window.append(self._with_cost(outcome))
            if len(self._window) == self._size:
                self._divide()
        if not (position + 1) % self._size:
            self._border = self._here()
        return self._yielded.popleft() if self._yielded else None

    def _yield(self, outcomes: Iterable[BatchHandle | Failure]) -> None:
        """Yield batches, except for the ones that were taken before a restart."""
        for outcome in outcomes:
            if super()._needed(outcome) is not None:
                self._yielded.append(outcome)

    def _divide(self) -> None:
        window, first = self._window, self._window[0][0].position
        items = divided(np.array([cost for _, cost in window]), self._world, first // self._size)
        work_items = [self._elements.pop()[2] for _ in items][::-1]
        places = list(enumerate(items, first))
        self._elements.extend((self.epoch, position, work_items[item]) for position, item in places)
        self._yield(window[item][0]._replace(position=position) for position, item in places)
        window.clear()

    def _with_cost(self, outcome: BatchHandle | Failure) -> tuple[BatchHandle | Failure, float]:
        """Return a batch with its cost; an error instead of the batch if the cost cannot be computed."""
        if isinstance(outcome, Failure):
            return outcome, 0.0
        try:
            return outcome, checked_cost(self._cost(self._batch(outcome)), outcome.position)
        except BaseException as raised:
            error = never_an_end(raised)
            # The frames in the traceback hold views of the slot.
            traceback.clear_frames(traceback_of(raised))
            add_note(error, "raised by the cost of the balance, for a finished batch")
            self.release(outcome)
            return Failure(outcome.epoch, outcome.position, error), 0.0

    def _batch(self, handle: BatchHandle) -> Any:
        """Return a batch as views of its slot."""
        memory, start, header_offset = self._backend.pool.ring.memory, handle.slot.offset, handle.header_offset
        read = self._read(handle.spec)
        recipe = read.recipes[bytes(memory[start + header_offset : start + handle.nbytes])]
        base = base_over(memory, start, header_offset, recipe.structure)
        base.flags.writeable = False
        batch = read.rebuild(recipe, base)
        return batch[0] if handle.flags & PARTIAL else batch

    # -- The samples in a batch

    def explain(self, epoch: int, position: int) -> Any:
        """Return a function that returns the ids of a batch's samples, as `LaneStream.explain`.

        Raises:
            LookupError: The samples are unknown.
        """
        kept = (number for of, number, _ in self._elements if of == epoch)
        # A collected batch may get another position.
        is_collected = bool(self._window) and epoch == self.epoch and position >= self._window[0][0].position
        if is_collected or position not in kept:
            raise LookupError(
                f"the samples of batch {position} of epoch {epoch} are unknown: the server has not kept which batch of "
                "the stream it is"
            )
        return super().explain(epoch, position)
