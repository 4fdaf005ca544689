"""Execution of a plan.

Each operation runs once. If the blocking operations of a plan (those that wait for a queue) form a chain in which each
depends on the one before, all operations run one after the other in the caller's thread. Otherwise, two of them must be
able to block at the same time: a dequeue may wait for an enqueue of the same run. Every blocking operation then gets
its own thread, and the others run in the caller's thread. The first error ends the run: operations that have not
started are skipped, and blocked operations are cancelled through the cancellation scope of the run. All runs of a
session also wait in the scope of the session.

Arrays are passed by reference. A read-only array is owned by a constant, a variable or the caller who fed it, and so
are all its views. Code that keeps such a value beyond the run or returns it to the caller must copy it (`owned`).

An interrupt that raises (see NOTE [ Interrupts ] in `mpqueue.tf1.queues.core`) ends the run like an error. Elements
that the run has already dequeued are lost, as in TensorFlow. No element is delivered twice, and later runs continue.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

import numpy as np

from mpqueue.errors import OpError, ResourceExhaustedError
from mpqueue.system.contexts import context_manager
from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.graph.plan import Plan, Step
from mpqueue.tf1.compat.graph.state import SessionState
from mpqueue.tf1.coordination.cancellation import CancellationScope, active_scopes, set_active_scopes

Slots = list[Any]


class Run:
    """One call of ``Session.run``: the context that kernels can use.

    Args:
        session: The session with the state of the kernels.
        limit_s: Time limit in seconds for the operations that wait. None: no limit.
    """

    def __init__(self, session: SessionState, limit_s: float | None = None) -> None:
        self.session = session
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self.scope = CancellationScope()

    def left_s(self) -> float | None:
        """Return the seconds until the time limit, in whole milliseconds; None if there is no limit."""
        if self._deadline is None:
            return None
        return max(0, math.ceil(1000 * (self._deadline - time.monotonic()))) / 1000

    def carry_out(self, plan: Plan, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Execute the plan of this run; plans nested in it use `execute`."""
        before = active_scopes()
        try:
            with self.entered():
                return self.execute(plan, values)
        finally:  # in C: an interrupt while `entered` exits would leave this thread in the session's scope
            set_active_scopes(before)

    @context_manager
    def entered(self) -> Iterator[None]:
        """Return a context for computing steps of this run."""
        # The session's scope, so that `close` wakes blocked steps. TensorFlow does not warn of overflows.
        with self.session.scope.active(), np.errstate(all="ignore"):
            yield

    def execute(self, plan: Plan, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Execute a plan within this run.

        Args:
            plan: The plan to execute.
            values: A value for each fed tensor of the plan.

        Returns: The filled slots.

        Raises:
            OpError: An operation failed; ``op`` is the operation.
        """
        slots: Slots = [None] * len(plan.slot_of)
        for tensor in plan.fed:
            # A read-only view of the caller's array, not a copy: a kernel that keeps it must see that it is borrowed.
            slots[plan.slot_of[tensor]] = lent(values[tensor])
        if plan.blocks_concurrently:
            self._execute_concurrently(plan, slots)
        else:
            for step in plan.steps:
                store(step, self.compute(step, slots), slots)
        return slots

    def compute(self, step: Step, slots: Slots) -> Any:
        """Return the outputs of a step from the inputs in their slots; raises the errors of `execute`."""
        return self.call(step, step.op.kernel, self, [slots[place] for place in step.inputs])

    @staticmethod
    def call(step: Step, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function for a step and attach the operation to its errors."""
        try:
            return function(*args)
        except OpError as error:
            # A step in a branch of a `cond` has already set the operation, which is closer to the cause.
            if error.op is None:
                error._op = step.op
                error.add_note(f"raised by the node {step.op.name!r}, a {step.op.type}")
            raise
        except MemoryError as error:
            raise ResourceExhaustedError(None, step.op, f"no memory for {step.op.name}: {error}") from error

    def _execute_concurrently(self, plan: Plan, slots: Slots) -> None:
        threads = StepThreads(self, slots)
        try:
            failure = self._first_failure(plan, slots, threads)
        except BaseException:  # Ctrl-C
            self.scope.cancel("the run was interrupted")
            # An operation that dequeues after the end of this run would take the elements of the next one. A second
            # Ctrl-C ends this wait.
            threads.wait()
            raise
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # the traceback would keep this frame alive, and with it all values of the run

    def _first_failure(self, plan: Plan, slots: Slots, threads: "StepThreads") -> BaseException | None:
        """Run a plan with a thread per blocking operation; return the first error after all threads are done."""
        # Only this thread writes to `slots` and `missing`: blocking operations return their outcomes through a queue.
        missing = [len(step.needs) for step in plan.steps]
        ready = deque(step for step, count in zip(plan.steps, missing, strict=True) if not count)
        num_waiting, failure = 0, None
        # After an error, no step starts, but wait for blocked steps: they must not take elements after the run ends.
        while (ready and failure is None) or num_waiting:
            step = ready.popleft() if failure is None and ready else None
            # In its own thread even if no other step is ready: the step may wait for a step of this thread.
            if step is not None and step.op.blocking:
                num_waiting += 1
                threads.start(step)
                continue
            if step is not None:
                outcome = self.outcome(step, slots)
            else:
                step, outcome = threads.next()
                num_waiting -= 1
            if isinstance(outcome, BaseException):
                # Keep the first error: later ones are mostly cancellations that it caused.
                failure = outcome if failure is None else failure
                self.scope.cancel("another operation of the run failed")
                continue
            store(step, outcome, slots)
            for each in step.after:
                missing[each] -= 1
                if not missing[each]:
                    ready.append(plan.steps[each])
        return failure

    def outcome(self, step: Step, slots: Slots) -> Any:
        """Return the outputs of an operation, or the exception that it raised."""
        try:
            return self.compute(step, slots)
        # Catch all classes: an exception in a thread is not reported otherwise, and the run would block forever.
        except BaseException as error:
            return error


class StepThreads:
    """The threads of the blocking operations of one plan, a new one for each operation.

    Args:
        run: The run that computes the operations.
        slots: The values that they receive.
    """

    def __init__(self, run: Run, slots: Slots) -> None:
        self._run, self._slots = run, slots
        self._finished: SimpleQueue[tuple[Step, Any]] = SimpleQueue()
        self._at_work: set[Step] = set()

    def start(self, step: Step) -> None:
        """Compute an operation in a new thread.

        Raises:
            RuntimeError: The system allows no more threads.
        """
        # A daemon thread: a queue that is never filled must not keep the program from exiting.
        thread = threading.Thread(target=self._compute, args=(step,), name=f"run-{step.op.name}", daemon=True)
        with defer_signals():  # an interrupt while waiting for the thread would become "release unlocked lock"
            self._at_work.add(step)
            try:
                thread.start()
            except RuntimeError:
                self._at_work.discard(step)
                raise

    def _compute(self, step: Step) -> None:
        run = self._run
        # Cancellation scopes and NumPy's error settings are per thread, and this is a new thread.
        with run.session.scope.active(), run.scope.active(), np.errstate(all="ignore"):
            outcome = run.outcome(step, self._slots)
        # In this order: `wait` gets one more item for each operation that it finds at work.
        self._at_work.discard(step)
        self._finished.put((step, outcome))

    def next(self) -> tuple[Step, Any]:
        """Block until an operation finishes; return it and its outputs, or the exception that it raised."""
        return self._finished.get()

    def wait(self) -> None:
        """Block until all operations have finished."""
        while self._at_work:
            self._finished.get()


def store(step: Step, outputs: Any, slots: Slots) -> None:
    """Store the outputs of a step in their slots."""
    for place, value in zip(step.outputs, outputs, strict=True):
        if place is not None:
            slots[place] = value


def lent(array: np.ndarray) -> np.ndarray:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def owned(array: np.ndarray) -> np.ndarray:
    """Return an array that can be kept: the array itself, or a copy if it is read-only."""
    return array if array.flags.writeable else array.copy()
