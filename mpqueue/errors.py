"""All exceptions of mpqueue, except ``ValueError`` and ``TypeError`` for invalid arguments.

`MPQueueError` has two families: errors of workers and shared memory, and TensorFlow's `OpError` classes with their
codes, for queues, readers and decoders. They are sent between processes, so each can be unpickled from its ``args``.
"""

from typing import Any, ClassVar


class MPQueueError(Exception):
    """The base class of all exceptions of this package."""


class WorkerDied(MPQueueError):
    """A worker exited unexpectedly while it computed a batch, more often than ``restarts`` allows.

    Args:
        worker_id: Index of the worker, from 0; -1 for the process that starts the workers.
        exitcode: Exit status as in `multiprocessing`: a negative value is the number of a signal.
        index: Index of the batch that it computed, or None.
        epoch: Epoch of that batch, from 0, or None.
        peak_memory_bytes: Peak resident memory of the worker, None if unknown.
        oom_killed: True if the kernel's out-of-memory killer was active at that time.
        remedy: Advice for the caller, one sentence.
        samples: The ids of the samples in that batch, as `BatchInfo` has them; empty if the index is that of its only
            sample, or if they are unknown.
    """

    def __init__(
        self,
        worker_id: int,
        exitcode: int | None,
        index: int | None = None,
        epoch: int | None = None,
        peak_memory_bytes: int | None = None,
        oom_killed: bool = False,
        remedy: str = "",
        samples: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(worker_id, exitcode, index, epoch, peak_memory_bytes, oom_killed, remedy, samples)
        self.worker_id, self.exitcode, self.index, self.epoch = worker_id, exitcode, index, epoch
        self.peak_memory_bytes, self.oom_killed, self.remedy = peak_memory_bytes, oom_killed, remedy
        self.samples = samples

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that ended the worker ("SIGKILL"), or None if it exited by itself."""
        import signal

        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return signal.Signals(-self.exitcode).name
        except ValueError:
            return f"signal {-self.exitcode}"

    def __str__(self) -> str:
        if self.exitcode is None:
            how = "with an unknown status"
        elif self.exitcode < 0:
            how = f"by {self.signal_name}"
        else:
            how = f"by exit code {self.exitcode}"
        who = "the fork server, which starts the workers," if self.worker_id < 0 else f"worker {self.worker_id}"
        text = f"{who} died {how}"
        if self.index is not None:
            text += f" while it computed {batch_text(self.index, self.epoch, self.samples)}"
        if self.peak_memory_bytes:
            text += f"; its peak memory was {self.peak_memory_bytes / 2**20:.0f} MiB"
        if self.oom_killed:
            text += "; the kernel's out-of-memory killer did it: use fewer workers or smaller batches"
        return f"{text}. {self.remedy}" if self.remedy else text


_MOST_NAMED = 16  # samples in a message


def batch_text(index: int | None, epoch: int | None, samples: tuple[Any, ...]) -> str:
    """Return the description of a batch for a message, with its first samples in parentheses.

    Without samples, the batch is an item of the source, and ``index`` is its index.
    """
    num_more = len(samples) - _MOST_NAMED
    names = ", ".join(map(repr, samples[:_MOST_NAMED]))
    more = f", and {num_more} more" if num_more > 0 else ""
    of = f"{index} of epoch {epoch}"
    return f"batch {of} (samples {names}{more})" if samples else f"index {of}"


class WorkerRaised(MPQueueError):
    """An exception of the source that cannot be raised with its own type.

    It cannot be pickled, it is larger than 64 KB, or it is a SystemExit, which would end the program silently.

    Args:
        type_name: Qualified name of the exception's class in the worker.
        text: Its message, if it could be read.
    """

    _packed_kind: bytes | None = None  # the pickled class, see `mpqueue.worker.failures.kind_of`
    _may_be_skipped = True  # False: it stands for an exception that ``on_error="skip"`` does not skip

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name, self.text = type_name, text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class SharedMemoryFull(MPQueueError, MemoryError):
    """There is not enough shared memory for a batch, and none will be released.

    Args:
        bytes_asked: Bytes that the batch needs.
        bytes_available: Available bytes, None if unknown.
        remedy: Advice for the caller, one sentence.
    """

    def __init__(self, bytes_asked: int, bytes_available: int | None, remedy: str) -> None:
        super().__init__(bytes_asked, bytes_available, remedy)
        self.bytes_asked, self.bytes_available, self.remedy = bytes_asked, bytes_available, remedy

    def __str__(self) -> str:
        there = "an unknown number" if self.bytes_available is None else f"{self.bytes_available:,}"
        return f"a batch needs {self.bytes_asked:,} bytes of shared memory, {there} are available. {self.remedy}"


class BatchTooLarge(MPQueueError, ValueError):
    """A batch is larger than a slot may be.

    Args:
        got_bytes: Size of the batch in bytes.
        max_bytes: The limit in bytes.
        which: Name of the limit.
    """

    def __init__(self, got_bytes: int, max_bytes: int, which: str = "max_batch_bytes") -> None:
        super().__init__(got_bytes, max_bytes, which)
        self.got_bytes, self.max_bytes, self.which = got_bytes, max_bytes, which

    def __str__(self) -> str:
        return (
            f"a batch has {self.got_bytes:,} bytes, {self.which} allows {self.max_bytes:,}: "
            "return smaller batches or increase the limit"
        )


class BatchTimeout(MPQueueError, TimeoutError):
    """A batch took longer than ``batch_timeout`` seconds, as often as ``restarts`` allows.

    Args:
        index: Index of the batch.
        epoch: Its epoch, from 0.
        timeout_s: The limit in seconds.
        stack: The Python stacks of the worker's threads at that moment.
        samples: The ids of the samples in that batch, as in `WorkerDied`.
    """

    def __init__(
        self,
        index: int | None,
        epoch: int | None,
        timeout_s: float,
        stack: str = "",
        samples: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(index, epoch, timeout_s, stack, samples)
        self.index, self.epoch, self.timeout_s, self.stack, self.samples = index, epoch, timeout_s, stack, samples

    def __reduce__(self) -> tuple[Any, ...]:
        # TimeoutError is an OSError, which stores only two arguments in `args`.
        return type(self), (self.index, self.epoch, self.timeout_s, self.stack, self.samples), {}

    def __str__(self) -> str:
        batch = batch_text(self.index, self.epoch, self.samples)
        text = f"{batch} was not ready after {self.timeout_s:g} s"
        return f"{text}; the worker was here:\n{self.stack}" if self.stack else text


class StopTimeout(MPQueueError, TimeoutError):
    """Workers were still running after the timeout of ``stop``.

    Args:
        stragglers: Names or process ids of the workers.
        timeout_s: The timeout in seconds.
    """

    def __init__(self, stragglers: tuple[str, ...], timeout_s: float) -> None:
        super().__init__(stragglers, timeout_s)
        self.stragglers, self.timeout_s = stragglers, timeout_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stragglers, self.timeout_s), {}

    def __str__(self) -> str:
        return f"still running {self.timeout_s:g} s after the stop: {', '.join(self.stragglers)}"


class StateDamaged(MPQueueError, ValueError):
    """A saved state has changed since ``state_dict()`` returned it."""


class TooManyErrors(MPQueueError):
    """More samples or batches of an epoch were skipped than ``max_errors`` allows.

    Args:
        count: Number of samples or batches that were skipped.
        max_errors: The limit.
        epoch: The epoch, from 0.
        latest: The latest error of the source, with its traceback.
    """

    def __init__(self, count: int, max_errors: int, epoch: int, latest: str = "") -> None:
        super().__init__(count, max_errors, epoch, latest)
        self.count, self.max_errors, self.epoch, self.latest = count, max_errors, epoch, latest

    def __str__(self) -> str:
        text = (
            f"{self.count} samples or batches of epoch {self.epoch} were skipped because of errors, but max_errors="
            f"{self.max_errors} allows no more: fix the errors of the source, or increase max_errors"
        )
        return f"{text}. The latest error:\n{self.latest}" if self.latest else text


class FileError(MPQueueError, ValueError):
    """A file is truncated or damaged, or has changed since it was indexed.

    Args:
        path: The file.
        offset: Offset in bytes, or None for the whole file and for a position in its decompressed content.
        what: The problem, the expected content and the remedy.
    """

    def __init__(self, path: str, offset: int | None, what: str) -> None:
        super().__init__(path, offset, what)
        self.path, self.offset, self.what = path, offset, what

    def __str__(self) -> str:
        where = self.path if self.offset is None else f"{self.path}, byte {self.offset:,}"
        return f"{where}: {self.what}"


class ClusterError(MPQueueError, RuntimeError):
    """The Ray cluster cannot run workers. The message has the reason, the node and the remedy."""


class ServiceError(MPQueueError):
    """A server refused a consumer, or a consumer refused data of its server. The message has reason and remedy."""


class ServiceStateError(ServiceError, RuntimeError):
    """`Server.start` was called on a running server, or `Server.wait` on one that does not run."""


class ServiceDied(MPQueueError, ConnectionError):
    """The server was stopped or has crashed. Views of batches remain valid."""


class ConsumerDied(MPQueueError):
    """The server has detached this consumer, or has lost another consumer of its group."""


class OpError(MPQueueError):
    """The base class of TensorFlow's errors: an operation failed.

    Args:
        node_def: Kept for TensorFlow's signature; None here.
        op: The operation that failed, in `mpqueue.compat.v1`; otherwise None.
        message: The description of the failure.
        error_code: TensorFlow's number for the class of the failure.
        *args: Kept in ``args``.

    Follows: ``tf.errors.OpError``.
    """

    def __init__(self, node_def: Any, op: Any, message: str, error_code: int, *args: Any) -> None:
        super().__init__(node_def, op, message, error_code, *args)
        self._node_def, self._op, self._message, self._error_code = node_def, op, message, error_code

    def __reduce__(self) -> tuple[Any, ...]:
        # An op holds a graph, locks and queues: it is not pickled, as in TensorFlow.
        return type(self), (None, None, self._message, self._error_code), self.__dict__ | {"_op": None}

    @property
    def message(self) -> str:
        """The description of the failure."""
        return self._message

    @property
    def error_code(self) -> int:
        """TensorFlow's number for the class of the failure."""
        return self._error_code

    @property
    def op(self) -> Any:
        """The operation that failed, or None."""
        return self._op

    @property
    def node_def(self) -> Any:
        """Always None here; TensorFlow keeps a proto."""
        return self._node_def

    def __str__(self) -> str:
        return self._message


class _CodedError(OpError):
    """An `OpError` whose class defines the code, so that its arguments are ``(node_def, op, message)``."""

    code: ClassVar[int]

    def __init__(self, node_def: Any, op: Any, message: str, *args: Any) -> None:
        super().__init__(node_def, op, message, self.code, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None, None, self._message), self.__dict__ | {"_op": None}


class CancelledError(_CodedError):
    """The operation was cancelled: its queue or session was closed, or its owner has exited."""

    code = 1


class UnknownError(_CodedError):
    """An error without a more specific class, such as one raised inside a ``py_func``."""

    code = 2


class InvalidArgumentError(_CodedError, ValueError):
    """An argument is invalid. It is also a `ValueError`, because operations without a graph run immediately."""

    code = 3


class DeadlineExceededError(_CodedError, TimeoutError):
    """The caller's ``timeout`` has passed; the operation had no effect."""

    code = 4


class NotFoundError(_CodedError):
    """A file or another named thing does not exist."""

    code = 5


class AlreadyExistsError(_CodedError):
    """The target of the operation already exists."""

    code = 6


class PermissionDeniedError(_CodedError):
    """The caller does not have permission, such as to read this file."""

    code = 7


class ResourceExhaustedError(_CodedError):
    """Memory or another resource has run out."""

    code = 8


class FailedPreconditionError(_CodedError):
    """The system is not in the state that the operation needs, such as an uninitialised variable."""

    code = 9


class AbortedError(_CodedError):
    """The operation was aborted. TensorFlow's pages promise it for closed queues, which raise `CancelledError`."""

    code = 10


class OutOfRangeError(_CodedError):
    """The input is exhausted: a closed and empty queue, or the end of a file."""

    code = 11


class UnimplementedError(_CodedError):
    """This object does not support the operation."""

    code = 12


class InternalError(_CodedError):
    """An invariant is broken: a defect of the library."""

    code = 13


class UnavailableError(_CodedError):
    """Something needed is not available now."""

    code = 14


class DataLossError(_CodedError):
    """Data is lost or corrupt beyond repair, such as a record whose checksum is wrong."""

    code = 15


class UnauthenticatedError(_CodedError):
    """The caller is not who it must be."""

    code = 16


__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "BatchTimeout",
    "BatchTooLarge",
    "CancelledError",
    "ClusterError",
    "ConsumerDied",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FileError",
    "InternalError",
    "InvalidArgumentError",
    "MPQueueError",
    "NotFoundError",
    "OpError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "ServiceDied",
    "ServiceError",
    "ServiceStateError",
    "SharedMemoryFull",
    "StateDamaged",
    "StopTimeout",
    "TooManyErrors",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
    "WorkerDied",
    "WorkerRaised",
]
