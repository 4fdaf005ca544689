"""LooperThread: calls a function repeatedly until its coordinator stops."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpqueue.tf1.coordinator import Coordinator


class LooperThread(threading.Thread):
    """A daemon thread that calls a function repeatedly, continuously or on a timer, until the coordinator stops.

    The function is ``target``, or `run_loop` of a subclass. An error is reported to the coordinator and ends the
    thread. The thread registers itself with the coordinator, so that ``coord.join()`` waits for it.

    Args:
        coord: The coordinator.
        timer_interval_secs: Seconds between the starts of two calls, or None for no pause. A call that takes longer
            delays the following ones, which then catch up.
        target: Function to call.
        args: Positional arguments of ``target``.
        kwargs: Keyword arguments of ``target``.

    Raises:
        ValueError: ``coord`` is not a `Coordinator`, or there are arguments without a ``target``.

    Follows: ``tf.compat.v1.train.LooperThread``.
    """

    def __init__(
        self,
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any] | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(coord, Coordinator):
            raise ValueError(f"coord must be a Coordinator, got {coord!r}")  # noqa: TRY004 - as in TensorFlow
        if target is None and (args or kwargs):
            raise ValueError(f"args and kwargs require a target, got {args!r} and {kwargs!r} without one")
        super().__init__(daemon=True)
        self._coord = coord
        self._timer_interval_secs = timer_interval_secs
        self._call = target, tuple(args or ()), dict(kwargs or {})
        coord.register_thread(self)

    @staticmethod
    def loop(
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> "LooperThread":
        """Start a looper thread that calls ``target``, and return it.

        Args:
            coord: Coordinator that stops the loop.
            timer_interval_secs: Seconds between the starts of two calls, or None for no pause.
            target: Function to call.
            args: Positional arguments of ``target``.
            kwargs: Keyword arguments of ``target``.

        Raises:
            ValueError: ``coord`` is not a `Coordinator`.
        """
        looper = LooperThread(coord, timer_interval_secs, target, args, kwargs)
        looper.start()
        return looper

    def run(self) -> None:
        """Run the loop in the thread."""
        with self._coord.stop_on_exception():
            self.start_loop()
            if self._timer_interval_secs is None:
                while not self._coord.should_stop():
                    self.run_loop()
            else:
                self._run_on_timer(self._timer_interval_secs)
            self.stop_loop()

    def _run_on_timer(self, interval_s: float) -> None:
        due = time.monotonic()
        while not self._coord.wait_for_stop(due - time.monotonic()):
            due += interval_s
            self.run_loop()

    def start_loop(self) -> None:
        """Prepare the first call; called once, for subclasses to override."""

    def stop_loop(self) -> None:
        """Clean up after the last call, unless it failed; called once, for subclasses to override."""

    def run_loop(self) -> None:
        """Call ``target``; called in each iteration."""
        target, args, kwargs = self._call
        if target is not None:
            target(*args, **kwargs)
