"""What each record of another process makes the owner do; see `wire` for the records.

Every method is one step, taken under the hub's lock. A step that needs room which is set aside for others, or closes
the queue, has the windows recalled and is deferred until the pipe was read once more; what refers to a call that may be
deferred (its withdrawal, the question what became of it) is deferred behind it.
"""

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpqueue.errors import CancelledError, InvalidArgumentError, OpError, SharedMemoryFull
from mpqueue.memory.arena import class_for, offset_of
from mpqueue.queues.client import Client, ProtocolError
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest, Request
from mpqueue.queues.share import Share
from mpqueue.queues.tally import find
from mpqueue.queues.wire import Down, Up, encode_error

if TYPE_CHECKING:
    from mpqueue.queues.core import QueueCore
    from mpqueue.queues.hub import Hub

_WORDS_BYTES = 1 << 12

WITHDRAWN = CancelledError(None, None, "withdrawn by its caller")


class Steps:
    """Takes the steps that records ask for.

    Args:
        hub: Whose.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        steps = {
            Up.ATTACH: self._attach,
            Up.WANT: self._want,
            Up.FILLED: self._filled,
            Up.ENQUEUE: self._enqueue,
            Up.CONFIRM: self._confirm,
            Up.DEQUEUE: self._dequeue,
            Up.READ: self._read,
            Up.UNREAD: self._put_back,
            Up.CLOSE: self._close,
            Up.WITHDRAW: self._withdraw,
            Up.ASK: self._ask,
            Up.FIND: self._find,
            Up.DROP: self._drop,
            Up.TALLY: self._tally,
        }
        self._steps = {hub.mark | kind: step for kind, step in steps.items()}
        self._admit_word, self._enqueue_word = hub.mark | Up.ADMIT, hub.mark | Up.ENQUEUE

    def take(self, word: int, flag: int, number: int, *said: int) -> None:
        """Take the step that a record asks for."""
        client = self._hub.clients.get(number)
        if client is None:
            return
        try:
            self._steps[word](client, flag, *said)
        except (ProtocolError, KeyError) as error:
            self._hub.cut(client, repr(error))

    def admit_run(self, records: deque[tuple[int, ...]]) -> None:
        """Take the records of one queue that need no answer all in one step: the way of most elements."""
        queue, tokens = records[0][3], []
        clients = self._hub.clients
        core: QueueCore | None = None
        while records and records[0][0] == self._admit_word and records[0][3] == queue:
            _kind, size_class, number, _queue, call, count, seq = records.popleft()
            client = clients.get(number)
            if client is None:
                continue
            try:
                producer = client.producers[queue]
                if seq <= producer.limit or seq <= producer.promise:
                    producer.received = seq
                    core = client.cores[queue]
                    if count == 1 and not client.filled:
                        tokens.append(client.granted[size_class].popleft())
                    else:
                        client.fill(size_class, count)
                        tokens += client.filled
                        client.filled.clear()
                    continue
            except (ProtocolError, KeyError, IndexError) as error:
                self._hub.cut(client, repr(error))
                continue
            records.appendleft((self._enqueue_word, size_class, number, queue, call, count, seq))  # beyond its window
            break
        if core is not None:
            self._hub.touched.add(self._hub.shares[queue])
            core.admit(tokens)

    def _attach(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        core = self._hub.find(queue)
        if core is None:
            error = CancelledError(None, None, "the queue is gone: nothing refers to it in the process that owned it")
            client.answer(Down.FAILED, number, *encode_error(error))
            return
        share = self._hub.shares[queue]
        if client not in share.windows.producers:
            try:
                place = self._place_for(client)
            except SharedMemoryFull as error:
                client.answer(Down.FAILED, number, *encode_error(error))
                return
            client.producers[queue] = share.windows.add(client, place)
        client.shares[queue], client.cores[queue] = share, core
        producer = client.producers[queue]
        client.answer(Down.DONE, number, producer.place, producer.received)

    def _place_for(self, client: Client) -> int:
        """A word of shared memory for a client, until it is gone."""
        hub = self._hub
        if not hub.places:
            first = offset_of(hub.arena.take(class_for(_WORDS_BYTES), 1)[0])
            hub.places = list(range(first // 8, (first + _WORDS_BYTES) // 8))
            hub.num_pages += 1
        client.places.append(hub.places.pop())
        return client.places[-1]

    def _tally(self, client: Client, size: int, _q: int, call: int, _a: int, number: int) -> None:
        tally = find(number)
        places: list[int] = []
        if tally is not None and tally.size == size:
            with contextlib.suppress(SharedMemoryFull):  # the next work unit asks again
                places = [self._place_for(client) for _ in range(size)]
                tally.open(client, self._hub.words, places)
                client.tallies.add(tally)
        client.answer(Down.DONE, call, data=np.array(places, np.int64).tobytes())

    def _want(self, client: Client, size_class: int, queue: int, number: int, count: int, num_needed: int) -> None:
        self._hub.shortage.want(client, size_class, queue, number, count, num_needed)

    def _drop(self, client: Client, _c: int, _q: int, _number: int, _a: int, _b: int) -> None:
        filled, client.filled, client.owes = client.filled, [], None
        self._hub.arena.give(filled)

    def _filled(self, client: Client, size_class: int, _q: int, _number: int, count: int, _b: int) -> None:
        client.fill(size_class, count)

    def _enqueue(self, client: Client, size_class: int, queue: int, number: int, count: int, seq: int) -> None:
        client.fill(size_class, count)
        tokens, client.filled = client.filled, []
        share, core, producer = client.shares[queue], client.cores[queue], client.producers[queue]
        producer.received = seq
        self._hub.touched.add(share)
        if seq <= producer.limit or seq <= producer.promise:
            core.admit(tokens)
            client.answer(Down.DONE, number)
            return
        request = EnqueueRequest(tokens)
        self._submit(client, share, number, request, partial(self._enqueued, client, number, request))

    def _confirm(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        def confirm() -> None:
            if number not in client.waiting:
                client.answer(Down.DONE, number)

        if client.shares[queue].is_recalling:
            self._hub.deferred.append(confirm)  # behind the call itself
        else:
            confirm()

    def _dequeue(self, client: Client, fewer: int, queue: int, number: int, count: int, _b: int) -> None:
        if count < 1:
            raise ProtocolError(f"a dequeue of {count} elements")
        request = DequeueRequest(count, bool(fewer))
        share = client.shares[queue]
        self._hub.touched.add(share)
        self._submit(client, share, number, request, partial(self._dequeued, client, number, request, share))

    def _close(self, client: Client, cancel: int, queue: int, number: int, _a: int, _b: int) -> None:
        share, core, request = client.shares[queue], client.cores[queue], CloseRequest()
        if not cancel:
            self._submit(client, share, number, request, partial(self._finished, client, number, request))
            return

        def close_now() -> None:
            core.close_now()
            client.answer(Down.DONE, number)

        if share.make_way(core, request):
            close_now()
        else:
            self._hub.deferred.append(close_now)

    def _submit(
        self,
        client: Client,
        share: Share,
        number: int,
        request: EnqueueRequest | CloseRequest | DequeueRequest,
        notify: Callable[[], None],
    ) -> None:
        core = client.cores[share.number]
        request.owner, request.queue, request.notify = client, share.number, notify

        def submit() -> None:
            if not client.is_gone:
                client.waiting[number] = request
                core.step(request, None)
            elif isinstance(request, EnqueueRequest):
                self._hub.arena.give(list(request.tokens))

        if share.make_way(core, request):
            submit()
        else:
            self._hub.deferred.append(submit)

    def _withdraw(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        if self._hub.shortage.withdraw(client, number):
            return
        share, core = client.shares[queue], client.cores[queue]

        def withdraw() -> None:
            request = client.waiting.get(number)
            if request is not None:
                core.withdraw(request, WITHDRAWN)

        if share.is_recalling:
            self._hub.deferred.append(withdraw)  # behind the call itself, which may wait there
        else:
            withdraw()

    def _ask(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        core = client.cores[queue]
        client.answer(Down.STATE, number, *core.state)

    def _find(self, client: Client, size_class: int, _q: int, number: int, length: int, _b: int) -> None:
        client.fill(size_class, 1)
        token = client.filled.pop()
        at = offset_of(token)
        description = self._hub.arena.segment.memory[at : at + length]
        self._hub.arena.give([token])
        try:
            share = self._hub.find_shared(description).share(self._hub.share)
        except (OpError, TypeError, ValueError) as error:
            refused = error if isinstance(error, OpError) else InvalidArgumentError(None, None, str(error))
            client.answer(Down.FAILED, number, *encode_error(refused))
            return
        client.answer(Down.DONE, number, share.number)

    def _read(self, client: Client, _c: int, _queue: int, number: int, _a: int, _b: int) -> None:
        self._hub.arena.give(client.delivered.pop(number))

    def _put_back(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        client.cores[queue].put_back(list(client.delivered.pop(number)))

    # -- Ends of their calls; under the queue's lock, too

    def _enqueued(self, client: Client, number: int, request: EnqueueRequest) -> None:
        self._hub.freed.append((-1, list(request.tokens[request.entered :])))
        self._finished(client, number, request)

    def _finished(self, client: Client, number: int, request: Request) -> None:
        client.waiting.pop(number, None)
        if request.error is None:
            client.answer(Down.DONE, number)
        else:
            client.answer(Down.FAILED, number, *encode_error(_own(request.error)))

    def _dequeued(self, client: Client, number: int, request: DequeueRequest, share: Share) -> None:
        if request.error is not None:
            self._finished(client, number, request)
            return
        client.waiting.pop(number, None)
        try:
            blocks = self._as_blocks(request.taken, share)
        except SharedMemoryFull as error:
            self._undo(client, request)
            client.answer(Down.FAILED, number, *encode_error(error))
            return
        client.answer(Down.TAKEN, number, len(blocks), 0, np.array(blocks, np.int64).tobytes())
        if client.has_ended:
            made = [block for block, token in zip(blocks, request.taken, strict=True) if block is not token]
            self._hub.arena.give(made)
            self._undo(client, request)
        else:
            client.delivered[number] = blocks

    def _undo(self, client: Client, request: DequeueRequest) -> None:
        """What it took never reached its caller, and goes back as soon as this step is over."""
        taken, request.taken = request.taken, []
        self._hub.deferred.append(partial(client.cores[request.queue].put_back, taken))
        self._hub.watch.poke()

    def _as_blocks(self, tokens: list[Any], share: Share) -> list[int]:
        """Elements that threads of this process enqueued are written to blocks now."""
        blocks, made = list(tokens), []
        try:
            for place, token in enumerate(tokens):
                if type(token) is not int:
                    size_class, pieces = share.storage.to_block(token)
                    made += self._hub.arena.take(size_class, 1)
                    share.storage.codec.write(made[-1], pieces)
                    blocks[place] = made[-1]
        except BaseException:
            self._hub.arena.give(made)
            raise
        return blocks


def _own(error: OpError) -> OpError | None:
    return None if error is WITHDRAWN else error
