"""One queue in the process that owns it: its state machine, and the calls of this process's threads.

    a call                                 any other call, a cancellation, or a timeout
    ──────                                 ────────────────────────────────────────────
    its driver submits the request
      finished? return at once             a step of the machine
      otherwise attach a gate to it          for each finished request: wake its gate
    sleep in the gate            ◄───────────
    read the outcome from the request

The machine has no lock and no storage: a *driver* serializes its steps and stores the elements. A queue that only this
process uses has a `LocalDriver`. Before another process uses the queue, a driver that serves both (`hub.HubDriver`)
replaces it, once. A call that finds the former driver continues with its successor.

A gate is a plain lock that is held until the request has finished. Waiting for it takes no CPU time, wakes exactly the
call that finished, and can be interrupted by a signal. A call returns its elements to the queue if it is interrupted,
if memory for its result is unavailable, or if its process exits. No element is lost with its call.

# NOTE [ Interrupts ]
A signal handler runs in the main thread and may raise, for example after Ctrl-C or SIGALRM. CPython (3.11 to 3.13) runs
handlers at the start of a Python function, at a backward jump, after a call of C code, and inside blocking calls, but
nowhere else. If a handler raises inside a frame of this package, the following holds:

* A dequeue has taken no element: its elements are back in their places. Until its last step (`Driver.free`) they are in
  the request, from which they are returned to the queue. No handler can run after that step.
* An enqueue has put its element in at most once. The exception does not reveal whether it did; the queue's size does.
  `enqueue_many` may have put in some elements, in order, from the first one on. A close may have closed the queue.
* The queue keeps working for all threads: no call hangs, and no other call's element is lost or duplicated.

One case cannot be decided here: a handler may raise in the caller's own frame, after `dequeue` has returned and before
the assignment. Such an element counts as dequeued.

Three mechanisms ensure this at no cost for calls that do not wait:

1. The machine moves tokens and ends requests in sequences of operations between which no handler runs. If a step is
   interrupted, `recover` completes it (for example, notifies callers) before the queue's lock is released.
2. Calls that wait, and the hub's work for other processes, defer handlers and allow them only inside the wait. That
   costs 4 us, less than the thread switch of a wait.
3. A call to another process's queue is undone by one record (`wire.Up.UNREAD`) in any state, and its thread
   reconnects: an answer that was on its way may be lost with the old connection.
"""

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from mpqueue.errors import DataLossError, DeadlineExceededError, OpError
from mpqueue.system.signals.deferred import allow_signals, defer_signals
from mpqueue.system.signals.locks import Lock
from mpqueue.system.signals.weak_sets import Living
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

_MAX_YIELDS = 100  # then the holder is allocating shared memory, which takes long: sleep instead

_T = TypeVar("_T")

Call: TypeAlias = EnqueueRequest | CloseRequest | DequeueRequest
"""A request that a thread or another process can submit."""


class Gate(Protocol):
    """The wait of one call. The calling thread calls `wait`; any thread that finishes the request calls `wake`."""

    def wake(self) -> None:
        """Wake the waiting call, because its request has finished."""

    def wait(self, request: Request, timeout: float | None) -> bool:
        """Sleep until the request has finished; return False on timeout."""


class Driver(Protocol):
    """Serializes the steps of one queue's machine, and stores the elements.

    `QueueCore` calls it in threads of the owner process. Each step of the machine is taken under ``lock``, also a step
    for another process's call, which is taken in the thread that polls.
    """

    @property
    def lock(self) -> threading.Lock:
        """The lock held during each step."""

    @property
    def storage(self) -> PlainStorage:
        """The storage of the elements."""

    @property
    def promised(self) -> int:
        """Room that other processes may fill without an answer; read it under the lock."""

    def submit(self, request: Call) -> Gate | None:
        """Take the first step of a call; return None if it has finished, otherwise the gate to wait in."""

    def close_now(self) -> None:
        """Close the queue and cancel pending enqueues."""

    def catch_up(self) -> None:
        """Take the steps that other processes have requested so far."""

    def free(self, request: DequeueRequest) -> None:
        """Free the elements that a call has dequeued and copied. Do not hold the lock. No handler runs afterwards."""

    def keep(self, taken: list[Token]) -> None:
        """Prepare dequeued elements for their return to the queue, because the call failed."""


class LockGate:
    """The gate of a call to a queue that only this process uses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Release the lock. Further calls have no effect."""
        if self._lock.locked():
            self._lock.release()

    def wait(self, _request: Request, timeout: float | None) -> bool:
        """Sleep until the lock is released; return False on timeout."""
        return allow_signals(self._lock.acquire, timeout=-1 if timeout is None else timeout)


