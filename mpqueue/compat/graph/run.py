"""Carrying out a plan.

Each operation is run once. As long as a plan has at most one operation that may block (wait for a queue), all run one
after the other in the caller's thread. With more, they must not wait for each other's sake: an enqueue may be what a
dequeue of the same run waits for. Then every blocking operation gets a thread of its own, and the others run in the
caller's. The first error ends the run: operations not yet begun are left out, and those that wait are cancelled.

Arrays are passed on, not copied. One that is not writeable is somebody else's (a constant's, a variable's, fed by the
caller), and so is every view of it: who keeps a value beyond the run, or hands it out, copies such an array (`owned`).
"""

import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.plan import Plan, Step
from mpqueue.errors import CancelledError, OpError, ResourceExhaustedError

if TYPE_CHECKING:
    from mpqueue.compat.graph.session import Session

Slots = list[Any]


class Run:
    """One call of ``Session.run``: what kernels may ask for.

    Args:
        session: Whose state the kernels use.
    """

    def __init__(self, session: "Session") -> None:
        self.session = session
        self._waiting: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._cancelled = False

    def execute(self, plan: Plan, values: Mapping[Tensor, np.ndarray]) -> Slots:
        """Run a plan.

        Args:
            plan: What to run.
            values: A value for each tensor that the plan takes as fed.

        Returns: The slots, filled.

        Raises:
            OpError: What an operation raised; ``op`` tells which.
        """
        slots: Slots = [None] * len(plan.slot_of)
        for tensor in plan.fed:
            slots[plan.slot_of[tensor]] = lent(values[tensor])
        with np.errstate(all="ignore"):
            if plan.num_blocking > 1:
                self._execute_apart(plan, slots)
            else:
                for step in plan.steps:
                    _store(step, self._compute(step, slots), slots)
        return slots

    def cancel(self) -> None:
        """End the waits of this run: what waits, and what begins to wait, raises `CancelledError`."""
        with self._lock:
            self._cancelled, waiting = True, list(self._waiting)
        for wake in waiting:
            wake()

    def waiting(self, wake: Callable[[], None]) -> "_Waiting":
        """A context around a kernel's wait; ``wake`` is called, from another thread, to end it.

        Raises:
            CancelledError: The run is cancelled already.
        """
        return _Waiting(self, wake)

    def _compute(self, step: Step, slots: Slots) -> Any:
        try:
            return step.op.kernel(self, [slots[place] for place in step.inputs])
        except OpError as error:
            if error.op is None:
                error._op = step.op
            raise
        except MemoryError as error:
            raise ResourceExhaustedError(None, step.op, f"no memory for {step.op.name}: {error}") from error

    def _execute_apart(self, plan: Plan, slots: Slots) -> None:
        missing = [len(step.needs) for step in plan.steps]
        ready = [number for number, count in enumerate(missing) if not count]
        finished: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        running, failure = 0, None
        while (ready and failure is None) or running:
            ready.sort(key=lambda number: plan.steps[number].op.blocking)
            if ready and failure is None:
                number = ready.pop(0)
                if plan.steps[number].op.blocking:
                    running += 1
                    self._start(number, plan.steps[number], slots, finished)
                    continue
                self._attempt(number, plan.steps[number], slots, finished)
            else:
                running -= 1
            number, outputs, error = finished.get()
            if error is not None:
                failure = failure or error
                self.cancel()
                continue
            _store(plan.steps[number], outputs, slots)
            for each in plan.steps[number].after:
                missing[each] -= 1
                ready += [each] if not missing[each] else []
        if failure is not None:
            raise failure

    def _start(self, number: int, step: Step, slots: Slots, finished: "SimpleQueue[Any]") -> None:
        arguments = (number, step, slots, finished)
        threading.Thread(target=self._attempt, args=arguments, name=f"run-{step.op.name}", daemon=True).start()

    def _attempt(self, number: int, step: Step, slots: Slots, finished: "SimpleQueue[Any]") -> None:
        try:
            finished.put((number, self._compute(step, slots), None))
        except BaseException as error:  # travels to the caller's thread
            finished.put((number, None, error))


class _Waiting:
    def __init__(self, run: Run, wake: Callable[[], None]) -> None:
        self._run, self._wake = run, wake

    def __enter__(self) -> None:
        with self._run._lock:
            if self._run._cancelled:
                raise CancelledError(None, None, "the run was cancelled")
            self._run._waiting.add(self._wake)

    def __exit__(self, *_exc: object) -> None:
        with self._run._lock:
            self._run._waiting.discard(self._wake)


def _store(step: Step, outputs: Any, slots: Slots) -> None:
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
