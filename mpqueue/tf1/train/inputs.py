"""The inputs of one batching queue: their common structure, and the queue, runner and batches made from them.

Both the eager and the graph-mode batching functions use `Inputs`. `SourceInputs` calls functions, and `NodeInputs` of
`mpqueue.tf1.compat.train.examples` runs nodes. A subclass names the queue, fills it, and returns its batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.kinds import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.batch_op import BatchOp
from mpqueue.tf1.train.collections import add_queue_runner
from mpqueue.tf1.train.examples import as_example_source
from mpqueue.tf1.train.queue_runner import QueueRunner, Workers
from mpqueue.tf1.values.shapes import as_shapes, is_fully_known, merged
from mpqueue.values.shapes import Shape

Batches = TypeVar("Batches")


class Input(Protocol):
    """One input, a `Source` or an example of nodes."""

    @property
    def names(self) -> list[str] | None:
        """Keys of an example that is a dict, or None."""

    @property
    def dtypes(self) -> Sequence[Any] | None:
        """Dtype of each component."""

    @property
    def shapes(self) -> Sequence[Shape] | None:
        """Shape of each component."""


class Queues(NamedTuple):
    """The queue classes of the eager or graph-mode API."""

    fifo: Callable[..., Any]
    padding: Callable[..., Any]
    shuffle: Callable[..., Any]


class Arguments(NamedTuple):
    """The arguments that all batching functions share."""

    size: Any  # examples per batch
    capacity: int
    shapes: Any  # shapes of one example, or None for the inputs' shapes
    takes_fewer: bool  # whether the examples that remain at the end form a smaller batch
    shared_name: str | None
    name: str


class Inputs(ABC, Generic[Batches]):
    """The inputs of one queue, each enqueued by its own thread, with their common names and dtypes.

    Args:
        inputs: At least one. An input that occurs twice is enqueued by two threads.
        many: Whether the first dimensions count examples.
        queues: The queue classes to use.

    Raises:
        TypeError: The dtypes differ.
        ValueError: The names or numbers of components differ.
    """

    def __init__(self, inputs: Sequence[Input], many: bool, queues: Queues) -> None:
        self._inputs, self._many, self._queues = inputs, many, queues
        first = inputs[0]
        self.names, self.dtypes = first.names, list(first.dtypes or ())
        for other in inputs[1:]:
            self._check_alike(other)

    def _check_alike(self, other: Input) -> None:
        dtypes = other.dtypes or []
        if sorted(other.names or ()) != sorted(self.names or ()) or len(dtypes) != len(self.dtypes):
            problem = "All inputs must have the same keys, or the same number of components"
            raise ValueError(f"{problem}, got {self.names or self.dtypes} and {other.names or dtypes}")
        if [dtypes[place] for place in self._places_in(other)] != self.dtypes:
            raise TypeError(f"All inputs must have the same dtypes, got {self.dtypes} and {dtypes}")

    def _places_in(self, other: Input) -> list[int]:
        """Return the index in another input of each component of the first one: dicts can have another key order."""
        if self.names is None or other.names is None:
            return list(range(len(self.dtypes)))
        return [other.names.index(name) for name in self.names]

    def shapes(self, argument: Any, *, may_vary: bool) -> list[Shape]:
        """Return the shape of each component of one example, from the argument or else from the inputs.

        Raises:
            ValueError: A rank is unknown, a dimension is unknown and must not vary, or two inputs have other shapes.
        """
        if argument is not None:
            return as_shapes(argument, len(self.dtypes))
        by_input = [[(each.shapes or [])[place] for place in self._places_in(each)] for each in self._inputs]
        shapes = [_common([self._of_example(shape) for shape in known]) for known in zip(*by_input, strict=True)]
        for shape in shapes:
            if not may_vary and not is_fully_known(shape):
                remedy = "pass shapes, or dynamic_pad=True if it varies"
                raise ValueError(f"The shape of an example must be fully known, got {shape}: {remedy}")
        return shapes

    def _of_example(self, shape: Shape) -> Shape:
        if shape is None:
            raise ValueError("The rank of a component is unknown: specify its shape in the source, or pass shapes")
        if self._many and not shape:
            raise ValueError("enqueue_many requires arrays whose first dimension counts examples, got a scalar")
        return shape[1:] if self._many else shape

    def in_order(self, arguments: Arguments, *, pads: bool) -> Batches:
        """Create a queue that keeps the order, fill it, and return its batches.

        Args:
            arguments: The arguments of the batching function.
            pads: Whether unknown dimensions can vary.

        Raises:
            ValueError: As for `shapes`.
        """
        known = self.shapes(arguments.shapes, may_vary=pads)
        make, kind = (self._queues.padding, "padding_fifo_queue") if pads else (self._queues.fifo, "fifo_queue")
        label = self._queue_name(arguments.name, kind)
        queue = make(arguments.capacity, self.dtypes, known, self.names, arguments.shared_name, label)
        return self._batches(queue, arguments)

    def shuffled(self, arguments: Arguments, min_after_dequeue: int, seed: int | None) -> Batches:
        """Create a queue that shuffles, fill it, and return its batches.

        Args:
            arguments: The arguments of the batching function.
            min_after_dequeue: Minimum number of examples that remain in the queue while it is open.
            seed: Seed for a reproducible order.

        Raises:
            ValueError: As for `shapes`.
        """
        known = self.shapes(arguments.shapes, may_vary=False)
        numbers = (arguments.capacity, min_after_dequeue)
        label = self._queue_name(arguments.name, "random_shuffle_queue")
        queue = self._queues.shuffle(*numbers, self.dtypes, known, self.names, seed, arguments.shared_name, label)
        return self._batches(queue, arguments)

    @staticmethod
    @abstractmethod
    def _queue_name(name: str, kind: str) -> str:
        """Return the name for a queue of the given kind."""

    @abstractmethod
    def _batches(self, queue: Any, arguments: Arguments) -> Batches:
        """Add a runner that fills the queue with the inputs, and return the queue's batches."""


