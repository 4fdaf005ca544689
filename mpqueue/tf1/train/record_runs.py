"""Enqueue ops of pipelines of examples, carried out for many records at once.

    the queue has room for n ──► read 1 to n records ──► one example of each, together ──► enqueue them together

What can be seen of it is what can be seen record by record:

* There are never more examples under way than the queue has room for, and one if it has none: so the reader is as far
  ahead as before, and a full queue makes its thread wait with one example in hand.
* Where a record is wrong, or the examples cannot be computed together, the first record goes in alone, and the others
  are given back to the reader and read one by one. The examples before the wrong one go in, and its error is raised.
* A run ends where the reader ends a file, or a block of it, at the latest.
* Before the examples go in, the coordinator is asked once more. If it has stopped, just the first of them goes in, as
  the one that would have been under way; the other records are given back.
* What is given back is given back before the op waits for room. Until that is known, the input has not ended for the
  other threads of the reader (see `mpqueue.tf1.readers.file_records`): no record comes back to a reader that all have
  left.

How long runs are is `mpqueue.tf1.runs.length`'s matter. Where runs fail again and again, although no record is wrong,
the op is to be carried out record by record from then on.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.remote import RemoteQueue
from mpqueue.tf1.readers.base import Record
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.runs.length import RunLength
from mpqueue.tf1.runs.rows import Array, Rows, Value, spread

_MAX_FAILURES: Final = 3  # in a row

Queue: TypeAlias = QueueCore | RemoteQueue


class RecordPipeline(Protocol):
    """The work that is done with records. A `RecordRuns` calls it, in one thread."""

    @property
    def reader(self) -> FileRecordReader:
        """The reader."""

    @property
    def queue(self) -> Queue:
        """The queue that the examples go into."""

    def read(self, num_records: int) -> list[Record]:
        """Return one to so many next records."""

    def examples(self, records: Sequence[Record]) -> list[Value]:
        """Return the components of the examples of some records; any error: they cannot be computed together."""

    def carry_out(self, record: Record) -> None:
        """Make the example of one record, and enqueue it."""

    def put(self, examples: list[Value], count: int) -> None:
        """Enqueue the examples of so many records, by `enqueue`."""


class RecordRuns:
    """The runs of one op.

    Args:
        should_stop: Whether the coordinator has stopped.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._length = RunLength()
        self._num_alone = 0  # of the next records, which go in one by one
        self._num_failures = 0

    @property
    def are_in_vain(self) -> bool:
        """True if the op is to be carried out record by record from now on."""
        return self._num_failures >= _MAX_FAILURES

    def next(self, pipeline: RecordPipeline) -> None:
        """Enqueue the examples of the next records, of one at least.

        Raises:
            Exception: What the methods of the pipeline raise.
        """
        queue, is_alone = pipeline.queue, self._num_alone > 0
        self._num_alone -= is_alone
        room = queue.set_aside(1 if is_alone else self._length.wanted)
        queue.release(room)  # reading may wait for a file, and others need the room meanwhile
        records = pipeline.read(max(1, room))
        began = time.thread_time()
        num_kept = kept = 0
        try:
            kept = queue.set_aside(len(records))  # less than before where another thread was faster
            examples, num_kept = self._examples(pipeline, records[: max(1, kept)])
        finally:
            pipeline.reader.end_run(records[num_kept:])
        try:
            if examples is None:
                pipeline.carry_out(records[0])
            else:
                pipeline.put(examples, num_kept)
        finally:
            queue.release(kept)
        if not is_alone and not self._num_alone:
            self._length.note(num_kept, sum(len(value) for _, value in records[:num_kept]), time.thread_time() - began)

    def _examples(self, pipeline: RecordPipeline, records: list[Record]) -> tuple[list[Value] | None, int]:
        """Return the examples of records that go in together, None if the first goes in alone; and how many go in."""
        if len(records) == 1:
            return None, 1
        try:
            examples = pipeline.examples(records)
            _check(pipeline.queue, examples, len(records))
        except Exception:
            self._num_failures += 1
            self._num_alone = len(records) - 1
            return None, 1
        self._num_failures = 0
        return (None, 1) if self._should_stop() else (examples, len(records))


def _check(queue: Queue, examples: list[Value], count: int) -> None:
    """Raise an error unless the queue takes all examples."""
    stacked, rows = _columns(examples, count)
    if stacked is not None:
        queue.spec.check_many(stacked)
        return
    for example in zip(*rows, strict=True):
        queue.spec.check(example)


def _columns(examples: list[Value], count: int) -> tuple[list[Array] | None, list[Rows]]:
    """Return the components as one array each, None if there is one that is a list, and as rows."""
    rows = [spread(each, count) for each in examples]
    stacked = [each.stacked for each in rows if each.stacked is not None]
    return stacked if len(stacked) == len(rows) else None, rows


def enqueue(queue: Queue, examples: list[Value], count: int) -> None:
    """Put the examples of so many records into a queue."""
    stacked, rows = _columns(examples, count)
    if stacked is not None:
        queue.enqueue_many(stacked, None)
        return
    for example in zip(*rows, strict=True):
        queue.enqueue(list(example), None)
