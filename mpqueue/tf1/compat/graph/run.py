"""Execution of a plan.

Each operation runs once, one after the other in the caller's thread. The first error ends the run: operations that have
not started are skipped. All runs of a session wait in the scope of the session, so that closing it wakes them.

Arrays are passed by reference. A read-only array is owned by a constant, a variable or the caller who fed it, and so
are all its views. Code that keeps such a value beyond the run or returns it to the caller must copy it (`owned`).

An interrupt that raises (see NOTE [ Interrupts ] in `mpqueue.tf1.queues.core`) ends the run like an error. Elements
that the run has already dequeued are lost, as in TensorFlow. No element is delivered twice, and later runs continue.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mpqueue.errors import OpError, ResourceExhaustedError
from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.graph.plan import Plan, Step
from mpqueue.tf1.compat.graph.state import SessionState
from mpqueue.tf1.coordination.cancellation import active_scopes, set_active_scopes

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
