"""Windows: a producer process enqueues without waiting for answers, and the capacity is never exceeded.

If a producer waits for the answer to each call, each element costs two process switches; one by one, that takes 1.6 to
6 times the CPU time. So the owner reserves room for it, a *window*. While the number of elements that the producer has
enqueued is at most its *limit*, they are in the queue as soon as their records are written, and no answer is needed.
The limit is a word of shared memory that only the owner writes::

    producer                                   owner
    ────────                                   ─────
    limit reached: ENQUEUE, wait for the answer
    otherwise ADMIT, then read the limit:      elements in the queue + all windows <= the capacity
      unchanged: return                        ADMIT within the limit: enqueues the element
      recalled: CONFIRM, wait for the answer   ADMIT beyond the limit: a normal call, which is answered

If another call needs the room, or closes the queue, the owner *recalls* the windows: it lowers each limit to
the number of received elements, then reads the rest of the pipe. An ADMIT found there may have been written within the
window; its room is still reserved, so the element is enqueued. The producer of a later ADMIT sees the new limit.

The step that needed the recall is *deferred* until the pipe has been read again, and so are steps that refer to it (a
withdrawal, or a question about its outcome). Leases, the counterpart for consumers (see `lease`), end with the same
recalls.

Consequently, a close never overtakes an enqueue that has returned, and a killed producer leaves no reservation.
"""

import platform
from collections.abc import Callable

from mpqueue.tf1.queues.lease import Lease
from mpqueue.tf1.queues.machine import DequeueRequest, EnqueueRequest, QueueMachine, Request, notify

# Both sides write first (the owner the limit, the producer the record), make a system call on the pipe, and read last.
# So at least one side sees the other, if the processor does not move a read before an earlier locked write of the
# kernel. On other processors all windows remain closed, and each call is answered.
IS_STRONGLY_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i686")
MAX_WINDOW = 1024 if IS_STRONGLY_ORDERED else 0


class Producer:
    """A connection that enqueues into one queue.

    Attributes:
        place: Index of its limit word in the shared memory, in 8-byte words.
        received: Number of elements that it has enqueued.
        limit: Number of elements up to which it need not wait for an answer.
        promise: The former limit during a recall, otherwise 0.
        seen: Value of ``received`` when windows were last opened.
        is_cut: True after a protocol violation: the producer gets no more windows.
    """

    __slots__ = ("is_cut", "limit", "place", "promise", "received", "seen")

    def __init__(self, place: int) -> None:
        self.place = place
        self.received = self.limit = self.promise = self.seen = 0
        self.is_cut = False


class Recalls:
    """The recalls in progress in all queues of one owner, and the deferred steps. Call it under the hub's lock.

    Args:
        poke: Makes the polling thread call `settle` soon; may be called in any thread.

    Attributes:
        is_settling: True while deferred steps are being taken. No new lease may start then.
    """

    def __init__(self, poke: Callable[[], None]) -> None:
        self._poke = poke
        self._recalled: list[Windows] = []
        self._deferred: list[Callable[[], None]] = []
        self._touched: set[Windows] = set()
        self.is_settling = False

    @property
    def num_open(self) -> int:
        """Number of recalls that still require a read of the pipe."""
        return len(self._recalled)

    def add(self, windows: "Windows") -> None:
        """Register a recall of a queue's windows."""
        self._recalled.append(windows)

    def defer(self, step: Callable[[], None]) -> None:
        """Take a step after the pipe has been read again."""
        self._deferred.append(step)

    def defer_and_poke(self, step: Callable[[], None]) -> None:
        """Take a step after the current one, and wake the polling thread for it."""
        self._deferred.append(step)
        self._poke()

    def touch(self, windows: "Windows") -> None:
        """Mark a queue as changed, so that `extend` checks its windows."""
        self._touched.add(windows)

    def settle(self) -> None:
        """End the recalls and take the deferred steps, after the pipe has been read completely."""
        self.is_settling = True
        # Repeat, because the end of a recall and each step may defer more steps.
        while self._recalled or self._deferred:
            while self._recalled:
                self._recalled.pop().settle()
            deferred, self._deferred = self._deferred, []
            for step in deferred:
                step()
        self.is_settling = False

    def extend(self) -> None:
        """Open windows in all queues that were marked as changed."""
        for windows in self._touched:
            windows.extend()
        self._touched.clear()


