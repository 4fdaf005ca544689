"""The step of the owner that each record of another process asks for; see `wire` for the records.

Every method is one step, taken under the hub's lock. A step that needs room which is set aside for others, or closes
the queue, has the windows recalled and is deferred until the pipe was read once more; what refers to a call that may be
deferred (its withdrawal, the question what became of it) is deferred behind it.
"""

import contextlib
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mpqueue.errors import CancelledError, InvalidArgumentError, OpError, SharedMemoryFull
from mpqueue.memory.arena import class_bytes, class_for, offset_of
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.client import Client, Delivered, ProtocolError, QueueUse
from mpqueue.tf1.queues.core import Call
from mpqueue.tf1.queues.description import MAX_BYTES
from mpqueue.tf1.queues.machine import CloseRequest, DequeueRequest, EnqueueRequest, QueueMachine, Request, notify
from mpqueue.tf1.queues.shared_queue import SharedQueue
from mpqueue.tf1.queues.shortage import Shortage
from mpqueue.tf1.queues.tally_totals import find
from mpqueue.tf1.queues.windows import Recalls
from mpqueue.tf1.queues.wire import Down, Record, Up, encode_error

_LARGEST_CLASS = class_for(1 << 62)  # beyond that, how much was asked for would fit into no answer

WITHDRAWN = CancelledError(None, None, "withdrawn by its caller")


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
            if client is not None:
                try:
                    self._steps[word](client, flag, *said)
                except (ProtocolError, KeyError) as error:
                    client.cut(repr(error))

    def _admit_run(self, records: deque[Record]) -> None:
        """Take the records of one queue that need no answer all in one step: the way of most elements."""
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
            records.appendleft((self._enqueue_word, size_class, sender, number, call, count, seq))  # beyond its window
            break
        if queue is not None:
            self._recalls.touch(queue.windows)
            notify(queue.machine.admit(tokens))

    # -- Queues and words of memory

    def _attach(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        shared = self._queues.get(queue)
        core = None if shared is None else shared.core
        if shared is None or core is None:
            error = CancelledError(None, None, "the queue is gone: nothing refers to it in the process that owned it")
            client.answers.send(Down.FAILED, number, *encode_error(error))
            return
        if queue not in client.uses:
            try:
                place = self._take_word(client)
            except SharedMemoryFull as full:
                client.answers.send(Down.FAILED, number, *encode_error(full))
                return
            client.uses[queue] = QueueUse(shared, core, shared.windows.add(client, place))
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
        at = offset_of(token)
        description = self._pool.arena.segment.memory[at : at + length]
        self._pool.arena.give([token])
        try:
            found = self._find_shared(description)
        except (OpError, TypeError, ValueError) as error:
            refused = error if isinstance(error, OpError) else InvalidArgumentError(None, None, str(error))
            client.answers.send(Down.FAILED, number, *encode_error(refused))
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
        blocks, size_class = client.delivered.pop(number)
        if size_class >= 0:
            self._pool.arena.give_alike(size_class, blocks)
        else:
            self._pool.arena.give(blocks)

    def _undo_call(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        """End a call, whatever has become of it: it may be in line, have its elements, or never have come."""
        if self._shortage.withdraw(client, number):
            return
        shared = client.uses[queue].queue

        def undo() -> None:
            request, delivered = client.waiting.get(number), client.delivered.pop(number, None)
            if request is not None:
                notify(shared.machine.withdraw(request, WITHDRAWN))
            if delivered is not None:
                notify(shared.machine.put_back(list(delivered.blocks)))

        if shared.windows.is_recalling:
            self._recalls.defer(undo)  # behind the call itself
        else:
            undo()

    # -- Calls

    def _enqueue(self, client: Client, size_class: int, queue: int, number: int, count: int, seq: int) -> None:
        client.fill(size_class, count)
        tokens, client.filled = client.filled, []
        shared, _core, producer = client.uses[queue]
        producer.received = seq
        self._recalls.touch(shared.windows)
        if seq <= producer.limit or seq <= producer.promise:
            notify(shared.machine.admit(tokens))
            client.answers.send(Down.DONE, number)
            return
        request = EnqueueRequest(tokens)
        self._submit(client, shared, number, request, partial(self._enqueued, client, number, request))

    def _confirm(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        def confirm() -> None:
            if number not in client.waiting:
                client.answers.send(Down.DONE, number)

        if client.uses[queue].queue.windows.is_recalling:
            self._recalls.defer(confirm)  # behind the call itself
        else:
            confirm()

    def _dequeue(self, client: Client, fewer: int, queue: int, number: int, count: int, _b: int) -> None:
        if count < 1:
            raise ProtocolError(f"a dequeue of {count} elements")
        request = DequeueRequest(count, bool(fewer))
        shared = client.uses[queue].queue
        self._recalls.touch(shared.windows)
        self._submit(client, shared, number, request, partial(self._dequeued, client, number, request, shared))

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

        if shared.windows.is_recalling:
            self._recalls.defer(withdraw)  # behind the call itself, which may wait there
        else:
            withdraw()

    def _ask(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        machine = client.uses[queue].queue.machine
        client.answers.send(Down.STATE, number, machine.size, int(machine.closed))

    # -- Ends of their calls

    def _enqueued(self, client: Client, number: int, request: EnqueueRequest) -> None:
        self._pool.note_read(-1, list(request.tokens[request.entered :]))
        self._finished(client, number, request)

    def _finished(self, client: Client, number: int, request: Request) -> None:
        client.waiting.pop(number, None)
        if request.error is None:
            client.answers.send(Down.DONE, number)
        else:
            client.answers.send(Down.FAILED, number, *encode_error(_own(request.error)))

    def _dequeued(self, client: Client, number: int, request: DequeueRequest, shared: SharedQueue) -> None:
        if request.error is not None:
            self._finished(client, number, request)
            return
        client.waiting.pop(number, None)
        try:
            blocks = self._as_blocks(request.taken, shared)
        except SharedMemoryFull as error:
            self._undo(request, shared.machine)
            client.answers.send(Down.FAILED, number, *encode_error(error))
            return
        client.answers.send(Down.TAKEN, number, len(blocks), 0, array("q", blocks).tobytes())
        if client.answers.has_ended:
            made = [block for block, token in zip(blocks, request.taken, strict=True) if block is not token]
            self._pool.arena.give(made)
            self._undo(request, shared.machine)
        else:
            client.delivered[number] = Delivered(blocks, shared.storage.codec.size_class)

    def _undo(self, request: DequeueRequest, machine: QueueMachine) -> None:
        """Give back, as soon as this step is over, what never reached its caller."""
        taken, request.taken = request.taken, []
        self._recalls.defer_and_poke(lambda: notify(machine.put_back(taken)))

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


def _own(error: OpError) -> OpError | None:
    return None if error is WITHDRAWN else error
