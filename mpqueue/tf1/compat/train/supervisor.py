"""The supervisor, the predecessor of monitored sessions."""

# ruff: noqa: ARG002 - TensorFlow's signatures have arguments without effect in mpqueue

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from typing import Any, ClassVar

from mpqueue.tf1.compat.functions.keys import GraphKeys
from mpqueue.tf1.compat.graph import Graph, Session, get_default_graph
from mpqueue.tf1.compat.train.scaffold import Scaffold
from mpqueue.tf1.compat.train.steps import get_global_step
from mpqueue.tf1.coordinator import Coordinator
from mpqueue.tf1.train.looper import LooperThread


class Supervisor:
    """A helper that creates a session, initializes its variables, and starts its queue runners; it finalizes the graph.

    It does not save checkpoints or write summaries: the arguments for these are accepted without effect.

    Args:
        graph: The graph. If None, the default graph.
        ready_op: Node with the names of uninitialized variables.
        is_chief: Stored as an attribute.
        init_op: Node that initializes the global variables.
        init_feed_dict: Values fed to ``init_op``.
        local_init_op: Node that initializes the local variables.
        global_step: The global step. By default, the global step of the graph.
        stop_grace_secs: Seconds to wait for threads at the end.
        init_fn: Called with the session after ``init_op``.
        ready_for_local_init_op, logdir, summary_op, saver, save_summaries_secs, save_model_secs: No effect.
        recovery_wait_secs, checkpoint_basename, session_manager, summary_writer, local_init_run_options: No effect.
    """

    USE_DEFAULT: ClassVar[int] = 0  # distinct from None, which means none

    def __init__(
        self,
        graph: Graph | None = None,
        ready_op: Any = USE_DEFAULT,
        ready_for_local_init_op: Any = USE_DEFAULT,
        is_chief: bool = True,
        init_op: Any = USE_DEFAULT,
        init_feed_dict: Any = None,
        local_init_op: Any = USE_DEFAULT,
        logdir: Any = None,
        summary_op: Any = USE_DEFAULT,
        saver: Any = USE_DEFAULT,
        global_step: Any = USE_DEFAULT,
        save_summaries_secs: int = 120,
        save_model_secs: int = 600,
        recovery_wait_secs: int = 30,
        stop_grace_secs: int = 120,
        checkpoint_basename: str = "model.ckpt",
        session_manager: Any = None,
        summary_writer: Any = USE_DEFAULT,
        init_fn: Any = None,
        local_init_run_options: Any = None,
    ) -> None:
        self._graph = graph or get_default_graph()
        self.is_chief, self.coord, self._grace = is_chief, Coordinator(), stop_grace_secs
        with self._graph.as_default():
            self.global_step = get_global_step() if _is_default(global_step) else global_step
            self._scaffold = Scaffold(
                _argument(init_op),
                init_feed_dict,
                None if init_fn is None else lambda _scaffold, session: init_fn(session),
                _argument(ready_op),
                local_init_op=_argument(local_init_op),
            ).finalize()

    def prepare_or_wait_for_session(
        self,
        master: str = "",
        config: Any = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: int = 7200,
        start_standard_services: bool = True,
    ) -> Session:
        """Return a session with initialized variables and started queue runners.

        Args:
            master: The session's target.
            start_standard_services: False to not start queue runners.
            config, wait_for_checkpoint, max_wait_secs: No effect.
        """
        self.coord.clear_stop()
        session = Session(master, self._graph, config)
        self._scaffold.prepare(session)
        if start_standard_services:
            self.start_queue_runners(session)
        return session

    @contextmanager
    def managed_session(
        self,
        master: str = "",
        config: Any = None,
        start_standard_services: bool = True,
        close_summary_writer: bool = True,
    ) -> Iterator[Session]:
        """Enter a context with an initialized session and started queue runners.

        An exception in the context stops the threads. It is raised on exit, like exceptions of threads, except that
        `OutOfRangeError` is a clean end.

        Args:
            master: The session's target.
            start_standard_services: False to not start queue runners.
            config, close_summary_writer: No effect.
        """
        session = self.prepare_or_wait_for_session(master, config, start_standard_services=start_standard_services)
        try:
            yield session
        except Exception as error:
            self.request_stop(error)
        finally:
            try:
                self.stop(close_summary_writer=close_summary_writer)
            finally:
                session.close()

    def start_standard_services(self, sess: Session) -> list[Thread]:
        """Return an empty list: mpqueue does not save or summarize."""
        return []

    def start_queue_runners(self, sess: Session, queue_runners: Iterable[Any] | None = None) -> list[Thread]:
        """Start queue runners, by default all in the graph, and return their threads."""
        runners = self._graph.get_collection(GraphKeys.QUEUE_RUNNERS) if queue_runners is None else queue_runners
        return [thread for each in runners for thread in each.create_threads(sess, self.coord, daemon=True, start=True)]

    def loop(
        self,
        timer_interval_secs: float | None,
        target: Any,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> LooperThread:
        """Start a thread that calls ``target`` repeatedly."""
        return LooperThread.loop(self.coord, timer_interval_secs, target, args, kwargs)

    def stop(
        self,
        threads: Iterable[Thread] | None = None,
        close_summary_writer: bool = True,
        ignore_live_threads: bool = False,
    ) -> None:
        """Request all threads to stop, and wait for them.

        Raises:
            BaseException: A thread reported this error.
        """
        self.coord.request_stop()
        self.coord.join(threads, stop_grace_period_secs=self._grace, ignore_live_threads=ignore_live_threads)

    def request_stop(self, ex: Any = None) -> None:
        """Request all threads to stop.

        Args:
            ex: The reason, an exception that `stop` raises.
        """
        self.coord.request_stop(ex)

    def should_stop(self) -> bool:
        """Return whether a stop was requested."""
        return self.coord.should_stop()

    def stop_on_exception(self) -> AbstractContextManager[Any]:
        """Enter a context that requests a stop on an exception."""
        return self.coord.stop_on_exception()

    def wait_for_stop(self) -> None:
        """Wait until a stop is requested."""
        self.coord.wait_for_stop()

    def summary_computed(self, sess: Session, summary: Any, global_step: Any = None) -> None:
        """Accept the call without effect."""


def _is_default(value: Any) -> bool:
    return isinstance(value, int) and value == Supervisor.USE_DEFAULT


def _argument(value: Any) -> Any:
    return None if _is_default(value) else value
