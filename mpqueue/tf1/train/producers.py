"""Producers: queues that are filled with the rows of an array, epoch after epoch.

Each function makes a queue, an enqueue op, which enqueues the rows of a whole epoch at each call, and a queue runner,
which is added to the collection that `start_queue_runners` starts. The order of an epoch is drawn when its op is
called, so that epochs never mix and each is a whole permutation.
"""

# ruff: noqa: ARG001 - `summary_name` and some `name` stand in TensorFlow's signatures

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.kinds import FIFOQueue
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
        input_tensor: An array of one or more dimensions, or a list that makes one; or a `Source`, called for each
            epoch. Python's numbers become int32 and float32.
        element_shape: Shape of a row, where it is not known from ``input_tensor``.
        num_epochs: Number of epochs before the queue is closed; None for no end. `local_variables_initializer` counts
            anew.
        shuffle: True if the rows of each epoch come in random order.
        seed: Makes that order reproducible; each epoch has another one.
        capacity: Most rows that are held in advance.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        summary_name: Accepted for TensorFlow's signature.
        name: Name of the queue.
        cancel_op: Called by the runner at a stop; None: cancels the queue.

    Returns:
        A `FIFOQueue` with one component.

    Raises:
        TypeError: ``num_epochs`` is no integer.
        ValueError: ``input_tensor`` is a scalar, the shape of a row is not known, or disagrees with ``element_shape``;
            ``num_epochs`` is 0 or negative.

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
        Indices in random order, without end::

            import mpqueue

            indices = mpqueue.train.range_input_producer(3, seed=1)
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert sorted(int(indices.dequeue()) for _ in range(3)) == [0, 1, 2]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        limit: One more than the largest; 0 gives none.
        num_epochs: Number of epochs before the queue is closed; None for no end. `local_variables_initializer` counts
            anew.
        shuffle: True if the rows of each epoch come in random order.
        seed: Makes that order reproducible; each epoch has another one.
        capacity: Most rows that are held in advance.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the queue.

    Returns:
        A `FIFOQueue` of int32 scalars.

    Raises:
        TypeError: ``limit`` or ``num_epochs`` is no integer.
        ValueError: ``limit`` is negative or above 2**31 - 1, or ``num_epochs`` 0 or negative.

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
    r"""Return a queue of texts, mostly file names, with a queue runner that fills it.

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
        string_tensor: A list or array of text, bytes or ``os.PathLike``; or a callable that returns it, called for each
            epoch, such as `match_filenames_once`.
        num_epochs: Number of epochs before the queue is closed; None for no end. `local_variables_initializer` counts
            anew.
        shuffle: True if the rows of each epoch come in random order.
        seed: Makes that order reproducible; each epoch has another one.
        capacity: Most rows that are held in advance.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the queue.
        cancel_op: Called by the runner at a stop; None: cancels the queue.

    Returns:
        A `FIFOQueue` of ``bytes`` scalars, for a reader.

    Raises:
        TypeError: ``string_tensor`` holds something else, or ``num_epochs`` is no integer.
        ValueError: ``string_tensor`` is empty or no list, or ``num_epochs`` is 0 or negative.

    The queue runner reports:
        InvalidArgumentError: The callable returned nothing. A dequeue raises `OutOfRangeError`.

    Follows: ``tf.compat.v1.train.string_input_producer``.
    """
    if callable(string_tensor):

        def called() -> Any:
            texts = as_constant(string_tensor(), "string_tensor")
            if not texts.size:
                raise InvalidArgumentError(None, None, f"string_input_producer got no text from {string_tensor!r}")
            return texts

        rows = Source(called, "string", [(None,)])
        return _make_producer(rows, (), num_epochs, shuffle, seed, capacity, shared_name, name, cancel_op)
    texts = as_constant(string_tensor, "string_tensor")
    if texts.ndim != 1:
        raise ValueError(f"string_tensor must be a list of texts, got the shape {texts.shape}")
    if not texts.size:
        raise ValueError("string_input_producer needs at least one text, got none: does the file pattern match?")
    if texts.dtype != object:
        raise TypeError(f"string_input_producer takes text, got {texts.dtype}")
    rows = constant_source(texts, "string_tensor")
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
    """Return a `Source` of examples, each one row of every array, with a queue runner that enqueues the indices.

    Example:
        Pictures and their labels, row by row::

            import mpqueue

            labels = [7, 8]
            examples = mpqueue.train.slice_input_producer([["a.png", "b.png"], labels], shuffle=False)
            coordinator = mpqueue.train.Coordinator()
            threads = mpqueue.train.start_queue_runners(coord=coordinator)
            assert examples() == [b"a.png", 7]
            coordinator.request_stop()
            coordinator.join(threads)

    Args:
        tensor_list: Arrays, lists that make them, or Sources of arrays, with equal numbers of rows. The first one sets
            the number: more rows in the others are not read, a missing one is an error when it is to be read.
        num_epochs: Number of epochs before the queue is closed; None for no end. `local_variables_initializer` counts
            anew.
        shuffle: True if the rows of each epoch come in random order.
        seed: Makes that order reproducible; each epoch has another one.
        capacity: Most indices that are held in advance.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the queue.

    Returns:
        A source of lists, also for one array; the rows are copies.

    Raises:
        TypeError: ``num_epochs`` is no integer.
        ValueError: ``tensor_list`` is empty or holds a scalar, or ``num_epochs`` is 0 or negative.

    The source raises:
        OutOfRangeError: All epochs are over.
        InvalidArgumentError: An array has no such row; the next call goes on with the next index.

    Follows: ``tf.compat.v1.train.slice_input_producer``.
    """
    sources = [
        item if isinstance(item, Source) else constant_source(item, f"tensor_list[{place}]")
        for place, item in enumerate(tensor_list)
    ]
    if not sources:
        raise ValueError("slice_input_producer needs at least one array, got an empty list")
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
        raise ValueError(f"the dtype of {label} is not known: give it to its Source, as in Source(fn, 'float32')")
    if len(source.dtypes) != 1 or source.names is not None:
        raise ValueError(f"{label} must be one array, its source has the components {source.names or source.dtypes}")
    (shape,) = source.shapes
    if shape == ():
        raise ValueError(f"{label} is a scalar: a producer needs the rows of an array")
    return source.dtypes[0], None if shape is None else shape[1:]


