"""A batch as a server deals it out: the place of its bytes in the ring, and nothing opened.

    worker --report--> LotWork --open--> Lot (its slot is READY) --share, release--> FREE
                          |
                          +--evict--> Stashed --settle, in another slot--> open

`LotWork` is what a granted ticket is for this server; see `mpqueue.workers.handle.Work`, whose place it takes. Where
memory is short, the finished batches furthest from their turn are moved out of the ring as they are, and back into it
when their turn has come.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from mpqueue.engine.outcomes import Partial, Unreadable
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.layout import Array, ReadSpec, Spec, base_over
from mpqueue.memory.slots import Slot
from mpqueue.service.records import PARTIAL
from mpqueue.worker.failures import unreadable
from mpqueue.workers.handle import Work


class Lot(NamedTuple):
    """A batch that lies in a slot.

    Attributes:
        epoch: From 0.
        position: In the order of the epoch, over all consumers.
        turn: Of the slot: a number that is never used again.
        slot: The slot itself.
        spec: How the batch is read, see `mpqueue.memory.layout`.
        header_offset: Where in the slot its header begins.
        nbytes: Where in the slot it ends.
        flags: `PARTIAL` where something was left out: the batch is the first item of what the spec describes.
        is_extra: It was computed again, for a late consumer.
        is_left_out: False: it is there.
    """

    epoch: int
    position: int
    turn: int
    slot: Slot
    spec: Spec
    header_offset: int
    nbytes: int
    flags: int = 0
    is_extra: bool = False
    is_left_out: bool = False


class Failure(NamedTuple):
    """An error, in the place of a batch.

    Attributes:
        epoch: From 0.
        position: In the order of the epoch; -1: it belongs to no batch.
        error: What the source, or the engine, raised; None: a batch that was to be computed again is left out.
        is_extra: As of a lot.
        turn: 0: there is no slot.
    """

    epoch: int
    position: int
    error: BaseException | None
    is_extra: bool = False
    turn: int = 0

    @property
    def is_left_out(self) -> bool:
        """True if there is nothing to tell."""
        return self.error is None


class LotWork(Work):
    """A ticket at a worker; once it is reported, a lot that lies in its slot."""

    __slots__ = ()

    def timed(self, *, is_drawn: bool) -> Self:  # noqa: ARG002 - see `Work`
        """Return the same: consumers time their leases themselves."""
        return self

    def open(self) -> Any:
        """Return the lot, whose slot stays as it is; or raise what is there instead.

        Where something was left out: the fields of a `Partial`. An empty one has no slot any more.
        """
        read, slot = self.read, self.slot
        if read is None:
            return super().open()
        try:
            ticket = self.ticket
            lot = Lot(ticket.epoch, ticket.position, slot.turn, slot, read.spec, self.header_offset, self.nbytes)
            if not self.is_partial:
                return lot
            batch = Partial(lot._replace(flags=PARTIAL), *_left_out(read, self._bytes(), self.header_offset))
        except Unreadable:
            self.ring.release(slot)
            raise
        if batch.is_empty:
            self.ring.release(slot)
        return batch

    def evict(self) -> Any:
        """Return the same outcome in private memory; the slot is free then."""
        if self.read is None:
            return super().evict()
        stashed = Stashed(self, self._bytes())
        self.ring.release(self.slot)
        return stashed

    def _bytes(self) -> Array:
        return np.frombuffer(self.ring.memory, np.uint8, self.nbytes, self.slot.offset).copy()


class Stashed:
    """A lot that was moved out of the ring.

    Args:
        work: What it was.
        data: Its bytes.

    Attributes:
        is_plain, is_end, is_partial: See `mpqueue.engine.outcomes.Outcome`; it is plain once it is settled.
    """

    is_end = False

    def __init__(self, work: LotWork, data: Array) -> None:
        self.is_plain, self.is_partial = False, work.is_partial
        self._work, self._data = work, data
        self._error: SharedMemoryFull | None = None

    def settle(self, make_slot: Callable[[int], Slot | None]) -> bool:
        """Move it into a slot; return False if there is none with so many bytes now."""
        work, ring, nbytes = self._work, self._work.ring, len(self._data)
        try:
            slot = make_slot(nbytes)
        except SharedMemoryFull as error:
            self._error = error
            return True
        if slot is None:
            return False
        ring.memory[slot.offset : slot.offset + nbytes] = self._data.data
        ring.slots.publish(slot, nbytes)
        work.slot = slot
        self.is_plain = not self.is_partial
        return True

    def open(self) -> Any:
        """As of `LotWork`.

        Raises:
            SharedMemoryFull: There was no room for it.
        """
        if self._error is not None:
            raise self._error
        return self._work.open()

    def is_own(self, error: BaseException) -> bool:
        """As of `LotWork`."""
        return error is self._error or self._work.is_own(error)


def _left_out(read: ReadSpec, data: Array, header_offset: int) -> tuple[list[Any], bool]:
    """Return the entries of what was left out of a batch, and whether nothing is left of it."""
    recipe = read.recipes[data[header_offset:].tobytes()]
    base = base_over(data, 0, header_offset, recipe.structure)
    try:
        _, skipped, is_empty = read.rebuild(recipe, base)
    except Exception as error:
        raise unreadable(error, partial(read.rebuild, recipe, base)) from error
    return skipped, is_empty
