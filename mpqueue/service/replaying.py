"""Batches of a stream in lanes, computed again for consumers that missed them.

A consumer has missed batches if it came late to a broadcast, or if it takes the place of a lost rank.

A batch of a stream cannot be asked for by its position: it is computed behind those before it in its lane. So each
consumer that has missed something has a stream of its own, of one worker, which begins at a place of the epoch that the
server knows (`mpqueue.service.stream.Stream.places`), drops what its consumer has had, and gives the rest in the order
of the server's stream, until there is nothing left that the consumer has missed::

    the server's stream --place--> a stream of one worker --copies of its handles--> slots of the server's ring
          ^                          ^                                                |
          |                          | ask(position), as far as its consumer has room |
    the loop <------ wake -----------+------------- take <----------------------------+

A `LaneReplay` has a thread: the start and the end of a worker are waited for, which the server's loop must not do. The
thread alone touches its stream; the loop and it hand each other positions and copies by deques. It ends, with its
worker, when its consumer has caught up, has left or died, and with the server.

What a replay costs, beside the work that is done again: a process, and the memory of the few batches that it computes
ahead. Nothing of that is there while nobody replays. One stream for all who are late would have to begin anew for each
of them, and hold up the fast for the slow; and to keep what was given, in place of computing it again, has no bound.

What a source gives the second time is taken for what it gave the first time. One that takes from a queue would take
from it what others are to get: its consumers get an error instead.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from mpqueue.memory.layout import Array
from mpqueue.plan.cursors import Place
from mpqueue.service.connections import Handlers
from mpqueue.service.stream import BatchHandle, Failure, Stream
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import Lock
from mpqueue.system.log import debug
from mpqueue.system.wakeup import Wakeup

_AHEAD = 2  # batches: one is computed while the one before waits for its slot
_NUM_KEPT = 1  # slots of its ring beside those: each handle is copied, and its slot free at once


class _Copy(NamedTuple):
    """A handle whose bytes are in private memory."""

    handle: BatchHandle
    data: Array


class LaneReplay:
    """The batches that one consumer has missed of an epoch.

    Args:
        make: Makes a stream that begins with the first position that is asked for.
        epoch: The epoch.
        wake: Has the loop call `LaneReplays.take`; from any thread.

    Raises:
        OSError: There are no descriptors,
        RuntimeError: or no threads.

    Attributes:
        asked: The positions that are to be given, in their order.
        given: What was computed of them, and was not taken.
    """

    def __init__(self, make: Callable[[], Stream], epoch: int, wake: Callable[[], None]) -> None:
        self.asked: deque[int] = deque()
        self.given: deque[_Copy | Failure] = deque()
        self._make, self._epoch, self._wake = make, epoch, wake
        self._is_over = False
        self._wakeup, self._handlers = Wakeup(), Handlers()
        self._handlers.watch(self._wakeup.fd, self._wakeup.clear)
        self._lock = Lock()  # around the end of the wakeup, which the loop uses
        self._thread = JoinedThread(self._run, "mpqueue-replay")
        try:
            self._thread.start()
        except BaseException:
            self._close()
            raise

    def ask(self, position: int) -> None:
        """Have a position given: the one behind that which was asked for last."""
        self.asked.append(position)
        self._look()

    def end(self) -> None:
        """Have the thread end its worker, and then itself; does not wait for it."""
        self._is_over = True
        self._look()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    @property
    def has_ended(self) -> bool:
        """True if nothing of it is left."""
        return not self._thread.is_alive()

    def _look(self) -> None:
        with self._lock:
            self._wakeup.wake()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            stream = self._make()
            try:
                stream.start()
                fd = stream.fileno()
                self._handlers.watch(fd, _look_again)
                try:
                    self._compute(stream)
                finally:
                    self._handlers.unwatch(fd)
            finally:
                stream.stop()
        except Exception as error:  # there are not enough processes, or memory: its consumer is told, and nobody else
            failure = error
        # Its consumer asks on, position by position, until it has caught up: each must get an answer.
        while not self._is_over:
            self._fail(failure or RuntimeError("the stream that computes again what was missed has ended"))
            self._handlers.wait(None)
        self._close()

    def _close(self) -> None:
        self._handlers.close()
        with self._lock:
            self._wakeup.close()

    def _compute(self, stream: Stream) -> None:
        """Give what is asked for, until `end`."""
        stream.open_epoch(self._epoch)
        while not self._is_over:
            given = stream.take(may_fail=True) if self.asked else None
            if given is not None:
                self._give(stream, given)
            elif self.asked and stream.has_ended:
                self._fail(
                    RuntimeError(
                        f"batch {self.asked[0]} of epoch {self._epoch} was to be computed again, and the stream ends "
                        f"before it, behind {stream.count} batches: the source has not given the same as before"
                    )
                )
            else:
                self._handlers.wait(stream.timeout_s())
                stream.advance()

    def _give(self, stream: Stream, given: BatchHandle | Failure) -> None:
        # It belongs to another rank; or an error that belongs to no batch was given in its place.
        is_skipped = 0 <= given.position < self.asked[0]
        if isinstance(given, BatchHandle):
            # Copied here, and into the server's ring by the loop: the slots of that ring are the loop's alone.
            data = None if is_skipped else stream.copy_of(given)
            stream.release(given)
            if data is None:
                return
            self.given.append(_Copy(given._replace(position=self.asked.popleft()), data))
        elif is_skipped:
            return
        else:
            self.given.append(given._replace(position=self.asked.popleft()))
        self._wake()

    def _fail(self, error: Exception) -> None:
        """Have an error in the place of each position that is asked for."""
        while self.asked:
            self.given.append(Failure(self._epoch, self.asked.popleft(), error))
            self._wake()


def _look_again() -> None:
    """It is the wait that was to end."""


class LaneReplays:
    """All who have missed something of the running epoch of a stream in lanes.

    The server's loop calls everything.

    Args:
        stream: The server's.
        make: Makes a stream of its source and options, but for those that are given.
    """

    def __init__(self, stream: Stream, make: Callable[..., Stream]) -> None:
        self._stream, self._make = stream, make
        self._by_seat: dict[int, LaneReplay] = {}
        self._failures: deque[Failure] = deque()
        self._ending: list[LaneReplay] = []

    def __bool__(self) -> bool:
        """True while there is one."""
        return bool(self._by_seat or self._failures)

    def ask(self, seat: int, epoch: int, position: int) -> None:
        """Have a batch computed again for a seat: `take` gives it."""
        try:
            if seat not in self._by_seat:
                self._by_seat[seat] = self._begin(epoch, position)
        except (OSError, RuntimeError) as error:
            self._failures.append(Failure(epoch, position, error, is_extra=True, seat=seat))
        else:
            self._by_seat[seat].ask(position)

    def _begin(self, epoch: int, position: int) -> LaneReplay:
        if self._stream.takes_from_queues:
            raise RuntimeError(
                f"batch {position} of epoch {epoch} cannot be computed again: the source takes from a queue, and what "
                'it has taken is gone. Attach with join="now" or "next"'
            )
        debug(f"batches of epoch {epoch} are computed again for one consumer, from {position} on")
        return LaneReplay(partial(self._make_from, epoch, position), epoch, self._stream.wake)

    def _make_from(self, epoch: int, position: int) -> Stream:
        start = max((place for place in self._stream.places if place.position <= position), key=lambda at: at.position)
        return self._make(
            workers=1, max_queue_size=_AHEAD, num_kept=_NUM_KEPT, lanes=self._stream.plan.plan.lanes,
            seed=self._stream.seed, trace=None, place=Place(epoch, position), lane_place=start,
        )  # fmt: skip

    def take(self, *, may_fail: bool) -> BatchHandle | Failure | None:
        """Return a batch that was computed again, of those that have a slot; None: there is none now. Never waits.

        Args:
            may_fail: As of `Stream.take`.
        """
        if self._failures:
            return self._failures.popleft()
        for seat, replay in self._by_seat.items():
            if not replay.given:
                continue
            # It stays there until it has a slot: where there is none now, the next look finds it.
            found = replay.given[0]
            if isinstance(found, Failure):
                replay.given.popleft()
                return found._replace(is_extra=True, seat=seat)
            handle = self._stream.enter(found.handle, found.data, may_fail=may_fail)
            if handle is not None:
                replay.given.popleft()
                return handle._replace(is_extra=True, seat=seat)
        return None

    def keep(self, seats: Iterable[int]) -> None:
        """End those of all other seats: they have missed nothing any more, or nobody sits there."""
        for seat in set(self._by_seat).difference(seats):
            replay = self._by_seat.pop(seat)
            # Not waited for here: its worker takes its time, and this is the server's loop.
            replay.end()
            self._ending.append(replay)
        if not self._by_seat:
            self._stream.forget_entering()
        self._ending = [replay for replay in self._ending if not replay.has_ended]

    def close(self) -> None:
        """End all, and wait for them."""
        self.keep(())
        for replay in self._ending:
            replay.join()
        self._ending.clear()
