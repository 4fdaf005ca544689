"""Windows: permission to enqueue without waiting for an answer, and no element too many.

A producer whose every call waits for an answer makes two changes of process per element, and takes 1.6 to 6 times the
CPU time one by one. So the owner sets room aside
for it, a *window*: as long as the number of elements that the producer has enqueued is at most its *limit*, they are
in the queue as soon as the record is written, and no answer is needed. The limit is one word of shared memory that
only the owner writes::

    producer                                   owner
    ────────                                   ─────
    limit reached: ENQUEUE, wait for the answer
    else ADMIT, then look at the limit again:  what is in the queue + all windows <= the capacity
      as before: return                        ADMIT within the limit: it goes in
      recalled: CONFIRM, wait for the answer   ADMIT beyond it: an ordinary call, and is answered

Whenever a window is in somebody's way (another call needs the room, or a close comes) the owner *recalls* it: it sets
the limit to what it has received, and only then reads what is left in the pipe. An ADMIT found there was written while
the window may have been open; its room is still set aside, so it goes in. One that is written later is followed by a
look at the new limit. Both sides write first (the limit, the record), make a system call on the pipe, and look
afterwards, so that at least one of them sees the other. That needs a processor which does not let a read overtake an
earlier locked write of the kernel: on others all windows stay closed, and every call is answered.

The step that needed a recall, and each one that refers to it (its withdrawal, the question what became of it), is
*deferred* until the pipe has been read once more.

What leases are to those who dequeue, see `lease`, ends in the same way, with these recalls.

So the capacity is never exceeded, a close never overtakes an enqueue that has returned, and a producer that was
killed leaves no reservation behind.
"""

import platform
from collections.abc import Callable

from mpqueue.tf1.queues.lease import Lease
from mpqueue.tf1.queues.machine import DequeueRequest, EnqueueRequest, QueueMachine, Request, notify

IS_STRONGLY_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i686")
MAX_WINDOW = 1024 if IS_STRONGLY_ORDERED else 0


class Producer:
    """One connection that has enqueued into one queue.

    Attributes:
        place: The place of its limit, in words from the start of the shared memory.
        received: Elements that it has enqueued.
        limit: The number of elements up to which it need not wait for an answer.
        promise: During a recall: the former limit.
        seen: The value of ``received`` when windows were last opened.
        is_cut: It gets no window any more.
    """

    __slots__ = ("is_cut", "limit", "place", "promise", "received", "seen")

    def __init__(self, place: int) -> None:
        self.place = place
        self.received = self.limit = self.promise = self.seen = 0
        self.is_cut = False


class Recalls:
    """The recalls under way in all queues of one owner, and the steps that wait for their end. Under the hub's lock.

    Args:
        poke: Makes whoever listens call `settle` soon; may be called in any thread.

    Attributes:
        is_settling: Steps are taken that have waited: they look no more at what is in their way.
    """

    def __init__(self, poke: Callable[[], None]) -> None:
        self._poke = poke
        self._recalled: list[Windows] = []
        self._deferred: list[Callable[[], None]] = []
        self._touched: set[Windows] = set()
        self.is_settling = False

    @property
    def num_open(self) -> int:
        """Number of recalls that the pipe has not been read for."""
        return len(self._recalled)

    def add(self, windows: "Windows") -> None:
        """The windows of this queue were recalled."""
        self._recalled.append(windows)

    def defer(self, step: Callable[[], None]) -> None:
        """Take a step when the pipe has been read once more."""
        self._deferred.append(step)

    def defer_and_poke(self, step: Callable[[], None]) -> None:
        """Take a step when the present one is over, also if nobody would read the pipe by himself."""
        self._deferred.append(step)
        self._poke()

    def touch(self, windows: "Windows") -> None:
        """Something has happened to this queue: its windows are to be looked at."""
        self._touched.add(windows)

    def settle(self) -> None:
        """The pipe was read to its end: end the recalls, and take the steps that waited for that."""
        self.is_settling = True
        # Again and again: what ends by a recall, and each step, may defer more.
        while self._recalled or self._deferred:
            while self._recalled:
                self._recalled.pop().settle()
            deferred, self._deferred = self._deferred, []
            for step in deferred:
                step()
        self.is_settling = False

    def extend(self) -> None:
        """Open the windows of all queues that something has happened to."""
        for windows in self._touched:
            windows.extend()
        self._touched.clear()


