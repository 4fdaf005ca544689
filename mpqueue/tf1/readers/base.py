"""`ReaderBase`, the base class of all readers: work units in, records out, counters, state.

    queue of work units --dequeue--> current unit --_read--> (key, value) ... --None--> completed, next unit

A reader dequeues a work unit only if a record is requested and there is no current unit. `read` holds the reader's lock
for the whole call, even while it waits for the queue. So threads that share a reader take turns, and each unit is read
by one thread at a time. The counters are plain integers, which are written under the lock and read without it, so that
a monitoring thread never waits.

Other processes have copies. Each copy dequeues its own units from the shared queue and counts their records. A `Tally`
sums the counts in the original reader; a copy joins the tally at its first unit.

As in TensorFlow, the method that fails determines what happens to the unit. If `_on_work_start` fails, the unit is
dropped, and the next read takes a new one. If `_read` fails, the unit is kept, and the next read fails again.
"""

import functools
import time
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import DeadlineExceededError, UnimplementedError
from mpqueue.system.units import count_text
from mpqueue.tf1.coordination.members import checked_timeout
from mpqueue.tf1.queues.barging_lock import BargingLock
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.queues.tally import Tally
from mpqueue.tf1.readers.opening import file_name
from mpqueue.tf1.readers.state import ReaderState, decode, encode
from mpqueue.tf1.values.conversion import invalid
from mpqueue.values.conversion import text_array

Record = tuple[bytes, bytes]
Objects = NDArray[np.object_]


class WorkQueue(Protocol):
    """The part of a queue that a reader needs. It is called in the thread that reads, under the reader's lock."""

    def dequeue(self, *, timeout: float | None = None) -> Any:
        """Dequeue the next work unit; block until there is one. Raises `OutOfRangeError` at the end."""


