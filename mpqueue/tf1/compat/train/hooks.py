"""Hooks that a monitored session calls around each run."""

from typing import Any, NamedTuple

from mpqueue.tf1.compat.train.steps import get_or_create_global_step


class SessionRunArgs(NamedTuple):
    """The requested fetches and feeds of a run."""

    fetches: Any
    feed_dict: Any = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """The results of a run for a hook's `SessionRunArgs`."""

    results: Any
    options: Any
    run_metadata: Any


class SessionRunContext:
    """The context of a run for its hooks, with a way to stop after the run.

    Args:
        original_args: The fetches and feeds of the caller of ``run``.
        session: The session.

    Attributes:
        stop_requested: Whether `request_stop` was called.
    """

    def __init__(self, original_args: SessionRunArgs, session: Any) -> None:
        self.original_args, self.session = original_args, session
        self.stop_requested = False

    def request_stop(self) -> None:
        """Stop the monitored session after this run."""
        self.stop_requested = True


class SessionRunHook:
    """The base class of hooks; every method is optional."""

    def begin(self) -> None:
        """Called once, before the session is created. Nodes can be created here for the last time."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Called after the session is created and the queue runners are started."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Called before each run; the returned fetches are computed in the same run as the caller's."""

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Called after each successful run."""

    def end(self, session: Any) -> None:
        """Called at the end, unless it is caused by an error."""


class StopAtStepHook(SessionRunHook):
    """A hook that stops when the global step reaches a number.

    Args:
        num_steps: Number of steps after the start.
        last_step: The global step to stop at.

    Raises:
        ValueError: Not exactly one of the two arguments is passed.
    """

    def __init__(self, num_steps: int | None = None, last_step: int | None = None) -> None:
        if (num_steps is None) == (last_step is None):
            raise ValueError("StopAtStepHook requires exactly one of num_steps and last_step")
        self._num_steps, self._last_step = num_steps, last_step

    def begin(self) -> None:
        """Get or create the global step."""
        self._step = get_or_create_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Compute the step to stop at."""
        del coord
        if self._last_step is None:
            assert self._num_steps is not None
            self._last_step = session.run(self._step) + self._num_steps

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Request a stop if the global step has been reached."""
        del run_values
        if run_context.session.run(self._step) >= self._last_step:
            run_context.request_stop()
