"""The outcome of a work item: a batch, an exception, or the end of a stream."""

import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

from mpqueue.system.signals.exceptions import add_note, matches, traceback_of, type_name_of
from mpqueue.telemetry.clock import clock_ns
from mpqueue.telemetry.stage_rows import StageRows

PartCounts: TypeAlias = Mapping[str | int, int]  # by the name of a part of a mixture
NO_PARTS: PartCounts = MappingProxyType({})


class Partial(NamedTuple):
    """A batch with some of its samples skipped.

    Attributes:
        batch: The remaining samples.
        skipped: `Skipped` entries; plain tuples if another process sent them.
        is_empty: All samples were skipped.
    """

    batch: Any
    skipped: list[Any]
    is_empty: bool


class BatchWithState(NamedTuple):
    """A batch with the data that the worker sends after it.

    Attributes:
        value: The batch, or a `Partial`.
        state: A pickled snapshot of the lane after the batch; None if none was taken.
        rows: The work of the stages that was not reported before, see `mpqueue.telemetry.stage_rows`.
        parts: The number of samples of each part of a mixture in the batch, by name.
    """

    value: Any
    state: bytes | None = None
    rows: StageRows = ()
    parts: PartCounts = NO_PARTS


class Unreadable(Exception):
    """A batch cannot be rebuilt in this process, because its own code raised.

    Args:
        error: The exception that was raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error

    def settle(self, which: str) -> BaseException:
        """Return the error for the consumer, with a note that names the batch.

        Call this only after the calls that raised the error have returned.
        """
        # The frames in the traceback hold views of the batch: a caller that keeps the error would keep the slot.
        error = self.error
        traceback.clear_frames(traceback_of(error))
        # Unchanged, a StopIteration would look like the end of the stream, and a SystemExit would end the program.
        if matches(error, StopIteration, SystemExit):
            error = RuntimeError(f"unpickling a batch raised {type_name_of(error)}")
            error.__cause__ = self.error
        add_note(error, f"raised in this process, when the batch of {which} was unpickled")
        return error


class Outcome(Protocol):
    """The result of a work item, which the backend puts into `Ledger.ready`.

    Attributes:
        is_plain: The outcome is a complete batch: not an exception, not the end of a stream.
        is_end: The stream of the work item's lane is exhausted.
        is_partial: Some samples of the batch, or after the last one of an exhausted stream, were skipped: `open`
            returns the fields of a `Partial`.
    """

    is_plain: bool
    is_end: bool
    is_partial: bool

    def open(self) -> Any:
        """Return the batch, or raise the exception.

        Raises:
            Unreadable: The outcome is a batch that cannot be rebuilt in this process.
        """

    def is_own(self, error: BaseException) -> bool:
        """Return whether the error, which `open` raised, is the outcome itself."""


class Result:
    """An outcome that is already an object of this process.

    Attributes:
        snapshot: The pickled snapshot of the lane after the batch; None if none was taken.
        rows: The work of the stages that was not reported before.
        parts: The number of samples of each part of a mixture in the batch.
    """

    __slots__ = ("_error", "_value", "is_end", "is_partial", "is_plain", "parts", "rows", "snapshot")

    def __init__(
        self, value: Any = None, error: BaseException | None = None, *,
        is_end: bool = False, snapshot: bytes | None = None, rows: StageRows = (), parts: PartCounts = NO_PARTS,
    ) -> None:  # fmt: skip
        self._value, self._error = value, error
        self.snapshot, self.rows, self.parts = snapshot, rows, parts
        self.is_end = is_end
        self.is_partial = type(value) is Partial
        # An unreadable batch that was found early counts as a batch until it is opened, like one in its slot.
        is_batch = error is None or type(error) is Unreadable
        self.is_plain = is_batch and not is_end and not self.is_partial

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return the outcome for the return value of a runner."""
        if type(value) is not BatchWithState:
            return cls(value)
        return cls(value.value, snapshot=value.state, rows=value.rows, parts=value.parts)

    @classmethod
    def failed(cls, error: BaseException) -> Self:
        """Return the outcome of a work item that failed."""
        return cls(None, error)

    def open(self) -> Any:
        """Return the batch itself, or raise the exception itself."""
        if self._error is not None:
            raise self._error
        return self._value

    def is_own(self, error: BaseException) -> bool:
        """Return whether the error is this outcome's exception."""
        return error is self._error


class NotifyingResult(Result):
    """A batch that reports when it is taken.

    Args:
        result: The batch.
        on_take: Called with the time before the batch is opened, by `clock_ns`.
    """

    __slots__ = ("_on_take",)

    def __init__(self, result: Result, on_take: Callable[[int], object]) -> None:
        super().__init__(result._value, snapshot=result.snapshot, rows=result.rows, parts=result.parts)
        self._on_take = on_take

    def open(self) -> Any:
        """Return the batch itself."""
        self._on_take(clock_ns())
        return super().open()


END = Result(is_end=True)
