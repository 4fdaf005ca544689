"""Monitored sessions, which initialize variables, start queue runners, and stop them at the end."""

# ruff: noqa: ARG002 - TensorFlow's signatures have arguments without effect in mpqueue

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from mpqueue.errors import OutOfRangeError
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.keys import GraphKeys
from mpqueue.tf1.compat.graph import Graph, Session, get_default_graph
from mpqueue.tf1.compat.train.hooks import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from mpqueue.tf1.compat.train.runners import start_queue_runners
from mpqueue.tf1.compat.train.scaffold import ChiefSessionCreator, Scaffold
from mpqueue.tf1.coordinator import Coordinator


class StepContext(NamedTuple):
    """The argument of the function that `MonitoredSession.run_step_fn` calls."""

    session: Session  # the underlying session
    run_with_hooks: Callable[..., Any]  # `MonitoredSession.run`

    def request_stop(self) -> None:
        """End the ``with`` block of the monitored session.

        Raises:
            StopIteration: Always. The ``with`` block treats it as a clean end.
        """
        raise StopIteration("The step function requested a stop")


class MonitoredSession:
    """A session of the default graph with initialized variables and started queue runners.

    As a context manager, it is closed on exit. `OutOfRangeError` and StopIteration end the ``with`` block cleanly.
    Errors from the threads of queue runners are raised on exit. The graph is finalized while the session is open.

    Args:
        session_creator: Creates the session.
        hooks: Called around each run.
        stop_grace_period_secs: Seconds to wait for threads when the session is closed.

    Follows: ``tf.train.MonitoredSession``, except that nothing is saved or restored, and the session is not recreated
        after an error.
    """

    def __init__(
        self,
        session_creator: Any = None,
        hooks: Sequence[SessionRunHook] | None = None,
        stop_grace_period_secs: int = 120,
    ) -> None:
        self._graph = get_default_graph()
        self._was_finalized = self._graph.finalized
        self._hooks, self._grace = list(hooks or ()), stop_grace_period_secs
        self._stop_requested = False
        for hook in self._hooks:
            hook.begin()  # can still create nodes, before the session finalizes the graph
        creator = ChiefSessionCreator() if session_creator is None else session_creator
        self._session: Session | None = creator.create_session()
        # A queue runner closes its queue at the end of its input without an error: any error is a failure.
        self._coord = Coordinator(clean_stop_exception_types=[])
        try:
            if self._graph.get_collection(GraphKeys.QUEUE_RUNNERS):
                start_queue_runners(self._session, self._coord)
            for hook in self._hooks:
                hook.after_create_session(self._session, self._coord)
        except BaseException:  # the caller gets no session to close
            self._close(with_end=False)
            raise

    @property
    def graph(self) -> Graph | None:
        """The graph, or None after the session is closed."""
        return None if self._session is None else self._session.graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run nodes like `Session.run`, and call the hooks.

        Raises:
            RuntimeError: The session is closed or about to stop, or a hook feeds a tensor that is already fed.
            OpError: An operation failed.
        """
        session = self._open_session()
        if self.should_stop():
            raise RuntimeError("run was called after should_stop returned True")
        context = SessionRunContext(SessionRunArgs(fetches, feed_dict), session)
        # One run for the caller and all hooks, so that they see the same values.
        fetched, feeds = {"caller": fetches}, dict(feed_dict or {})
        for hook in self._hooks:
            self._ask(hook, context, fetched, feeds)
        results = session.run(fetched, feeds, options, run_metadata)
        for hook in self._hooks:
            hook.after_run(context, SessionRunValues(results.get(hook), options, run_metadata))
        self._stop_requested = self._stop_requested or context.stop_requested
        return results["caller"]

    @staticmethod
    def _ask(hook: SessionRunHook, context: SessionRunContext, fetched: dict[Any, Any], feeds: dict[Any, Any]) -> None:
        request = hook.before_run(context)
        if request is None:
            return
        if request.fetches is not None:
            fetched[hook] = request.fetches
        twice = feeds.keys() & (request.feed_dict or {}).keys()
        if twice:
            raise RuntimeError(f"{hook!r} feeds tensors that are already fed: {sorted(map(str, twice))}")
        feeds |= request.feed_dict or {}

    def run_step_fn(self, step_fn: Callable[[StepContext], Any]) -> Any:
        """Call a function with a `StepContext`, and return its result."""
        return step_fn(StepContext(self._open_session(), self.run))

    def _open_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("Attempted to use a closed Session.")
        return self._session

    def should_stop(self) -> bool:
        """Return whether the training loop should stop.

        Raises:
            BaseException: A thread reported this error to the coordinator.
        """
        if self._session is None or self._stop_requested:
            return True
        self._coord.raise_requested_exception()
        return self._coord.should_stop()

    def close(self) -> None:
        """Stop the threads and close the session.

        Raises:
            RuntimeError: The session is already closed.
            BaseException: A thread reported this error to the coordinator.
        """
        self._close(with_end=True)

    def _close(self, *, with_end: bool) -> None:
        session = self._session
        try:
            for hook in self._hooks if with_end and session is not None else ():
                hook.end(session)
        finally:
            if session is None:
                raise RuntimeError("Session is already closed.")
            self._session = None
            try:
                self._coord.request_stop()
                # As in TensorFlow, a thread that hangs in user code is abandoned, so that the program continues.
                self._coord.join(stop_grace_period_secs=self._grace, ignore_live_threads=True)
            finally:
                session.close()
                if not self._was_finalized:
                    self._graph.reopen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> bool:
        is_clean = kind is None or issubclass(kind, OutOfRangeError | StopIteration)
        self._close(with_end=is_clean)
        return is_clean


class SingularMonitoredSession(MonitoredSession):
    """A `MonitoredSession` with other arguments.

    Args:
        hooks: Called around each run.
        scaffold: The nodes that initialize the session.
        stop_grace_period_secs: Seconds to wait for threads when the session is closed.
        master: The session's target.
        config, checkpoint_dir, checkpoint_filename_with_path: No effect.
    """

    def __init__(
        self,
        hooks: Sequence[SessionRunHook] | None = None,
        scaffold: Scaffold | None = None,
        master: str = "",
        config: Any = None,
        checkpoint_dir: Any = None,
        stop_grace_period_secs: int = 120,
        checkpoint_filename_with_path: Any = None,
    ) -> None:
        super().__init__(ChiefSessionCreator(scaffold, master, config), hooks, stop_grace_period_secs)

    def raw_session(self) -> Session | None:
        """Return the underlying session, or None after it is closed."""
        return self._session


@public(
    "train.MonitoredTrainingSession(master, is_chief, checkpoint_dir=None, scaffold, hooks, chief_only_hooks, "
    "save_checkpoint_secs=None, save_summaries_steps=None, save_summaries_secs=None, config=None, "
    "stop_grace_period_secs, log_step_count_steps=100, max_wait_secs=7200, save_checkpoint_steps=None, "
    "summary_dir=None, save_graph_def=True)",
    like=SingularMonitoredSession,
)
def MonitoredTrainingSession(
    master: str = "",
    is_chief: bool = True,
    scaffold: Scaffold | None = None,
    hooks: Sequence[SessionRunHook] | None = None,
    chief_only_hooks: Sequence[SessionRunHook] | None = None,
    stop_grace_period_secs: int = 120,
) -> MonitoredSession:
    """Create a `MonitoredSession`. Nothing is saved or summarized.

    Args:
        master: The session's target.
        is_chief: Whether to use ``chief_only_hooks``.
        chief_only_hooks: Called before the other hooks.
    """
    first = list(chief_only_hooks or ()) if is_chief else []
    return MonitoredSession(ChiefSessionCreator(scaffold, master), [*first, *(hooks or ())], stop_grace_period_secs)
