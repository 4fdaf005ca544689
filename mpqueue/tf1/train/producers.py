"""Producers: queues that are filled with the rows of an array, epoch after epoch.

Each function creates a queue, an enqueue op that enqueues the rows of a whole epoch at each call, and a queue runner,
which is added to the collection that `start_queue_runners` starts. The order of an epoch is drawn when its op is
called, so that epochs never mix and each is a complete permutation.
"""

# ruff: noqa: ARG001 - `summary_name` and some `name` are part of TensorFlow's signatures

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.kinds import FIFOQueue
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import as_constant, constant_source
from mpqueue.tf1.train.collections import add_queue_runner
from mpqueue.tf1.train.epochs import EpochCount, checked_epochs
from mpqueue.tf1.train.queue_runner import QueueRunner
from mpqueue.tf1.values.shapes import is_fully_known, merged
from mpqueue.values.conversion import to_array
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape, as_shape


def input_producer(
    input_tensor: Any,
    element_shape: Any = None,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    summary_name: str | None = None,
    name: str | None = None,
    cancel_op: Callable[[], Any] | None = None,
) -> FIFOQueue:
    """Return a queue of the rows of an array, with a queue runner that fills it.

    Example:
        Each row of an array, twice::

            import mpqueue

            rows = mpqueue.train.input_producer([[1, 2], [3, 4]], num_epochs=2, shuffle=False)
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert [rows.dequeue().tolist() for _ in range(4)] == [[1, 2], [3, 4], [1, 2], [3, 4]]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        input_tensor: An array with at least one dimension, a list that can be converted to one, or a `Source`, which is
            called for each epoch. Python numbers become int32 and float32.
        element_shape: Shape of a row, if ``input_tensor`` does not specify it.
        num_epochs: Number of epochs before the queue is closed; None for no limit. `local_variables_initializer` resets
            the count.
        shuffle: Whether to shuffle the rows of each epoch.
        seed: Seed for a reproducible order. The order differs between epochs.
        capacity: Maximum number of prefetched rows.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        summary_name: Accepted for compatibility with TensorFlow.
        name: Name of the queue.
        cancel_op: Called by the runner on a stop. If None, the queue is cancelled.

    Returns:
        A `FIFOQueue` with one component.

    Raises:
        TypeError: ``num_epochs`` is not an integer.
        ValueError: ``input_tensor`` is a scalar, the shape of a row is unknown or incompatible with ``element_shape``,
            or ``num_epochs`` is 0 or negative.

    Follows: ``tf.compat.v1.train.input_producer``.
    """
    rows = input_tensor if isinstance(input_tensor, Source) else constant_source(input_tensor, "input_tensor")
    return _make_producer(rows, element_shape, num_epochs, shuffle, seed, capacity, shared_name, name, cancel_op)


