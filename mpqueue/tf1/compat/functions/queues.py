"""The three kinds of queues."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.compat.functions.declare import public_class
from mpqueue.tf1.compat.functions.queue_base import QueueBase
from mpqueue.tf1.compat.functions.random import seeds_of
from mpqueue.tf1.compat.graph import Running, Tensor, custom, get_default_graph
from mpqueue.tf1.compat.graph.state import handle_of
from mpqueue.tf1.compat.ops import dtypes as types
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.queues import base
from mpqueue.tf1.queues import kinds as eager
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.queues.spec import as_list
from mpqueue.tf1.values.shapes import as_known_shapes, as_shapes


def _queue_node(
    kind: str, make: Callable[..., base.QueueBase], settings: tuple[Any, ...], shared_name: str | None, name: str | None
) -> Tensor:
    """Create the handle of a queue, which is looked up or created in the run's session.

    Args:
        kind: TensorFlow's name of the operation.
        make: Creates the queue, given its name.
        settings: The settings that queues with one shared name must have in common.
        shared_name: The name in the session. Without it, the queue belongs to this node only.
        name: Name of the node.
    """
    container = get_default_graph().scopes.container

    def kernel(run: Running, _values: list[np.ndarray]) -> Sequence[np.ndarray]:
        label = shared_name or made.name  # for error messages
        key = ("queue", container, shared_name) if shared_name else made
        handle, existing = run.session.resource(key, lambda: (handle_of(make(name=label).queue_ref), (kind, settings)))
        if existing != (kind, settings):
            problem = f"The queue with shared name {shared_name!r} is a {existing[0]} with {existing[1]}"
            raise InvalidArgumentError(None, None, f"{problem}, but a {kind} with {settings} was requested")
        return [handle]

    attributes = {"container": container.encode(), "shared_name": (shared_name or "").encode()}
    made = custom(kind, (), [(types.resource, ())], kernel, name=name, attributes=attributes)
    return made.outputs[0]


def _types(dtypes: Any) -> list[DType]:
    return [as_dtype(each) for each in as_list(dtypes)]


@public_class("FIFOQueue", like=eager.FIFOQueue)
class FIFOQueue(QueueBase):
    """A first-in, first-out queue.

    Args:
        shared_name: Queues with the same shared name (and the same `container`) are one queue in a session.

    Raises:
        TypeError: A type is unknown, or ``capacity`` is not an ``int``.
        ValueError: The numbers of types, shapes and names differ, or a shape is not fully known.
    """

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str | None = "fifo_queue",
    ) -> None:
        kinds, bound = _types(dtypes), as_integer(capacity, "capacity")
        known = as_known_shapes(shapes, len(kinds), "FIFOQueue")
        make = partial(eager.FIFOQueue, bound, kinds, known)
        handle = _queue_node("FIFOQueueV2", make, (bound, kinds, known), shared_name, name)
        super().__init__(kinds, known, names, handle)


@public_class("PaddingFIFOQueue", like=eager.PaddingFIFOQueue)
class PaddingFIFOQueue(QueueBase):
    """A FIFO queue whose elements can differ in size along unknown axes; they are padded when they are stacked.

    Args:
        shared_name: Queues with the same shared name (and the same `container`) are one queue in a session.

    Raises:
        TypeError: A type is unknown, or ``capacity`` is not an ``int``.
        ValueError: The numbers of types, shapes and names differ, or a rank is unknown.
    """

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any,
        names: Any = None,
        shared_name: str | None = None,
        name: str | None = "padding_fifo_queue",
    ) -> None:
        kinds, bound = _types(dtypes), as_integer(capacity, "capacity")
        if not isinstance(shapes, list | tuple) or any(each is None or isinstance(each, int) for each in shapes):
            raise ValueError(
                f"PaddingFIFOQueue requires a list of shapes of known rank, one per component, got {shapes!r}"
            )
        known = as_shapes(shapes, len(kinds))
        if None in known:
            raise ValueError(f"PaddingFIFOQueue requires the rank of every component, got the shapes {known}")
        make = partial(eager.PaddingFIFOQueue, bound, kinds, known)
        handle = _queue_node("PaddingFIFOQueueV2", make, (bound, kinds, known), shared_name, name)
        super().__init__(kinds, known, names, handle)


@public_class("RandomShuffleQueue", like=eager.RandomShuffleQueue)
class RandomShuffleQueue(QueueBase):
    """A queue that returns its elements in random order, all equally likely.

    Args:
        shared_name: Queues with the same shared name (and the same `container`) are one queue in a session.
        seed: With this seed, or with `set_random_seed`, every new session uses the same order. It differs from
            TensorFlow's.

    Raises:
        TypeError: A type is unknown, or a number is not an ``int``.
        ValueError: The numbers of types, shapes and names differ, or a shape is not fully known.
    """

    def __init__(
        self,
        capacity: int,
        min_after_dequeue: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        seed: int | None = None,
        shared_name: str | None = None,
        name: str | None = "random_shuffle_queue",
    ) -> None:
        kinds, bound = _types(dtypes), as_integer(capacity, "capacity")
        minimum = as_integer(min_after_dequeue, "min_after_dequeue")
        known = as_known_shapes(shapes, len(kinds), "RandomShuffleQueue")
        seeds = seeds_of(seed)
        whole = None if seeds is None else seeds[0] % 2**64 << 64 | seeds[1] % 2**64
        # A graph-level seed depends on the number of the node, which differs between queues with one shared name.
        settings = (bound, minimum, kinds, known, None if shared_name and seed is None else seeds)
        make = partial(eager.RandomShuffleQueue, bound, minimum, kinds, known, seed=whole)
        handle = _queue_node("RandomShuffleQueueV2", make, settings, shared_name, name)
        super().__init__(kinds, known, names, handle)
