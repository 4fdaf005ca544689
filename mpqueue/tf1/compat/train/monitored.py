"""Monitored sessions: they initialise variables, start the queue runners, and stop all that at the end."""

# ruff: noqa: ARG002 - TensorFlow's signatures have arguments that have no effect here

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

    session: Session  # the bare session
    run_with_hooks: Callable[..., Any]  # `MonitoredSession.run`

    def request_stop(self) -> None:
        """End the ``with`` block of the monitored session.

        Raises:
            StopIteration: Always; the block ends cleanly with it.
        """
        raise StopIteration("the step function asked for a stop")


class MonitoredSession:
    """A session of the default graph that has its variables initialised and its queue runners started.

    As a context manager it is closed at the end, whose cause may be `OutOfRangeError` or StopIteration: these are a
    clean end. What failed in the thread of a queue runner is raised then. The graph is finalized as long as the session
    is open.

    Args:
        session_creator: Makes the session.
        hooks: Called around each run.
        stop_grace_period_secs: Seconds that threads have to end when it is closed.

    Follows: ``tf.train.MonitoredSession``, but that nothing is saved or restored, and no session is made anew after
        an error.
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
            hook.begin()  # may still make nodes: the session finalizes the graph
        creator = ChiefSessionCreator() if session_creator is None else session_creator
        self._session: Session | None = creator.create_session()
        # A runner closes its queue at the end of its input and reports nothing: what it reports is a failure.
        self._coord = Coordinator(clean_stop_exception_types=[])
        if self._graph.get_collection(GraphKeys.QUEUE_RUNNERS):
            start_queue_runners(self._session, self._coord)
        for hook in self._hooks:
            hook.after_create_session(self._session, self._coord)

    @property
    def graph(self) -> Graph | None:
        """The graph, None after the end."""
        return None if self._session is None else self._session.graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run nodes as `Session.run`, with the hooks around it.

        Raises:
            RuntimeError: It is closed or is to stop; or a hook feeds what another one or the caller feeds.
            OpError: What an operation raised.
        """
        session = self._open_session()
        if self.should_stop():
            raise RuntimeError("run was called after should_stop was true")
        context = SessionRunContext(SessionRunArgs(fetches, feed_dict), session)
        wanted, feeds = {"caller": fetches}, dict(feed_dict or {})  # one run for all: they see the same values
        for hook in self._hooks:
            self._ask(hook, context, wanted, feeds)
        results = session.run(wanted, feeds, options, run_metadata)
        for hook in self._hooks:
            hook.after_run(context, SessionRunValues(results.get(hook), options, run_metadata))
        self._stop_requested = self._stop_requested or context.stop_requested
        return results["caller"]

    @staticmethod
    def _ask(hook: SessionRunHook, context: SessionRunContext, wanted: dict[Any, Any], feeds: dict[Any, Any]) -> None:
        request = hook.before_run(context)
        if request is None:
            return
        if request.fetches is not None:
            wanted[hook] = request.fetches
        twice = feeds.keys() & (request.feed_dict or {}).keys()
        if twice:
            raise RuntimeError(f"{hook!r} feeds what is fed already: {sorted(map(str, twice))}")
        feeds |= request.feed_dict or {}

    def run_step_fn(self, step_fn: Callable[[StepContext], Any]) -> Any:
        """Call a function with a `StepContext`, and return its result."""
        return step_fn(StepContext(self._open_session(), self.run))

    def _open_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("Attempted to use a closed Session.")
        return self._session

    def should_stop(self) -> bool:
        """Return whether the loop that uses it is to end.

        Raises:
            BaseException: What a thread reported to the coordinator.
        """
        if self._session is None or self._stop_requested:
            return True
        self._coord.raise_requested_exception()
        return self._coord.should_stop()

    def close(self) -> None:
        """Stop the threads, and close the session.

        Raises:
            RuntimeError: It is closed already.
            BaseException: What a thread reported to the coordinator.
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
                # A thread that hangs in user code is left behind, as in TensorFlow: the program is to go on.
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
        scaffold: The nodes that initialise the session.
        stop_grace_period_secs: Seconds that threads have to end when it is closed.
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
        """Return the bare session, None after the end."""
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
    """Return a `MonitoredSession`; nothing is saved or summarised.

    Args:
        master: The session's target.
        is_chief: True if ``chief_only_hooks`` are used.
        chief_only_hooks: Called before the other ones.
    """
    first = list(chief_only_hooks or ()) if is_chief else []
    return MonitoredSession(ChiefSessionCreator(scaffold, master), [*first, *(hooks or ())], stop_grace_period_secs)