def row_shape(known: Shape, element_shape: Any) -> tuple[int, ...]:
    """Merge what is known of the shape of a row with the caller's argument.

    Raises:
        ValueError: They disagree, or a dimension is still unknown.
    """
    given = as_shape(element_shape)
    try:
        shape = merged(known, given)
    except ValueError:
        raise ValueError(f"the rows have the shape {known}, element_shape says {given}") from None
    if shape is None or not is_fully_known(shape):
        raise ValueError(f"the shape of a row must be fully known, got {shape}: give element_shape")
    return tuple(size for size in shape if size is not None)


class _Epochs:
    """Returns the rows of one epoch per call, in their order or in a new random one."""

    def __init__(self, rows: Source, dtype: DType, count: EpochCount | None, shuffle: bool, seed: int | None) -> None:
        self._rows, self._dtype, self._count, self._shuffle = rows, dtype, count, shuffle
        self._random = np.random.default_rng(seed)
        # Nothing is ever enqueued here. Without rows and without an end, the op would be called again and again in
        # vain; instead it waits in this queue for the stop.
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
        """Free an op that waits for nothing, now or later; it ends as at the end of the input."""
        self._nothing.close(cancel_pending_enqueues=True)


class _Slices:
    """One row of every array, for each index in the queue."""

    def __init__(self, queue: FIFOQueue, sources: list[Source]) -> None:
        self._queue, self._sources = queue, sources

    def __call__(self) -> list[Any]:
        index = int(self._queue.dequeue())
        return [self._row(place, np.asarray(source()), index) for place, source in enumerate(self._sources)]

    @staticmethod
    def _row(place: int, array: NDArray[Any], index: int) -> Any:
        if index >= len(array):
            text = f"tensor_list[{place}] has {len(array)} rows, none of index {index}; the first array has one"
            raise InvalidArgumentError(None, None, text)
        row = array[index]
        return row.copy() if isinstance(row, np.ndarray) else row
