"""`QueueRunner`: keeps a queue filled with enqueue ops, and closes it when the input ends or the program stops.

::

    op thread, one per op                          close thread, only with a coordinator
    ─────────────────────                          ─────────────────────────────────────
    until the coordinator stops:                   wait for the coordinator's stop
      run the op                                   run cancel_op, which wakes calls that are blocked
                                                     in the queue
        (the coordinator's scope wakes a call that is blocked elsewhere)
      closed-type error: this run is done;
        the last run calls close_op
      other error: the coordinator stops with it;
        without a coordinator, store and raise it

Outstanding runs are counted per session, starting when `create_threads` is called, not when the threads start. Only a
run that brings the count to zero by a closed-type error closes the queue. If the last run fails instead, the queue
remains open, as in TensorFlow.
"""

import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, Self

from mpqueue.errors import OpError, OutOfRangeError
from mpqueue.system.log import logger_of
from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.queues.base import CloseOp, EnqueueOp, QueueBase, QueueOp
from mpqueue.tf1.queues.core import closing_reason
from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.session import Session, SessionClosedError, get_default_session
from mpqueue.tf1.train.holding import held_in
from mpqueue.tf1.train.local_variables import LocalVariable
from mpqueue.tf1.train.placeholders import Placeholder
from mpqueue.tf1.train.queue_runner_def import QueueRunnerDef, class_of, code_of, with_scope, without_scope
from mpqueue.tf1.train.source_runs import repeated

Op = Callable[[], Any]
Workers = Literal["thread", "process"]

_log = logger_of(__name__)


def checked_session(sess: Session | None) -> Session:
    """Return the session to run in: the given session, or the default session if it is None.

    Raises:
        TypeError: ``sess`` is neither a session nor None.
    """
    if sess is None:
        return get_default_session()
    if not all(hasattr(sess, method) for method in ("run", "make_callable", "as_default")):
        hint = ": did you mean coord=?" if isinstance(sess, Coordinator) else ""
        raise TypeError(f"sess must be a Session or None, got {sess!r}{hint}")
    return sess