def range_input_producer(
    limit: int,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> FIFOQueue:
    """Return a queue of the integers below ``limit``, with a queue runner that fills it.

    Example:
        Indices in random order, without a limit::

            import mpqueue

            indices = mpqueue.train.range_input_producer(3, seed=1)
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert sorted(int(indices.dequeue()) for _ in range(3)) == [0, 1, 2]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        limit: Upper bound, exclusive; with 0, the range is empty.
        num_epochs: Number of epochs before the queue is closed; None for no limit. `local_variables_initializer` resets
            the count.
        shuffle: Whether to shuffle the rows of each epoch.
        seed: Seed for a reproducible order. The order differs between epochs.
        capacity: Maximum number of prefetched rows.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the queue.

    Returns:
        A `FIFOQueue` of int32 scalars.

    Raises:
        TypeError: ``limit`` or ``num_epochs`` is not an integer.
        ValueError: ``limit`` is negative or above 2**31 - 1, or ``num_epochs`` is 0 or negative.

    Follows: ``tf.compat.v1.train.range_input_producer``.
    """
    count = operator.index(limit)
    if not 0 <= count < 2**31:
        raise ValueError(f"limit must be from 0 to 2**31 - 1, got {limit}")
    rows = Source(lambda: np.arange(count, dtype=np.int32), np.int32, [(None,)])
    return _make_producer(rows, (), num_epochs, shuffle, seed, capacity, shared_name, name, None)


def string_input_producer(
    string_tensor: Any,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
    cancel_op: Callable[[], Any] | None = None,
) -> FIFOQueue:
    r"""Return a queue of strings, mostly file names, with a queue runner that fills it.

    Example:
        File names for a reader::

            import pathlib
            import mpqueue

            pathlib.Path("numbers.txt").write_text("one\ntwo\n")
            names = mpqueue.train.string_input_producer(["numbers.txt"], num_epochs=1)
            reader = mpqueue.train.TextLineReader()
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert reader.read(names) == (b"numbers.txt:1", b"one")
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        string_tensor: A list or array of ``str``, ``bytes`` or ``os.PathLike``, or a callable that returns it, such as
            `match_filenames_once`. A callable is called for each epoch.
        num_epochs: Number of epochs before the queue is closed; None for no limit. `local_variables_initializer` resets
            the count.
        shuffle: Whether to shuffle the rows of each epoch.
        seed: Seed for a reproducible order. The order differs between epochs.
        capacity: Maximum number of prefetched rows.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the queue.
        cancel_op: Called by the runner on a stop. If None, the queue is cancelled.

    Returns:
        A `FIFOQueue` of ``bytes`` scalars, for a reader.

    Raises:
        TypeError: ``string_tensor`` contains other values than strings, or ``num_epochs`` is not an integer.
        ValueError: ``string_tensor`` is empty or not a list, or ``num_epochs`` is 0 or negative.

    The queue runner reports:
        InvalidArgumentError: The callable returned an empty list. A dequeue then raises `OutOfRangeError`.

    Follows: ``tf.compat.v1.train.string_input_producer``.
    """
    if callable(string_tensor):

        def called() -> Any:
            strings = as_constant(string_tensor(), "string_tensor")
            if not strings.size:
                raise InvalidArgumentError(None, None, f"string_input_producer got no strings from {string_tensor!r}")
            return strings

        rows = Source(called, "string", [(None,)])
        return _make_producer(rows, (), num_epochs, shuffle, seed, capacity, shared_name, name, cancel_op)
    strings = as_constant(string_tensor, "string_tensor")
    if strings.ndim != 1:
        raise ValueError(f"string_tensor must be a list of strings, got shape {strings.shape}")
    if not strings.size:
        raise ValueError("string_input_producer requires at least one string, got none: does the file pattern match?")
    if strings.dtype != object:
        raise TypeError(f"string_input_producer requires strings, got {strings.dtype}")
    rows = constant_source(strings, "string_tensor")
    return _make_producer(rows, (), num_epochs, shuffle, seed, capacity, shared_name, name, cancel_op)


def slice_input_producer(
    tensor_list: Sequence[Any],
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> Source:
    """Return a `Source` of examples that each have one row of every array, with a queue runner for the indices.

    Example:
        Images and their labels, row by row::

            import mpqueue

            labels = [7, 8]
            examples = mpqueue.train.slice_input_producer([["a.png", "b.png"], labels], shuffle=False)
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert examples() == [b"a.png", 7]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        tensor_list: Arrays, lists that can be converted to arrays, or Sources of arrays, with equal numbers of rows.
            The first one determines the number: further rows of the others are not read, and a missing row is an error
            when it is read.
        num_epochs: Number of epochs before the queue is closed; None for no limit. `local_variables_initializer` resets
            the count.
        shuffle: Whether to shuffle the rows of each epoch.
        seed: Seed for a reproducible order. The order differs between epochs.
        capacity: Maximum number of prefetched indices.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the queue.

    Returns:
        A source of lists, even for one array. The rows are copies.

    Raises:
        TypeError: ``num_epochs`` is not an integer.
        ValueError: ``tensor_list`` is empty or contains a scalar, or ``num_epochs`` is 0 or negative.

    The source raises:
        OutOfRangeError: All epochs are over.
        InvalidArgumentError: An array does not have this row. The next call continues with the next index.

    Follows: ``tf.compat.v1.train.slice_input_producer``.
    """
    sources = [
        item if isinstance(item, Source) else constant_source(item, f"tensor_list[{place}]")
        for place, item in enumerate(tensor_list)
    ]
    if not sources:
        raise ValueError("slice_input_producer requires at least one array, got an empty list")
    specs = [_row_spec(source, f"tensor_list[{place}]") for place, source in enumerate(sources)]
    indices = Source(lambda: np.arange(len(sources[0]()), dtype=np.int32), np.int32, [(None,)])
    queue = _make_producer(indices, (), num_epochs, shuffle, seed, capacity, shared_name, name, None)
    return Source(_Slices(queue, sources), [dtype for dtype, _ in specs], [shape for _, shape in specs])


def _make_producer(
    rows: Source,
    element_shape: Any,
    num_epochs: int | None,
    shuffle: bool,
    seed: int | None,
    capacity: int,
    shared_name: str | None,
    name: str | None,
    cancel_op: Callable[[], Any] | None,
) -> FIFOQueue:
    dtype, known = _row_spec(rows, "input_tensor")
    shape = row_shape(known, element_shape)
    count = checked_epochs(num_epochs)
    name = name or "input_producer"
    queue = FIFOQueue(capacity, [dtype], [shape], shared_name=shared_name, name=name)
    epochs = _Epochs(rows, dtype, None if count is None else EpochCount(count), shuffle, seed)
    op = queue.enqueue_many_op(Source(epochs, dtype, [(None, *shape)]))

    def cancel() -> None:
        epochs.cancel()
        if cancel_op is None:
            queue.close(cancel_pending_enqueues=True)
        else:
            cancel_op()

    add_queue_runner(QueueRunner(queue, [op], cancel_op=cancel))
    return queue


def _row_spec(source: Source, label: str) -> tuple[DType, Shape]:
    """Return the dtype and the shape of the rows of a source's array."""
    if source.dtypes is None or source.shapes is None:
        raise ValueError(f"The dtype of {label} is unknown: pass it to its Source, as in Source(fn, 'float32')")
    if len(source.dtypes) != 1 or source.names is not None:
        raise ValueError(f"{label} must be one array, got the components {source.names or source.dtypes}")
    (shape,) = source.shapes
    if shape == ():
        raise ValueError(f"{label} must be an array with rows, got a scalar")
    return source.dtypes[0], None if shape is None else shape[1:]


def row_shape(known: Shape, element_shape: Any) -> tuple[int, ...]:
    """Merge the known shape of a row with the argument ``element_shape``.

    Raises:
        ValueError: The shapes are incompatible, or a dimension is still unknown.
    """
    requested = as_shape(element_shape)
    try:
        shape = merged(known, requested)
    except ValueError:
        raise ValueError(f"element_shape must match the shape of the rows, {known}, got {requested}") from None
    if shape is None or not is_fully_known(shape):
        raise ValueError(f"The shape of a row must be fully known, got {shape}: pass element_shape")
    return tuple(size for size in shape if size is not None)


class _Epochs:
    """A callable that returns the rows of one epoch, in their original or in a random order."""

    def __init__(self, rows: Source, dtype: DType, count: EpochCount | None, shuffle: bool, seed: int | None) -> None:
        self._rows, self._dtype, self._count, self._shuffle = rows, dtype, count, shuffle
        # NumPy accepts no negative seeds, which are valid in TensorFlow.
        self._random = np.random.default_rng(None if seed is None else as_integer(seed, "seed") % 2**64)
        # This queue is always empty. Without rows and without a limit, the op would be called in a busy loop. Instead,
        # it blocks in this queue until the stop.
        self._nothing = FIFOQueue(1, ["bool"], [()], name="nothing")

    def __call__(self) -> Any:
        if self._count is not None:
            self._count.begin()
        rows = self._rows()
        rows = rows if isinstance(rows, np.ndarray) else to_array(rows, self._dtype, "the rows of an epoch")
        if self._count is None and rows.ndim and not len(rows):
            self._nothing.dequeue()
        return rows[self._random.permutation(len(rows))] if self._shuffle and rows.ndim else rows

    def cancel(self) -> None:
        """Wake an op that blocks without rows, now or later; it then ends as at the end of the input."""
        self._nothing.close(cancel_pending_enqueues=True)


class _Slices:
    """A callable that returns one row of every array, for the next index in the queue."""

    def __init__(self, queue: FIFOQueue, sources: list[Source]) -> None:
        self._queue, self._sources = queue, sources

    def __call__(self) -> list[Any]:
        index = int(self._queue.dequeue())
        return [self._row(place, np.asarray(source()), index) for place, source in enumerate(self._sources)]

    @staticmethod
    def _row(place: int, array: NDArray[Any], index: int) -> Any:
        if index >= len(array):
            problem = f"tensor_list[{place}] must have a row {index}, like the first array, but has {len(array)} rows"
            raise InvalidArgumentError(None, None, problem)
        row = array[index]
        return row.copy() if isinstance(row, np.ndarray) else row
