"""The owner's service to all other processes that use its queues.

    another process                      this process
    ───────────────                      ────────────
    connect                 ──socket──►  a `Client`, with a number
    its records             ───pipe───►  catch_up: read all that there is, take the steps in order
                            ◄──socket──  answers, from the steps themselves
    its end                 ──socket──►  what it sent before is read; then its calls are withdrawn, its blocks freed

The queues, their machines and the arena belong to this process and are touched here only. Another process owns the
bytes of the blocks that it was granted, and nothing else, so it may be killed at any moment: an element is enqueued by
one record, which is there or is not. Of what it had dequeued, only the answer to its last call can be lost with it.

`Hub.catch_up` is called by whoever listens (see `watch`), and by the `HubDriver` of a queue before each step that this
process takes itself: so a call that has returned anywhere is seen by every call that begins later.

What other processes have sent is in no line of ours yet, and many tables are half changed while it is dealt with. So in
the main thread signal handlers are deferred meanwhile, see NOTE [ Interrupts ] in `core`.
"""

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client
from mpqueue.tf1.queues.core import Call, QueueCore, recover
from mpqueue.tf1.queues.listener import Listener
from mpqueue.tf1.queues.machine import CloseRequest, DequeueRequest, EnqueueRequest, notify
from mpqueue.tf1.queues.order import Token
from mpqueue.tf1.queues.shared_queue import SharedQueue
from mpqueue.tf1.queues.shortage import Shortage
from mpqueue.tf1.queues.steps import WITHDRAWN, Steps
from mpqueue.tf1.queues.watch import Waiter, Watch
from mpqueue.tf1.queues.windows import Recalls, Windows
from mpqueue.tf1.queues.wire import RecordPipe
from mpqueue.transport.credentials import Address
from mpqueue.transport.poller import READABLE, Events

# A call of this process that finds all it needs looks at the pipe only so often: a look costs as much as the call.
_STALE_S = 0.0005


class Hub:
    """Serves the queues of this process to others.

    Args:
        find_shared: Finds, or makes, the queue that another process describes, see `Steps`; called under the lock.
        path: Where the socket is made, see `Listener`.

    Attributes:
        lock: Around everything; held briefly, and never while waiting.
        watch: Listens.
        pool: The shared memory.
        recalls: Under way.
        shortage: The line of those who wait for shared memory.
        queues: By number.
        is_closed: It has ended.
        stale_at: When the pipe has to be looked at again, by `time.perf_counter`.
    """

    def __init__(self, find_shared: Callable[[bytes], int], path: str | None = None) -> None:
        self.lock = threading.Lock()
        self._process_id = os.getpid()
        self.watch = Watch(self._serve)
        self._pipe = RecordPipe()
        self.watch.poller.register(self._pipe.fd, READABLE)
        poll = select.poll()
        poll.register(self._pipe.fd, READABLE)
        self._look = poll.poll
        self._listener = Listener(self.watch.poller, path)
        self.pool = BlockPool()
        self.recalls = Recalls(self.watch.poke)
        self.queues: dict[int, SharedQueue] = {}
        clients = self._listener.clients
        self.shortage = Shortage(self.pool, clients, self.queues)
        self._steps = Steps(self._pipe.mark, clients, self.queues, self.pool, self.shortage, self.recalls, find_shared)
        self._last_queue = 0
        self._dropped: deque[int] = deque()
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self.stale_at = 0.0

    @property
    def address(self) -> Address:
        """The address at which it listens."""
        return self._listener.address

    # -- Queues of this process

    def share(self, core: QueueCore) -> None:
        """Serve a queue from now on; under the lock."""
        core.hand_over(lambda: HubDriver(self, self._add(core)))

    def _add(self, core: QueueCore) -> SharedQueue:
        self._last_queue += 1
        windows = Windows(self.pool.words, core.machine, self.recalls)
        queue = SharedQueue(self._last_queue, core, self.pool, windows)
        self.queues[queue.number] = queue
        weakref.finalize(core, self.drop, queue.number).atexit = False
        return queue

    def find(self, number: int) -> QueueCore | None:
        """The queue of that number."""
        queue = self.queues.get(number)
        return None if queue is None else queue.core

    def drop(self, number: int) -> None:
        """A queue is gone. Called by the garbage collector, anywhere."""
        if os.getpid() == self._process_id:
            self._dropped.append(number)
            self.watch.poke()

    def serve(self) -> None:
        """Start the thread; before, connections wait."""
        with defer_signals(), self.lock:
            if self._thread is None and not self.is_closed:
                self._thread = threading.Thread(target=self.watch.run, name="mpqueue-queues", daemon=True)
                self._thread.start()

    # -- Listening

    def attend(self) -> None:
        """See now what has become readable, the ends of other processes too."""
        self._serve(self.watch.poller.poll(0))

    def _serve(self, events: Events) -> None:
        with defer_signals(), self.lock:
            if self.is_closed:
                return
            self.catch_up()
            for fd, event in events:
                if self.watch.is_poke(fd):
                    continue
                if self._listener.has_arrival(fd):
                    self._listener.accept()
                    continue
                ended = self._listener.attend(fd, event, self.pool, self._pipe)
                if ended is not None:
                    self._remove(ended)
            self.recalls.extend()
            while self._dropped:
                self._forget(self._dropped.popleft())
            if not self.is_closed:
                self.shortage.relieve()

    def _remove(self, client: Client) -> None:
        """Undo what a client had under way that has ended; all that it sent has been read."""
        for number, (queue, _core, producer) in client.uses.items():
            missing = sum(
                len(request.tokens) - request.entered
                for request in client.waiting.values()
                if isinstance(request, EnqueueRequest) and request.queue == number
            )
            notify(queue.machine.withdraw_owner(client, WITHDRAWN))
            queue.windows.remove(client)
            queue.note_entered(client.process_id, producer.received - missing)
            self.recalls.touch(queue.windows)
        self.pool.arena.give(client.blocks())
        for place in client.words:
            self.pool.words[place] = 0
        if not client.is_cut:  # else it may still look at them
            self.pool.free_words += client.words
        self.shortage.forget(client)
        client.uses.clear()

    def _forget(self, number: int) -> None:
        """A queue is gone."""
        self.pool.arena.give(self.queues.pop(number).held_blocks())
        if not self.queues:
            self._note_unused()

    def _note_unused(self) -> None:
        """There is no queue any more, and so no use for the hub."""
        self._close()

    def _close(self) -> None:
        self.is_closed = True
        self._listener.close()
        self._pipe.close()
        self.watch.close()
        self.pool.close()

    # -- What other processes send

    def has_records(self) -> bool:
        """Return whether something was sent that was not read; under the lock."""
        if self.is_closed or self._look(0):
            return True
        self.stale_at = time.perf_counter() + _STALE_S
        return False

    def catch_up(self) -> None:
        """Read all that was sent, and take the steps in order; under the lock."""
        if self.is_closed:
            return
        read, take, records, recalls = self._pipe.read, self._steps.take, self._pipe.records, self.recalls
        was_all = False
        num_recalled = 0
        while not was_all or recalls.num_open > num_recalled:  # a recall asks for one more look at the pipe
            num_recalled = recalls.num_open
            was_all = read()
            take(records)
        recalls.settle()
        self.shortage.relieve()
        self.stale_at = time.perf_counter() + _STALE_S


