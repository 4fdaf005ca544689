"""Hooks: what a monitored session calls around each run."""

from typing import Any, NamedTuple

from mpqueue.tf1.compat.train.steps import get_or_create_global_step


class SessionRunArgs(NamedTuple):
    """The fetches and feeds that are asked of a run."""

    fetches: Any
    feed_dict: Any = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """The results of a run for a hook's own `SessionRunArgs`."""

    results: Any
    options: Any
    run_metadata: Any


class SessionRunContext:
    """The run that hooks are called around, and a way to stop after it.

    Args:
        original_args: The fetches and feeds of the caller of ``run``.
        session: The session.

    Attributes:
        stop_requested: True if `request_stop` was called.
    """

    def __init__(self, original_args: SessionRunArgs, session: Any) -> None:
        self.original_args, self.session = original_args, session
        self.stop_requested = False

    def request_stop(self) -> None:
        """Ask the monitored session to stop after this run."""
        self.stop_requested = True


class SessionRunHook:
    """The base of hooks; each method may be left out."""

    def begin(self) -> None:
        """Called once, before the session is made; the last chance to make nodes."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Called when the session is made and the queue runners are started."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Called before each run; what it returns is run together with what the caller wants."""

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Called after each run that did not fail."""

    def end(self, session: Any) -> None:
        """Called at the end, unless that is an error."""


class StopAtStepHook(SessionRunHook):
    """Stops when the global step reaches a number.

    Args:
        num_steps: Number of steps after the beginning.
        last_step: The number to reach.

    Raises:
        ValueError: Not exactly one of the two is given.
    """

    def __init__(self, num_steps: int | None = None, last_step: int | None = None) -> None:
        if (num_steps is None) == (last_step is None):
            raise ValueError("StopAtStepHook takes either num_steps or last_step")
        self._num_steps, self._last_step = num_steps, last_step

    def begin(self) -> None:
        """Find the global step."""
        self._step = get_or_create_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Find out at which number to stop."""
        del coord
        if self._last_step is None:
            assert self._num_steps is not None
            self._last_step = session.run(self._step) + self._num_steps

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Ask for a stop if the global step has reached the number."""
        del run_values
        if run_context.session.run(self._step) >= self._last_step:
            run_context.request_stop()
