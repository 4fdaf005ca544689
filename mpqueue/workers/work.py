"""A piece of work from its grant to the consumer's hands."""

from typing import Any

import numpy as np

from mpqueue.control.outcomes import Result
from mpqueue.control.schedule import Ticket
from mpqueue.memory.recipes import ReadSpec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import Slot
from mpqueue.workers import failures


class Work:
    """A ticket at a worker, with its slot; once it is reported, what the slot holds.

    Attributes:
        ticket: What is to be computed.
        slot: Where to.
        cancelled: Nobody wants it any more.
        is_plain: It is a batch: no exception, and not the end.
        is_end: The worker's stream has ended.
        read: How to read the batch; None if the slot holds an exception.
        header_offset: Where in the slot the batch's header begins.
        nbytes: Where in the slot it ends.
    """

    __slots__ = ("cancelled", "header_offset", "is_end", "is_plain", "nbytes", "read", "ring", "slot", "ticket")
    read: ReadSpec | None  # this and the two below are known when it is reported
    header_offset: int
    nbytes: int

    def __init__(self, ticket: Ticket, slot: Slot, ring: Ring) -> None:
        self.ticket, self.slot, self.ring = ticket, slot, ring
        self.cancelled = self.is_end = False
        self.is_plain = True

    def open(self) -> Any:
        """The batch, as views of the slot or private; or raise what is there instead."""
        ring, slot, read = self.ring, self.slot, self.read
        start, memory = slot.offset, ring.memory
        if read is None:
            try:
                raise failures.unpack(memory[start : start + self.nbytes])
            finally:
                ring.release(slot)
        header_offset = self.header_offset
        recipe = read.recipes[memory[start + header_offset : start + self.nbytes]]
        if recipe.has_views:
            return read.rebuild(recipe, ring.view(slot, header_offset, recipe.structure))
        try:  # nothing of it stays in the slot
            return read.rebuild(recipe, np.frombuffer(memory, np.uint8, self.nbytes, start))
        finally:
            ring.release(slot)

    def move_out(self) -> Result:
        """The same in private memory; the slot is free then."""
        try:
            if self.read is None:
                self.open()
            assert self.read is not None
            start = self.slot.offset
            recipe = self.read.recipes[self.ring.memory[start + self.header_offset : start + self.nbytes]]
            base = self.ring.private_copy(self.slot, self.header_offset, recipe.structure)
            return Result(self.read.rebuild(recipe, base))
        except Exception as error:
            return Result.failed(error)
