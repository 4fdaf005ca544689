"""Enqueue operations of a script in worker processes.

    thread of the queue runner                          worker process
    ──────────────────────────                          ──────────────
    plans the operation, all that it needs included
    makes its queues and readers in the session
    sends the plan, and these as handles      ────────► a session of its own, without a graph
    waits                                               carries out the plan again and again
    the end, or what an operation raised      ◄────────

The handle of a queue leads back to the queue; that of a reader becomes a copy, which counts at the reader of the
session. All other state exists only where the session is: an operation that needs it is *bound* (see `Operation`), and
an operation that needs a bound one stays in its thread. These are bound: variables, and with them counts of epochs and
file names that were matched once; random nodes with a seed, which draw from one stream per session; placeholders;
Python functions, unless they are said to be stateless; and operations that ask or reset a reader.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from mpqueue.errors import OpError
from mpqueue.tf1.compat.graph import Graph, Operation, Session, Tensor
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.records import is_handle, record_plan
from mpqueue.tf1.compat.graph.run import Run
from mpqueue.tf1.compat.train.record_runs import RecordRuns

VARIABLE = "MPQUEUE_WORKERS"
_choice: list[bool] = []


def use_processes(enabled: bool = True) -> None:
    """Run the enqueue operations of queue runners that are started from now on in worker processes, where they can be.

    Each gets a process of its own, for which its thread waits. Operations that use variables (counts of epochs among
    them), seeds, feeds or Python functions stay in their threads; a function of `py_func` moves if it is said to be
    ``stateful=False``. Batches hold the same examples as with threads, in any order where several threads fill a queue.

    The environment variable ``MPQUEUE_WORKERS``, "process" or "thread", does the same for a script that is not changed;
    this call wins.

    Args:
        enabled: False for threads.
    """
    _choice[:] = [enabled]


def are_used() -> bool:
    """Return whether operations are to be moved.

    Raises:
        ValueError: The environment variable is neither "process" nor "thread".
    """
    if _choice:
        return _choice[0]
    chosen = os.environ.get(VARIABLE) or "thread"
    if chosen not in ("process", "thread"):
        raise ValueError(f'the environment variable {VARIABLE} must be "process" or "thread", got {chosen!r}')
    return chosen == "process"


def moved(target: Operation | Tensor, session: Session, should_stop: Callable[[], bool]) -> "Moved | None":
    """Return what carries out a node in another process, None if something that it needs is bound to this one."""
    whole = Plan([target], ())
    if whole.is_bound:
        return None
    # Queues and readers are made here, in the session: only the handles travel.
    handles = [each for step in whole.steps if is_handle(step.op) for each in step.op.outputs]
    run = Run(session)
    plan = Plan(handles, ())
    slots = run.carry_out(plan, {})
    values = {each: slots[plan.slot_of[each]] for each in handles}
    return Moved(target.name, Plan([target], handles), values, should_stop)


class Moved:
    """A plan that is carried out at each call, in whatever process it is.

    Args:
        name: Name of the node that is run.
        plan: The steps.
        values: The handles that are fed to it.
        should_stop: Whether the coordinator has stopped.
    """

    def __init__(self, name: str, plan: Plan, values: dict[Tensor, Any], should_stop: Callable[[], bool]) -> None:
        self.name, self._plan, self._values, self._should_stop = name, plan, values, should_stop
        self._parts = record_plan(plan)  # now: elsewhere operations know their neighbours no more
        self._call: Callable[[], Any] | None = None

    def __call__(self) -> None:
        """Carry out the plan for the next record, or for several.

        Raises:
            OpError: An operation raised it; `give_back_op` finds which.
        """
        if self._call is None:
            self._call = self._made()
        try:
            self._call()
        except OpError as error:
            if error.op is not None:
                error.__dict__[_FAILED_IN] = error.op.name  # the operation itself does not travel
            raise

    def _made(self) -> Callable[[], Any]:
        session = Session(graph=Graph())

        def one_by_one() -> None:
            Run(session).carry_out(self._plan, self._values)

        if self._parts is None:
            return one_by_one
        return RecordRuns(self._parts, self._values, lambda: nullcontext(Run(session)), self._should_stop, one_by_one)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


_FAILED_IN = "_failed_in"


def give_back_op(error: OpError, graph: Graph) -> None:
    """Set ``op`` of an error that came from another process to the operation of the graph."""
    name = error.__dict__.pop(_FAILED_IN, None)
    if name is not None:
        error._op = graph.get_operation_by_name(name)
