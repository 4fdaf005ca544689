"""The hub: serves the queues of this process to all other processes that use them.

    another process                      this process
    ───────────────                      ────────────
    connects                ──socket──►  creates a `Client`, with a number
    writes records          ───pipe───►  catch_up: reads all records, takes their steps in order
                            ◄──socket──  answers, sent by the steps
    its connection ends     ──socket──►  reads its last records; then withdraws its calls and frees its blocks

The queues, their machines and the arena belong to this process; only this process modifies them. Another process owns
only the bytes of the blocks that it was granted. So it may be killed at any time: an element is enqueued by one record,
which is written either completely or not at all. A killed consumer loses at most the elements of its last answer.

`Hub.catch_up` is called by the thread that polls (see `watch`), and by the `HubDriver` of a queue before each step for
this process. Therefore, each call sees the effects of all calls that returned before it began, in any process.

`Steps` has one method for each kind of record, see `wire`. Each method is one step, taken under the hub's lock. A step
that needs reserved room, or closes the queue, recalls the windows and is deferred until the pipe has been read again.
Steps that refer to a deferred call (a withdrawal, or a question about its outcome) are deferred until after that call.
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

from mpqueue.errors import CancelledError, InternalError, InvalidArgumentError, OpError, SharedMemoryFull
from mpqueue.system.log import logger_of
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import Lock
from mpqueue.system.user_code.exception_texts import text_of
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
from mpqueue.tf1.queues.wire import WITHDRAWN, Down, Record, RecordPipe, Up, take_first
from mpqueue.transport.poller import READABLE, Events
from mpqueue.transport.records import ProtocolError

_log = logger_of(__name__)
# Larger classes would overflow the fields of an answer.
_LARGEST_CLASS = class_for(1 << 62)


class Steps:
    """Takes the steps that the records of other processes request.

    Args:
        mark: The mark of the records.
        clients: All connections, by number.
        queues: All queues, by number.
        pool: Allocator of the blocks.
        shortage: Demands that wait for blocks.
        recalls: Defers steps until the pipe has been read.
        find_shared: Finds or creates the queue with a described shared name, and returns its number.
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
        """Take the steps of all these records, in order."""
        while records:
            if records[0][0] == self._admit_word:
                self._admit_run(records)
                continue
            word, flag, number, *fields = records.popleft()
            client = self._clients.get(number)
            if client is not None:  # otherwise its connection was closed, and all of its resources are freed
                try:
                    self._steps[word](client, flag, *fields)
                # A `KeyError` means that the record names a queue or call that this client does not have. A faulty
                # client must not stop the service to others, so only its connection ends.
                except (ProtocolError, KeyError) as error:
                    client.cut(repr(error))

    def _admit_run(self, records: deque[Record]) -> None:
        """Take consecutive ADMIT records of one queue in one step. Most elements arrive this way.

        A separate step for each record takes 1.45 times the owner's CPU time.
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
                # Within the window, or within one that is being recalled: its room is still reserved for this element.
                if seq <= producer.limit or seq <= producer.promise:
                    producer.received = seq
                    queue = use.queue
                    # Common cases: one block per record, without a call; or several, only from this record.
                    if count == 1 and not client.filled:
                        tokens.append(client.granted[size_class].pop())
                    elif not client.filled and count <= len(granted := client.granted.get(size_class, [])):
                        tokens += take_first(granted, count)
                    else:
                        client.fill(size_class, count)
                        tokens += client.filled
                        client.filled.clear()
                    continue
            except (ProtocolError, KeyError, IndexError) as error:
                client.cut(repr(error))
                continue
            # Beyond the window: handle it as an ENQUEUE, which waits for room and is answered. Records after it must
            # not overtake it, so this run ends.
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
            error = CancelledError(None, None, "The queue was deleted: no object in its owner process refers to it.")
            client.answers.fail(number, error)
            return
        # If it is attached already, its thread has dropped the channel and starts again with the same counts.
        if queue not in client.uses:
            try:
                place, take_place = self._take_word(client), self._take_word(client)
            except SharedMemoryFull as full:
                client.answers.fail(number, full)
                return
            client.uses[queue] = QueueUse(shared, core, shared.windows.add(client, place), Taker(take_place))
        producer = client.uses[queue].producer
        client.answers.send(Down.DONE, number, producer.place, producer.received)

    def _take_word(self, client: Client) -> int:
        """Allocate a word of shared memory for a client, until its connection ends."""
        client.words.append(self._pool.take_word())
        return client.words[-1]

    def _tally(self, client: Client, size: int, _q: int, call: int, _a: int, number: int) -> None:
        totals = find(number)
        places: list[int] = []
        if totals is not None and totals.size == size:
            # Counting is best effort: without memory for cells, the next work unit requests them again.
            with contextlib.suppress(SharedMemoryFull):
                places = [self._take_word(client) for _ in range(size)]
                totals.open(client, self._pool.words, places)
                client.totals.add(totals)
        client.answers.send(Down.DONE, call, data=array("q", places).tobytes())

    def _find(self, client: Client, size_class: int, _q: int, number: int, length: int, _b: int) -> None:
        if not 0 < length <= min(MAX_BYTES, class_bytes(size_class)):
            raise ProtocolError(f"invalid description of {length} bytes in a block of class {size_class}")
        client.fill(size_class, 1)
        token = client.filled.pop()
        # Copy the description before parsing it: its sender can still write to the block.
        at = offset_of(token)
        description = self._pool.arena.segment.memory[at : at + length]
        self._pool.arena.give([token])
        try:
            queue_number = self._find_shared(description)
        except (OpError, TypeError, ValueError) as error:
            failure = error if isinstance(error, OpError) else InvalidArgumentError(None, None, str(error))
            client.answers.fail(number, failure)
            return
        client.answers.send(Down.DONE, number, queue_number)

    # -- Blocks

    def _want(self, client: Client, size_class: int, queue: int, number: int, count: int, num_needed: int) -> None:
        if size_class > _LARGEST_CLASS:
            raise ProtocolError(f"size class must be at most {_LARGEST_CLASS}, got {size_class}")
        self._shortage.want(client, size_class, queue, number, count, num_needed)

    def _filled(self, client: Client, size_class: int, _q: int, _number: int, count: int, _b: int) -> None:
        client.fill(size_class, count)

    def _drop(self, client: Client, _c: int, _q: int, _number: int, _a: int, _b: int) -> None:
        filled, client.filled, client.pending_grant = client.filled, [], None
        self._pool.arena.give(filled)

    def _read(self, client: Client, _c: int, _queue: int, number: int, _a: int, _b: int) -> None:
        self._pool.arena.give(client.delivered.pop(number))

    def _undo_call(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        """Undo a call in any state: waiting, finished with elements delivered, or never received."""
        # A call that waits for memory has not reached a queue yet.
        if self._shortage.withdraw(client, number):
            return
        shared, taker = client.uses[queue].queue, client.uses[queue].taker

        def undo() -> None:
            # End the lease first: the delivered elements were before the leased ones in the queue.
            notify(shared.windows.lease.end(taker))
            request, delivered = client.waiting.get(number), client.delivered.pop(number, None)
            if request is not None:
                notify(shared.machine.withdraw(request, WITHDRAWN))
            if delivered is not None:
                notify(shared.machine.put_back(list(delivered)))

        shared.windows.after_calls(undo)

    # -- Calls

    def _enqueue(self, client: Client, size_class: int, queue: int, number: int, count: int, seq: int) -> None:
        # By count only: a record cannot name blocks, so a client cannot enqueue a block that it was not granted.
        client.fill(size_class, count)
        tokens, client.filled = client.filled, []
        shared, _core, producer, _taker = client.uses[queue]
        producer.received = seq
        self._recalls.touch(shared.windows)
        # The client may have read its limit before the window was opened, or after the recall. In both cases the room
        # is reserved for this element.
        if seq <= producer.limit or seq <= producer.promise:
            notify(shared.machine.admit(tokens))
            client.answers.send(Down.DONE, number)
            return
        request = EnqueueRequest(tokens)
        self._submit(client, shared, number, request, partial(self._enqueued, client, number, request))

    def _confirm(self, client: Client, is_take: int, queue: int, number: int, _a: int, seq: int) -> None:
        if is_take:
            # Its TAKE preceded this record in the pipe, and was counted unless the lease was over by then.
            client.answers.send(Down.DONE, number, int(client.uses[queue].taker.taken >= seq))
            return

        def confirm() -> None:
            # Otherwise the ADMIT was beyond the window and became a waiting call, which is answered when it finishes.
            if number not in client.waiting:
                client.answers.send(Down.DONE, number)

        client.uses[queue].queue.windows.after_calls(confirm)

    def _dequeue(self, client: Client, fewer: int, queue: int, number: int, count: int, _b: int) -> None:
        if count < 1:
            raise ProtocolError(f"number of elements to dequeue must be at least 1, got {count}")
        request = DequeueRequest(count, bool(fewer))
        shared, taker = client.uses[queue].queue, client.uses[queue].taker
        self._recalls.touch(shared.windows)
        # While a recall is in progress, records of TAKEs may still be unread. Otherwise all of them were read.
        if not shared.windows.is_recalling:
            notify(shared.windows.lease.end(taker))
        # A new request means that the client has copied the blocks of its last TAKE. Until now it could have undone
        # that TAKE, see `lease`.
        self._pool.arena.give(client.delivered.pop(taker.last, ()))
        self._submit(client, shared, number, request, partial(self._dequeued, client, number, request, shared, taker))

    def _take(self, client: Client, _c: int, queue: int, number: int, count: int, _b: int) -> None:
        shared, taker = client.uses[queue].queue, client.uses[queue].taker
        self._pool.arena.give(client.delivered.pop(taker.last, ()))
        if shared.windows.lease.holder is not taker:
            return  # the lease ended before this TAKE: the answer to the client's CONFIRM will report it
        if count > len(shared.machine.lent):
            # Otherwise `take` would raise an IndexError, which no caller handles.
            raise ProtocolError(f"took {count} elements from a lease of {len(shared.machine.lent)}")
        client.delivered[number] = shared.windows.lease.take(taker, count)
        taker.last = number
        self._recalls.touch(shared.windows)
        notify(shared.machine.serve())

    def _close(self, client: Client, cancel: int, queue: int, number: int, _a: int, _b: int) -> None:
        shared, request = client.uses[queue].queue, CloseRequest()
        if not cancel:
            self._submit(client, shared, number, request, partial(self._finished, client, number, request))
            return

        def close_now() -> None:
            notify(shared.machine.close_and_cancel())
            self._shortage.cancel(shared)
            client.answers.send(Down.DONE, number)

        # Reserved room may contain elements that were enqueued before the close. Read the pipe before closing.
        if shared.windows.make_way(request):
            close_now()
        else:
            self._recalls.defer(close_now)

    def _submit(
        self, client: Client, shared: SharedQueue, number: int, request: Call, when_finished: Callable[[], None]
    ) -> None:
        request.owner, request.queue, request.notify = client, shared.number, when_finished

        def submit() -> None:
            # The client may have exited while the step was deferred. Its calls must not wait in the queue.
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

        shared.windows.after_calls(withdraw)

    def _ask(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        machine = client.uses[queue].queue.machine
        client.answers.send(Down.STATE, number, machine.size, int(machine.closed))

    # -- Ends of their calls

    def _enqueued(self, client: Client, number: int, request: EnqueueRequest) -> None:
        # Elements that did not get in leave their blocks; the others belong to the queue.
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
        # The consumer can read blocks only, so elements of this process's threads are written to blocks now.
        try:
            blocks = self._as_blocks(request.taken, shared)
        except SharedMemoryFull as error:
            self._undo(request, shared, taker)
            client.answers.fail(number, error)
            return
        lent = shared.windows.lease.offer(taker, len(blocks)) if shared.may_lend else []
        client.answers.send(Down.TAKEN, number, len(blocks), taker.place, array("q", blocks + lent).tobytes())
        # Sending the answer failed because its reader has exited, before the poller reported that. An element that was
        # never delivered must not be lost with the consumer.
        if client.answers.has_ended:
            made = [block for block, token in zip(blocks, request.taken, strict=True) if block is not token]
            self._pool.arena.give(made)
            self._undo(request, shared, taker)
        else:
            client.delivered[number] = blocks

    def _undo(self, request: DequeueRequest, shared: SharedQueue, taker: Taker) -> None:
        """Return elements that did not reach their caller to the queue, after the current step."""
        taken, request.taken = request.taken, []

        # Not in this step, which is still notifying the callers of its finished requests: the machine has only one list
        # of finished requests.
        def undo() -> None:
            notify(shared.windows.lease.end(taker))  # first: leased elements follow these ones in the queue
            notify(shared.machine.put_back(taken))

        self._recalls.defer_and_poke(undo)

    def _as_blocks(self, tokens: list[Any], shared: SharedQueue) -> list[int]:
        """Return the blocks of elements, after writing elements of this process's threads to new blocks."""
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
            arena.give(made)  # the elements remain Python objects
            raise
        if len(made) == len(tokens):
            return made
        written = iter(made)
        return [token if type(token) is int else next(written) for token in tokens]