class SourceInputs(Inputs[BatchOp]):
    """Inputs that are Sources.

    Args:
        sources: At least one. A source that occurs twice is called by two threads.
        many: Whether the first dimensions count examples.
        workers: "thread" or "process", see `QueueRunner`.
    """

    def __init__(self, sources: Sequence[Source], many: bool, workers: Workers) -> None:
        super().__init__(sources, many, Queues(FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue))
        self._sources, self._workers = sources, workers

    @staticmethod
    def _queue_name(name: str, kind: str) -> str:
        return f"{name}/{kind}"

    def _batches(self, queue: QueueBase, arguments: Arguments) -> BatchOp:
        make = queue.enqueue_many_op if self._many else queue.enqueue_op
        made = {id(source): make(source) for source in self._sources}
        runner = QueueRunner(queue, [made[id(source)] for source in self._sources], workers=self._workers)
        add_queue_runner(runner)
        return BatchOp(queue, runner, arguments.size, takes_fewer=arguments.takes_fewer)


def input_sources(tensors_list: Any) -> list[Source]:
    """Return one source for each entry of the argument of `batch_join`.

    Raises:
        TypeError: The argument is not a list.
        ValueError: The list is empty.
    """
    if not isinstance(tensors_list, list | tuple):
        raise TypeError(f"tensors_list must be a list with one entry per input, got {type(tensors_list).__name__}")
    if not tensors_list:
        raise ValueError("tensors_list must have at least one input, got an empty list")
    return [as_example_source(tensors) for tensors in tensors_list]


def _common(shapes: Sequence[Shape]) -> Shape:
    """Merge the known shapes of several inputs."""
    try:
        return reduce(merged, shapes)
    except ValueError as error:
        raise ValueError(f"All inputs must have the same shapes: {error}") from None