class Windows:
    """All windows of one queue. Under the hub's lock.

    Args:
        words: The shared memory, as 8-byte words.
        machine: The queue's.
        recalls: The owner's.

    Attributes:
        producers: By connection.
        lease: What one of those who dequeue may take.
        is_recalling: Windows, or the lease, were recalled and are not settled yet.
    """

    def __init__(self, words: memoryview, machine: QueueMachine, recalls: Recalls) -> None:
        self._words, self._machine, self._recalls = words, machine, recalls
        self.producers: dict[object, Producer] = {}
        self.lease = Lease(words, machine)
        self.is_recalling = False

    @property
    def reserved(self) -> int:
        """Room that is set aside."""
        total = 0
        for one in self.producers.values():  # no generator: this is asked for with each call
            if one.limit > one.received:
                total += one.limit - one.received
        return total

    def add(self, connection: object, place: int) -> Producer:
        """Let a connection enqueue from now on; its limit lies at ``place``."""
        producer = self.producers[connection] = Producer(place)
        self._words[place] = 0
        return producer

    def remove(self, connection: object) -> Producer | None:
        """Forget a connection that has ended."""
        return self.producers.pop(connection, None)

    def close(self, producer: Producer) -> None:
        """Give a producer no window any more."""
        producer.is_cut = True
        self._words[producer.place] = 0

    @property
    def may_lend(self) -> bool:
        """True if no dequeue is deferred that a new lease would be in the way of."""
        return not self.is_recalling and not self._recalls.is_settling

    def make_way(self, request: Request) -> bool:
        """True if a request may go to the machine now; else windows were recalled, and must be settled first."""
        if self.lease.holder is not None and isinstance(request, DequeueRequest):
            self.lease.recall()
            self.is_recalling = True
            self._recalls.add(self)  # once more, if windows are recalled already: the pipe may have been read since
            return False
        if self.is_recalling:
            return False
        reserved = self.reserved
        if not reserved or isinstance(request, DequeueRequest):
            return True
        if isinstance(request, EnqueueRequest):
            room = self._machine.room
            if room is None or room >= reserved + len(request.tokens):  # it fits beside all windows
                return True
        self._recall()
        return False

    def behind_calls(self, step: Callable[[], None]) -> None:
        """Take a step that refers to a call: behind that, which waits for the end of a recall if one is under way."""
        if self.is_recalling:
            self._recalls.defer(step)
        else:
            step()

    def _recall(self) -> None:
        self.is_recalling = True
        self._recalls.add(self)
        for one in self.producers.values():
            if one.limit > one.received:
                # An ADMIT under the former limit may be on its way. Its room stays free until the pipe is read: no
                # other call gets to the machine meanwhile. Of two recalls the larger promise holds.
                one.promise = max(one.promise, one.limit)
                one.limit = one.received
                # Written before the pipe is read, see the module's head: the order is what makes a recall safe.
                self._words[one.place] = one.limit

    def settle(self) -> None:
        """The pipe was read after a recall: nobody relies on the former limits any more."""
        self.is_recalling = False
        for one in self.producers.values():
            one.promise = 0
        if self.lease.is_recalled:
            notify(self.lease.end(self.lease.holder))

    def extend(self) -> None:
        """Open windows for those that enqueue, as far as the queue has room and nobody waits for it."""
        if not self.producers or not self._machine.may_reserve:
            return
        # Those that have enqueued since the last time: one that has stopped would only keep room from the others.
        active = [one for one in self.producers.values() if one.received != one.seen and not one.is_cut]
        if not active:
            return
        room = self._machine.room
        if room is not None:
            room -= self.reserved
        for one in active:
            outstanding = max(0, one.limit - one.received)
            share = MAX_WINDOW if room is None else min(MAX_WINDOW, (room + outstanding) // len(active))
            # As long as half of it is left, the limit may stay: nobody is about to reach it.
            if 2 * outstanding < share:
                if room is not None:
                    room -= share - outstanding
                one.limit = one.received + share
                self._words[one.place] = one.limit
            one.seen = one.received