class LocalDriver:
    """Driver of a queue that only threads of this process use: one lock.

    Args:
        machine: State machine of the queue.
        storage: Storage of the elements.

    Attributes:
        lock: Held during each step.
        storage: Storage of the elements.
        promised: 0, because no other process uses the queue.
        successor: The driver that has replaced this one, or None.
    """

    def __init__(self, machine: QueueMachine, storage: PlainStorage) -> None:
        self._machine, self.storage = machine, storage
        self.lock = Lock()
        self.promised = 0
        self.successor: Driver | None = None

    def submit(self, request: Call) -> Gate | None:
        """Take the first step of a call; return None if it has finished."""
        # Yield instead of blocking, which would start a lock convoy.
        if self.lock.locked():
            _let_pass(self.lock)
        with self.lock:
            # Checked under the lock: the driver may have been replaced since the caller read it.
            if self.successor is None:
                # Handlers are not deferred here, which would cost 4 us. `recover` completes an interrupted step.
                try:
                    notify(self._machine.submit(request))
                except BaseException:
                    recover(self._machine)
                    raise
                if request.finished:
                    return None
                # Most calls need no gate. The request cannot finish before the lock is released, so no wake is missed.
                gate = LockGate()
                request.notify = gate.wake
                return gate
        return self.successor.submit(request)

    def close_now(self) -> None:
        """Close the queue and cancel pending enqueues."""
        with defer_signals(), self.lock:
            if self.successor is None:
                notify(self._machine.close_and_cancel())
                return
        self.successor.close_now()

    def catch_up(self) -> None:
        """No-op, because no other process uses the queue."""

    def free(self, request: DequeueRequest) -> None:
        """No-op, because the elements are objects of this process."""

    def keep(self, taken: list[Token]) -> None:
        """No-op, because the elements are objects of this process."""


