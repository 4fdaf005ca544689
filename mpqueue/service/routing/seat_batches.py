"""What a server routes to its consumers: a batch in a slot, or an exception in place of a batch."""

from typing import NamedTuple, TypeAlias

from mpqueue.memory.layout import Spec
from mpqueue.memory.slots import Slot


class BatchHandle(NamedTuple):
    """A batch in a slot.

    Attributes:
        epoch: Epoch, from 0.
        position: Position in the epoch, over all consumers.
        turn: Turn of the slot, an id that is never reused.
        slot: The slot.
        spec: How the batch is read, see `mpqueue.memory.layout`.
        header_offset: Offset of its header in the slot.
        nbytes: Offset of the end of the batch in the slot.
        flags: `PARTIAL` if samples were skipped: then the batch is the first item of the structure in `spec`.
    """

    epoch: int
    position: int
    turn: int
    slot: Slot
    spec: Spec
    header_offset: int
    nbytes: int
    flags: int = 0


class Failure(NamedTuple):
    """An exception in place of a batch.

    Attributes:
        epoch: Epoch, from 0.
        position: Position in the epoch; -1 if it belongs to no batch.
        error: The exception of the source or the engine.
        turn: Always 0: it has no slot.
    """

    epoch: int
    position: int
    error: BaseException
    turn: int = 0


SeatBatch: TypeAlias = BatchHandle | Failure  # as the core routes it
