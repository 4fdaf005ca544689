"""Queue runners over nodes: the eager queue runners, with operations run in a session instead of functions."""

import threading
from collections.abc import Callable
from typing import Any

from mpqueue.errors import OpError
from mpqueue.system.log import logger_of
from mpqueue.tf1.compat.functions.declare import public, public_class
from mpqueue.tf1.compat.functions.keys import GraphKeys, add_to_collection
from mpqueue.tf1.compat.functions.queue_base import QueueBase
from mpqueue.tf1.compat.graph import Operation, Session, Tensor, get_default_graph, get_default_session
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.records import record_plan
from mpqueue.tf1.compat.train.processes import are_enabled, restore_op, worker_plan
from mpqueue.tf1.compat.train.record_runs import RecordRuns
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.train import collections, queue_runner
from mpqueue.tf1.train.queue_runner_def import QueueRunnerDef

_log = logger_of(__name__)


def checked_session(sess: Any) -> Session:
    """Return the given session, or the default session.

    Raises:
        ValueError: No session is given, and there is no default session.
        TypeError: ``sess`` is not a session.
    """
    sess = get_default_session() if sess is None else sess
    if sess is None:
        raise ValueError("Cannot start queue runners: No default session is registered. Use `with sess.as_default()`")
    if not isinstance(sess, Session):
        hint = ": did you mean coord=?" if isinstance(sess, Coordinator) else ""
        raise TypeError(f"sess must be a tf.Session or None, got {sess!r}{hint}")
    return sess


@public_class("train.QueueRunner", like=queue_runner.QueueRunner)
class QueueRunner(queue_runner.QueueRunner):
    """A list of enqueue operations for a queue, each to be run in a thread.

    Threads, the end of input and errors are handled as in `mpqueue.train.QueueRunner`; the operations are nodes, which
    are run in a session.

    Args:
        enqueue_ops: Operations to run repeatedly; the same operation can occur more than once.
        close_op: Operation that closes the queue. Default: ``queue.close()``.
        cancel_op: Operation that closes the queue and cancels pending enqueues.

    Raises:
        ValueError: Both ``queue_runner_def`` and a queue or operations are passed, or neither.
        TypeError: An enqueue operation is not a node, or ``queue_closed_exception_types`` is not a tuple of error
            classes.
        KeyError: A name in ``queue_runner_def`` does not exist in the default graph.
    """

    def __init__(
        self,
        queue: Any = None,
        enqueue_ops: Any = None,
        close_op: Any = None,
        cancel_op: Any = None,
        queue_closed_exception_types: tuple[type[OpError], ...] | None = None,
        queue_runner_def: QueueRunnerDef | None = None,
        import_scope: str | None = None,
    ) -> None:
        closing = (close_op, cancel_op, queue_closed_exception_types)
        super().__init__(queue, enqueue_ops, *closing, queue_runner_def, import_scope)

    @staticmethod
    def _checked_op(op: Any) -> Any:
        if not isinstance(op, Operation | Tensor | str):
            raise TypeError(f"Enqueue operation must be a node, such as queue.enqueue(...), got {op!r}")
        return op

    @staticmethod
    def _closing(queue: QueueBase, *, cancel: bool) -> Any:
        return queue.close(cancel_pending_enqueues=cancel)

    _checked_session = staticmethod(checked_session)

    @staticmethod
    def _run_once(session: Session, op: Any) -> None:
        session.repeated(op)()

    def _placed(self, op: Any, session: Session, should_stop: Callable[[], bool]) -> tuple[Callable[[], Any], bool]:
        node = session.graph.as_graph_element(op)
        elsewhere = worker_plan(node, session, should_stop) if are_enabled() else None
        if elsewhere is not None:
            return elsewhere, True
        one_by_one, parts = session.repeated(op), record_plan(Plan([node], ()))
        together = RecordRuns(parts, {}, session.running, should_stop, one_by_one) if parts else one_by_one
        return together, False

    @staticmethod
    def _await(session: Session, call: Callable[[], None]) -> None:
        try:
            with session.scope.active():
                call()
        except OpError as error:
            restore_op(error, session.graph)
            raise

    @staticmethod
    def _lookup(name: str) -> Any:
        return get_default_graph().as_graph_element(name)

    @staticmethod
    def _registered_name(thing: Any, _default: str) -> str:
        name: str = thing.queue_ref.op.name if isinstance(thing, QueueBase) else thing.name
        return name


def add_queue_runner(qr: Any, collection: str = GraphKeys.QUEUE_RUNNERS) -> None:
    """Add a queue runner to the collection that `start_queue_runners` starts."""
    add_to_collection(collection, qr)


@public("train.start_queue_runners(...)", like=collections.start_queue_runners)
def start_queue_runners(sess: Any, coord: Coordinator | None, collection: str, **given: bool) -> list[threading.Thread]:
    """Start the threads of all queue runners of the session's graph.

    Args:
        sess: The session. If None, the default session.

    Returns: The new threads. A queue runner that already runs in this session starts none.

    Raises:
        ValueError: No session is given, and there is no default session.
        TypeError: ``sess`` is not a session.
    """
    session = checked_session(sess)
    with session.graph.as_default():
        runners = session.graph.get_collection(collection)
        if not runners:
            _log.warning("start_queue_runners was called, but the graph has no queue runners: add them before")
        return [thread for each in runners for thread in each.create_threads(session, coord, **given)]
