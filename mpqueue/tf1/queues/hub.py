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

The step of the owner that each record of another process asks for; see `wire` for the records.

Every method is one step, taken under the hub's lock. A step that needs room which is set aside for others, or closes
the queue, has the windows recalled and is deferred until the pipe was read once more; what refers to a call that may be
deferred (its withdrawal, the question what became of it) is deferred behind it.
"""

import contextlib
import os
import select
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mpqueue.errors import CancelledError, InvalidArgumentError, OpError, SharedMemoryFull
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.locks import Lock
from mpqueue.tf1.queues.arena import class_bytes, class_for, offset_of
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client, Listener, QueueUse, SharedQueue
from mpqueue.tf1.queues.core import Call, QueueCore, recover
from mpqueue.tf1.queues.description import MAX_BYTES
from mpqueue.tf1.queues.lease import Taker
from mpqueue.tf1.queues.machine import (
    CloseRequest,
    DequeueRequest,
    EnqueueRequest,
    Request,
    Token,
    notify,
)
from mpqueue.tf1.queues.shortage import Shortage
from mpqueue.tf1.queues.tally import find
from mpqueue.tf1.queues.watch import QueueWatch, Waiter
from mpqueue.tf1.queues.windows import Recalls, Windows
from mpqueue.tf1.queues.wire import WITHDRAWN, Down, Record, RecordPipe, Up
from mpqueue.transport.poller import READABLE, Events
from mpqueue.transport.records import ProtocolError

_LARGEST_CLASS = class_for(1 << 62)  # beyond that, how much was asked for would fit into no answer


class Steps:
    """Takes the steps that records ask for.

    Args:
        mark: The mark of the records.
        clients: All connections, by number.
        queues: All queues, by number.
        pool: The blocks.
        shortage: The line of those who wait for blocks.
        recalls: Takes the steps that have to wait.
        find_shared: Finds, or makes, the queue that a description with a shared name is of; gives its number.
    """

    def __init__(
        self,
        mark: int,
        clients: Mapping[int, Client],
        queues: Mapping[int, SharedQueue],
        pool: BlockPool,
        shortage: Shortage,
        recalls: Recalls,
        find_shared: Callable[[bytes], int],
    ) -> None:
        self._clients, self._queues, self._pool = clients, queues, pool
        self._shortage, self._recalls, self._find_shared = shortage, recalls, find_shared
        steps = {
            Up.ATTACH: self._attach,
            Up.WANT: self._want,
            Up.FILLED: self._filled,
            Up.ENQUEUE: self._enqueue,
            Up.CONFIRM: self._confirm,
            Up.DEQUEUE: self._dequeue,
            Up.READ: self._read,
            Up.TAKE: self._take,
            Up.UNREAD: self._undo_call,
            Up.CLOSE: self._close,
            Up.WITHDRAW: self._withdraw,
            Up.ASK: self._ask,
            Up.FIND: self._find,
            Up.DROP: self._drop,
            Up.TALLY: self._tally,
        }
        self._steps = {mark | kind: step for kind, step in steps.items()}
        self._admit_word, self._enqueue_word = mark | Up.ADMIT, mark | Up.ENQUEUE

    def take(self, records: deque[Record]) -> None:
        """Take the steps that all these records ask for, in order."""
        while records:
            if records[0][0] == self._admit_word:
                self._admit_run(records)
                continue
            word, flag, number, *said = records.popleft()
            client = self._clients.get(number)
            if client is not None:  # else it has ended, and all that it had is given back
                try:
                    self._steps[word](client, flag, *said)
                except (ProtocolError, KeyError) as error:  # a key: it names a queue or a call that it does not have
                    client.cut(repr(error))

    def _admit_run(self, records: deque[Record]) -> None:
        """Take the records of one queue that need no answer all in one step: the way of most elements.

        One step for each takes the owner 1.45 times the CPU time.
        """
        number, tokens = records[0][3], []
        queue: SharedQueue | None = None
        while records and records[0][0] == self._admit_word and records[0][3] == number:
            _kind, size_class, sender, _queue, call, count, seq = records.popleft()
            client = self._clients.get(sender)
            if client is None:
                continue
            try:
                use = client.uses[number]
                producer = use.producer
                # Written within its window, or within one that is being recalled: others were kept from that room.
                if seq <= producer.limit or seq <= producer.promise:
                    producer.received = seq
                    queue = use.queue
                    if count == 1 and not client.filled:
                        tokens.append(client.granted[size_class].pop())
                    else:
                        client.fill(size_class, count)
                        tokens += client.filled
                        client.filled.clear()
                    continue
            except (ProtocolError, KeyError, IndexError) as error:
                client.cut(repr(error))
                continue
            # Beyond its window: a call that waits in line, and is answered. What follows comes behind it.
            records.appendleft((self._enqueue_word, size_class, sender, number, call, count, seq))
            break
        if queue is not None:
            self._recalls.touch(queue.windows)
            notify(queue.machine.admit(tokens))

    # -- Queues and words of memory

    def _attach(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        shared = self._queues.get(queue)
        core = None if shared is None else shared.core()
        if shared is None or core is None:
            error = CancelledError(None, None, "the queue is gone: nothing refers to it in the process that owned it")
            client.answers.fail(number, error)
            return
        if queue not in client.uses:  # else its thread has dropped the channel, and begins anew where it was
            try:
                place, take_place = self._take_word(client), self._take_word(client)
            except SharedMemoryFull as full:
                client.answers.fail(number, full)
                return
            client.uses[queue] = QueueUse(shared, core, shared.windows.add(client, place), Taker(take_place))
        producer = client.uses[queue].producer
        client.answers.send(Down.DONE, number, producer.place, producer.received)

    def _take_word(self, client: Client) -> int:
        """Give a client a word of shared memory, until it is gone."""
        client.words.append(self._pool.take_word())
        return client.words[-1]

    def _tally(self, client: Client, size: int, _q: int, call: int, _a: int, number: int) -> None:
        totals = find(number)
        places: list[int] = []
        if totals is not None and totals.size == size:
            with contextlib.suppress(SharedMemoryFull):  # the next work unit asks again
                places = [self._take_word(client) for _ in range(size)]
                totals.open(client, self._pool.words, places)
                client.totals.add(totals)
        client.answers.send(Down.DONE, call, data=array("q", places).tobytes())

    def _find(self, client: Client, size_class: int, _q: int, number: int, length: int, _b: int) -> None:
        if not 0 < length <= min(MAX_BYTES, class_bytes(size_class)):
            raise ProtocolError(f"a description of {length} bytes in a block of class {size_class}")
        client.fill(size_class, 1)
        token = client.filled.pop()
        # Copied out before it is looked at: its sender may still write to the block.
        at = offset_of(token)
        description = self._pool.arena.segment.memory[at : at + length]
        self._pool.arena.give([token])
        try:
            found = self._find_shared(description)
        except (OpError, TypeError, ValueError) as error:
            refused = error if isinstance(error, OpError) else InvalidArgumentError(None, None, str(error))
            client.answers.fail(number, refused)
            return
        client.answers.send(Down.DONE, number, found)

    # -- Blocks

    def _want(self, client: Client, size_class: int, queue: int, number: int, count: int, num_needed: int) -> None:
        if size_class > _LARGEST_CLASS:
            raise ProtocolError(f"blocks of class {size_class}")
        self._shortage.want(client, size_class, queue, number, count, num_needed)

    def _filled(self, client: Client, size_class: int, _q: int, _number: int, count: int, _b: int) -> None:
        client.fill(size_class, count)

    def _drop(self, client: Client, _c: int, _q: int, _number: int, _a: int, _b: int) -> None:
        filled, client.filled, client.pending_grant = client.filled, [], None
        self._pool.arena.give(filled)

    def _read(self, client: Client, _c: int, _queue: int, number: int, _a: int, _b: int) -> None:
        self._pool.arena.give(client.delivered.pop(number))

    def _undo_call(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        """End a call, whatever has become of it: it may be in line, have its elements, or never have come."""
        if self._shortage.withdraw(client, number):
            return
        shared, taker = client.uses[queue].queue, client.uses[queue].taker

        def undo() -> None:
            notify(shared.windows.lease.end(taker))  # first: what is put back now was taken before
            request, delivered = client.waiting.get(number), client.delivered.pop(number, None)
            if request is not None:
                notify(shared.machine.withdraw(request, WITHDRAWN))
            if delivered is not None:
                notify(shared.machine.put_back(list(delivered)))

        shared.windows.behind_calls(undo)

    # -- Calls

    def _enqueue(self, client: Client, size_class: int, queue: int, number: int, count: int, seq: int) -> None:
        client.fill(size_class, count)
        tokens, client.filled = client.filled, []
        shared, _core, producer, _taker = client.uses[queue]
        producer.received = seq
        self._recalls.touch(shared.windows)
        # It may have looked before its window was opened, or behind a recall: within either the room is its own.
        if seq <= producer.limit or seq <= producer.promise:
            notify(shared.machine.admit(tokens))
            client.answers.send(Down.DONE, number)
            return
        request = EnqueueRequest(tokens)
        self._submit(client, shared, number, request, partial(self._enqueued, client, number, request))

    def _confirm(self, client: Client, is_take: int, queue: int, number: int, _a: int, seq: int) -> None:
        if is_take:
            # Its TAKE came before this record, and was counted if the lease had not ended by then.
            client.answers.send(Down.DONE, number, int(client.uses[queue].taker.taken >= seq))
            return

        def confirm() -> None:
            if number not in client.waiting:  # else it was beyond the window, and is answered when it has ended
                client.answers.send(Down.DONE, number)

        client.uses[queue].queue.windows.behind_calls(confirm)

    def _dequeue(self, client: Client, fewer: int, queue: int, number: int, count: int, _b: int) -> None:
        if count < 1:
            raise ProtocolError(f"a dequeue of {count} elements")
        request = DequeueRequest(count, bool(fewer))
        shared, taker = client.uses[queue].queue, client.uses[queue].taker
        self._recalls.touch(shared.windows)
        if not shared.windows.is_recalling:
            notify(shared.windows.lease.end(taker))  # all that it has taken was read before this
        # Who asks again has read what it took last; until then that could be undone, see `lease`.
        self._pool.arena.give(client.delivered.pop(taker.last, ()))
        self._submit(client, shared, number, request, partial(self._dequeued, client, number, request, shared, taker))

    def _take(self, client: Client, _c: int, queue: int, number: int, count: int, _b: int) -> None:
        shared, taker = client.uses[queue].queue, client.uses[queue].taker
        self._pool.arena.give(client.delivered.pop(taker.last, ()))
        if shared.windows.lease.holder is not taker:
            return  # it was recalled
        if count > len(shared.machine.lent):
            raise ProtocolError(f"{count} elements were taken of a lease of {len(shared.machine.lent)}")
        client.delivered[number] = shared.windows.lease.take(taker, count)
        taker.last = number
        self._recalls.touch(shared.windows)
        notify(shared.machine.go_on())

    def _close(self, client: Client, cancel: int, queue: int, number: int, _a: int, _b: int) -> None:
        shared, request = client.uses[queue].queue, CloseRequest()
        if not cancel:
            self._submit(client, shared, number, request, partial(self._finished, client, number, request))
            return

        def close_now() -> None:
            notify(shared.machine.close_and_cancel())
            client.answers.send(Down.DONE, number)

        if shared.windows.make_way(request):
            close_now()
        else:
            self._recalls.defer(close_now)

    def _submit(
        self, client: Client, shared: SharedQueue, number: int, request: Call, when_finished: Callable[[], None]
    ) -> None:
        request.owner, request.queue, request.notify = client, shared.number, when_finished

        def submit() -> None:
            if not client.is_gone:
                client.waiting[number] = request
                notify(shared.machine.submit(request))
            elif isinstance(request, EnqueueRequest):
                self._pool.arena.give(list(request.tokens))

        if shared.windows.make_way(request):
            submit()
        else:
            self._recalls.defer(submit)

    def _withdraw(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        if self._shortage.withdraw(client, number):
            return
        shared = client.uses[queue].queue

        def withdraw() -> None:
            request = client.waiting.get(number)
            if request is not None:
                notify(shared.machine.withdraw(request, WITHDRAWN))

        shared.windows.behind_calls(withdraw)

    def _ask(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        machine = client.uses[queue].queue.machine
        client.answers.send(Down.STATE, number, machine.size, int(machine.closed))

    # -- Ends of their calls

    def _enqueued(self, client: Client, number: int, request: EnqueueRequest) -> None:
        self._pool.arena.give(list(request.tokens[request.entered :]))
        self._finished(client, number, request)

    def _finished(self, client: Client, number: int, request: Request) -> None:
        client.waiting.pop(number, None)
        if request.error is None:
            client.answers.send(Down.DONE, number)
        else:
            client.answers.fail(number, request.error)

    def _dequeued(
        self, client: Client, number: int, request: DequeueRequest, shared: SharedQueue, taker: Taker
    ) -> None:
        if request.error is not None:
            self._finished(client, number, request)
            return
        client.waiting.pop(number, None)
        try:
            blocks = self._as_blocks(request.taken, shared)
        except SharedMemoryFull as error:
            self._undo(request, shared, taker)
            client.answers.fail(number, error)
            return
        lent = shared.windows.lease.offer(taker, len(blocks)) if shared.may_lend else []
        client.answers.send(Down.TAKEN, number, len(blocks), taker.place, array("q", blocks + lent).tobytes())
        # The answer met the end of its reader, which the poller has yet to tell: who died before it was given anything
        # takes nothing along.
        if client.answers.has_ended:
            made = [block for block, token in zip(blocks, request.taken, strict=True) if block is not token]
            self._pool.arena.give(made)
            self._undo(request, shared, taker)
        else:
            client.delivered[number] = blocks

    def _undo(self, request: DequeueRequest, shared: SharedQueue, taker: Taker) -> None:
        """Give back, as soon as this step is over, what never reached its caller."""
        taken, request.taken = request.taken, []

        # Not in this step, which still has others to notify of its outcome: the machine knows those of one step.
        def undo() -> None:
            notify(shared.windows.lease.end(taker))  # first: what was lent lies behind what was taken
            notify(shared.machine.put_back(taken))

        self._recalls.defer_and_poke(undo)

    def _as_blocks(self, tokens: list[Any], shared: SharedQueue) -> list[int]:
        """The blocks of elements; those that threads of this process enqueued are written to new ones now."""
        storage, arena = shared.storage, self._pool.arena
        plain = [token for token in tokens if type(token) is not int] if storage.has_plain else []
        if not plain:
            return tokens
        made: list[int] = []
        try:
            if storage.codec.size_class >= 0:
                made = arena.take(storage.codec.size_class, len(plain))
                storage.write_alike(made, plain)
            else:
                for token in plain:
                    size_class, pieces = storage.to_block(token)
                    made += arena.take(size_class, 1)
                    storage.codec.write(made[-1], pieces)
        except BaseException:
            arena.give(made)
            raise
        if len(made) == len(tokens):
            return made
        written = iter(made)
        return [token if type(token) is int else next(written) for token in tokens]


# A call of this process that finds all it needs looks at the pipe only so often: a look costs as much as the call.
# One by one, a look at each call takes 2.2 times the CPU time; 64 at a time 1.4 times.
_STALE_S = 0.0005


class Hub:
    """Serves the queues of this process to others.

    Args:
        find_shared: Finds, or makes, the queue that another process describes, see `Steps`; called under the lock.
        path: Where the socket is made, see `Listener`.

    Attributes:
        address: The address at which it listens.
        lock: Around everything; held briefly, and never while waiting.
        watch: Listens.
        pool: The shared memory.
        recalls: Under way.
        shortage: The line of those who wait for shared memory.
        queues: By number.
        is_closed: It has ended.
        stale_at: When the pipe has to be looked at again, by `time.perf_counter`.
    """

    lives_without_queues = False
    """True if it does not end with its last queue."""

    def __init__(self, find_shared: Callable[[bytes], int], path: str | None = None) -> None:
        self.lock = Lock()
        self._process_id = os.getpid()
        self.watch = QueueWatch(self._serve)
        self._pipe = RecordPipe()
        self.watch.poller.register(self._pipe.fd, READABLE)
        poll = select.poll()
        poll.register(self._pipe.fd, READABLE)
        self._look = poll.poll
        self._listener = Listener(self.watch.poller, path)
        self.address = self._listener.address
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
        return None if queue is None else queue.core()

    def drop(self, number: int) -> None:
        """A queue is gone. Called by the garbage collector, anywhere."""
        if os.getpid() == self._process_id:  # else a fork has collected its copy
            # No lock here: the thread that the collector interrupts may have it.
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
            # The pipe before the sockets: what a process sent before its end is in the queue when that is seen.
            self.catch_up()
            for fd, event in events:
                if fd == self._pipe.fd or self.watch.is_poke(fd):
                    continue
                ended = self._listener.attend(fd, event, self.pool, self._pipe)
                if ended is not None:
                    self._remove(ended)
            self.recalls.extend()
            while self._dropped:
                self._forget(self._dropped.popleft())
            if self.shortage.demands and not self.is_closed:
                self.shortage.relieve()

    def _remove(self, client: Client) -> None:
        """Undo what a client had under way that has ended; all that it sent has been read."""
        for number, (queue, _core, producer, taker) in client.uses.items():
            notify(queue.windows.lease.end(taker))
            missing = sum(
                len(request.tokens) - request.entered
                for request in client.waiting.values()
                if isinstance(request, EnqueueRequest) and request.queue == number
            )
            notify(queue.machine.withdraw_owner(client, WITHDRAWN))
            queue.windows.remove(client)
            # Told to who starts the worker anew, see `train.process_op`: what was in line is not in the queue.
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
        if not self.queues and not self.lives_without_queues:
            self._close()

    def _close(self) -> None:
        self.is_closed = True
        self.shortage.demands.clear()  # or a thread that has read an element would poke what is closed
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
        if self.shortage.demands:
            self.shortage.relieve()
        self.stale_at = time.perf_counter() + _STALE_S


class HubDriver:
    """Drives a queue that other processes use, too; see `core.Driver`.

    Args:
        hub: Serves the queue.
        queue: The queue, as the hub keeps it.

    Attributes:
        hub: As given.
        number: The number by which other processes name the queue.
        lock: The hub's.
        storage: Keeps the elements.
    """

    def __init__(self, hub: Hub, queue: SharedQueue) -> None:
        self.hub, self._queue, self.number = hub, queue, queue.number
        self.lock, self.storage = hub.lock, queue.storage
        self._poke = hub.watch.prepare_poke()

    @property
    def promised(self) -> int:
        """See `core.Driver.promised`."""
        return self._queue.windows.reserved

    def submit(self, request: Call) -> Waiter | None:
        """Take the first step of a call of this process; None if it has finished."""
        hub, machine, windows = self.hub, self._queue.machine, self._queue.windows
        hub.watch.num_calls += 1  # the thread keeps away; an increment that is lost in a race means nothing
        with hub.lock:
            if self._finishes_alone(request):
                # Nobody is to be notified. A struck step is made good, as in `core.LocalDriver`.
                try:
                    machine.submit(request)
                except BaseException:
                    recover(machine)
                    raise
                return None
        with defer_signals(), hub.lock:
            if not isinstance(request, DequeueRequest):
                self.storage.has_plain = True  # before the element is in: who takes it looks for its kind then
            hub.catch_up()  # calls that have returned elsewhere come before this one
            while not windows.make_way(request):
                hub.catch_up()
            if isinstance(request, DequeueRequest):
                hub.recalls.extend()
            notify(machine.submit(request))
            waiter = None
            if not request.finished:
                waiter = Waiter(hub.watch)
                request.notify = waiter.wake
            # Behind the call: what an enqueue needs goes before all windows, and what a dequeue has freed may be one's.
            windows.extend()
            if hub.shortage.demands:
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
        blocks = self.storage.blocks_of(request.taken)
        if not blocks:
            return
        self.hub.pool.read += ((self.storage.codec.size_class, blocks),)  # no call: no handler runs behind it
        request.is_read = True
        # Who listens is told behind the note, or it would find nothing; and whether anybody waits is asked behind it,
        # too, or who begins to wait in between would not be told of. The first step of a loop over an iterator of C
        # makes the call without a look for signals behind it: what a handler raised here would lose the element.
        if self.hub.shortage.demands:
            try:
                for _ in self._poke:
                    break
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
            return self._queue.num_entered.get(process_id, 0)
