"""A queue that other processes use: its machine's steps, as the hub takes them.

Every step of a shared queue is taken under two locks, always in this order: the hub's, which also guards all that is
told by other processes, and the queue's own, which a call of this process may have taken before the queue was shared.
"""

import weakref
from time import perf_counter
from typing import TYPE_CHECKING

from mpqueue.queues.blocks import BlockCodec, SharedStorage
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest, Request, Token
from mpqueue.queues.watch import Waiter
from mpqueue.queues.windows import Windows

if TYPE_CHECKING:
    from mpqueue.queues.core import Gate, QueueCore
    from mpqueue.queues.hub import Hub


_MAX_NOTED = 1024


class Share:
    """What the hub keeps of one queue.

    Args:
        hub: Serves it.
        number: What records call it.
        core: The queue, held weakly.

    Attributes:
        is_recalling: Windows were recalled and are not settled yet.
        windows: Of its producers.
    """

    def __init__(self, hub: "Hub", number: int, core: "QueueCore") -> None:
        self.hub, self.number = hub, number
        self._core = weakref.ref(core)
        self.spec = core.spec
        self.windows = Windows(hub.words)
        self.is_recalling = False
        self._entered: dict[int, int] = {}  # elements of processes that are gone
        self._held = core.held
        self.storage = SharedStorage(core.spec, BlockCodec(core.spec, hub.arena.segment), has_plain=core.is_in_use)

    @property
    def core(self) -> "QueueCore | None":
        """The queue, if it is still there."""
        return self._core()

    def make_way(self, core: "QueueCore", request: Request) -> bool:
        """Whether a request may go to the machine now; else its windows were recalled, and must be settled first."""
        if self.is_recalling:
            return False
        reserved = self.windows.reserved
        if not reserved or isinstance(request, DequeueRequest):
            return True
        if isinstance(request, EnqueueRequest):
            room = core.room
            if room is None or room >= reserved + len(request.tokens):
                return True
        self.windows.recall()
        self.is_recalling = True
        self.hub.recall(self)
        return False

    def settle(self) -> None:
        """The pipe was read to its end after a recall."""
        self.windows.settle()
        self.is_recalling = False

    def submit_local(self, core: "QueueCore", request: EnqueueRequest | CloseRequest | DequeueRequest) -> "Gate | None":
        """A call of this process: None if it has finished, else what it waits with."""
        hub = self.hub
        hub.watch.touch()
        with hub.lock:
            if isinstance(request, DequeueRequest):
                # What is in the queue comes before all that has not been read: no need to look, for a while.
                if core.has(request.num_wanted) and perf_counter() < hub.stale_at:
                    return core.step(request, None)
                hub.catch_up()
                hub.extend()
            else:
                hub.catch_up()
                while not self.make_way(core, request):
                    hub.catch_up()
            waiter = core.step(request, Waiter(hub.watch))
            self.extend(core)
            hub.shortage.relieve()  # who waits now may be the one that others waited for
        return waiter

    def free(self, taken: list[Token]) -> None:
        """Elements that were taken out have been read. Without the lock: this process may be amid a step."""
        blocks = self.storage.blocks_of(taken)
        if blocks:
            self.hub.freed.append((self.storage.codec.size_class, blocks))
            if self.hub.shortage.is_there:
                self.hub.watch.poke()

    def leave(self) -> list[int]:
        """The queue is gone: the blocks that it still held."""
        return self.storage.blocks_of(self._held())

    @property
    def num_stuck(self) -> int:
        """Blocks that will not come free before something more is enqueued, since a dequeue waits for that."""
        core = self.core
        return 0 if core is None else len(self.storage.blocks_of(core.held_back()))

    def catch_up(self) -> None:
        """See what other processes have done."""
        with self.hub.lock:
            self.hub.catch_up()

    def close_now(self, core: "QueueCore") -> None:
        """Close and cancel, in this process."""
        hub = self.hub
        with hub.lock:
            hub.catch_up()
            while not self.make_way(core, CloseRequest()):
                hub.catch_up()
            core.close_now()

    def note_entered(self, process_id: int, count: int) -> None:
        """A connection has ended, by which so many elements went in."""
        self._entered[process_id] = self._entered.get(process_id, 0) + count
        while len(self._entered) > _MAX_NOTED:
            del self._entered[next(iter(self._entered))]

    def num_entered(self, process_id: int) -> int:
        """How many elements of a process that has died went in."""
        self.hub.attend()  # its end may not have been seen yet
        with self.hub.lock:
            return self._entered.get(process_id, 0)

    def extend(self, core: "QueueCore") -> None:
        """Open windows as far as the queue has room and nobody waits for it."""
        if self.windows.producers and core.may_reserve:
            self.windows.extend(core.room)