class QueueRunner:
    """A list of enqueue ops for a queue, each to be run in a thread.

    Example:
        A queue that a thread keeps full::

            import itertools
            import mpqueue

            numbers = itertools.count()
            queue = mpqueue.train.FIFOQueue(4, "int64", [()])
            op = queue.enqueue_op(lambda: next(numbers))
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.QueueRunner(queue, [op]).create_threads(coord=coordinator, start=True)
            assert queue.dequeue_many(6).tolist() == [0, 1, 2, 3, 4, 5]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        queue: The queue that the ops fill.
        enqueue_ops: Callables without arguments, such as ``queue.enqueue_op(source)``. They enqueue once per call, and
            raise a closed-type error at the end. The same op can occur more than once.
        close_op: Callable that closes the queue after pending enqueues finish. Default: ``queue.close()``.
        cancel_op: Callable that closes the queue and cancels pending enqueues. Default:
            ``queue.close(cancel_pending_enqueues=True)``.
        queue_closed_exception_types: Tuple of error classes that mean the normal end of an op. Default:
            ``(OutOfRangeError,)``. Add `CancelledError` if ops dequeue from queues that are closed while they run.
        queue_runner_def: The result of `to_proto`, instead of all arguments above.
        import_scope: Scope to put before the names in ``queue_runner_def``.
        workers: "process" runs each op of ``queue.enqueue_op(source)`` or ``enqueue_many_op`` in its own worker
            process, and its thread waits for the process. A crashed process is replaced if the source is resumable: its
            callable has ``state_dict()`` and ``load_state_dict(state)``, and returns the same examples again.
            Otherwise, or if the queue belongs to a server, the error is `WorkerDied`. Other ops run in their threads,
            and so do ops with a source that refers to an object of this process: an epoch counter or a placeholder.

    Raises:
        ValueError: Both ``queue_runner_def`` and a queue or ops are passed, or neither; the list of ops is empty; or
            ``workers`` is neither "thread" nor "process".
        TypeError: An entry of ``enqueue_ops`` is not callable, or ``queue_closed_exception_types`` is not a non-empty
            tuple of classes of `mpqueue.errors`.
        KeyError: A name in ``queue_runner_def`` does not exist.

    Follows: ``tf.compat.v1.train.QueueRunner``.
    """

    def __init__(
        self,
        queue: QueueBase | None = None,
        enqueue_ops: Iterable[Op] | None = None,
        close_op: Op | None = None,
        cancel_op: Op | None = None,
        queue_closed_exception_types: tuple[type[OpError], ...] | None = None,
        queue_runner_def: QueueRunnerDef | None = None,
        import_scope: str | None = None,
        *,
        workers: Workers = "thread",
    ) -> None:
        if workers not in ("thread", "process"):
            raise ValueError(f'workers must be "thread" or "process", got {workers!r}')
        self._workers = workers
        if queue_runner_def is not None:
            if queue is not None or enqueue_ops is not None:
                raise ValueError("Pass either queue_runner_def, or a queue and enqueue_ops, but not both")
            self._init_from_def(queue_runner_def, import_scope)
        else:
            ops = self._checked_ops(enqueue_ops)
            if queue is None or not ops:
                raise ValueError(f"QueueRunner requires a queue and enqueue_ops, got {queue!r} and {enqueue_ops!r}")
            self._queue, self._enqueue_ops = queue, ops
            self._closed_types = _checked_types(queue_closed_exception_types)
            self._close_op: Op = self._closing(queue, cancel=False) if close_op is None else close_op
            self._cancel_op: Op = self._closing(queue, cancel=True) if cancel_op is None else cancel_op
        self._lock = Lock()
        self._runs: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._exceptions_raised: list[BaseException] = []

    def _init_from_def(self, definition: QueueRunnerDef, import_scope: str | None) -> None:
        def find(name: str) -> Any:
            return self._lookup(with_scope(name, import_scope))

        self._queue = find(definition.queue_name)
        self._enqueue_ops = [find(name) for name in definition.enqueue_op_name]
        self._close_op, self._cancel_op = find(definition.close_op_name), find(definition.cancel_op_name)
        types = tuple(class_of(code) for code in definition.queue_closed_exception_types)
        self._closed_types = types or (OutOfRangeError,)

    # -- Ops, names and sessions, which the runner of nodes in compat overrides

    @staticmethod
    def _checked_op(op: Op) -> Op:
        if not callable(op):
            raise TypeError(f"Enqueue op must be a callable such as queue.enqueue_op(source), got {op!r}")
        return op

    @staticmethod
    def _closing(queue: Any, *, cancel: bool) -> Op:
        if not isinstance(queue, QueueBase):
            raise TypeError(f"QueueRunner requires a queue of mpqueue, got {queue!r}")
        return CloseOp(queue, cancel=cancel)

    _checked_session: Any = staticmethod(checked_session)

    def _placed(self, op: Any, session: Any, should_stop: Callable[[], bool]) -> tuple[Op, bool]:
        """Return the callable to call repeatedly, and whether a worker process should call it."""
        if self._workers == "process" and isinstance(op, EnqueueOp):
            # A queue connects back to this process, so references to queues and their ops are not searched.
            bound = held_in(op.source, LocalVariable, Placeholder, closed=(QueueBase, QueueOp))
            if not any(bound):
                return op, True
        return session.make_callable(repeated(op, should_stop)), False

    @staticmethod
    def _await(session: Any, call: Callable[[], None]) -> None:
        session.run(call)

    @staticmethod
    def _run_once(session: Any, op: Op) -> None:
        session.run(op)

    @staticmethod
    def _lookup(name: str) -> Any:
        return default_graph().find(name)

    @staticmethod
    def _registered_name(thing: Any, default: str) -> str:
        return default_graph().add(thing, getattr(thing, "name", default))

    def _checked_ops(self, enqueue_ops: Iterable[Op] | None) -> list[Op]:
        if not isinstance(enqueue_ops, Iterable | None):
            raise TypeError(f"enqueue_ops must be a list of ops, got {enqueue_ops!r}")
        return [self._checked_op(op) for op in enqueue_ops or ()]

    @property
    def queue(self) -> QueueBase:
        """The queue that the ops fill."""
        return self._queue

    @property
    def enqueue_ops(self) -> list[Op]:
        """The ops that fill the queue."""
        return self._enqueue_ops

    @property
    def close_op(self) -> Op:
        """The op that is called when the last enqueue op ends."""
        return self._close_op

    @property
    def cancel_op(self) -> Op:
        """The op that is called when the coordinator stops."""
        return self._cancel_op

    @property
    def queue_closed_exception_types(self) -> tuple[type[OpError], ...]:
        """Error classes that mean the normal end of an op."""
        return self._closed_types

    @property
    def exceptions_raised(self) -> list[BaseException]:
        """Errors of the last set of threads, in order; with a coordinator, they are reported there instead."""
        return self._exceptions_raised

    @property
    def name(self) -> str:
        """Name of the queue."""
        return self._queue.name

    def create_threads(
        self, sess: Session | None = None, coord: Coordinator | None = None, daemon: bool = False, start: bool = False
    ) -> list[threading.Thread]:
        """Create a thread for each op, and with a coordinator one more thread, which cancels the queue on a stop.

        The threads are registered with the coordinator. No threads are created while runs of an earlier call for the
        same session are outstanding. Runs are outstanding from the call on.

        Args:
            sess: The session to run the ops in. Closing it ends them. If None, the default session.
            coord: Coordinator that collects the errors and stops the threads. If None, errors are stored in
                `exceptions_raised` and raised in their threads.
            daemon: Whether the threads are daemon threads, which do not keep the program from exiting.
            start: Whether to start the threads.

        Returns:
            The new threads.

        Raises:
            TypeError: ``sess`` is not a session, or ``coord`` is not a coordinator.
        """
        if coord is not None and not hasattr(coord, "register_thread"):
            raise TypeError(f"coord must be a Coordinator or None, got {coord!r}")
        session = self._checked_session(sess)
        with self._lock:
            if self._runs.get(session, 0) > 0:
                return []
            self._runs[session] = len(self._enqueue_ops)
            self._exceptions_raised = []
        calls: list[tuple[str, Callable[[], None]]] = [
            (getattr(op, "name", f"op_{place}"), partial(self._run, session, op, coord))
            for place, op in enumerate(self._enqueue_ops)
        ]
        if coord is not None:
            calls.append(("close_on_stop", partial(self._close_on_stop, session, coord)))
        threads = [
            threading.Thread(target=call, name=f"QueueRunnerThread-{self.name}-{what}", daemon=daemon)
            for what, call in calls
        ]
        for thread in threads:
            if coord is not None:
                coord.register_thread(thread)
            if start:
                thread.start()
        return threads

    def _run(self, session: Session, op: Op, coord: Coordinator | None) -> None:
        """Run one op until it ends, fails, or a stop is requested."""
        try:
            with session.as_default(), nullcontext() if coord is None else coord.scope.active():
                should_stop: Callable[[], bool] = (lambda: False) if coord is None else coord.should_stop
                call, in_worker = self._placed(op, session, should_stop)
                if in_worker:
                    self._await(session, partial(_run_in_worker, call, coord))
                else:
                    while not should_stop():
                        call()
        except self._closed_types:
            if self._count_down(session) == 0:
                self._finish(session, self._close_op, coord)
        except BaseException as error:
            # Any error, including SystemExit: if it were not reported, the consumer would block forever.
            if coord is None:
                with self._lock:
                    self._exceptions_raised.append(error)
            self._count_down(session)
            if coord is None:
                raise
            coord.request_stop(error)
        else:
            self._count_down(session)

    def _count_down(self, session: Session) -> int:
        with self._lock:
            self._runs[session] -= 1
            return self._runs[session]

    def _close_on_stop(self, session: Session, coord: Coordinator) -> None:
        coord.wait_for_stop()
        self._finish(session, self._cancel_op, coord)

    def _finish(self, session: Session, op: Op, coord: Coordinator | None) -> None:
        """Run the close or cancel op and log its errors, because the queue may be closed already."""
        if coord is not None:
            # The consumer sees only the end of the queue, which would look like the normal end of the input. After an
            # error elsewhere that closed the input of an op, the op may end before the thread that cancels has run.
            closing_reason.set(coord.reason)
        try:
            try:
                self._run_once(session, op)
            except SessionClosedError:
                op()  # the queue outlives the session, and a caller outside of the session may be blocked in it
        except Exception as error:
            _log.info("%s: ignored the error of %r: %s", self.name, op, error)

    def to_proto(self, export_scope: str | None = None) -> QueueRunnerDef | None:
        """Return names in the default graph with which `from_proto` recreates this runner in this process.

        Args:
            export_scope: Scope to remove from the names.

        Returns:
            A `QueueRunnerDef`, or None if the queue is not in ``export_scope``.
        """
        if export_scope is not None and not self.name.startswith(export_scope):
            return None

        def name_of(thing: Any, default: str) -> str:
            return without_scope(self._registered_name(thing, default), export_scope)

        return QueueRunnerDef(
            name_of(self._queue, self.name),
            [name_of(op, f"{self.name}_enqueue") for op in self._enqueue_ops],
            name_of(self._close_op, f"{self.name}_Close"),
            name_of(self._cancel_op, f"{self.name}_Close"),
            [code_of(kind) for kind in self._closed_types],
        )

    @classmethod
    def from_proto(cls, queue_runner_def: QueueRunnerDef, import_scope: str | None = None) -> Self:
        """Return a runner of the queue and ops with these names in the default graph.

        Args:
            queue_runner_def: The names.
            import_scope: Scope to put before each name, or None.

        Raises:
            KeyError: A name does not exist. The graph only has weak references to queues and ops.
        """
        return cls(queue_runner_def=queue_runner_def, import_scope=import_scope)

    def __repr__(self) -> str:
        outstanding = sum(self._runs.values())
        return f"<{type(self).__name__} of {self.name!r}: {len(self._enqueue_ops)} ops, {outstanding} running>"


def _run_in_worker(op: Op, coord: Coordinator | None) -> None:
    from mpqueue.tf1.train.process_op import run_in_worker  # imported here because it imports the engine

    if coord is None or not coord.should_stop():
        run_in_worker(op, coord)


def _checked_types(types: tuple[type[OpError], ...] | None) -> tuple[type[OpError], ...]:
    if types is None:
        return (OutOfRangeError,)
    if (
        not isinstance(types, tuple)
        or not types
        or not all(isinstance(kind, type) and issubclass(kind, OpError) for kind in types)
    ):
        raise TypeError(f"queue_closed_exception_types must be a tuple of classes of mpqueue.errors, got {types!r}")
    return types
