"""Readers as nodes: each session has its own readers, which are created on first use.

A reader is a node that returns a handle to an eager reader. Nodes that read take this handle and the handle of the
queue with the work units.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mpqueue.tf1 import readers
from mpqueue.tf1.compat.functions.declare import public_class
from mpqueue.tf1.compat.functions.kernels import of_values, waiting, with_own
from mpqueue.tf1.compat.functions.queue_base import QueueBase
from mpqueue.tf1.compat.graph import Operation, Tensor, convert_to_tensor, custom
from mpqueue.tf1.compat.graph.nodes import Kernel
from mpqueue.tf1.compat.graph.state import handle_of, held
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, merged
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.queues.core import QueueCore


class ReaderRead(NamedTuple):
    """The key and the value of a record."""

    key: Tensor
    value: Tensor


class ReaderReadUpTo(NamedTuple):
    """The keys and the values of several records."""

    keys: Tensor
    values: Tensor


@public_class("ReaderBase")
class ReaderBase:
    """A reader in a graph, with methods that create nodes to turn work units, mostly file names, into records.

    The eager `mpqueue.train.ReaderBase` documents the operations and their errors.

    Args:
        reader_ref: The handle.
        supports_serialize: Whether `serialize_state` and `restore_state` are supported.

    Attributes:
        reader_ref: The handle.
        supports_serialize: Whether `serialize_state` and `restore_state` are supported.
    """

    def __init__(self, reader_ref: Tensor, supports_serialize: bool = False) -> None:
        self.reader_ref, self.supports_serialize = reader_ref, supports_serialize

    def read(self, queue: Any, name: str | None = None) -> ReaderRead:
        """Return the next record as two scalar strings; dequeues a work unit if the current one is exhausted.

        Args:
            queue: A queue of strings, or its handle.
        """

        def read(left_s: float | None, reader: np.ndarray, queue: np.ndarray) -> Any:
            return held(reader).read(Units(held(queue)), timeout=left_s)

        return ReaderRead(*self._reading("ReaderReadV2", [_handle(queue)], (), waiting(read), name))

    def read_up_to(self, queue: Any, num_records: Any, name: str | None = None) -> ReaderReadUpTo:
        """Return up to ``num_records`` next records, all from one work unit, as two vectors of strings.

        Args:
            queue: A queue of strings, or its handle.
            num_records: Maximum number of records, an int64 scalar.
        """
        count = convert_to_tensor(num_records, dtypes.int64, "num_records")
        merged(count.known_dims, ())

        def read(left_s: float | None, reader: np.ndarray, queue: np.ndarray, n: np.ndarray) -> Any:
            return held(reader).read_up_to(Units(held(queue)), int(n), timeout=left_s)

        return ReaderReadUpTo(*self._reading("ReaderReadUpToV2", [_handle(queue), count], (None,), waiting(read), name))

    def _reading(self, kind: str, inputs: list[Tensor], dims: Dims, kernel: Kernel, name: str | None) -> list[Tensor]:
        outputs = [(dtypes.string, dims)] * 2
        return custom(kind, [self.reader_ref, *inputs], outputs, kernel, name=name, blocking=True).outputs

    def num_records_produced(self, name: str | None = None) -> Tensor:
        """Return the number of records read in this session, an int64."""
        return self._asking("ReaderNumRecordsProducedV2", dtypes.int64, "num_records_produced", name)

    def num_work_units_completed(self, name: str | None = None) -> Tensor:
        """Return the number of work units completely read in this session, an int64."""
        return self._asking("ReaderNumWorkUnitsCompletedV2", dtypes.int64, "num_work_units_completed", name)

    def serialize_state(self, name: str | None = None) -> Tensor:
        """Return the reader's state, a scalar string."""
        return self._asking("ReaderSerializeStateV2", dtypes.string, "serialize_state", name)

    def _asking(self, kind: str, dtype: DType, method: str, name: str | None) -> Tensor:
        kernel = of_values(lambda reader: np.array(getattr(held(reader), method)(), dtype.as_numpy_dtype))
        return custom(kind, [self.reader_ref], [(dtype, ())], kernel, name=name, bound=True).outputs[0]

    def reset(self, name: str | None = None) -> Operation:
        """Return an operation that resets the reader to its initial clean state."""
        kernel = of_values(lambda reader: held(reader).reset())
        return custom("ReaderResetV2", [self.reader_ref], (), kernel, name=name, bound=True)

    def restore_state(self, state: Any, name: str | None = None) -> Operation:
        """Return an operation that restores the reader to a saved state.

        Args:
            state: The result of `serialize_state`.
        """
        saved = convert_to_tensor(state, dtypes.string, "state")
        merged(saved.known_dims, ())
        kernel = of_values(lambda reader, state: held(reader).restore_state(state.item()))
        return custom("ReaderRestoreStateV2", [self.reader_ref, saved], (), kernel, name=name, bound=True)


