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
"""

import math
import numbers
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.errors import DeadlineExceededError, FailedPreconditionError, InvalidArgumentError, OpError
from mpqueue.queues.cancellation import cancellable
from mpqueue.queues.conversion import Array
from mpqueue.queues.dtypes import DType
from mpqueue.queues.machine import QueueMachine
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest, Request, Token
from mpqueue.queues.spec import ElementSpec
from mpqueue.queues.storage import Storage


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
        self._process_id = os.getpid()

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
        self._check_process()
        return self._machine.size

    @property
    def is_closed(self) -> bool:
        """True once a close was processed."""
        self._check_process()
        return self._machine.closed

    @property
    def num_waiting(self) -> int:
        """Number of calls that are blocked in it."""
        return self._machine.num_waiting

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
        return self._take(DequeueRequest(1), self._storage.get_one, timeout)

    def dequeue_many(self, count: int, timeout: float | None, *, takes_fewer: bool) -> list[Array]:
        """Take ``count`` elements out, stacked; fewer from a closed queue if ``takes_fewer``."""
        if count < 0:
            raise InvalidArgumentError(None, None, f"cannot dequeue {count} elements from {self.name!r}")
        if not self.spec.has_shapes:
            raise InvalidArgumentError(
                None,
                None,
                f"queue {self.name!r} was made without shapes, so its elements cannot be stacked: give it shapes, or "
                "dequeue one by one",
            )
        if count == 0:
            return self._storage.get_many([])
        return self._take(DequeueRequest(count, takes_fewer), self._storage.get_many, timeout)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it: behind the enqueues that wait, or now."""
        if not cancel_pending_enqueues:
            self._call(CloseRequest(), timeout)
            return
        self._check_process()
        with self._lock:
            _notify(self._machine.close_and_cancel())

    def _take(
        self, request: DequeueRequest, get: Callable[[list[Token]], list[Any]], timeout: float | None
    ) -> list[Any]:
        self._call(request, timeout)
        try:
            return get(request.taken)
        except BaseException:  # no memory for the batch, or Ctrl-C
            self._retract(request)
            raise

    def _call(self, request: EnqueueRequest | CloseRequest | DequeueRequest, timeout: float | None) -> None:
        """See a request through to its end."""
        self._check_process()
        timeout = _checked_timeout(timeout)
        gate = None
        try:
            with self._lock:
                finished = self._machine.submit(request)
                _notify(finished)
                if not request.finished:
                    gate = threading.Lock()
                    gate.acquire()
                    request.notify = gate.release
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

    def _sleep(self, request: Request, gate: threading.Lock, timeout: float | None) -> None:
        with cancellable(partial(self._withdraw, request)):
            if not gate.acquire(timeout=-1 if timeout is None else timeout):
                self._withdraw(request, self._deadline_exceeded(request, timeout))

    def _withdraw(self, request: Request, error: OpError) -> None:
        with self._lock:
            _notify(self._machine.withdraw(request, error))

    def _retract(self, request: Request) -> None:
        """Undo a request whose caller will not see the outcome."""
        with self._lock:
            if not request.finished:
                _notify(self._machine.withdraw(request, None))
            elif isinstance(request, DequeueRequest):
                taken, request.taken = request.taken, []
                _notify(self._machine.put_back(taken))

    def _deadline_exceeded(self, request: Request, timeout: float | None) -> DeadlineExceededError:
        machine = self._machine
        return DeadlineExceededError(
            None,
            None,
            f"queue {self.name!r} did not finish the {request} within {timeout} s; "
            f"it holds {machine.size} elements, its capacity is {machine.capacity}",
        )

    def _check_process(self) -> None:
        if os.getpid() != self._process_id:
            raise FailedPreconditionError(
                None,
                None,
                f"queue {self.name!r} belongs to process {self._process_id}, and process {os.getpid()} is a fork of "
                "it that has only a dead copy: start workers with mpqueue, to which queues travel by themselves",
            )

    def __repr__(self) -> str:
        machine = self._machine
        bound = machine.capacity if machine.capacity >= 0 else "unbounded"
        state = "closed" if machine.closed else "open"
        return f"{machine.name!r} {machine.size} of {bound} elements, {state}, {machine.num_waiting} waiting"


def _notify(finished: list[Request]) -> None:
    for request in finished:
        if request.notify is not None:
            request.notify()


def _checked_timeout(timeout: Any) -> float | None:
    if timeout is None or timeout == math.inf:
        return None
    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    seconds = float(timeout)
    if not seconds >= 0:  # not-a-number too
        raise ValueError(f"timeout must be at least 0 seconds, or None to wait for ever; got {timeout!r}")
    return min(seconds, threading.TIMEOUT_MAX)
