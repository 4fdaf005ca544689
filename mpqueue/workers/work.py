"""A piece of work from its grant to the consumer's hands."""

from typing import Any

import numpy as np

from mpqueue.control.schedule import Ticket
from mpqueue.memory.layout import ReadSpec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import Slot
from mpqueue.workers import failures


class Work:
    """A ticket at a worker, with its slot; once it is reported, what the slot holds.

    Attributes:
        ticket: What is to be computed.
        slot: Where to.
        cancelled: Nobody wants it any more.
        is_end: The worker's stream has ended.
        read: How to read the batch; None if the slot holds an exception.
        header_offset: Where in the slot the batch's header begins.
        nbytes: Where in the slot it ends.
    """

    __slots__ = ("cancelled", "header_offset", "is_end", "nbytes", "read", "ring", "slot", "ticket")

    def __init__(self, ticket: Ticket, slot: Slot, ring: Ring) -> None:
        self.ticket, self.slot, self.ring = ticket, slot, ring
        self.cancelled = self.is_end = False
        self.read: ReadSpec | None = None
        self.header_offset = self.nbytes = 0

    def open(self) -> Any:
        """The batch, as views of the slot or private; or raise what is there instead."""
        ring, slot, read = self.ring, self.slot, self.read
        start, memory = slot.offset, ring.memory
        if read is None:
            error = failures.unpack(memory[start : start + self.nbytes])
            ring.release(slot)
            raise error
        recipe = read.recipe(memory[start + self.header_offset : start + self.nbytes])
        if recipe.fields or recipe.buffers:
            return read.rebuild(recipe, ring.view(slot, self.header_offset))
        try:  # nothing of it stays in the slot
            return read.rebuild(recipe, np.frombuffer(memory, np.uint8, self.nbytes, start))
        finally:
            ring.release(slot)


class FailedWork:
    """A ticket that no worker could answer."""

    is_end = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def open(self) -> Any:
        """Raise the failure."""
        raise self._error