class ReaderBase:
    """Base class of all readers, which turn work units (usually file names) into records.

    A subclass implements `_on_work_start` and `_read`::

        class SquareReader(ReaderBase):
            def _on_work_start(self, work):
                self._numbers = iter(range(int(work)))

            def _read(self):
                number = next(self._numbers, None)
                return None if number is None else (b"%d" % number, b"%d" % number**2)

    Any number of threads may read; each record is returned once. A copy in a worker process keeps the arguments of the
    original and starts without a current unit. If it reads from a queue of this process, its records are also counted
    in this process, even if the worker crashes. Its own counters only include records that it has read.

    Args:
        reader_ref: The value of the property `reader_ref`; the reader itself if None.
        supports_serialize: True if `serialize_state` and `restore_state` work. This is only possible for readers that
            are never in the middle of a unit between two reads, because only the counters and the last unit are saved.

    Attributes:
        name: Name of the reader, or None.

    Follows: ``tf.compat.v1.ReaderBase``.
    """

    one_record_per_unit: ClassVar[bool] = False
    """True if each unit is one record, so that the unit is completed when its record is returned."""

    name: str | None = None

    def __init__(self, reader_ref: Any = None, supports_serialize: bool = False) -> None:
        self._reader_ref, self._supports_serialize = reader_ref, supports_serialize
        self._tally = Tally(2)  # counts of copies: records, and completed units
        self._clear()

    def _clear(self) -> None:
        self._lock = BargingLock()  # held while a file is read, so threads would form a convoy at a plain lock
        self._num_records = self._num_completed = 0
        self._work, self._is_working = b"", False

    # -- For subclasses

    def _on_work_start(self, work: bytes) -> None:
        """Start a work unit. After an exception, the unit is dropped."""
        raise NotImplementedError(f"{type(self).__name__} must implement _on_work_start(work)")

    def _read(self) -> Record | None:
        """Return the next (key, value) of the current unit, or None at the end. After an error, the unit is kept."""
        raise NotImplementedError(f"{type(self).__name__} must implement _read() -> (key, value) or None")

    def _read_some(self, num_records: int) -> list[Record]:
        """Return up to ``num_records`` next records of the current unit, or ``[]`` at the end. Optional, for speed."""
        record = self._read()
        return [] if record is None else [record]

    def _on_work_finish(self) -> None:
        """Release the unit at the end of its records, or after a `reset`. Optional."""

    # -- For users

    def read(self, queue: WorkQueue, name: str | None = None, *, timeout: float | None = None) -> Record:
        """Return the next record, from a new work unit of ``queue`` if none is current.

        Args:
            queue: A queue with one string component.
            name: No effect.
            timeout: Maximum time in seconds to wait for a work unit and for other threads that read. None: wait
                indefinitely.

        Returns:
            ``(key, value)``, both ``bytes``. Each reader documents their meaning.

        Raises:
            OutOfRangeError: The queue is closed and empty.
            TypeError: ``queue`` is not a queue, or ``timeout`` is not a number.
            ValueError: ``timeout`` is negative or NaN.
            InvalidArgumentError: The queue's elements are not single strings.
            DeadlineExceededError: ``timeout`` seconds have passed. No work unit was lost.
            OpError: The unit cannot be read; see the reader.
        """
        with self._lock.waking, Turn(self._lock, timeout) as turn:
            while True:
                self._start_work(queue, turn)
                record = self._read()
                self._count(0 if record is None else 1, is_end=record is None)
                if record is not None:
                    return record

    def read_up_to(
        self, queue: WorkQueue, num_records: int, name: str | None = None, *, timeout: float | None = None
    ) -> tuple[Objects, Objects]:
        """Return 1 to ``num_records`` next records, all from one unit.

        Units without records are skipped before the first record. If a record fails, the previous records of the same
        call are lost but counted, as in TensorFlow.

        Args:
            queue: A queue with one string component. It is not used if ``num_records`` is 0.
            num_records: Maximum number of records.
            name: No effect.
            timeout: Maximum time in seconds, as for `read`.

        Returns:
            ``(keys, values)``, two one-dimensional arrays of ``bytes`` objects with the same length.

        Raises:
            TypeError: ``num_records`` is not an integer.
            InvalidArgumentError: ``num_records`` is negative. In addition, the errors of `read`.
        """
        if as_integer(num_records, "num_records") < 0:
            invalid(f"num_records must be at least 0, got {num_records}.")
        records: list[Record] = []
        with self._lock.waking, Turn(self._lock, timeout) as turn:
            is_end = False
            while len(records) < num_records and not (is_end and records):
                self._start_work(queue, turn)
                some = self._read_some(num_records - len(records))
                records += some
                # After returned records of a run, a current unit may be missing. Do not wait for one.
                is_end = not some or self.one_record_per_unit or not self._is_working
                self._count(len(some), is_end=not some)
        return text_array([key for key, _ in records]), text_array([value for _, value in records])

    def read_op(self, queue: WorkQueue, name: str | None = None) -> Source:
        """Return a `Source` that reads the next record at each call, as a list of key and value.

        Several threads may call it. In worker processes, each process has its own reader, and all take their work units
        from the shared queue.

        Args:
            queue: A queue with one string component.
            name: No effect.

        Follows: The tensors that ``tf.compat.v1.ReaderBase.read`` returns.
        """
        return Source(functools.partial(self.read, queue), ["string", "string"], [(), ()])

    def read_up_to_op(self, queue: WorkQueue, num_records: int, name: str | None = None) -> Source:
        """Return a `Source` that reads up to ``num_records`` at each call, as a list of two vectors, keys and values.

        Use it with ``enqueue_many``. It is cheaper per record than `read_op`.

        Args:
            queue: A queue with one string component.
            num_records: Maximum number of records per call.
            name: No effect.

        Follows: The tensors that ``tf.compat.v1.ReaderBase.read_up_to`` returns.
        """
        return Source(functools.partial(self.read_up_to, queue, num_records), ["string", "string"], [(None,), (None,)])

    def num_records_produced(self, name: str | None = None) -> int:
        """Return the number of records read since the creation, reset or restore of the reader, including copies."""
        return self._num_records + self._tally.totals()[0]

    def num_work_units_completed(self, name: str | None = None) -> int:
        """Return the number of completed work units. A unit is completed by the read *after* its last record."""
        return self._num_completed + self._tally.totals()[1]

    def reset(self, name: str | None = None) -> None:
        """Reset the reader to its initial state: counters 0, and no current unit. The queue is not rewound.

        Copies in other processes continue with their units. The records that they have read before are not counted.
        """
        with self._lock.waking, self._lock:
            self._reset()

    def serialize_state(self, name: str | None = None) -> bytes:
        """Return the reader's state, for `restore_state` of a reader of the same class.

        Raises:
            UnimplementedError: `supports_serialize` is False.
        """
        self._check_serializes()
        with self._lock.waking, self._lock:
            num_completed = self.num_work_units_completed()
            return encode(ReaderState(num_completed, num_completed, self.num_records_produced(), self._work))

    def restore_state(self, state: bytes, name: str | None = None) -> None:
        """Restore a saved state; empty bytes mean the initial state. If it fails, the reader is reset.

        Args:
            state: Result of `serialize_state`.
            name: No effect.

        Raises:
            UnimplementedError: `supports_serialize` is False.
            TypeError: ``state`` is not bytes.
            InvalidArgumentError: ``state`` is not a saved state.
        """
        with self._lock.waking, self._lock:
            self._reset()
            self._check_serializes()
            saved = decode(state)
            self._num_completed, self._num_records = saved.work_finished, saved.num_records_produced
            self._work = saved.current_work

    @property
    def supports_serialize(self) -> bool:
        """True if `serialize_state` and `restore_state` work."""
        return self._supports_serialize

    @property
    def reader_ref(self) -> Any:
        """The reader itself, unless the constructor received a different value."""
        return self if self._reader_ref is None else self._reader_ref

    # -- Mechanism

    def _start_work(self, queue: WorkQueue, turn: "Turn") -> None:
        if not self._is_working:
            if not hasattr(queue, "dequeue"):
                raise TypeError(f"queue must be a queue of file names, got {queue!r}.")
            self._tally.join(queue)
            self._work = _work_unit(queue.dequeue(timeout=turn.left()) if turn.has_deadline else queue.dequeue())
            self._on_work_start(self._work)
            self._is_working = True

    def _count(self, num_records: int, *, is_end: bool) -> None:
        is_completed = is_end or self.one_record_per_unit
        self._num_records += num_records
        self._num_completed += is_completed
        self._tally.add(num_records, is_completed)
        if is_completed:
            self._is_working = False
            self._on_work_finish()

    def _reset(self) -> None:
        if self._is_working:
            self._on_work_finish()
        self._tally.reset()
        self._num_records = self._num_completed = 0
        self._work, self._is_working = b"", False

    def _check_serializes(self) -> None:
        if not self._supports_serialize:
            raise UnimplementedError(None, None, f"{type(self).__name__} cannot save or restore its state")

    def __getstate__(self) -> dict[str, Any]:
        transient = {"_lock", "_num_records", "_num_completed", "_work", "_is_working"}
        return {key: value for key, value in self.__dict__.items() if key not in transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    def __repr__(self) -> str:
        place = f"in {self._work!r}" if self._is_working else "between units"
        records, units = self.num_records_produced(), self.num_work_units_completed()
        counts = f"{count_text(records, 'record')}, {count_text(units, 'unit')} completed"
        return f"<{type(self).__name__}{f' {self.name!r}' if self.name else ''}: {counts}, {place}>"


def _work_unit(element: Any) -> bytes:
    if isinstance(element, dict) and len(element) == 1:
        (element,) = element.values()
    item = element.item() if isinstance(element, np.ndarray) and element.size == 1 else element
    if not isinstance(item, bytes | str):
        invalid(f"A reader requires a queue with one string component, but dequeued {element!r}.")
    return file_name(item)


class Turn:
    """The lock of a reader for one call, to be entered after `waking`, with the rest of the call's ``timeout``."""

    __slots__ = ("__exit__", "_deadline", "_lock", "has_deadline")

    def __init__(self, lock: BargingLock, timeout: float | None) -> None:
        self._lock, self.__exit__ = lock, lock.__exit__
        if timeout is not None:
            timeout = checked_timeout(timeout)
        self.has_deadline = timeout is not None
        self._deadline = 0.0 if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """Return the seconds until the deadline, or 0 after it."""
        return max(0.0, self._deadline - time.monotonic())

    def __enter__(self) -> Self:
        if not self._lock.acquire(self.left() if self.has_deadline else None):
            raise DeadlineExceededError(None, None, "Another thread was reading until the timeout.")
        return self