class QueueCore:
    """The queue itself, in the process that owns it. Several `QueueBase` objects may refer to it.

    Args:
        machine: State machine of the queue.
        storage: Storage of the elements.
        spec: The components of the elements.

    Attributes:
        machine: State machine of the queue; its steps are taken under the driver's lock.
        spec: The components of the elements.
        name: Name of the queue.
        dtypes: Dtypes of the components.
        driver: Takes the steps.
    """

    def __init__(self, machine: QueueMachine, storage: PlainStorage, spec: ElementSpec) -> None:
        self.machine, self.spec = machine, spec
        self.name, self.dtypes = machine.name, spec.dtypes
        self.driver: Driver = LocalDriver(machine, storage)
        self._set_aside = 0

    def hand_over(self, make_driver: Callable[[], Driver]) -> None:
        """Replace the `LocalDriver`, before another process uses the queue."""
        local = self.driver
        assert isinstance(local, LocalDriver)
        # Under the former lock: a call has either taken its first step already, or finds the successor.
        with local.lock:
            self.driver = local.successor = make_driver()

    @property
    def size(self) -> int:
        """Number of elements in the queue."""
        self.driver.catch_up()
        return self.machine.size

    @property
    def is_closed(self) -> bool:
        """True once the queue is closed."""
        self.driver.catch_up()
        return self.machine.closed

    @property
    def num_waiting(self) -> int:
        """Number of calls that are blocked in the queue."""
        # As a step under the lock: in the middle of a step, a request can be in line that will not wait.
        return self._step(lambda: self.machine.num_waiting)

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue one element; block while the queue is full."""
        self.spec.check(components)
        # Copied before the lock is taken: the caller may reuse its arrays, and other threads need not wait for the
        # copy.
        self._call(EnqueueRequest((self.driver.storage.put(components),)), timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue the rows of the components, in order, as room becomes available."""
        count = self.spec.check_many(components)
        if count:
            self._call(EnqueueRequest(self.driver.storage.put_many(components, count)), timeout)

    def set_aside(self, count: int) -> int:
        """Reserve room for up to ``count`` elements that a thread is about to produce; return the number reserved.

        Reservations of different threads do not overlap. They do not stop other enqueues from using the room.
        """
        self.driver.catch_up()

        def set_aside() -> int:
            room = self.machine.room if self.machine.may_reserve else 0
            kept = count if room is None else max(0, min(count, room - self.driver.promised - self._set_aside))
            self._set_aside += kept
            return kept

        return self._step(set_aside)

    def release(self, count: int) -> None:
        """Cancel a reservation of `set_aside`, after the elements were enqueued or if there will be none."""

        def release() -> None:
            self._set_aside -= count

        self._step(release)

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Dequeue one element; block while the queue is empty."""
        return self._take(DequeueRequest(1), timeout, result, as_one=True)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Dequeue ``count`` elements, stacked; fewer from a closed queue if ``takes_fewer``."""
        self.spec.check_count(count, self.name)
        if count == 0:
            return result(self.driver.storage.get_many([]))
        return self._take(DequeueRequest(count, takes_fewer), timeout, result, as_one=False)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close the queue, after pending enqueues or by cancelling them."""
        if not self.machine.closed:
            self.machine.reason = closing_reason.get()
        if cancel_pending_enqueues:
            self.driver.close_now()
        else:
            self._call(CloseRequest(), timeout)

    def _take(
        self, request: DequeueRequest, timeout: float | None, result: Callable[[list[Any]], Any], *, as_one: bool
    ) -> Any:
        note_shared_input()
        self._call(request, timeout)
        # From here to the return, an interrupt must find each element in the request, or not run at all. So there is no
        # call between `_call` and the `try`, and none after `free`.
        try:
            kept, taken = request.taken[:], request.taken
            # Read the driver only now: the driver may have been replaced while this call was waiting.
            driver = self.driver
            value = result(driver.storage.get_one(taken) if as_one else driver.storage.get_many(taken))
            driver.free(request)
            return value  # noqa: TRY300 - no handler runs between `free` and this return
        except BaseException as error:  # no memory for the batch, or Ctrl-C
            # The elements return to the queue under the lock; a second Ctrl-C must not stop that half-way.
            with defer_signals():
                if not request.is_read:
                    request.taken = kept
                    self.driver.keep(kept)
                    # A corrupt element must not return: it would fail each later dequeue.
                    if isinstance(error, DataLossError):
                        self.driver.free(request)
                    else:
                        self._retract(request)
            raise

    def _call(self, request: Call, timeout: float | None) -> None:
        """Submit a request and wait until it has finished; raise its error."""
        if timeout is not None:
            timeout = checked_timeout(timeout)
        try:
            gate = self.driver.submit(request)
            if gate is not None:
                # Handlers run only inside the wait. Deferring them costs little compared to the thread switch.
                with defer_signals():
                    self._sleep(request, gate, timeout)
        except BaseException:  # Ctrl-C
            self._retract(request)
            raise
        if request.error is not None:
            try:
                raise request.error
            finally:
                # Break the reference cycle error -> traceback -> this frame -> request -> error.
                request.error = None

    def _sleep(self, request: Request, gate: Gate, timeout: float | None) -> None:
        # Registered before the wait: if the scope is cancelled already, the request is withdrawn at once.
        with cancellable(partial(self._withdraw, request)):
            if not gate.wait(request, timeout):
                # If the request finishes before this step takes the lock, it is not withdrawn and keeps its outcome.
                self._withdraw(request, self._deadline_exceeded(request, timeout))

    def _withdraw(self, request: Request, error: OpError | None) -> None:
        self._step(lambda: notify(self.machine.withdraw(request, error)))

    def _retract(self, request: Request) -> None:
        """Undo a request without a caller that reads the outcome."""

        def retract() -> None:
            if not request.finished:
                notify(self.machine.withdraw(request, None))
            elif isinstance(request, DequeueRequest):
                notify(self.machine.put_back(request.taken))

        self._step(retract)

    def _step(self, step: Callable[[], _T]) -> _T:
        """Take a step of the machine with the driver's lock held and signal handlers deferred."""
        with defer_signals():
            while True:
                driver = self.driver
                with driver.lock:
                    if driver is self.driver:  # otherwise the driver was replaced in the meantime: use the new lock
                        return step()

    def _deadline_exceeded(self, request: Request, timeout: float | None) -> DeadlineExceededError:
        machine = self.machine
        return DeadlineExceededError(
            None,
            None,
            f"Queue {self.name!r} did not finish the {request} within {timeout} s. "
            f"It holds {machine.size} elements; its capacity is {machine.capacity}.",
        )

    def __repr__(self) -> str:
        machine = self.machine
        bound = machine.capacity if machine.capacity >= 0 else "unbounded"
        state = "closed" if machine.closed else "open"
        return f"{machine.name!r} {machine.size} of {bound} elements, {state}, {machine.num_waiting} waiting"


closing_reason: ContextVar[str] = ContextVar("mpqueue_closing_reason", default="")
"""The error because of which this thread closes queues. It reaches the consumers of a queue runner."""

living: "Living[QueueCore]" = Living()
"""The queues that objects of this process refer to. After a fork, the child's objects refer to the parent's queues."""


def recover(machine: QueueMachine) -> None:
    """Complete a machine's step that an interrupt has stopped. Hold the queue's lock."""
    with defer_signals():
        notify(machine.recover())


def _let_pass(lock: threading.Lock) -> None:
    """Let the thread that holds the lock finish, without blocking in the lock."""
    # A thread that sleeps in the lock receives it while it does not hold the interpreter lock. The running thread then
    # blocks at its next call, and so on: each step costs a thread switch. Such a convoy does not dissolve. Yielding
    # first is 3 times as fast with two threads that enqueue. That suffices for a lock that is held for microseconds,
    # and has no cost if the lock is free. For longer critical sections, use `BargingLock`.
    for _ in range(_MAX_YIELDS):
        time.sleep(0)  # releases the interpreter lock, which the holder is waiting for
        if not lock.locked():
            return