class Windows:
    """All windows of one queue. Call the methods under the hub's lock.

    Args:
        words: The shared memory as 8-byte words.
        machine: State machine of the queue.
        recalls: The owner's recalls.

    Attributes:
        producers: Producers by connection.
        lease: The lease of one consumer.
        is_recalling: True while the windows or the lease are recalled and not settled.
    """

    def __init__(self, words: memoryview, machine: QueueMachine, recalls: Recalls) -> None:
        self._words, self._machine, self._recalls = words, machine, recalls
        self.producers: dict[object, Producer] = {}
        self.lease = Lease(words, machine)
        self.is_recalling = False

    @property
    def reserved(self) -> int:
        """Number of elements that room is reserved for."""
        total = 0
        for one in self.producers.values():  # a loop, because a generator is slower and each call needs this number
            if one.limit > one.received:
                total += one.limit - one.received
        return total

    def add(self, connection: object, place: int) -> Producer:
        """Add a connection that enqueues. Its limit word has the index ``place``."""
        producer = self.producers[connection] = Producer(place)
        self._words[place] = 0
        return producer

    def remove(self, connection: object) -> Producer | None:
        """Remove a closed connection."""
        return self.producers.pop(connection, None)

    def close(self, producer: Producer) -> None:
        """Open no more windows for a producer."""
        producer.is_cut = True
        self._words[producer.place] = 0

    @property
    def may_lend(self) -> bool:
        """True if no deferred dequeue is waiting, which a new lease would block again."""
        return not self.is_recalling and not self._recalls.is_settling

    def make_way(self, request: Request) -> bool:
        """Return True if a request may go to the machine now; otherwise start a recall, which must be settled first."""
        # Leased elements are the next ones in the queue: no other consumer may dequeue during the lease.
        if self.lease.holder is not None and isinstance(request, DequeueRequest):
            self.lease.recall()
            self.is_recalling = True
            # Register again even if windows are recalled already: the pipe may have been read since that recall.
            self._recalls.add(self)
            return False
        if self.is_recalling:
            return False
        reserved = self.reserved
        if not reserved or isinstance(request, DequeueRequest):
            return True
        if isinstance(request, EnqueueRequest):
            room = self._machine.room
            if room is None or room >= reserved + len(request.tokens):  # it fits without the reserved room
                return True
        self._recall()
        return False

    def after_calls(self, step: Callable[[], None]) -> None:
        """Take a step that refers to a call after that call, which may be deferred until the end of a recall."""
        if self.is_recalling:
            self._recalls.defer(step)
        else:
            step()

    def _recall(self) -> None:
        self.is_recalling = True
        self._recalls.add(self)
        for one in self.producers.values():
            if one.limit > one.received:
                # An ADMIT under the former limit may be in the pipe. The room remains reserved until the pipe is read,
                # because no other call reaches the machine before. After two recalls, the larger promise counts.
                one.promise = max(one.promise, one.limit)
                one.limit = one.received
                # Write the word before the pipe is read: the safety of a recall depends on this order.
                self._words[one.place] = one.limit

    def settle(self) -> None:
        """End a recall, after the pipe was read: no unread record refers to a former limit."""
        self.is_recalling = False
        for one in self.producers.values():
            one.promise = 0
        if self.lease.is_recalled:
            notify(self.lease.end(self.lease.holder))

    def extend(self) -> None:
        """Open windows for active producers, if the queue has room and no call waits for it.

        Call it after all recalls have been settled: it does not subtract the room that a recall still promises.
        """
        if not self.producers or not self._machine.may_reserve:
            return
        # Only producers that have enqueued since the last time. An idle producer would withhold room from the others.
        active = [one for one in self.producers.values() if one.received != one.seen and not one.is_cut]
        if not active:
            return
        room = self._machine.room
        if room is not None:
            room -= self.reserved
        for one in active:
            outstanding = max(0, one.limit - one.received)
            share = MAX_WINDOW if room is None else min(MAX_WINDOW, (room + outstanding) // len(active))
            # Keep a limit while at least half of the share is left: the producer will not reach it soon.
            if 2 * outstanding < share:
                if room is not None:
                    room -= share - outstanding
                one.limit = one.received + share
                self._words[one.place] = one.limit
            one.seen = one.received
