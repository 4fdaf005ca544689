"""Receiving records from other processes, in a blocked consumer thread if there is one, otherwise in the hub's thread.

    a call that must wait                                 the hub's thread
    ─────────────────────                                 ────────────────
    no leader: becomes the leader, polls and serves       polls, and serves if there is no leader and no recent call;
      until its own request has finished                    otherwise it naps until `_QUIET_S` without a call
    there is a leader: becomes a follower, sleeps         serves once every `_MOST_NAPS` naps, for new and ended
    a leader that finishes wakes a follower to lead         connections that calls without waits do not notice

The thread that polls serves the records of all processes. The hub's thread is needed while no thread of this process
waits for a queue: for example, if only other processes use the queue, or the trainer is computing. An idle program has
all of its threads asleep; no thread polls in a loop.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals import deferred, masks
from mpqueue.system.signals.locks import Lock, RLock
from mpqueue.tf1.queues.machine import Request
from mpqueue.transport.poller import READABLE, Events, close_poller, make_poller

# Serving in the blocked thread itself avoids a thread switch for each answer, which waits up to 5 ms for the
# interpreter lock. If only the hub's thread served, a dequeue that waits would cost 10 % more CPU; next to a computing
# thread, a round trip to another process took 7.5 ms instead of 4.1 ms.
_QUIET_S = 0.002
_LONGEST_NAP_S = 0.1
_MOST_NAPS = 10


class Waiter:
    """A waiting call of this process and the lock that wakes it.

    Args:
        watch: The watch that the call waits in.
    """

    __slots__ = ("_watch", "gate", "thread_id")

    def __init__(self, watch: "QueueWatch") -> None:
        self._watch = watch
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread_id = threading.get_ident()

    def wake(self) -> None:
        """Wake the call, because its request has finished."""
        self._watch.wake(self)

    def wait(self, request: Request, timeout: float | None) -> bool:
        """Serve records or sleep until the request has finished; return False on timeout."""
        return self._watch.wait(request, self, timeout)


class QueueWatch:
    """Polls file descriptors on behalf of a hub.

    Args:
        serve: Called with the readable descriptors, in the thread that polls.

    Attributes:
        poller: The poller with all descriptors of the hub.
        num_calls: Number of calls of this process so far that became the leader or read the pipe.
    """

    def __init__(self, serve: Callable[[Events], None]) -> None:
        self._serve = serve
        with contextlib.ExitStack() as undo:
            self.poller = make_poller()
            undo.callback(close_poller, self.poller)
            self._poke = Wakeup()
            undo.pop_all()
        self.poller.register(self._poke.fd, READABLE)
        self._poking = RLock()  # reentrant: the garbage collector may run inside `poke`, and poke again
        self._mutex = Lock()
        self._leader: Waiter | None = None
        self._followers: list[Waiter] = []
        self.num_calls = 0
        self._thread_sleeps = self._is_closed = self._has_ended = False
        # The hub's thread naps by waiting for this lock. `release` ends a nap or a longer sleep.
        self._bell = threading.Lock()
        self._bell.acquire()

    # -- Calls that wait

    def wait(self, request: Request, waiter: Waiter, timeout: float | None) -> bool:
        """Serve records or sleep until the request has finished; return False on timeout.

        Signal handlers must be deferred; they run only while the thread is blocked.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not request.finished:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._lead(waiter):
                    self._listen(request, deadline)
                # Checked after the registration: if the request finished before it, `wake` has not found this waiter.
                elif not request.finished:
                    # A follower sleeps on its own lock. It is woken when its request finishes, or to become the leader.
                    deferred.allow_signals(waiter.gate.acquire, timeout=-1 if left is None else left)
        finally:
            # Also after Ctrl-C: a leader that exits without a successor would leave the followers asleep.
            self._leave(waiter)
        return True

    def wake(self, waiter: Waiter) -> None:
        """End the wait of this waiter."""
        with self._mutex:
            if waiter is self._leader:
                # A leader that finished its own request while serving checks `request.finished` next. Another thread
                # must interrupt the leader's poll.
                if waiter.thread_id != threading.get_ident():
                    self._poke.wake()
            elif waiter in self._followers:
                self._followers.remove(waiter)
                waiter.gate.release()

    def _lead(self, waiter: Waiter) -> bool:
        # Check and registration in one step: a leader that leaves afterwards finds this waiter among the followers.
        with self._mutex:
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
            # Handlers run only inside `poll`, not while `serve` changes the hub's tables.
            serve(deferred.allow_signals(poll, left))

    def _leave(self, waiter: Waiter) -> None:
        """Remove a waiter, and make sure that another thread polls."""
        with self._mutex:
            if waiter is self._leader:
                self._leader = None
            elif waiter in self._followers:
                self._followers.remove(waiter)
            if self._leader is None:
                # Without a successor the followers would block forever. A follower is preferred to the hub's thread,
                # because serving its own answer saves it a thread switch.
                if self._followers:
                    self._followers.pop(0).gate.release()
                elif self._thread_sleeps:
                    self._thread_sleeps = False
                    self._bell.release()

    # -- The thread

    def run(self) -> None:
        """Run the hub's thread until `close`."""
        masks.block_signals()
        seen, nap, num_naps = -1, _QUIET_S, 0
        while True:
            with self._mutex:
                if self._is_closed:
                    break
                # Remain asleep while leaders or calls serve: waking up next to them would cost them thread switches.
                has_leader, is_new = self._leader is not None, self.num_calls != seen
                seen = self.num_calls
                # Calls keep coming: nap for `_QUIET_S` each. The same leader for a long time: double the nap each time.
                nap = _QUIET_S if is_new else 2 * nap
                num_naps = num_naps + 1 if is_new else 0
                # Calls that never wait read only the pipe. New and ended connections would wait for a leader as long as
                # such calls continue, so the thread serves once after every `_MOST_NAPS` naps.
                is_due = num_naps > _MOST_NAPS and not has_leader
                # Set under the mutex: a leader that leaves after this point rings the bell.
                self._thread_sleeps = sleeps = has_leader and nap > _LONGEST_NAP_S
            if is_due:
                num_naps = 0
                self._serve(self.poller.poll(0))
                continue
            if has_leader or is_new:
                self._bell.acquire(timeout=-1 if sleeps else nap)
                continue
            events = self.poller.poll()
            # The same event may have woken the leader, or a call that reads the pipe. Serving here as well would
            # compete for the interpreter lock: 5 ms for each thread switch next to a computing thread.
            if self._leader is None and self.num_calls == seen:
                self._serve(events)
        self.end()

    def end(self) -> None:
        """Close the descriptors. No thread may be polling."""
        with self._poking:
            self._has_ended = True
            self._poke.close()
        close_poller(self.poller)

    def poke(self) -> None:
        """Make the polling thread serve.

        Safe in any thread, inside the garbage collector, and after `close`.
        """
        with self._poking:
            if not self._has_ended:
                self._poke.wake()

    def prepare_poke(self) -> Iterator[int]:
        """Return an iterator that pokes each time an item is taken, in C code only; for threads that use a queue."""
        return self._poke.prepare()

    def is_poke(self, fd: int) -> bool:
        """Return whether this descriptor is the poke's, and clear the poke if it is."""
        if fd != self._poke.fd:
            return False
        with contextlib.suppress(BlockingIOError):  # another thread has already cleared it
            self._poke.clear()
        with self._mutex:
            # The poke may have been meant for the leader, which would now find no data and block again.
            if self._leader is not None and self._leader.thread_id != threading.get_ident():
                self._poke.wake()
        return True

    def close(self) -> None:
        """Stop the hub's thread. No call may be waiting."""
        with self._mutex:
            self._is_closed = True
            if self._thread_sleeps:
                self._thread_sleeps = False
                self._bell.release()
        self.poke()
