"""One queue in one process: the machine, the storage of its elements, and the lock around the machine.

    a call                                 any other call, or a cancellation, or a timeout
    ──────                                 ──────────────────────────────────────────────
    with the lock: submit its request
      finished? return at once             with the lock: a step of the machine
      else hang a gate on the request        finished requests: open their gates
    sleep before the gate        ◄───────────
    look at the outcome

A gate is a bare lock that is held until the request has finished: sleeping before it costs nothing, wakes exactly the
call whose turn it is, and can be interrupted by a signal. A call that is interrupted, that cannot get memory for its
result, or whose process is gone gives back what it had taken: no element is lost with its call.

A thread that sleeps before the queue's lock is given it while it has no interpreter lock, so that the thread that
runs must sleep at its next call, and so on: each step costs a switch of threads. Once begun, such a convoy does not
end by itself. So who finds the lock taken first gives way: 3 times the rate with two threads that enqueue.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mpqueue.coordination.cancellation import cancellable
from mpqueue.errors import DeadlineExceededError, OpError
from mpqueue.queues import handles
from mpqueue.queues.machine import QueueMachine
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest, Request, Token
from mpqueue.queues.spec import ElementSpec
from mpqueue.queues.storage import Storage
from mpqueue.queues.timeouts import checked_timeout
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType

if TYPE_CHECKING:
    from mpqueue.queues.share import Share


_MAX_YIELDS = 100  # then it is held by somebody who makes shared memory: better to sleep


class Gate(Protocol):
    """What a call waits with."""

    def wake(self) -> None:
        """The call has finished."""

    def wait(self, request: Request, timeout: float | None) -> bool:
        """Sleep until it has; False if the time is over."""


class LockGate:
    """The gate of a call of this process to a queue that no other process uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.wake = self._lock.release

    def wait(self, _request: Request, timeout: float | None) -> bool:
        """Sleep before the lock."""
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)


