"""What a pipeline asks of those who run its tickets, and what they answer.

There are three backends: worker processes (`mpqueue.workers.process`), threads and the caller itself
(`mpqueue.workers.local`). All calls but `Backend.wake` come from the pipeline, under its lock.
"""

from typing import Any, Protocol


class EndOfStream(Exception):
    """The source has ended: there will be no more batches."""


class Stopped(Exception):
    """The pipeline was stopped while, or before, the caller waited."""


class Outcome(Protocol):
    """What became of a ticket."""

    is_plain: bool  # a batch; not an exception, nor the end of a stream
    is_end: bool

    def open(self) -> Any:
        """The batch; raises what the source raised."""
        ...


class Failure:
    """The outcome of a ticket that cannot be answered."""

    is_plain = is_end = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def open(self) -> Any:
        """Raise the failure."""
        raise self._error


class Backend(Protocol):
    """Runs tickets; called under the pipeline's lock only, but for `wake`."""

    ready: dict[int, Any]  # outcomes by the number of their ticket, in the order of their coming
    chunk: int  # how many tickets are worth a `pump`
    low_water: int  # with fewer tickets at work than this, any is

    def pump(self) -> None:
        """Take as many tickets as `Pipeline.deal` gives and get them done."""
        ...

    def wait(self, head: int, *, block: bool = True) -> None:
        """Take in what has arrived; if nothing has, wait for the next event, or for `wake`.

        ``head`` is the ticket that the consumer waits for.
        """
        ...

    def cancel(self) -> None:
        """Forget all tickets, those at work included."""
        ...

    def is_stale(self) -> bool:
        """Whether the workers' source differs from the caller's, or may do so."""
        ...

    def refresh(self) -> None:
        """The source may have changed: work dealt from now on is computed from its present state."""
        ...

    def reset(self) -> None:
        """Forget all tickets, whatever state an interrupt has left things in, and be ready for others.

        Raises:
            RuntimeError: The source cannot give again what is lost.
        """
        ...

    def wake(self) -> None:
        """Make a blocked `wait` return; from any thread, also inside a signal handler."""
        ...

    def stop(self, timeout_s: float | None) -> None:
        """End all workers and free everything.

        Raises:
            StopTimeout: Some did not end in time.
        """
        ...
