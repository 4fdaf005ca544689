"""The inputs of one batching queue: their common dtypes and shapes, and the runner that enqueues them."""

from collections.abc import Sequence
from typing import Any

from mpqueue.queues.base import QueueBase
from mpqueue.queues.source import Source
from mpqueue.train.collections import add_queue_runner
from mpqueue.train.examples import as_example_source
from mpqueue.train.queue_runner import QueueRunner, Workers
from mpqueue.values.shapes import Shape, as_shapes, is_compatible


class Inputs:
    """The sources of one queue, each to be enqueued by a thread of its own, and what is known of all of them.

    Args:
        sources: At least one; a source that occurs twice is called by two threads.
        many: Whether their first dimensions count examples.

    Raises:
        TypeError: Dtypes differ.
        ValueError: Names or numbers of components differ.
    """

    def __init__(self, sources: Sequence[Source], many: bool) -> None:
        self._sources, self._many = sources, many
        first = sources[0]
        self.names, self.dtypes = first.names, list(first.dtypes or ())
        for other in sources[1:]:
            self._check_alike(other)

    def _check_alike(self, other: Source) -> None:
        dtypes = other.dtypes or []
        if sorted(other.names or ()) != sorted(self.names or ()) or len(dtypes) != len(self.dtypes):
            raise ValueError(f"inputs differ: {self.names or self.dtypes} and {other.names or dtypes}")
        if [dtypes[place] for place in self._places_in(other)] != self.dtypes:
            raise TypeError(f"inputs differ in their dtypes: {self.dtypes} and {dtypes}")

    def _places_in(self, other: Source) -> list[int]:
        """For each component of the first source, its place in another one: the keys of dicts have no order."""
        if self.names is None or other.names is None:
            return list(range(len(self.dtypes)))
        return [other.names.index(name) for name in self.names]

    def shapes(self, given: Any, *, may_vary: bool) -> list[Shape]:
        """The shape of each component of one example, from the caller or else from the sources.

        Raises:
            ValueError: A rank is not known, or a dimension that may not vary, or those of two sources disagree.
        """
        if given is not None:
            return as_shapes(given, len(self.dtypes))
        by_source = [[(source.shapes or [])[place] for place in self._places_in(source)] for source in self._sources]
        shapes = [_common([self._of_example(shape) for shape in known]) for known in zip(*by_source, strict=True)]
        for shape in shapes:
            if None in shape and not may_vary:
                raise ValueError(f"an example has the shape {shape}: give shapes, or dynamic_pad=True if it varies")
        return list(shapes)

    def _of_example(self, shape: Shape) -> tuple[int | None, ...]:
        if shape is None:
            raise ValueError("the rank of a component is not known: give its shape to its Source, or shapes here")
        if self._many and not shape:
            raise ValueError("enqueue_many needs arrays whose first dimension counts examples, got a scalar")
        return shape[1:] if self._many else shape

    def into(self, queue: QueueBase, workers: Workers) -> QueueRunner:
        """The runner that fills a queue with them, in threads or processes, added to the collection."""
        make = queue.enqueue_many_op if self._many else queue.enqueue_op
        made = {id(source): make(source) for source in self._sources}
        runner = QueueRunner(queue, [made[id(source)] for source in self._sources], workers=workers)
        add_queue_runner(runner)
        return runner


def input_sources(tensors_list: Any) -> list[Source]:
    """One source for each entry of what `batch_join` takes.

    Raises:
        TypeError: It is no list.
        ValueError: It is empty.
    """
    if not isinstance(tensors_list, list | tuple):
        raise TypeError(f"tensors_list is a list with one entry per input, got {type(tensors_list).__name__}")
    if not tensors_list:
        raise ValueError("tensors_list is empty: expected at least one input")
    return [as_example_source(tensors) for tensors in tensors_list]


def _common(shapes: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
    """What several statements about one shape say together."""
    merged = shapes[0]
    for shape in shapes[1:]:
        if not is_compatible(shape, merged):
            raise ValueError(f"inputs differ in their shapes: {merged} and {shape}")
        merged = tuple(one if one is not None else other for one, other in zip(merged, shape, strict=True))
    return merged
