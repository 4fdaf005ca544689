"""Queues as nodes: each session has its own queues, which are created on first use.

A queue is a node that returns a *handle*, a tensor of type `resource` that refers to the `QueueCore`. Nodes that
enqueue and dequeue take the handle as their first input. Handles can be passed and selected like any tensor.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.declare import public_class
from mpqueue.tf1.compat.functions.kernels import of_values, waiting
from mpqueue.tf1.compat.functions.select import gather
from mpqueue.tf1.compat.graph import Operation, Tensor, convert_to_tensor, custom
from mpqueue.tf1.compat.graph.nodes import Kernel
from mpqueue.tf1.compat.graph.state import held
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, merged
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.tensorshape import TensorShape, as_shape
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import common_shape


@public_class("QueueBase")
class QueueBase:
    """A queue in a graph, with methods that create nodes to enqueue and dequeue elements.

    The eager `mpqueue.train.QueueBase` documents the operations and their errors. A blocked node raises
    `CancelledError` when its session is closed or another operation of its run fails.

    Args:
        dtypes: The type of each component.
        shapes: The shape of each component, or None if unknown.
        names: The name of each component, or None.
        queue_ref: The handle.

    Attributes:
        queue_ref: The handle.

    Raises:
        ValueError: The numbers of types, shapes and names differ.
    """

    def __init__(self, dtypes: Any, shapes: Any, names: Any, queue_ref: Tensor) -> None:
        self._dtypes = [as_dtype(each) for each in as_list(dtypes)]
        known = None if shapes is None else [as_shape(each).known for each in shapes]
        self._spec = ElementSpec(self._dtypes, known, names)
        self.queue_ref = queue_ref

    @staticmethod
    def from_list(index: Any, queues: list["QueueBase"]) -> "QueueBase":
        """Return a queue that refers to ``queues[index]``, selected each time it is used.

        Args:
            index: An int32 scalar.
            queues: Queues of the same types and names.

        Raises:
            TypeError: ``queues`` is not a list of queues, or their types or names differ.
        """
        if not isinstance(queues, list) or not queues or not all(isinstance(each, QueueBase) for each in queues):
            raise TypeError(f"Expected a list of queues, got {queues!r}")
        first = queues[0]
        for what in ("dtypes", "names"):
            if any(getattr(each, what) != getattr(first, what) for each in queues):
                raise TypeError(f"The queues must have the same {what}, got {[getattr(each, what) for each in queues]}")
        shapes = [reduce(common_shape, known) for known in zip(*(each._spec.shapes for each in queues), strict=True)]
        chosen = gather([each.queue_ref for each in queues], index)
        return QueueBase(first.dtypes, shapes, first.names, chosen)

    @property
    def name(self) -> str:
        """The last part of the name of the node."""
        return self.queue_ref.op.name.rpartition("/")[2]

    @property
    def dtypes(self) -> list[DType]:
        """The type of each component."""
        return list(self._dtypes)

    @property
    def shapes(self) -> list[TensorShape]:
        """The static shape of each component."""
        return [TensorShape(each) for each in self._spec.shapes]

    @property
    def names(self) -> list[str] | None:
        """The name of each component, or None."""
        return self._spec.names

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """Return an operation that enqueues one element; it blocks while the queue is full.

        Args:
            vals: A tensor, a list with one tensor per component, or a dict by component name.

        Raises:
            ValueError: The keys are not the names of the components, or the shapes are incompatible.
            TypeError: A value has another type than its component.
        """
        return self._enqueuing("QueueEnqueueV2", "enqueue", vals, name, many=False)

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """Return an operation that enqueues the rows of the given values as separate elements.

        Args:
            vals: As for `enqueue`, with an additional first axis.

        Raises:
            ValueError: As for `enqueue`, or the values are scalars or have different numbers of rows, if known.
        """
        return self._enqueuing("QueueEnqueueManyV2", "EnqueueMany", vals, name, many=True)

    def _enqueuing(self, kind: str, suffix: str, vals: Any, name: str | None, *, many: bool) -> Operation:
        graph = self.queue_ref.graph
        with graph.as_default(), graph.name_scope(name or f"{self.name}_{suffix}") as scope:
            values = self._in_order(vals)
            # Not strict: a wrong number of components is an error of the run, as in TensorFlow.
            tensors = [
                convert_to_tensor(value, dtype, f"component_{place}")
                for place, (value, dtype) in enumerate(zip(values, self._dtypes, strict=False))
            ]
            self._check_shapes(tensors, many=many)

            def put(left_s: float | None, queue: np.ndarray, *components: np.ndarray) -> None:
                if len(components) < len(self._dtypes):
                    invalid(f"Expected {len(self._dtypes)} components, got {len(components)}")
                core = held(queue)
                (core.enqueue_many if many else core.enqueue)(list(components), left_s)

            return custom(kind, [self.queue_ref, *tensors], (), waiting(put), name=scope, blocking=True)

    def _in_order(self, vals: Any) -> Sequence[Any]:
        if isinstance(vals, dict):
            return self._spec.by_name(vals)
        if self.names is not None:
            raise ValueError(f"The components of this queue are named: enqueue a dict with the keys {self.names}")
        return vals if isinstance(vals, list | tuple) else [vals]

    def _check_shapes(self, tensors: Sequence[Tensor], *, many: bool) -> None:
        count: int | None = None
        for tensor, expected in zip(tensors, self._spec.shapes, strict=False):
            dims = tensor.known_dims
            if many and dims is not None:
                if not dims:
                    raise ValueError(f"{tensor.name} must have the elements along its first axis, got a scalar")
                (count,) = merged((count,), dims[:1]) or (None,)
                dims = dims[1:]
            merged(dims, expected)

    def dequeue(self, name: str | None = None) -> Any:
        """Dequeue one element; blocks while the queue is empty.

        Returns: A tensor; a list of tensors for several components, or a dict for named components.
        """
        kernel = waiting(lambda left_s, queue: held(queue).dequeue(left_s, list))
        return self._dequeuing("QueueDequeueV2", "Dequeue", [], name, kernel, self._spec.shapes)

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """Dequeue ``n`` elements, stacked along a new first axis; blocks until that many are available.

        Args:
            n: Number of elements, an int32 scalar.

        Raises:
            ValueError: ``n`` is known to be negative.
            TypeError: ``n`` is not int32.
        """
        return self._dequeuing_many("QueueDequeueManyV2", "DequeueMany", n, name, takes_fewer=False)

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """Dequeue ``n`` elements like `dequeue_many`; from a closed queue, return the remaining elements, if any.

        Args:
            n: As for `dequeue_many`, which also raises the same errors.
        """
        return self._dequeuing_many("QueueDequeueUpToV2", "DequeueUpTo", n, name, takes_fewer=True)

    def _dequeuing_many(self, kind: str, suffix: str, n: Any, name: str | None, *, takes_fewer: bool) -> Any:
        count = convert_to_tensor(n, dtypes.int32, "n")
        merged(count.known_dims, ())
        known = count.known_value()
        if known is not None and known < 0:
            raise ValueError(f"n must be 0 or more, got {known}")
        first = None if known is None or takes_fewer else int(known)
        shapes = [None if each is None else (first, *each) for each in self._spec.shapes]

        def get(left_s: float | None, queue: np.ndarray, n: np.ndarray) -> Any:
            return held(queue).dequeue_many(int(n), left_s, list, takes_fewer=takes_fewer)

        return self._dequeuing(kind, suffix, [count], name, waiting(get), shapes)

    def _dequeuing(
        self, kind: str, suffix: str, inputs: list[Tensor], name: str | None, kernel: Kernel, shapes: Sequence[Dims]
    ) -> Any:
        outputs = list(zip(self._dtypes, shapes, strict=True))
        label = name or f"{self.name}_{suffix}"
        made = custom(kind, [self.queue_ref, *inputs], outputs, kernel, name=label, blocking=True)
        return self._spec.result(list(made.outputs))

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """Return an operation that closes the queue for further enqueues.

        Args:
            cancel_pending_enqueues: Cancel blocked enqueues instead of waiting for them.
        """
        cancel = bool(cancel_pending_enqueues)
        kernel = waiting(lambda left_s, queue: held(queue).close(cancel, left_s))
        # Closing waits for blocked enqueues. If these are cancelled, it does not block.
        name = name or f"{self.name}_Close"
        return custom("QueueCloseV2", [self.queue_ref], (), kernel, name=name, blocking=not cancel)

    def is_closed(self, name: str | None = None) -> Tensor:
        """Return a tensor that is True if the queue is closed."""
        return self._asking("QueueIsClosedV2", "Is_Closed", name, dtypes.bool_, lambda core: core.is_closed)

    def size(self, name: str | None = None) -> Tensor:
        """Return the number of elements in the queue, an int32."""
        return self._asking("QueueSizeV2", "Size", name, dtypes.int32, lambda core: core.size)

    def _asking(
        self, kind: str, suffix: str, name: str | None, dtype: DType, ask: Callable[[QueueCore], Any]
    ) -> Tensor:
        kernel = of_values(lambda queue: np.array(ask(held(queue)), dtype.as_numpy_dtype))
        return custom(kind, [self.queue_ref], [(dtype, ())], kernel, name=name or f"{self.name}_{suffix}").outputs[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue_ref.op.name!r}>"
