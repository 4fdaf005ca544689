"""Listening to the other processes: by a thread that waits anyway, or else by a thread of our own.

    a call that must wait                                 the hub's thread
    ─────────────────────                                 ────────────────
    nobody leads: *lead*, listen until it has finished    listens, and serves if nobody leads or calls;
    somebody leads: *follow*, sleep until woken           else it naps until nobody has for `_QUIET_S`
    the leader that ends wakes a follower to lead

Whoever listens serves everybody. A program that dequeues in a loop is its own server. Where the thread alone listened
and woke the caller, a dequeue that waits cost 10 % more CPU, and beside a thread that computes a round to another
process and back took 7.5 ms in place of 4.1: each change of threads waits up to 5 ms for the interpreter's lock. The
hub's thread is for what nobody waits for: a queue that is fed by a queue, a trainer that computes.

Nobody polls. While calls come and go the thread naps; under one and the same leader its naps grow longer, and then it
sleeps until it is rung. An idle program has all of its threads asleep. Calls that find what they need read the pipe at
most: new connections, and the ends of others, would wait for a leader as long as such calls go on. So after
`_MOST_NAPS` of them the thread serves once.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from mpqueue.system import interrupts
from mpqueue.system.locks import Lock, RLock
from mpqueue.system.wakeup import Wakeup
from mpqueue.tf1.queues.machine import Request
from mpqueue.transport.poller import READABLE, Events, close_poller, make_poller

_QUIET_S = 0.002
_LONGEST_NAP_S = 0.1
_MOST_NAPS = 10


class Waiter:
    """A call of this process that waits, and how to wake it.

    Args:
        watch: The watch that it waits with.
    """

    __slots__ = ("_watch", "gate", "thread_id")

    def __init__(self, watch: "QueueWatch") -> None:
        self._watch = watch
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread_id = threading.get_ident()

    def wake(self) -> None:
        """The call has finished."""
        self._watch.wake(self)

    def wait(self, request: Request, timeout: float | None) -> bool:
        """Listen or sleep until it has; False if the time is over."""
        return self._watch.wait(request, self, timeout)


class QueueWatch:
    """Waits for descriptors on behalf of a hub.

    Args:
        serve: Deals with what has become readable; called in the thread that listens.

    Attributes:
        poller: Waits.
        num_calls: Calls of this process so far that have listened, or have dealt with what was sent.
    """

    def __init__(self, serve: Callable[[Events], None]) -> None:
        self._serve = serve
        self.poller = make_poller()
        self._poke = Wakeup()
        self.poller.register(self._poke.fd, READABLE)
        self._poking = RLock()  # the collector may run, and poke, inside of a poke
        self._mutex = Lock()
        self._leader: Waiter | None = None
        self._followers: list[Waiter] = []
        self.num_calls = 0
        self._thread_sleeps = self._is_closed = self._has_ended = False
        self._bell = threading.Lock()
        self._bell.acquire()

    # -- Calls that wait

    def wait(self, request: Request, waiter: Waiter, timeout: float | None) -> bool:
        """Sleep, or listen, until the request has finished; False if the time is over. Signal handlers are deferred."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not request.finished:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._lead(waiter):
                    self._listen(request, deadline)
                else:
                    interrupts.allow_signals(waiter.gate.acquire, timeout=-1 if left is None else left)
        finally:
            self._leave(waiter)
        return True

    def wake(self, waiter: Waiter) -> None:
        """Make the wait of this waiter end."""
        with self._mutex:
            if waiter is self._leader:
                # Its own thread has ended the call by what it served, and looks at it next.
                if waiter.thread_id != threading.get_ident():
                    self._poke.wake()
            elif waiter in self._followers:
                self._followers.remove(waiter)
                waiter.gate.release()

    def _lead(self, waiter: Waiter) -> bool:
        with self._mutex:  # asked and noted in one step: a leader that leaves now finds this one in the list
            if self._leader is not None:
                self._followers.append(waiter)
                return False
            self._leader = waiter
            self.num_calls += 1
            return True

    def _listen(self, request: Request, deadline: float | None) -> None:
        poll, serve = self.poller.poll, self._serve
        while not request.finished:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            serve(interrupts.allow_signals(poll, left))  # handlers run in the wait, and not amid what is served

    def _leave(self, waiter: Waiter) -> None:
        """This waiter neither leads nor follows any more; see to it that somebody listens."""
        with self._mutex:
            if waiter is self._leader:
                self._leader = None
            elif waiter in self._followers:
                self._followers.remove(waiter)
            if self._leader is None:
                # Somebody has to listen, or the followers would sleep for ever; the thread only where no call does.
                if self._followers:
                    self._followers.pop(0).gate.release()
                elif self._thread_sleeps:
                    self._thread_sleeps = False
                    self._bell.release()

    # -- The thread

    def run(self) -> None:
        """The thread's life: until `close`."""
        interrupts.block_signals()
        seen, nap, num_naps = -1, _QUIET_S, 0
        while True:
            with self._mutex:
                if self._is_closed:
                    break
                # Whoever leads, or calls, serves: to wake beside them would cost them changes of threads.
                has_leader, is_new = self._leader is not None, self.num_calls != seen
                seen = self.num_calls
                nap = _QUIET_S if is_new else 2 * nap
                num_naps = num_naps + 1 if is_new else 0
                is_due = num_naps > _MOST_NAPS and not has_leader
                # Told under the mutex: a leader that leaves behind this rings the bell.
                self._thread_sleeps = sleeps = has_leader and nap > _LONGEST_NAP_S
            if is_due:
                num_naps = 0
                self._serve(self.poller.poll(0))
                continue
            if has_leader or is_new:
                self._bell.acquire(timeout=-1 if sleeps else nap)
                continue
            events = self.poller.poll()
            # Whoever leads was woken by the same event, or calls deal with what comes. This thread would compete with
            # them for the interpreter's lock: 5 ms for each change beside a thread that computes.
            if self._leader is None and self.num_calls == seen:
                self._serve(events)
            elif not events:
                self._poke.wake()  # without an epoll the list has changed, and of two waits only one may have noticed
        with self._poking:
            self._has_ended = True
            self._poke.close()
        close_poller(self.poller)

    def poke(self) -> None:
        """Make whoever listens serve; safe in any thread, also inside the garbage collector, and after the end."""
        with self._poking:
            if not self._has_ended:
                self._poke.wake()

    def prepare_poke(self) -> Iterator[int]:
        """Return an iterator of which each item taken is a `poke`, in C alone; for threads that use a queue."""
        return self._poke.prepare()

    def is_poke(self, fd: int) -> bool:
        """True if this descriptor is readable because of a `poke`, which is forgotten by that."""
        if fd != self._poke.fd:
            return False
        with contextlib.suppress(BlockingIOError):  # another thread was faster
            self._poke.clear()
        with self._mutex:
            # It may have been meant for the leader, who would look now, find nothing, and sleep on.
            if self._leader is not None and self._leader.thread_id != threading.get_ident():
                self._poke.wake()
        return True

    def close(self) -> None:
        """End the thread; nobody waits any more."""
        with self._mutex:
            self._is_closed = True
            if self._thread_sleeps:
                self._thread_sleeps = False
                self._bell.release()
        self.poke()
