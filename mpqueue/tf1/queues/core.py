"""One queue in the process that owns it: its machine, and the calls of this process's threads.

    a call                                 any other call, or a cancellation, or a timeout
    ──────                                 ──────────────────────────────────────────────
    its driver takes the first step
      finished? return at once             a step of the machine
      else hang a gate on the request        finished requests: open their gates
    sleep before the gate        ◄───────────
    look at the outcome

The machine has no lock and no storage of its own: a *driver* serialises its steps and keeps the elements. A queue that
only this process uses has a `LocalDriver`. When another process is to use it, it is handed over to a driver that serves
both (`hub.HubDriver`), once and for good: a call that is about to begin with the former driver goes on to the new one.

A gate is a bare lock that is held until the request has finished: sleeping before it costs nothing, wakes exactly the
call whose turn it is, and can be interrupted by a signal. A call that is interrupted, that cannot get memory for its
result, or whose process is gone gives back what it had taken: no element is lost with its call.

# NOTE [ Interrupts ]
A signal handler runs in the main thread, and may raise: Ctrl-C, a limit by SIGALRM. CPython (3.11 to 3.13) runs it
where a Python function begins, at a jump backward, after a call of C code and inside calls that wait, and nowhere else.
If the traceback ends in a frame of ours, this holds:

* A dequeue has taken nothing: its elements are back in their places. Until its last step (`Driver.free`) they are in
  the request, and what interrupts the call gives them back; behind that step there is no place where a handler runs.
* An enqueue has put its element in or not, and nobody can tell which (the queue's size does). It is in at most once. Of
  an `enqueue_many` some may be in, in order, from the first one on. A close has closed the queue, or not.
* The queue goes on, for this thread and all others: no call hangs, and no other call's element is lost or doubled.

What nobody can know is whether the caller's own frame got what `dequeue` returned: behind the call, before the
assignment, a handler may raise. Such an element was handed out.

Three means, so that calls that do not wait pay nothing for it:

1. The machine moves tokens and ends requests by rows of steps between which no handler runs.
   What a struck step has left (callers that were not told) is made good before the queue's lock is let go.
2. Where a call waits, and where it does other processes' work (the hub's), handlers are deferred, and may run in the
   wait itself. That costs 4 us, the change of threads there takes more.
3. A call to a queue that is elsewhere is undone by one record (`wire.Up.UNREAD`), whatever had become of it, and its
   thread connects anew: what was on its way may be lost with the old connection.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from mpqueue.errors import DeadlineExceededError, OpError
from mpqueue.system.interrupts import allow_signals, defer_signals
from mpqueue.system.living import Living
from mpqueue.system.locks import Lock
from mpqueue.tf1.coordination.cancellation import cancellable
from mpqueue.tf1.coordination.members import checked_timeout
from mpqueue.tf1.queues.machine import (
    CloseRequest,
    DequeueRequest,
    EnqueueRequest,
    QueueMachine,
    Request,
    Token,
    notify,
)
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.storage import PlainStorage
from mpqueue.values.conversion import Array
from mpqueue.worker.context import note_shared_input

_MAX_YIELDS = 100  # then it is held by somebody who makes shared memory: better to sleep

_T = TypeVar("_T")

Call: TypeAlias = EnqueueRequest | CloseRequest | DequeueRequest
"""A request that a thread or another process may make."""


class Gate(Protocol):
    """The wait of one call. Its own thread calls `wait`; any thread that ends its request calls `wake`."""

    def wake(self) -> None:
        """The request has finished."""

    def wait(self, request: Request, timeout: float | None) -> bool:
        """Sleep until it has; False if the time is over."""


class Driver(Protocol):
    """Serialises the steps of one queue's machine, and keeps the elements.

    A `QueueCore` calls it in the threads of the process that owns the queue. All steps of the machine are taken under
    ``lock``, whoever takes them: a step of another process's call is taken in whichever thread listens to that.
    """

    @property
    def lock(self) -> threading.Lock:
        """Held for each step."""

    @property
    def storage(self) -> PlainStorage:
        """The storage of the elements."""

    @property
    def promised(self) -> int:
        """Room that other processes may fill without asking; under the lock."""

    def submit(self, request: Call) -> Gate | None:
        """Take the first step of a call; None if it has finished, else the gate that its thread waits with."""

    def close_now(self) -> None:
        """Close the queue, and cancel what waits to get in."""

    def catch_up(self) -> None:
        """Take the steps that other processes have asked for by now."""

    def free(self, request: DequeueRequest) -> None:
        """Let go of elements that a call has taken out and copied; without the lock. No handler runs behind that."""

    def keep(self, taken: list[Token]) -> None:
        """Elements that a call has taken out go back into the queue: nobody looks at them."""


class LockGate:
    """The gate of a call to a queue that only this process uses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Let go of the lock; more than once is as once."""
        if self._lock.locked():
            self._lock.release()

    def wait(self, _request: Request, timeout: float | None) -> bool:
        """Sleep before the lock."""
        return allow_signals(self._lock.acquire, timeout=-1 if timeout is None else timeout)


class LocalDriver:
    """Drives a queue that only threads of this process use: a lock.

    Args:
        machine: The queue's.
        storage: Keeps its elements.

    Attributes:
        lock: Held for each step.
        storage: As given.
        promised: 0: no other process uses the queue.
        successor: The driver that the queue was handed over to, None until then.
    """

    def __init__(self, machine: QueueMachine, storage: PlainStorage) -> None:
        self._machine, self.storage = machine, storage
        self.lock = Lock()
        self.promised = 0
        self.successor: Driver | None = None

    def submit(self, request: Call) -> Gate | None:
        """Take the first step of a call; None if it has finished."""
        if self.lock.locked():
            _let_pass(self.lock)
        with self.lock:
            # Asked under the lock: the queue may have been handed over since the caller looked its driver up.
            if self.successor is None:
                # Handlers are not deferred, which would cost 4 us: what a struck step has left is made good.
                try:
                    notify(self._machine.submit(request))
                except BaseException:
                    recover(self._machine)
                    raise
                if request.finished:
                    return None
                # Made only now, since most calls need none; nobody ends the request before the lock is let go.
                gate = LockGate()
                request.notify = gate.wake
                return gate
        return self.successor.submit(request)

    def close_now(self) -> None:
        """Close, and cancel what waits to get in."""
        with defer_signals(), self.lock:
            if self.successor is None:
                notify(self._machine.close_and_cancel())
                return
        self.successor.close_now()

    def catch_up(self) -> None:
        """Do nothing: no other process uses the queue."""

    def free(self, request: DequeueRequest) -> None:
        """Do nothing: the elements are objects of this process."""

    def keep(self, taken: list[Token]) -> None:
        """Do nothing: the elements are objects of this process."""


class QueueCore:
    """The queue itself, which any number of `QueueBase` objects may stand for.

    Args:
        machine: Its semantics.
        storage: Keeps its elements.
        spec: Their components.

    Attributes:
        machine: As given; its steps are taken under the driver's lock.
        spec: As given.
        name: The name it was made with.
        dtypes: The dtypes of the components.
        driver: Takes the steps.
    """

    def __init__(self, machine: QueueMachine, storage: PlainStorage, spec: ElementSpec) -> None:
        self.machine, self.spec = machine, spec
        self.name, self.dtypes = machine.name, spec.dtypes
        self.driver: Driver = LocalDriver(machine, storage)
        self._set_aside = 0

    def hand_over(self, make_driver: Callable[[], Driver]) -> None:
        """Replace the `LocalDriver`, before any other process uses the queue."""
        local = self.driver
        assert isinstance(local, LocalDriver)
        # Under the former lock: each call has taken its first step before this, or finds the successor.
        with local.lock:
            self.driver = local.successor = make_driver()

    @property
    def size(self) -> int:
        """Number of elements in it."""
        self.driver.catch_up()
        return self.machine.size

    @property
    def is_closed(self) -> bool:
        """True once a close was processed."""
        self.driver.catch_up()
        return self.machine.closed

    @property
    def num_waiting(self) -> int:
        """Number of calls that are blocked in it."""
        return self._step(lambda: self.machine.num_waiting)  # amid a step, calls are in line that will not wait

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element in."""
        self.spec.check(components)
        self._call(EnqueueRequest((self.driver.storage.put(components),)), timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Put the rows of the components in, as far and as soon as there is room."""
        count = self.spec.check_many(components)
        if count:
            self._call(EnqueueRequest(self.driver.storage.put_many(components, count)), timeout)

    def set_aside(self, count: int) -> int:
        """Keep room for elements that a thread is about to make, so that they need not wait; return for how many.

        Threads that ask get different room. Others are not kept from it: whoever enqueues takes what there is.
        """
        self.driver.catch_up()

        def set_aside() -> int:
            room = self.machine.room if self.machine.may_reserve else 0
            kept = count if room is None else max(0, min(count, room - self.driver.promised - self._set_aside))
            self._set_aside += kept
            return kept

        return self._step(set_aside)

    def release(self, count: int) -> None:
        """Give back room that was set aside: the elements are in it, or will not come."""

        def release() -> None:
            self._set_aside -= count

        self._step(release)

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Take one element out."""
        return self._take(DequeueRequest(1), timeout, result, as_one=True)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Take ``count`` elements out, stacked; fewer from a closed queue if ``takes_fewer``."""
        self.spec.check_count(count, self.name)
        if count == 0:
            return result(self.driver.storage.get_many([]))
        return self._take(DequeueRequest(count, takes_fewer), timeout, result, as_one=False)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it: behind the enqueues that wait, or now."""
        if cancel_pending_enqueues:
            self.driver.close_now()
        else:
            self._call(CloseRequest(), timeout)

    def _take(
        self, request: DequeueRequest, timeout: float | None, result: Callable[[list[Any]], Any], *, as_one: bool
    ) -> Any:
        note_shared_input()
        self._call(request, timeout)
        # From here to the return nothing may be between an element and the clause that gives it back: no call behind
        # `_call`, none behind `free`.
        try:
            kept, taken = request.taken[:], request.taken
            driver = self.driver  # looked up only now: the queue may have been handed over while this call was waiting
            found = result(driver.storage.get_one(taken) if as_one else driver.storage.get_many(taken))
            driver.free(request)
            return found  # noqa: TRY300 - here, where no handler runs between
        except BaseException:  # no memory for the batch, or Ctrl-C
            with defer_signals():
                if not request.is_read:
                    request.taken = kept
                    self.driver.keep(kept)
                    self._retract(request)
            raise

    def _call(self, request: Call, timeout: float | None) -> None:
        """See a request through to its end."""
        if timeout is not None:
            timeout = checked_timeout(timeout)
        try:
            gate = self.driver.submit(request)
            if gate is not None:
                # Handlers run in the wait itself only. To defer them costs little beside the change of threads.
                with defer_signals():
                    self._sleep(request, gate, timeout)
        except BaseException:  # Ctrl-C
            self._retract(request)
            raise
        if request.error is not None:
            try:
                raise request.error
            finally:
                request.error = None  # else the error would hold this frame, the frame the request, and that the error

    def _sleep(self, request: Request, gate: Gate, timeout: float | None) -> None:
        # Registered before the wait: a scope that was cancelled already withdraws the request at once.
        with cancellable(partial(self._withdraw, request)):
            if not gate.wait(request, timeout):
                # If it finishes before this takes the lock, nothing is withdrawn: the call has its outcome.
                self._withdraw(request, self._deadline_exceeded(request, timeout))

    def _withdraw(self, request: Request, error: OpError | None) -> None:
        self._step(lambda: notify(self.machine.withdraw(request, error)))

    def _retract(self, request: Request) -> None:
        """Undo a request whose caller will not see the outcome."""

        def retract() -> None:
            if not request.finished:
                notify(self.machine.withdraw(request, None))
            elif isinstance(request, DequeueRequest):
                notify(self.machine.put_back(request.taken))

        self._step(retract)

    def _step(self, step: Callable[[], _T]) -> _T:
        """Take a step of the machine, with the driver's lock held and signal handlers deferred."""
        with defer_signals():
            while True:
                driver = self.driver
                with driver.lock:
                    if driver is self.driver:  # else the queue was handed over in between
                        return step()

    def _deadline_exceeded(self, request: Request, timeout: float | None) -> DeadlineExceededError:
        machine = self.machine
        return DeadlineExceededError(
            None,
            None,
            f"queue {self.name!r} did not finish the {request} within {timeout} s; "
            f"it holds {machine.size} elements, its capacity is {machine.capacity}",
        )

    def __repr__(self) -> str:
        machine = self.machine
        bound = machine.capacity if machine.capacity >= 0 else "unbounded"
        state = "closed" if machine.closed else "open"
        return f"{machine.name!r} {machine.size} of {bound} elements, {state}, {machine.num_waiting} waiting"


living: "Living[QueueCore]" = Living()
"""The queues that objects of this process stand for: after a fork, those in the child stand for its parent's."""


def recover(machine: QueueMachine) -> None:
    """Go on where an interrupt has struck a step of a machine; with the queue's lock held."""
    with defer_signals():
        notify(machine.recover())


def _let_pass(lock: threading.Lock) -> None:
    """Let whoever holds the lock go on, without standing in line for it."""
    # A thread that sleeps before the lock is given it while it has no interpreter lock, so that the thread that runs
    # must sleep at its next call, and so on: each step costs a switch of threads. Once begun, such a convoy does not
    # end by itself. To give way first gives 3 times the rate with two threads that enqueue. That suffices for a lock
    # that is held for microseconds, and costs nothing where it is free; one that is held longer needs a `BargingLock`.
    for _ in range(_MAX_YIELDS):
        time.sleep(0)  # gives up the interpreter's lock, which the holder waits for
        if not lock.locked():
            return
