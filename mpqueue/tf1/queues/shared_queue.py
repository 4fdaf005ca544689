"""A queue of this process that other processes use, as the owner's service keeps it. All under the hub's lock."""

import weakref

from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.windows import Windows

_MAX_NOTED = 1024


class SharedQueue:
    """One queue and what belongs to it.

    Args:
        number: Its number in records.
        core: The queue, held weakly: it lives as long as somebody here or a connection refers to it.
        pool: The blocks.
        windows: Its producers' windows.

    Attributes:
        number: As given.
        machine: The queue's.
        windows: As given.
        storage: Keeps its elements, from now on.
    """

    def __init__(self, number: int, core: QueueCore, pool: BlockPool, windows: Windows) -> None:
        self.number, self.machine, self.windows = number, core.machine, windows
        self._core = weakref.ref(core)
        self._num_entered: dict[int, int] = {}
        has_plain = bool(self.machine.size or self.machine.num_waiting)
        codec = BlockCodec(core.spec, pool.arena.segment)
        self.storage = SharedStorage(core.spec, codec, has_plain=has_plain, holds=pool.holds)

    @property
    def core(self) -> QueueCore | None:
        """The queue, if it is still there."""
        return self._core()

    def held_blocks(self) -> list[int]:
        """Blocks of the elements in it, and of those that waiting dequeues have taken."""
        return self.storage.blocks_of(self.machine.held())

    @property
    def num_stuck(self) -> int:
        """Number of blocks that will not come free before more is enqueued, since a dequeue waits for that."""
        return len(self.held_blocks()) if self.machine.has_waiting_dequeues else 0

    def note_entered(self, process_id: int, count: int) -> None:
        """A connection has ended, by which so many elements went in."""
        self._num_entered[process_id] = self._num_entered.get(process_id, 0) + count
        while len(self._num_entered) > _MAX_NOTED:
            del self._num_entered[next(iter(self._num_entered))]

    def num_entered(self, process_id: int) -> int:
        """Number of elements that went in by connections of this process that have ended."""
        return self._num_entered.get(process_id, 0)
