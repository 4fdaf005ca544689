"""The outcome of a work item: a batch, an exception, or the end of a stream."""

import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

from mpqueue.system.interrupts import is_of_handler
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRows


class Partial(NamedTuple):
    """A batch of which something was left out.

    Attributes:
        batch: What is left of it.
        skipped: Entries, as plain tuples where they come from another process.
        is_empty: Nothing is left.
    """

    batch: Any
    skipped: list[Any]
    is_empty: bool


class WithTail(NamedTuple):
    """A batch with what the worker tells behind it.

    Attributes:
        value: The batch, or what is left of it (a `Partial`).
        state: A snapshot of its lane behind it, pickled; None: none was taken.
        rows: The work of the stages that was not told before, see `mpqueue.telemetry.stage_rows`.
    """

    value: Any
    state: bytes | None
    rows: StageRows


class Unreadable(Exception):
    """A batch cannot be rebuilt in this process: its code has raised, and not the handler of a signal.

    Args:
        error: What it has raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error

    def settle(self, which: str) -> Exception:
        """Return the error as the consumer is to get it, with a note of which batch it is.

        To be called when the calls that raised it have returned: the frames in its traceback hold views of the batch,
        and somebody who keeps the error would keep the slot.
        """
        error = self.error
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, StopIteration):  # as it is, it would look like an end
            error = RuntimeError("unpickling a batch raised StopIteration")
            error.__cause__ = self.error
        error.add_note(f"raised in this process, when the batch of {which} was unpickled")
        return error


class Outcome(Protocol):
    """Something that a backend puts into `Ledger.ready`.

    Attributes:
        is_plain: It is a batch: no exception, and not the end of a stream.
        is_end: The stream of the work item's lane has ended.
        is_partial: It is a batch of which something was left out: `open` gives the fields of a `Partial`.
    """

    is_plain: bool
    is_end: bool
    is_partial: bool

    def open(self) -> Any:
        """Return the batch, or raise the exception.

        Raises:
            Unreadable: It is a batch that cannot be rebuilt here.
        """
        ...

    def is_own(self, error: BaseException) -> bool:
        """Return whether this, which `open` has raised, is the outcome itself."""
        ...


def is_interrupt(error: BaseException, outcome: Outcome) -> bool:
    """Return whether a signal handler has raised this when an outcome was opened, and not the outcome.

    Python's own handler of Ctrl-C is in C and leaves no frame, by which those in Python are known.
    """
    return is_of_handler(error) or (isinstance(error, KeyboardInterrupt) and not outcome.is_own(error))


class Result:
    """An outcome that is an object of this process already.

    Attributes:
        snapshot: That of its lane behind it, pickled; None: none was taken.
        rows: The work of the stages that was not told before.
    """

    __slots__ = ("_error", "_value", "is_end", "is_partial", "is_plain", "rows", "snapshot")

    def __init__(self, value: Any = None, error: BaseException | None = None, *, is_end: bool = False) -> None:
        self._value, self._error = value, error
        self.snapshot: bytes | None = None
        self.rows: StageRows = ()
        self.is_end = is_end
        self.is_partial = type(value) is Partial
        # What was found to be unreadable ahead of its turn is a batch until it is opened, as it is in its slot.
        is_batch = error is None or type(error) is Unreadable
        self.is_plain = is_batch and not is_end and not self.is_partial

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return the outcome for what a runner has returned."""
        if type(value) is not WithTail:
            return cls(value)
        result = cls(value.value)
        result.snapshot, result.rows = value.state, value.rows
        return result

    @classmethod
    def ended(cls, rows: StageRows) -> Self:
        """Return the outcome of a lane that has ended."""
        result = cls(is_end=True)
        result.rows = rows
        return result

    @classmethod
    def failed(cls, error: BaseException) -> Self:
        """Return the outcome of a work item that has no batch."""
        return cls(None, error)

    def open(self) -> Any:
        """Return the batch itself, or raise the exception itself."""
        if self._error is not None:
            raise self._error
        return self._value

    def is_own(self, error: BaseException) -> bool:
        """Return whether this is the exception."""
        return error is self._error


class NotifyingResult(Result):
    """A batch of which somebody is told that it is taken.

    Args:
        result: The batch.
        told: Called with the time before it was opened, by `clock_ns`.
    """

    __slots__ = ("_told",)

    def __init__(self, result: Result, told: Callable[[int], object]) -> None:
        super().__init__(result._value)
        self.snapshot, self.rows = result.snapshot, result.rows
        self._told = told

    def open(self) -> Any:
        """Return the batch itself."""
        self._told(clock_ns())
        return super().open()


END = Result(is_end=True)