class HubDriver:
    """Drives a queue that other processes use, too; see `core.Driver`.

    Args:
        hub: Serves the queue.
        queue: The queue, as the hub keeps it.

    Attributes:
        hub: As given.
        lock: The hub's.
        storage: Keeps the elements.
    """

    def __init__(self, hub: Hub, queue: SharedQueue) -> None:
        self.hub, self._queue = hub, queue
        self.lock, self.storage = hub.lock, queue.storage

    @property
    def number(self) -> int:
        """The number by which other processes name the queue."""
        return self._queue.number

    @property
    def promised(self) -> int:
        """See `core.Driver.promised`."""
        return self._queue.windows.reserved

    def submit(self, request: Call) -> Waiter | None:
        """Take the first step of a call of this process; None if it has finished."""
        hub, machine, windows = self.hub, self._queue.machine, self._queue.windows
        hub.watch.touch()
        with hub.lock:
            if self._finishes_alone(request):
                try:
                    machine.submit(request)
                except BaseException:
                    recover(machine)
                    raise
                return None
        with defer_signals(), hub.lock:
            if isinstance(request, DequeueRequest):
                hub.catch_up()
                hub.recalls.extend()
            else:
                self.storage.has_plain = True
                hub.catch_up()
                while not windows.make_way(request):
                    hub.catch_up()
            notify(machine.submit(request))
            waiter = None
            if not request.finished:
                waiter = Waiter(hub.watch)
                request.notify = waiter.wake
            windows.extend()
            hub.shortage.relieve()  # who waits now may be the one that others waited for
        return waiter

    def _finishes_alone(self, request: Call) -> bool:
        """Return whether a call finishes at once, and no other one with it, and nothing that was sent comes before it.

        Then signal handlers need not be deferred.
        """
        hub, machine, windows = self.hub, self._queue.machine, self._queue.windows
        if machine.has_waiting_enqueues:
            return False
        if isinstance(request, DequeueRequest):
            # What is in the queue comes before all that has not been read: no need to look, for a while.
            return machine.can_give(request.num_wanted) and time.perf_counter() < hub.stale_at
        if not isinstance(request, EnqueueRequest) or machine.closed or machine.has_waiting_dequeues:
            return False
        self.storage.has_plain = True
        room = machine.room
        has_room = room is None or room >= len(request.tokens)
        return has_room and not windows.is_recalling and not windows.reserved and not hub.has_records()

    def close_now(self) -> None:
        """Close, and cancel what waits to get in."""
        with defer_signals(), self.hub.lock:
            self.hub.catch_up()
            while not self._queue.windows.make_way(CloseRequest()):
                self.hub.catch_up()
            notify(self._queue.machine.close_and_cancel())

    def catch_up(self) -> None:
        """See what other processes have done."""
        with defer_signals(), self.hub.lock:
            self.hub.catch_up()

    def free(self, request: DequeueRequest) -> None:
        """Give back the blocks of elements that were taken out and read."""
        blocks, size_class = self.storage.blocks_of(request.taken), self.storage.codec.size_class
        if not blocks:
            return
        poke = self.hub.watch.prepare_poke() if self.hub.shortage.has_waiting else ()
        self.hub.pool.note_read(size_class, blocks)  # the last call: no handler runs behind it
        request.is_read = True
        # Who listens is told behind the note, or it would find nothing. An unpacking makes the call in C, without a
        # look for signals behind it: what a handler raised here would lose the element.
        try:
            _ = [*poke]
        except OSError:
            return  # the pipe is full: it wakes as it is

    def keep(self, taken: list[Token]) -> None:
        """Forget the views of blocks that a call had made."""
        for token in self.storage.blocks_of(taken):
            self.hub.pool.holds.forget(token)

    def num_entered(self, process_id: int) -> int:
        """Return the number of elements that a process enqueued before it died."""
        self.hub.attend()  # its end may not have been seen yet
        with self.hub.lock:
            return self._queue.num_entered(process_id)