# For this time, a call of this process that finds all it needs does not check the pipe: a check takes as long as the
# call. With a check at each call, elements one by one take 2.2 times the CPU time, and 64 at a time 1.4 times.
_STALE_S = 0.0005


class Hub:
    """Serves the queues of this process to others.

    Args:
        find_shared: Finds or creates the queue that another process describes, see `Steps`; called under the lock.

    Attributes:
        address: The address that the hub listens at.
        lock: Protects all tables of the hub; held briefly, never while waiting.
        watch: Polls the descriptors.
        pool: The shared memory.
        recalls: Recalls in progress.
        shortage: Demands that wait for shared memory.
        queues: All queues, by number.
        is_closed: True after the hub was closed.
        failure: The error that has closed it; empty if there was none.
        stale_at: Time of `time.perf_counter` at which the pipe must be checked again.
    """

    def __init__(self, find_shared: Callable[[bytes], int]) -> None:
        self.lock = Lock()
        self._process_id = os.getpid()
        with contextlib.ExitStack() as undo:  # if there are too few descriptors, those opened before are closed
            self.watch = QueueWatch(self._serve)
            undo.callback(self.watch.end)
            self._pipe = RecordPipe()
            undo.callback(self._pipe.close)
            self._listener = Listener(self.watch.poller)
            undo.callback(self._listener.close)
            self.pool = BlockPool()
            undo.pop_all()
        self.watch.poller.register(self._pipe.fd, READABLE)
        poll = select.poll()
        poll.register(self._pipe.fd, READABLE)
        self._look = poll.poll
        self.address = self._listener.address
        self.recalls = Recalls(self.watch.poke)
        self.queues: dict[int, SharedQueue] = {}
        clients = self._listener.clients
        self.shortage = Shortage(self.pool, clients, self.queues)
        self._steps = Steps(self._pipe.mark, clients, self.queues, self.pool, self.shortage, self.recalls, find_shared)
        self._last_queue = 0
        self._dropped: deque[int] = deque()
        self._thread: threading.Thread | None = None
        self.is_closed, self.failure = False, ""
        self.stale_at = 0.0

    # -- Queues of this process

    def share(self, core: QueueCore) -> None:
        """Start serving a queue. Hold the lock."""
        core.hand_over(lambda: HubDriver(self, self._add(core)))

    def _add(self, core: QueueCore) -> SharedQueue:
        self._last_queue += 1
        windows = Windows(self.pool.words, core.machine, self.recalls)
        queue = SharedQueue(self._last_queue, core, self.pool, windows)
        self.queues[queue.number] = queue
        weakref.finalize(core, self.drop, queue.number).atexit = False
        return queue

    def find(self, number: int) -> QueueCore | None:
        """Return the queue with a number, or None if it was deleted."""
        queue = self.queues.get(number)
        return None if queue is None else queue.core()

    def drop(self, number: int) -> None:
        """Remove a deleted queue. The garbage collector may call this method in any thread."""
        if os.getpid() == self._process_id:  # otherwise a forked child has collected its copy
            # Take no lock: the thread in which the garbage collector runs may hold it.
            if self.failure:
                self._drop_failed(number)
            else:
                self._dropped.append(number)
                self.watch.poke()

    def serve(self) -> None:
        """Start the hub's thread. Until then, connections wait."""
        with defer_signals(), self.lock:
            if self._thread is None and not self.is_closed:
                self._thread = threading.Thread(target=self._run, name="mpqueue-queues", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            self.watch.run()
        except BaseException as error:
            with self.lock:
                self._fail(error)  # of the poll; an error of a step has done this
            self.watch.end()
            raise

    # -- Listening

    def attend(self) -> None:
        """Serve everything that is readable now, including closed connections."""
        if not self.is_closed:
            self._serve(self.watch.poller.poll(0))

    def _serve(self, events: Events) -> None:
        # Handlers are deferred: many tables are half updated during a step, see NOTE [ Interrupts ] in `core`.
        with defer_signals(), self.lock:
            # Another thread may have closed the hub between the poll and the lock.
            if self.is_closed:
                return
            # Read the pipe before the sockets: records that a process sent before it exited take effect first.
            self.catch_up()
            try:
                self._attend(events)
            except BaseException as error:
                self._fail(error)
                raise

    def _attend(self, events: Events) -> None:
        # Clear the poke first: the steps below may defer further steps and poke, and that poke must remain.
        events = [each for each in events if each[0] != self._pipe.fd and not self.watch.is_poke(each[0])]
        for fd, event in events:
            ended = self._listener.attend(fd, event, self.pool, self._pipe)
            if ended is not None:
                self._remove(ended)
        self.recalls.extend()
        while self._dropped:
            self._forget(self._dropped.popleft())
        if self.shortage.demands and not self.is_closed:
            self.shortage.relieve()

    def _remove(self, client: Client) -> None:
        """Clean up after a closed connection. All of its records must have been read."""
        for number, (queue, _core, producer, taker) in client.uses.items():
            # The lease ends first, so that unread leased elements return to the queue before other calls are served.
            notify(queue.windows.lease.end(taker))
            missing = sum(
                len(request.tokens) - request.entered
                for request in client.waiting.values()
                if isinstance(request, EnqueueRequest) and request.queue == number
            )
            notify(queue.machine.withdraw_owner(client, WITHDRAWN))
            queue.windows.remove(client)
            # `train.process_op` reads this count before it restarts a worker: elements of waiting calls are not in.
            queue.note_entered(client.process_id, producer.received - missing)
            self.recalls.touch(queue.windows)
        self.pool.arena.give(client.blocks())
        for place in client.words:
            self.pool.words[place] = 0
        # A client that was cut off may still be running and look at its limits. Never reuse its words.
        if not client.is_cut:
            self.pool.free_words += client.words
        self.shortage.forget(client)
        client.uses.clear()

    def _forget(self, number: int) -> None:
        """Free the blocks of a deleted queue; close the hub after the last queue."""
        self.pool.arena.give(self.queues.pop(number).held_blocks())
        if not self.queues:
            self._close()

    def _close(self) -> None:
        self._disconnect()
        self.pool.close()

    def _disconnect(self) -> None:
        self.is_closed = True
        # A thread that has read an element pokes the watch if there are demands, and the watch is closed now.
        self.shortage.demands.clear()
        self._listener.close()
        self._pipe.close()
        self.watch.close()

    def _fail(self, error: BaseException) -> None:
        """End all calls after an error in a step, which may have left any table half updated. Hold the lock.

        Otherwise the calls of other processes would wait for answers indefinitely.
        """
        if self.is_closed:
            return
        self.failure = f"{type(error).__name__} in a step: {text_of(error)}"
        _log.error("The queues of this process have failed, because of %s", self.failure)
        try:
            for queue in list(self.queues.values()):
                notify(queue.machine.withdraw_all(self.refusal()))
        except BaseException:  # of a table that the error has damaged; the connections end in any case
            _log.exception("Not all waiting calls got the error of the queues of this process")
        finally:
            for client in self._listener.clients.values():
                client.uses.clear()  # breaks the reference cycle client -> queue -> hub
            self._disconnect()
            while self._dropped:
                self._drop_failed(self._dropped.popleft())

    def _drop_failed(self, number: int) -> None:
        # Not before the last queue: threads of this process may be reading elements.
        self.queues.pop(number, None)
        if not self.queues:
            self.pool.close()

    def refusal(self) -> InternalError:
        """Return the error of each call after a failure."""
        return InternalError(None, None, f"The queues of process {os.getpid()} have failed: {self.failure}")

    # -- What other processes send

    def has_records(self) -> bool:
        """Return whether the pipe has unread records, without waiting. Hold the lock."""
        if self.is_closed or self._look(0):
            return True
        self.stale_at = time.perf_counter() + _STALE_S
        return False

    def catch_up(self) -> None:
        """Read all records from the pipe and take their steps in order. Hold the lock."""
        if self.is_closed:
            return
        try:
            self._take_records()
        except BaseException as error:
            self._fail(error)
            raise

    def _take_records(self) -> None:
        read, take, records, recalls = self._pipe.read, self._steps.take, self._pipe.records, self.recalls
        was_all = False
        num_recalled = 0
        # Repeat after a recall: only the records that are read after it show how the window was used.
        while not was_all or recalls.num_open > num_recalled:
            num_recalled = recalls.num_open
            was_all = read()
            take(records)
        recalls.settle()
        if self.shortage.demands:
            self.shortage.relieve()
        self.stale_at = time.perf_counter() + _STALE_S


class HubDriver:
    """Driver of a queue that other processes use, too; see `core.Driver`.

    Args:
        hub: The hub that serves the queue.
        queue: The hub's data of the queue.

    Attributes:
        hub: The hub that serves the queue.
        number: Number of the queue in records.
        lock: The hub's lock.
        storage: Storage of the elements.
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
        """Take the first step of a call of this process; return None if it has finished."""
        hub, machine, windows = self.hub, self._queue.machine, self._queue.windows
        hub.watch.num_calls += 1  # keeps the hub's thread asleep; a lost increment in a race does no harm
        with hub.lock:
            if hub.failure:
                raise hub.refusal()
            if isinstance(request, DequeueRequest):
                # Elements in the queue precede those of unread records, so the pipe need not be checked for some time.
                if time.perf_counter() < hub.stale_at and machine.dequeue_at_once(request):
                    return None
            elif self._finishes_alone(request):
                # No other call finishes, so there is no caller to notify. `recover` completes an interrupted step.
                try:
                    machine.submit(request)
                except BaseException:
                    recover(machine)
                    raise
                return None
        with defer_signals(), hub.lock:
            if not isinstance(request, DequeueRequest):
                # Set before the element is in the queue: the consumer that receives it checks this flag.
                self.storage.has_plain = True
            # Records of calls that have returned in other processes must take effect before this call.
            hub.catch_up()
            # Room that is reserved for a producer must not be used before its records have been read.
            while not windows.make_way(request):
                hub.catch_up()
            # Open windows before a dequeue waits, so that producers can fill the queue without waiting for answers.
            if isinstance(request, DequeueRequest):
                hub.recalls.extend()
            notify(machine.submit(request))
            waiter = None
            if not request.finished:
                waiter = Waiter(hub.watch)
                request.notify = waiter.wake
            # After the call: an enqueue has priority over windows, and a dequeue's free room may become a window.
            windows.extend()
            if hub.shortage.demands:
                hub.shortage.relieve()  # this call may be waiting now, and the demands may have relied on it
        return waiter

    def _finishes_alone(self, request: EnqueueRequest | CloseRequest) -> bool:
        """Return whether a call finishes at once, finishes no other call, and follows no unread record.

        Then no caller must be notified, and signal handlers need not be deferred.
        """
        hub, machine, windows = self.hub, self._queue.machine, self._queue.windows
        if machine.has_waiting_enqueues:
            return False
        if not isinstance(request, EnqueueRequest) or machine.closed or machine.has_waiting_dequeues:
            return False
        self.storage.has_plain = True
        room = machine.room
        has_room = room is None or room >= len(request.tokens)
        return has_room and not windows.is_recalling and not windows.reserved and not hub.has_records()

    def close_now(self) -> None:
        """Close the queue and cancel pending enqueues."""
        with defer_signals(), self.hub.lock:
            if self.hub.failure:  # all calls have failed
                return
            self.hub.catch_up()
            while not self._queue.windows.make_way(CloseRequest()):
                self.hub.catch_up()
            notify(self._queue.machine.close_and_cancel())
            self.hub.shortage.cancel(self._queue)

    def catch_up(self) -> None:
        """Take the steps that other processes have requested so far."""
        with defer_signals(), self.hub.lock:
            self.hub.catch_up()

    def free(self, request: DequeueRequest) -> None:
        """Free the blocks of elements that were dequeued and copied."""
        blocks = self.storage.blocks_of(request.taken)
        if not blocks:
            return
        # An augmented assignment instead of a call, so that no handler runs between it and the flag.
        self.hub.pool.read += ((self.storage.codec.size_class, blocks),)
        request.is_read = True
        # Wake the polling thread after the append, or it would find no block to free. Check for demands after it, too,
        # or a demand that starts to wait in between would not be served. The first step of a loop over a C iterator
        # makes the call without running handlers after it: an exception raised here would lose the element.
        if self.hub.shortage.demands:
            try:
                for _ in self._poke:
                    break
            except OSError:
                return  # the pipe is full, so its reader wakes up anyway

    def keep(self, taken: list[Token]) -> None:
        """Stop holding the blocks of elements that return to the queue."""
        for token in self.storage.blocks_of(taken):
            self.hub.pool.holds.forget(token)

    def num_entered(self, process_id: int) -> int:
        """Return the number of elements that a process enqueued before its connections ended."""
        self.hub.attend()  # the poller may not have reported the end of its connection yet
        with self.hub.lock:
            return self._queue.num_entered.get(process_id, 0)
