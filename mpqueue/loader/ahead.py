"""`Ahead`: an iterator that moves the batches of a loader to a device ahead of use.

    take    a batch from the loader, which `Held` stores until the user requests it
    start   begin to move it
    finish  return it to the user

Batches of any other iterable can be moved ahead, too, but without states.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any, NamedTuple, Protocol

from mpqueue.loader.loader import Loader
from mpqueue.loader.undelivered import Failed, Held, Taken
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.signals.locks import RLock, acquire, releasing
from mpqueue.system.user_code.iterators import rest_of


class Mover(Protocol):
    """Moves batches to a device."""

    def start(self, batch: Any) -> Any:
        """Begin to move a batch; the result identifies it."""

    def finish(self, moving: Any) -> Any:
        """Return the batch on the device."""

    def is_done(self, moving: Any) -> bool:
        """Return whether the device no longer reads the loader's batch. Batches are done in order."""

    def release(self, moving: Any) -> None:
        """Drop the batch of the loader."""


class _Started(NamedTuple):
    """A batch that is being moved.

    Attributes:
        moving: The result of `Mover.start`.
    """

    moving: Any


class Plain(Taken):
    """Batches of any iterable. An entry contains the iterable's position before its batch.

    Args:
        batches: The iterable, or an iterator, which continues.
        read_place: Returns the iterable's position; called before each request.

    Attributes:
        point: The position before the latest request.
        is_over: The iterable has no more batches.
    """

    def __init__(self, batches: Iterable[Any], read_point: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self._read_point = read_point
        points = map(self._note_point, repeat(None))  # not a generator, which an error would end
        self._batches = map(list, zip(points, rest_of(iter(batches)), strict=False))
        self._arrived: deque[list[Any]] = deque()
        self.is_over, self.point = False, None

    def _note_point(self, _: None) -> Any:
        self.point = self._read_point()
        return self.point

    def take(self) -> bool:
        """Take the next batch; see `Taken.take`."""
        arrived, none = self._arrived, deque[list[Any]]()
        try:
            if not (arrived or self.is_over):
                arrived.extend(islice(self._batches, 1))  # one call of C, so that no signal can raise in between
        except BaseException as error:
            if is_interrupt(error):
                raise
            arrived.append([self.point, Failed(error)])
        if arrived:
            self.entries, self._arrived = (*self.entries, *arrived), none
            return True
        self.is_over = True
        if not self.entries:
            raise StopIteration
        return False


class Ahead(Iterator[Any]):
    """The batches of one epoch, moved to a device ahead of use. Any number of threads may share it.

    An error is raised after all batches before it. Only then is another batch taken.

    Args:
        held: Takes the batches.
        mover: Moves them.
        count: Number of batches moved ahead of the returned one.
    """

    def __init__(self, held: Taken, mover: Mover, count: int) -> None:
        self._held, self._mover, self._count = held, mover, count
        # Started, and not done yet: the device still reads their slots. Some of them were returned already.
        self._moving: deque[Any] = deque()
        self._lock = RLock()  # reentrant: a signal handler may request a batch, too

    @classmethod
    def of(cls, loader: Iterable[Any], mover: Mover, count: int) -> "Ahead":
        """Return the iterator for any iterable. For a loader, the next epoch begins."""
        return cls(Held.of(loader) if isinstance(loader, Loader) else Plain(loader), mover, count)

    def __next__(self) -> Any:
        held, lock = self._held, self._lock
        releases = releasing(lock)
        acquire(lock, blocking=True)
        try:
            # First, return slots to the workers, before another batch is requested.
            self._release()
            self._fill()
            # Otherwise a batch that is ready would exist until the next call, even if the loop deletes it.
            self._release()
            moving = held.entries[0][1]
            failure = moving.error if type(moving) is Failed else None
            batch = self._mover.finish(moving.moving) if failure is None else None
            if len(held.entries) == 1:
                held.end_soon()
            held.pop()
        finally:  # not `with`: a handler that raises after the block would lose the batch, which is counted
            _ = [*releases]
        if failure is None:
            return batch
        try:
            raise failure
        finally:
            del moving, failure  # otherwise the error's traceback would refer to this frame

    def _release(self) -> None:
        while self._moving and self._mover.is_done(self._moving[0]):
            self._mover.release(self._moving.popleft())

    def _fill(self) -> None:
        held = self._held
        held.drop_outdated()
        self._start_last()
        while not self._has_enough() and held.take():
            self._start_last()

    def _has_enough(self) -> bool:
        entries = self._held.entries
        return len(entries) > self._count or (bool(entries) and type(entries[-1][1]) is Failed)

    def _start_last(self) -> None:
        """Start to move the last batch, unless it has started already."""
        entries = self._held.entries
        if not entries or type(entries[-1][1]) in (Failed, _Started):
            return
        try:
            moving = self._mover.start(entries[-1][1])
            self._moving.append(moving)
            started: Any = _Started(moving)
        except BaseException as error:
            if is_interrupt(error):  # the batch is left to the next call
                raise
            started = Failed(error)
        entries[-1][1] = started

    @property
    def num_ahead(self) -> int:
        """Number of batches that were taken ahead."""
        return len(self._held.entries)
