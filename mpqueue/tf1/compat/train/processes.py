"""Enqueue operations of a script in worker processes.

    thread of the queue runner                          worker process
    ──────────────────────────                          ──────────────
    plans the operation and its dependencies
    creates its queues and readers in the session
    sends the plan, and handles to these      ────────► creates its own session, without a graph
    waits                                               executes the plan repeatedly
    end, or error of an operation             ◄────────

The handle of a queue refers to the original queue. The handle of a reader becomes a copy, which reports its counts to
the reader of the session. All other state exists only in the session's process. An operation that needs such state is
*bound* (see `Operation`), and an operation that depends on a bound one remains in its thread. Bound operations are:

- variables, including epoch counters and files matched once;
- random nodes with a seed, which draw from one stream per session;
- placeholders;
- Python functions, unless they are declared stateless;
- operations that query or reset a reader.
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
    """Run enqueue operations in worker processes, for queue runners that are started from this call on.

    Each operation gets its own process, and its thread waits for it. Operations that use variables (including epoch
    counters), seeds, feeds or Python functions remain in their threads. A function of `py_func` can run in a worker
    process if it is declared with ``stateful=False``. Batches contain the same examples as with threads. Their order is
    not deterministic if several threads fill a queue.

    The environment variable ``MPQUEUE_WORKERS``, "process" or "thread", has the same effect without a change to the
    script. This call takes precedence.

    Args:
        enabled: False to use threads.
    """
    _choice[:] = [enabled]


def are_enabled() -> bool:
    """Return whether enqueue operations should run in worker processes.

    Raises:
        ValueError: The environment variable is neither "process" nor "thread".
    """
    if _choice:
        return _choice[0]
    chosen = os.environ.get(VARIABLE) or "thread"
    if chosen not in ("process", "thread"):
        raise ValueError(f'The environment variable {VARIABLE} must be "process" or "thread", got {chosen!r}')
    return chosen == "process"


def worker_plan(target: Operation | Tensor, session: Session, should_stop: Callable[[], bool]) -> "WorkerPlan | None":
    """Return a callable that runs a node in another process, or None if a dependency is bound to this process."""
    whole = Plan([target], ())
    if whole.is_bound:
        return None
    # Queues and readers are created here, in the session. Only their handles are sent to the worker.
    handles = [each for step in whole.steps if is_handle(step.op) for each in step.op.outputs]
    run = Run(session)
    plan = Plan(handles, ())
    slots = run.carry_out(plan, {})
    values = {each: slots[plan.slot_of[each]] for each in handles}
    return WorkerPlan(target.name, Plan([target], handles), values, should_stop)


class WorkerPlan:
    """A plan that is executed at each call, in any process.

    Args:
        name: Name of the node to run.
        plan: The steps.
        values: The handles to feed.
        should_stop: Returns whether the coordinator has stopped.
    """

    def __init__(self, name: str, plan: Plan, values: dict[Tensor, Any], should_stop: Callable[[], bool]) -> None:
        self.name, self._plan, self._values, self._should_stop = name, plan, values, should_stop
        self._parts = record_plan(plan)  # computed here, because in the worker operations do not know their inputs
        self._call: Callable[[], Any] | None = None

    def __call__(self) -> None:
        """Execute the plan for the next record, or for several records.

        Raises:
            OpError: An operation failed; `restore_op` looks up the operation.
        """
        if self._call is None:
            self._call = self._made()
        try:
            self._call()
        except OpError as error:
            if error.op is not None:
                error.__dict__[_FAILED_IN] = error.op.name  # the operation itself cannot be pickled
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


def restore_op(error: OpError, graph: Graph) -> None:
    """Replace ``op`` of an error from another process by the operation of the graph."""
    name = error.__dict__.pop(_FAILED_IN, None)
    if name is not None:
        error._op = graph.get_operation_by_name(name)
