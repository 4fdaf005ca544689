"""Carrying out a plan.

Each operation is run once. As long as of a plan's operations that may block (wait for a queue) each needs the one
before it, all run one after the other in the caller's thread. Otherwise they must not wait for each other's sake: an
enqueue may be what a dequeue of the same run waits for. Then every blocking operation gets a thread of its own, and
the others run in the caller's. The first error ends the run: operations not yet begun are left out, and those that wait
are cancelled, by the scope of the run. All runs of a session wait in the scope of the session, too.

Arrays are passed on, not copied. One that is not writeable is somebody else's (a constant's, a variable's, fed by the
caller), and so is every view of it: who keeps a value beyond the run, or hands it out, copies such an array (`owned`).

An interrupt that raises (see NOTE [ Interrupts ] in `mpqueue.tf1.queues.core`) ends the run as an error does: what its
dequeues had taken by then is lost with it, as in TensorFlow; nothing comes twice, and later runs go on.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np

from mpqueue.errors import OpError, ResourceExhaustedError
from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.graph.plan import Plan, Step
from mpqueue.tf1.compat.graph.state import SessionState
from mpqueue.tf1.coordination.cancellation import CancellationScope, active_scopes, set_active_scopes

Slots = list[Any]


class Run:
    """One call of ``Session.run``: what kernels may ask for.

    Args:
        session: Whose state the kernels use.
    """

    def __init__(self, session: SessionState) -> None:
        self.session = session
        self.scope = CancellationScope()

    def carry_out(self, plan: Plan, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Run the plan of this run; `execute` is for the parts of it that are plans themselves."""
        before = active_scopes()
        try:
            with self.entered():
                return self.execute(plan, values)
        finally:  # in C: an interrupt on the way out of `entered` would leave this thread in the session's scope
            set_active_scopes(before)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A context in which steps of this run may be computed."""
        # The session's scope, so that its `close` wakes what waits; and TensorFlow tells of no overflow.
        with self.session.scope.active(), np.errstate(all="ignore"):
            yield

    def execute(self, plan: Plan, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Run a plan, within a run.

        Args:
            plan: What to run.
            values: A value for each tensor that the plan takes as fed.

        Returns: The slots, filled.

        Raises:
            OpError: What an operation raised; ``op`` tells which.
        """
        slots: Slots = [None] * len(plan.slot_of)
        for tensor in plan.fed:
            # The caller's own array, not a copy: a kernel that keeps it must see that it is not its own.
            slots[plan.slot_of[tensor]] = lent(values[tensor])
        if plan.waits_apart:
            self._execute_apart(plan, slots)
        else:
            for step in plan.steps:
                store(step, self.compute(step, slots), slots)
        return slots

    def compute(self, step: Step, slots: Slots) -> Any:
        """Return the outputs of a step of this run, whose inputs are in their slots; errors as `execute`."""
        return self.call(step, step.op.kernel, self, [slots[place] for place in step.inputs])

    @staticmethod
    def call(step: Step, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on behalf of a step: an error says which operation raised it."""
        try:
            return function(*args)
        except OpError as error:
            # In a branch of a `cond` the step inside has set it already, and is nearer to the cause.
            if error.op is None:
                error._op = step.op
                error.add_note(f"raised by the node {step.op.name!r}, a {step.op.type}")
            raise
        except MemoryError as error:
            raise ResourceExhaustedError(None, step.op, f"no memory for {step.op.name}: {error}") from error

    def _execute_apart(self, plan: Plan, slots: Slots) -> None:
        try:
            failure = self._failure_of_apart(plan, slots)
        except BaseException:  # Ctrl-C: nobody would wait for those that wait
            self.scope.cancel("the run was interrupted")
            raise
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # else it would hold this frame, and with that all values of the run

    def _failure_of_apart(self, plan: Plan, slots: Slots) -> BaseException | None:
        """Run a plan, every blocking operation in a thread of its own; the first error, when all have ended."""
        # Only this thread writes into slots and counts: those that wait hand their outcomes over by a queue.
        missing = [len(step.needs) for step in plan.steps]
        ready = deque(step for step, count in zip(plan.steps, missing, strict=True) if not count)
        finished: SimpleQueue[tuple[Step, Any]] = SimpleQueue()
        num_waiting, failure = 0, None
        # After an error nothing is begun, but who waits is waited for: it must not take elements behind the run's end.
        while (ready and failure is None) or num_waiting:
            step = ready.popleft() if failure is None and ready else None
            # Not here, even if nothing else is ready: what ends the wait may be a step that this thread is to compute.
            if step is not None and step.op.blocking:
                num_waiting += 1
                self._start(step, slots, finished)
                continue
            if step is not None:
                outcome = self._outcome(step, slots)
            else:
                step, outcome = finished.get()
                num_waiting -= 1
            if isinstance(outcome, BaseException):
                # The first: what comes after it is mostly that the others were cancelled.
                failure = failure or outcome
                self.scope.cancel("another operation of the run failed")
                continue
            store(step, outcome, slots)
            for each in step.after:
                missing[each] -= 1
                if not missing[each]:
                    ready.append(plan.steps[each])
        return failure

    def _start(self, step: Step, slots: Slots, finished: "SimpleQueue[tuple[Step, Any]]") -> None:
        def call() -> None:
            # Scopes and NumPy's settings belong to a thread, and this is a new one.
            with self.session.scope.active(), self.scope.active(), np.errstate(all="ignore"):
                finished.put((step, self._outcome(step, slots)))

        # A daemon: a queue that nobody fills must not keep a program from its end.
        thread = threading.Thread(target=call, name=f"run-{step.op.name}", daemon=True)
        with defer_signals():  # an interrupt in its wait for the thread would become "release unlocked lock"
            thread.start()

    def _outcome(self, step: Step, slots: Slots) -> Any:
        """The outputs of an operation, or what it raised."""
        try:
            return self.compute(step, slots)
        # Of whatever class: in a thread nobody else would hear of it, and the run would wait for ever.
        except BaseException as error:
            return error


def store(step: Step, outputs: Any, slots: Slots) -> None:
    """Put the outputs of a step into their slots."""
    for place, value in zip(step.outputs, outputs, strict=True):
        if place is not None:
            slots[place] = value


def lent(array: np.ndarray) -> np.ndarray:
    """A view that may not be written into."""
    view = array.view()
    view.flags.writeable = False
    return view


def owned(array: np.ndarray) -> np.ndarray:
    """An array that may be kept: itself, or a copy if it is lent."""
    return array if array.flags.writeable else array.copy()
