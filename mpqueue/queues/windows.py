"""How a process may enqueue without asking each time, and no element too many.

A producer whose every call waits for an answer makes two changes of process per element. So the owner sets room aside
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

So the capacity is never exceeded, a close never overtakes an enqueue that has returned, and a producer that was
killed leaves no reservation behind.
"""

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpqueue.queues.client import Client

_IS_STRONGLY_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i686")
MAX_WINDOW = 1024 if _IS_STRONGLY_ORDERED else 0


class Producer:
    """One connection that has enqueued into one queue.

    Attributes:
        place: Where its limit lies, in words from the start of the shared memory.
        received: Elements that it has enqueued.
        limit: Up to where it need not wait for an answer.
        promise: During a recall: the former limit.
    """

    __slots__ = ("limit", "place", "promise", "received", "seen")

    def __init__(self, place: int) -> None:
        self.place = place
        self.received = self.limit = self.promise = self.seen = 0


class Windows:
    """All windows of one queue.

    Args:
        words: The shared memory, as 8-byte words.
    """

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self.producers: dict[Client, Producer] = {}

    @property
    def reserved(self) -> int:
        """Room that is set aside."""
        return sum(max(0, one.limit - one.received) for one in self.producers.values())

    def add(self, client: "Client", place: int) -> Producer:
        """A connection that may enqueue from now on."""
        producer = self.producers[client] = Producer(place)
        self._words[place] = 0
        return producer

    def recall(self) -> None:
        """Close all windows; the pipe has to be read to its end before `settle`."""
        for one in self.producers.values():
            if one.limit > one.received:
                one.promise = max(one.promise, one.limit)
                one.limit = one.received
                self._words[one.place] = one.limit

    def settle(self) -> None:
        """The pipe has been read after a recall: nobody relies on the former limits any more."""
        for one in self.producers.values():
            one.promise = 0

    def extend(self, room: int | None) -> None:
        """Open windows for those that enqueue, within so much room (None: there is no bound)."""
        active = [one for client, one in self.producers.items() if one.received != one.seen and not client.is_cut]
        if not active:
            return
        if room is not None:
            room -= self.reserved
        for one in active:
            outstanding = max(0, one.limit - one.received)
            share = MAX_WINDOW if room is None else min(MAX_WINDOW, (room + outstanding) // len(active))
            if 2 * outstanding < share:
                if room is not None:
                    share = min(share, room + outstanding)
                    room -= share - outstanding
                one.limit = one.received + share
                self._words[one.place] = one.limit
            one.seen = one.received
