"""The inputs of a batching queue over nodes: lists or dicts of tensors.

Sparse tensors are packed to strings for the queue, and unpacked when a batch is dequeued.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.tf1.compat.functions.queue_base import QueueBase
from mpqueue.tf1.compat.functions.queues import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.tf1.compat.graph import SparseTensor, Tensor, apply, apply_many, convert_to_tensor
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.train.runners import QueueRunner, add_queue_runner
from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.train.inputs import Arguments, Inputs, Queues


class SparseKind(NamedTuple):
    """The type and rank of a sparse component, which are needed to unpack it."""

    dtype: DType
    rank: int | None  # the rank of the batch


class Example:
    """The components of one example, or of many examples.

    Args:
        components: A list or dict of tensors.
        many: Whether the first axes of the tensors count examples.

    Attributes:
        vals: The value to enqueue, as one element or as many.
        sparse: Type and rank of each component, or None for a dense component.

    Raises:
        TypeError: ``components`` is a single tensor.
        ValueError: ``components`` is empty.
    """

    def __init__(self, components: Any, *, many: bool) -> None:
        self.names = sorted(components, key=str) if isinstance(components, dict) else None
        values = list(components) if self.names is None else [components[name] for name in self.names]
        if not values:
            raise ValueError("Expected at least one tensor, got an empty list or dict")
        whole = [each if isinstance(each, SparseTensor) else convert_to_tensor(each) for each in values]
        self.sparse = [_kind(each, many=many) for each in whole]
        tensors = [_packed(each, many=many) for each in whole]
        self.dtypes = [each.dtype.base_dtype for each in tensors]
        self.shapes = [each.known_dims for each in tensors]
        self.vals = tensors if self.names is None else dict(zip(self.names, tensors, strict=True))


def _kind(component: Tensor | SparseTensor, *, many: bool) -> SparseKind | None:
    if not isinstance(component, SparseTensor):
        return None
    dims = component.dense_shape.known_dims
    rank = dims[0] if dims else None
    return SparseKind(component.dtype.base_dtype, rank if rank is None or many else rank + 1)


def _packed(component: Tensor | SparseTensor, *, many: bool) -> Tensor:
    if not isinstance(component, SparseTensor):
        return component
    return apply("PackManySparse" if many else "PackSparse", *component.parts)


def _shuffling(capacity: int, min_after_dequeue: int, *others: Any) -> RandomShuffleQueue:
    if as_integer(capacity, "capacity") <= as_integer(min_after_dequeue, "min_after_dequeue"):
        raise ValueError(f"capacity must be greater than min_after_dequeue, {min_after_dequeue}, got {capacity}")
    return RandomShuffleQueue(capacity, min_after_dequeue, *others)


class NodeInputs(Inputs[Any]):
    """Inputs that are nodes.

    Args:
        examples: At least one. An example that occurs twice is enqueued by two threads.
        many: Whether the first axes of the tensors count examples.

    Raises:
        ValueError: There are no examples, or they differ in keys, numbers of components or sparse components.
        TypeError: The examples have different types.
    """

    def __init__(self, examples: Sequence[Example], *, many: bool) -> None:
        if not examples:
            raise ValueError("Expected at least one input")
        super().__init__(examples, many, Queues(FIFOQueue, PaddingFIFOQueue, _shuffling))
        self._examples, self._sparse = examples, examples[0].sparse
        if any(each.sparse != self._sparse for each in examples):
            kinds = [each.sparse for each in examples]
            raise ValueError(f"All inputs must have the same sparse components, types and ranks, got {kinds}")

    @staticmethod
    def _queue_name(name: str, kind: str) -> str:
        del name  # the current name scope contains it
        return kind

    def _batches(self, queue: QueueBase, arguments: Arguments) -> Any:
        enqueue = queue.enqueue_many if self._many else queue.enqueue
        made = {id(each): enqueue(each.vals) for each in self._examples}
        add_queue_runner(QueueRunner(queue, [made[id(each)] for each in self._examples]))
        dequeue = queue.dequeue_up_to if arguments.takes_fewer else queue.dequeue_many
        return self._unpacked(dequeue(arguments.size, name=arguments.name))

    def _unpacked(self, taken: Any) -> Any:
        """Unpack the sparse components of a batch; return the tensor itself for a list with one tensor."""
        if self.names is not None:
            return {name: _unpacked(taken[name], kind) for name, kind in zip(self.names, self._sparse, strict=True)}
        tensors = taken if isinstance(taken, list) else [taken]
        made = [_unpacked(each, kind) for each, kind in zip(tensors, self._sparse, strict=True)]
        return made if len(made) > 1 else made[0]


def _unpacked(tensor: Tensor, kind: SparseKind | None) -> Tensor | SparseTensor:
    if kind is None:
        return tensor
    return SparseTensor(*apply_many("UnpackManySparse", tensor, dtype=kind.dtype, rank=kind.rank))
