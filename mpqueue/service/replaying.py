"""Replays: batches of a stream with lanes, computed again for consumers that missed them.

A consumer has missed batches if it joined a broadcast late, or if it replaces the consumer of a lost rank.

A batch of a stream cannot be computed by its position alone: it follows the batches before it in its lane. So each
consumer with missed batches gets its own stream with one worker. This stream starts at a known place of the epoch
(`mpqueue.service.lane_stream.LaneStream.places`), drops the batches that its consumer has had, and yields the missed
ones in the order of the server's stream::

    the server's stream --place--> a stream with one worker --copies of its handles--> slots of the server's ring
          ^                          ^                                                |
          |                          | ask(position), within the window     |
    the loop <------ wake -----------+------------- take <----------------------------+

A replay costs a process and the memory of a few batches, but only while it runs. It ends when its consumer has caught
up or left, and with the server.

A source must yield the same batches again. The consumers of a source that takes elements from a queue get an error
instead: a replay would take elements that belong to others.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from mpqueue.memory.layout import Array
from mpqueue.plan.cursors import Place
from mpqueue.service.connections import Handlers
from mpqueue.service.lane_stream import LaneStream
from mpqueue.service.routing import BatchHandle, Failure
from mpqueue.service.stream import StreamStart
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import Lock
from mpqueue.system.log import debug
from mpqueue.system.units import count_text
from mpqueue.system.wakeup import Wakeup

_AHEAD = 2  # batches: one is computed while the previous one waits for a slot
_NUM_KEPT = 1  # additional slots of its ring: each handle is copied, and its slot freed at once


class _Copy(NamedTuple):
    """A handle with its bytes in private memory."""

    handle: BatchHandle
    data: Array


class LaneReplay:
    """The batches of an epoch that one consumer has missed.

    Args:
        make: Returns a stream that begins at the first requested position.
        epoch: The epoch.
        wake: Makes the loop call `LaneReplays.take`; from any thread.

    Raises:
        OSError: The process has no free descriptors.
        RuntimeError: The process cannot start more threads.

    Attributes:
        asked: The requested positions, in order.
        given: Computed batches that were not taken yet.
        thread: The thread, which ends after `end`.
    """

    def __init__(self, make: Callable[[], LaneStream], epoch: int, wake: Callable[[], None]) -> None:
        # Starting and stopping a worker blocks, which the server's loop must not do: so a thread does it. Only this
        # thread uses the stream. It exchanges positions and copies with the loop through deques.
        self.asked: deque[int] = deque()
        self.given: deque[_Copy | Failure] = deque()
        self._make, self._epoch, self._wake = make, epoch, wake
        self._is_over = False
        self._wakeup, self._handlers = Wakeup(), Handlers()
        self._handlers.watch(self._wakeup.fd, self._wakeup.clear)
        self._lock = Lock()  # guards the wakeup, which the loop uses until the thread closes it
        self.thread = JoinedThread(self._run, "mpqueue-replay")
        try:
            self.thread.start()
        except BaseException:
            self._close()
            raise

    def ask(self, position: int) -> None:
        """Request the next position, which follows the one requested last."""
        # Deques are safe between threads: one side only appends, the other only removes.
        self.asked.append(position)
        self._look()

    def end(self) -> None:
        """Stop the worker and then the thread, without waiting for them."""
        self._is_over = True
        self._look()

    def _look(self) -> None:
        with self._lock:
            self._wakeup.wake()

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            stream = self._make()
            try:
                stream.start()
                fd = stream.fileno()
                self._handlers.watch(fd, lambda: None)  # only ends the wait
                try:
                    self._compute(stream)
                finally:
                    self._handlers.unwatch(fd)
            finally:
                stream.stop()
        except BaseException as error:  # not enough processes or memory: an error for this consumer alone
            failure = error
        # The consumer keeps requesting positions until it has caught up, and each request must get an answer.
        while not self._is_over:
            self._fail(RuntimeError("the replay of missed batches was stopped") if failure is None else failure)
            self._handlers.wait(None)
        self._close()

    def _close(self) -> None:
        self._handlers.close()
        with self._lock:
            self._wakeup.close()

    def _compute(self, stream: LaneStream) -> None:
        """Compute requested positions until `end`."""
        stream.open_epoch(self._epoch)
        while not self._is_over:
            outcome = stream.take(may_fail=True) if self.asked else None
            if outcome is not None:
                self._give(stream, outcome)
            elif self.asked and stream.has_ended:
                self._fail(
                    RuntimeError(
                        f"batch {self.asked[0]} of epoch {self._epoch} cannot be computed again: the stream ended "
                        f"after {count_text(stream.count, 'batch')}. The source must yield the same elements each time"
                    )
                )
            else:
                self._handlers.wait(stream.timeout_s())
                stream.advance()

    def _give(self, stream: LaneStream, outcome: BatchHandle | Failure) -> None:
        # The batch belongs to another rank, or was replaced by an error that belongs to no batch.
        is_skipped = 0 <= outcome.position < self.asked[0]
        if isinstance(outcome, BatchHandle):
            # Copy it to private memory here. The loop copies it into the server's ring: only the loop may use the slots
            # of that ring.
            data = None if is_skipped else stream.copy_of(outcome)
            stream.release(outcome)
            if data is None:
                return
            self.given.append(_Copy(outcome._replace(position=self.asked.popleft()), data))
        elif is_skipped:
            return
        else:
            self.given.append(outcome._replace(position=self.asked.popleft()))
        self._wake()

    def _fail(self, error: BaseException) -> None:
        """Answer each requested position with an error."""
        while self.asked:
            self.given.append(Failure(self._epoch, self.asked.popleft(), error))
            self._wake()


class LaneReplays:
    """The replays of the running epoch of a stream with lanes.

    Only the server's loop calls the methods.

    Args:
        stream: The server's stream.
        make: Returns a stream of the same source and options, with the given options replaced.
    """

    def __init__(self, stream: LaneStream, make: Callable[..., Any]) -> None:
        self._stream, self._make = stream, make
        # One stream per late consumer. A shared stream would have to start again for each new one, and would delay fast
        # consumers for slow ones. Keeping delivered batches instead of computing them again has no bound.
        self._by_seat: dict[int, LaneReplay] = {}
        self._failures: deque[Failure] = deque()
        self._ending: list[LaneReplay] = []

    def __bool__(self) -> bool:
        """Return True while there is a replay."""
        return bool(self._by_seat or self._failures)

    def ask(self, seat: int, epoch: int, position: int) -> None:
        """Compute a batch again for a seat: `take` returns it."""
        try:
            # The first request of a seat starts its stream at the position of that request.
            if seat not in self._by_seat:
                self._by_seat[seat] = self._begin(epoch, position)
        except (OSError, RuntimeError) as error:
            # Without threads or descriptors for a replay, this consumer gets the error, and the others continue.
            self._failures.append(Failure(epoch, position, error, is_extra=True, seat=seat))
        else:
            self._by_seat[seat].ask(position)

    def can_begin(self) -> bool:
        """Return whether batches of the open epoch can be computed again."""
        # A replay would take elements from the queue that belong to other consumers.
        return not self._stream.takes_from_queues

    def _begin(self, epoch: int, position: int) -> LaneReplay:
        if not self.can_begin():
            raise RuntimeError(
                f"batch {position} of epoch {epoch} cannot be computed again: the source takes elements from a queue. "
                'Attach with join="now" or "next"'
            )
        debug(f"batches of epoch {epoch} are computed again for one consumer, from position {position}")
        stream = self._stream
        # The latest known place before the position: all batches between the two are computed and dropped.
        start = max((place for place in stream.places if place.position <= position), key=lambda at: at.position)
        # At later places, the replay changes as the stream did.
        changes = [place for place in stream.places if place.position > start.position]
        make = partial(
            self._make, workers=1, max_queue_size=_AHEAD, num_kept=_NUM_KEPT, lanes=stream.plan.lanes,
            seed=stream.seed, trace=None,
            start=StreamStart(Place(epoch, position), start, history=stream.history, changes=changes),
        )  # fmt: skip
        return LaneReplay(make, epoch, stream.wake)

    def start_again(self) -> None:
        """Drop the batches of all replays: the stream has changed, and they are requested again."""
        self._failures.clear()
        self.keep(())

    def take(self, *, may_fail: bool) -> BatchHandle | Failure | None:
        """Return a recomputed batch, in a slot of the ring; None if no batch or no slot is ready. Never waits.

        Args:
            may_fail: See `Stream.take`.
        """
        if self._failures:
            return self._failures.popleft()
        for seat, replay in self._by_seat.items():
            if not replay.given:
                continue
            # Leave it in the queue until there is a slot, for the next call.
            outcome = replay.given[0]
            if isinstance(outcome, Failure):
                replay.given.popleft()
                return outcome._replace(is_extra=True, seat=seat)
            handle = self._stream.enter(outcome.handle, outcome.data, may_fail=may_fail)
            if handle is not None:
                replay.given.popleft()
                return handle._replace(is_extra=True, seat=seat)
        return None

    def keep(self, seats: Iterable[int]) -> None:
        """End the replays of all other seats, which have caught up or have no consumer."""
        for seat in set(self._by_seat).difference(seats):
            replay = self._by_seat.pop(seat)
            # Do not wait here: stopping a worker takes time, and this is the server's loop.
            replay.end()
            self._ending.append(replay)
        if not self._by_seat:
            # No replay waits for a slot anymore. Its request would keep the priority over the stream's own batches.
            self._stream.forget_entering()
        self._ending = [replay for replay in self._ending if replay.thread.is_alive()]

    def close(self) -> None:
        """End all replays and wait for them."""
        self.keep(())
        for replay in self._ending:
            replay.thread.join()
        self._ending.clear()
