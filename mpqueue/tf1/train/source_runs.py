"""Enqueue ops of sources made of a reader and decoders, for runs of records; `record_runs` describes these.

A source is a function, and only a few functions can process many records at once: functions that read a record
(`read_op`), select a part of an example (`operator.itemgetter`), or decode it (a `functools.partial` of `decode_csv`,
`parse_single_example` or `decode_raw` with all arguments but the first). An op with any other source processes record
by record.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from mpqueue.examples import reading
from mpqueue.examples.example_plan import plan
from mpqueue.system.processes.exit import without_children
from mpqueue.tf1.parsing import csv, parse, raw
from mpqueue.tf1.queues.base import EnqueueOp
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.remote import RemoteQueue
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.readers.base import Record
from mpqueue.tf1.readers.file_records import FileRecordReader
from mpqueue.tf1.runs.rows import Rows, Value
from mpqueue.tf1.runs.rules import CannotJoin
from mpqueue.tf1.train import record_runs
from mpqueue.values.conversion import text_array

Step: TypeAlias = Callable[..., Any]


class Origin(NamedTuple):
    """A source that reads records, and the functions applied to them."""

    reader: FileRecordReader
    units: Any
    functions: tuple[Step, ...]


def _parsed(serialized: Any, features: Any) -> dict[Any, Any]:
    values = reading.parse_apart(serialized.tolist(), plan(features))
    if any(isinstance(each, list) for each in values.values()):
        raise CannotJoin("features of variable length")
    return values


_TOGETHER: Final[dict[Any, Step]] = {
    csv.decode_csv: csv.decode_csv,
    parse.parse_single_example: _parsed,
    raw.decode_raw: raw.decode_raw,
}


def repeated(op: Callable[[], Any], should_stop: Callable[[], bool]) -> Callable[[], Any]:
    """Return a callable that enqueues the next examples of an op: of several records if possible, otherwise of one.

    Call this in the process that runs the op. A child process forked by user code does not return from the callable.
    """
    if not isinstance(op, EnqueueOp):
        return without_children(op)
    queue, origin = op.queue.queue_ref, None if op.many else _origin(op.source)
    if origin is None or not isinstance(queue, QueueCore | RemoteQueue):
        return op.guarded(without_children)
    return _SourceRuns(op, queue, origin, should_stop)


def _origin(source: Source) -> Origin | None:
    functions: list[Step] = []
    while source.origin is not None:
        source, function = source.origin
        together = _together(function)
        if together is None:
            return None
        functions.insert(0, together)
    read = source.function
    reader = getattr(getattr(read, "func", None), "__self__", None)
    if not isinstance(read, functools.partial) or not isinstance(reader, FileRecordReader):
        return None
    if read.func != reader.read or len(read.args) != 1 or read.keywords:
        return None
    return Origin(reader, read.args[0], tuple(functions))


def _together(function: Any) -> Step | None:
    """Return the equivalent of a function of one example for a run of examples, or None if it is unknown."""
    if isinstance(function, operator.itemgetter):
        return functools.partial(_picked, function)
    if not isinstance(function, functools.partial) or function.args or function.func not in _TOGETHER:
        return None
    return functools.partial(_TOGETHER[function.func], **function.keywords)


def _picked(function: Any, examples: Any) -> Any:
    if not isinstance(examples, list | tuple | dict):
        raise CannotJoin("a part of an array or a string")
    return function(examples)


class _SourceRuns:
    """An enqueue op that is called repeatedly, for runs of records."""

    def __init__(
        self, op: EnqueueOp, queue: record_runs.Queue, origin: Origin, should_stop: Callable[[], bool]
    ) -> None:
        self._op, self._origin = op, origin
        self._runs = record_runs.RecordRuns(should_stop)
        self.reader, self.queue = origin.reader, queue

    def __call__(self) -> None:
        if self._runs.is_disabled:
            self._op()
        else:
            self._runs.next(self)

    def read(self, num_records: int) -> list[Record]:
        return self.reader.read_run(self._origin.units, num_records)

    def examples(self, records: Sequence[Record]) -> list[Value]:
        values: Any = [text_array(column) for column in zip(*records, strict=True)]
        for function in self._origin.functions:
            values = function(values)
        return [Rows(each) for each in self._op.queue.element_spec.components(values)]

    def carry_out(self, record: Record) -> None:
        example: Any = record
        for _, function in _maps(self._op.source):
            example = function(example)
        self._op.queue.enqueue(example)

    def put(self, examples: list[Value], count: int) -> None:
        record_runs.enqueue(self.queue, examples, count)

    def __repr__(self) -> str:
        return repr(self._op)


def _maps(source: Source) -> list[tuple[Source, Step]]:
    """Return the sources that were derived by `map` with their functions, in the order of application."""
    origins = []
    while source.origin is not None:
        origins.append(source.origin)
        source = source.origin[0]
    return origins[::-1]