class Units:
    """An adapter with which a reader takes its work units from a queue."""

    def __init__(self, core: QueueCore) -> None:
        self.queue_ref = core

    def dequeue(self, *, timeout: float | None = None) -> Any:
        """Return the next work unit."""
        components = self.queue_ref.dequeue(timeout, list)
        if len(components) != 1:
            invalid(f"A reader needs a queue with one component, but {self.queue_ref.name!r} has {len(components)}")
        return components[0]


def _handle(queue: Any) -> Tensor:
    if isinstance(queue, QueueBase):
        return queue.queue_ref
    return convert_to_tensor(queue, dtypes.resource, "queue_handle")


def _reader_node(kind: str, make: Callable[[], readers.ReaderBase], name: str | None) -> Tensor:
    """Create the handle of a reader, which is looked up or created in the run's session."""
    return with_own(
        kind, (), [(dtypes.resource, ())], lambda: handle_of(make()), lambda handle: handle, name=name
    ).outputs[0]


@public_class("TextLineReader", like=readers.TextLineReader)
class TextLineReader(ReaderBase):
    """A reader of the lines of text files; see `mpqueue.train.TextLineReader`."""

    def __init__(self, skip_header_lines: int | None = None, name: str | None = None) -> None:
        super().__init__(_reader_node("TextLineReaderV2", partial(readers.TextLineReader, skip_header_lines), name))


@public_class("WholeFileReader", like=readers.WholeFileReader)
class WholeFileReader(ReaderBase):
    """A reader of whole files; see `mpqueue.train.WholeFileReader`."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(_reader_node("WholeFileReaderV2", readers.WholeFileReader, name), supports_serialize=True)


@public_class("IdentityReader", like=readers.IdentityReader)
class IdentityReader(ReaderBase):
    """A reader that returns each work unit as key and value; see `mpqueue.train.IdentityReader`."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(_reader_node("IdentityReaderV2", readers.IdentityReader, name), supports_serialize=True)


@public_class("TFRecordReader", like=readers.TFRecordReader)
class TFRecordReader(ReaderBase):
    """A reader of the records of TFRecord files; see `mpqueue.train.TFRecordReader`."""

    def __init__(self, name: str | None = None, options: Any = None) -> None:
        super().__init__(_reader_node("TFRecordReaderV2", partial(readers.TFRecordReader, options=options), name))


@public_class("FixedLengthRecordReader", like=readers.FixedLengthRecordReader)
class FixedLengthRecordReader(ReaderBase):
    """A reader of binary records of a fixed length; see `mpqueue.train.FixedLengthRecordReader`."""

    def __init__(
        self,
        record_bytes: int,
        header_bytes: int | None = None,
        footer_bytes: int | None = None,
        hop_bytes: int | None = None,
        name: str | None = None,
        encoding: str | None = None,
    ) -> None:
        lengths = (record_bytes, header_bytes, footer_bytes, hop_bytes)
        make = partial(readers.FixedLengthRecordReader, *lengths, encoding=encoding)
        super().__init__(_reader_node("FixedLengthRecordReaderV2", make, name))