class QueueCore:
    """The queue itself, which any number of `QueueBase` objects may stand for.

    Args:
        machine: Its semantics.
        storage: Its elements.
        spec: What they are made of.
    """

    def __init__(self, machine: QueueMachine, storage: Storage, spec: ElementSpec) -> None:
        self._machine, self._storage, self.spec = machine, storage, spec
        self._lock = threading.Lock()
        self._share: Share | None = None
        handles.register(self)

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._machine.name

    @property
    def dtypes(self) -> list[DType]:
        """Of the components."""
        return self.spec.dtypes

    @property
    def size(self) -> int:
        """Number of elements in it."""
        self._catch_up()
        return self._machine.size

    @property
    def is_closed(self) -> bool:
        """True once a close was processed."""
        self._catch_up()
        return self._machine.closed

    @property
    def num_waiting(self) -> int:
        """Number of calls that are blocked in it."""
        with self._lock:  # amid a step, calls are in line that will not wait
            return self._machine.num_waiting

    def _catch_up(self) -> None:
        """See what other processes have done to it by now."""
        if self._share is not None:
            self._share.catch_up()

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element in."""
        self.spec.check(components)
        self._call(EnqueueRequest((self._storage.put(components),)), timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Put the rows of the components in, as far and as soon as there is room."""
        count = self.spec.check_many(components)
        if count:
            self._call(EnqueueRequest(self._storage.put_many(components, count)), timeout)

    def dequeue(self, timeout: float | None) -> list[Any]:
        """Take one element out."""
        return self._take(DequeueRequest(1), timeout, as_one=True)

    def dequeue_many(self, count: int, timeout: float | None, *, takes_fewer: bool) -> list[Array]:
        """Take ``count`` elements out, stacked; fewer from a closed queue if ``takes_fewer``."""
        self.spec.check_count(count, self.name)
        if count == 0:
            return self._storage.get_many([])
        return self._take(DequeueRequest(count, takes_fewer), timeout, as_one=False)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it: behind the enqueues that wait, or now."""
        if not cancel_pending_enqueues:
            self._call(CloseRequest(), timeout)
            return
        if self._share is None:
            self.close_now()
        else:
            self._share.close_now(self)

    def _take(self, request: DequeueRequest, timeout: float | None, *, as_one: bool) -> list[Any]:
        self._call(request, timeout)
        try:
            # Looked up only now: the queue may have been shared while this call was waiting.
            storage = self._storage
            return storage.get_one(request.taken) if as_one else storage.get_many(request.taken)
        except BaseException:  # no memory for the batch, or Ctrl-C
            self._retract(request)
            raise
        finally:
            if self._share is not None:
                self._share.free(request.taken)

    def _call(self, request: EnqueueRequest | CloseRequest | DequeueRequest, timeout: float | None) -> None:
        """See a request through to its end."""
        timeout = checked_timeout(timeout)
        try:
            gate = self._submit(request)
            if gate is not None:
                self._sleep(request, gate, timeout)
        except BaseException:  # Ctrl-C
            self._retract(request)
            raise
        if request.error is not None:
            try:
                raise request.error
            finally:
                request.error = None  # else the error would hold this frame, the frame the request, and that the error

    def _submit(self, request: EnqueueRequest | CloseRequest | DequeueRequest) -> Gate | None:
        """Take the first step: None if the request has finished, else what its caller waits with."""
        share = self._share
        if share is None:
            if self._lock.locked():
                _let_pass(self._lock)
            with self._lock:
                if self._share is None:
                    return self._step(request, None)
                share = self._share
        return share.submit_local(self, request)

    def _sleep(self, request: Request, gate: Gate, timeout: float | None) -> None:
        with cancellable(partial(self._withdraw_own, request)):
            if not gate.wait(request, timeout):
                self._withdraw_own(request, self._deadline_exceeded(request, timeout))

    def _withdraw_own(self, request: Request, error: OpError | None) -> None:
        with self._all_locks():
            _notify(self._machine.withdraw(request, error))

    def _retract(self, request: Request) -> None:
        """Undo a request whose caller will not see the outcome."""
        with self._all_locks():
            if not request.finished:
                _notify(self._machine.withdraw(request, None))
            elif isinstance(request, DequeueRequest):
                taken, request.taken = request.taken, []
                _notify(self._machine.put_back(taken))

    @contextmanager
    def _all_locks(self) -> Iterator[None]:
        """The queue's lock, and before it the hub's if the queue is shared."""
        share = self._share
        with nullcontext() if share is None else share.hub.lock, self._lock:
            yield

    # -- For the share of this queue, under the hub's lock

    def share(self, make_share: Callable[["QueueCore"], "Share"]) -> "Share":
        """Let other processes use it from now on."""
        with self._lock:
            if self._share is None:
                self._share = make_share(self)
                self._storage = self._share.storage
            return self._share

    def step(self, request: EnqueueRequest | CloseRequest | DequeueRequest, gate: Gate | None) -> Gate | None:
        """Give a request to the machine; None if it has finished, else its gate."""
        with self._lock:
            return self._step(request, gate)

    def _step(self, request: EnqueueRequest | CloseRequest | DequeueRequest, gate: Gate | None) -> Gate | None:
        _notify(self._machine.submit(request))
        if request.finished:
            return None
        if request.notify is None:
            gate = gate or LockGate()
            request.notify = gate.wake
        return gate

    def admit(self, tokens: list[Token]) -> None:
        """Put in elements of another process, for which room was set aside."""
        with self._lock:
            _notify(self._machine.admit(tokens))

    def withdraw(self, request: Request, error: OpError) -> None:
        """End a request of another process."""
        with self._lock:
            _notify(self._machine.withdraw(request, error))

    def withdraw_owner(self, owner: object, error: OpError) -> None:
        """End all requests of a process that is gone."""
        with self._lock:
            _notify(self._machine.withdraw_owner(owner, error))

    def put_back(self, tokens: list[Token]) -> None:
        """Take back what another process could not read."""
        with self._lock:
            _notify(self._machine.put_back(tokens))

    def close_now(self) -> None:
        """Close, and cancel what waits to get in."""
        with self._lock:
            _notify(self._machine.close_and_cancel())

    @property
    def state(self) -> tuple[int, int]:
        """Size, and 1 if it is closed."""
        return self._machine.size, int(self._machine.closed)

    def has(self, count: int) -> bool:
        """Whether a dequeue of so many elements would finish at once."""
        machine = self._machine
        return machine.size - machine.min_after_dequeue >= count and not machine.has_waiting_dequeues

    @property
    def is_in_use(self) -> bool:
        """Whether there are elements in it, or calls that wait."""
        return bool(self._machine.size or self._machine.num_waiting)

    def held_back(self) -> list[Token]:
        """All that is in it, if a dequeue waits for more; else nothing."""
        with self._lock:
            return self._machine.held() if self._machine.has_waiting_dequeues else []

    @property
    def held(self) -> Callable[[], list[Token]]:
        """Gives the elements in it, and those that waiting dequeues have taken; does not keep the queue itself."""
        return self._machine.held

    @property
    def room(self) -> int | None:
        """How many elements still fit, None if there is no bound."""
        machine = self._machine
        return None if machine.capacity < 0 else machine.capacity - machine.size

    @property
    def may_reserve(self) -> bool:
        """Whether room may be set aside: nobody waits for it, and there will be enqueues."""
        return not self._machine.has_waiting_enqueues and not self._machine.closed

    def _deadline_exceeded(self, request: Request, timeout: float | None) -> DeadlineExceededError:
        machine = self._machine
        return DeadlineExceededError(
            None,
            None,
            f"queue {self.name!r} did not finish the {request} within {timeout} s; "
            f"it holds {machine.size} elements, its capacity is {machine.capacity}",
        )

    @property
    def shared_as(self) -> "Share | None":
        """What other processes use of it, None if none does."""
        return self._share

    def __reduce__(self) -> tuple[Any, ...]:
        return handles.attach, (handles.place_of(self), self.spec, self.name)

    def __repr__(self) -> str:
        machine = self._machine
        bound = machine.capacity if machine.capacity >= 0 else "unbounded"
        state = "closed" if machine.closed else "open"
        return f"{machine.name!r} {machine.size} of {bound} elements, {state}, {machine.num_waiting} waiting"


def _let_pass(lock: threading.Lock) -> None:
    """Let whoever holds the lock go on, without standing in line for it; see the module's head."""
    for _ in range(_MAX_YIELDS):
        time.sleep(0)  # gives up the interpreter's lock, which the holder waits for
        if not lock.locked():
            return


def _notify(finished: list[Request]) -> None:
    for request in finished:
        if request.notify is not None:
            request.notify()
