"""What is to be batched: lists or dicts of tensors, sparse ones among them, which travel through a queue as texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.ops.dims import Dims, merged_all
from mpqueue.compat.ops.dtypes import DType
from mpqueue.compat.ops.tensorshape import as_shape

Component = Tensor | SparseTensor


class SparseKind(NamedTuple):
    """What has to be known of a sparse component to unpack it."""

    dtype: DType
    rank: int | None  # of the batch


class Examples:
    """The inputs of a batching queue, each an example (or many) per run.

    Args:
        structures: One list or dict of components per input, all alike.
        enqueue_many: Whether the first axis of the components counts examples.

    Raises:
        ValueError: There are no inputs or no components, or inputs have other keys or another number of components.
        TypeError: Inputs have other types.
    """

    def __init__(self, structures: Sequence[Any], *, enqueue_many: bool) -> None:
        if not structures:
            raise ValueError("expected at least one set of tensors")
        self._structure = structures[0]
        self._many = enqueue_many
        components = [[_component(each) for each in _in_order(structure, self._structure)] for structure in structures]
        self._sparse = [_common_kind(each, many=enqueue_many) for each in _transposed(components)]
        self.inputs = [[_packed(each, many=enqueue_many) for each in one] for one in components]
        self.dtypes = _common_dtypes(self.inputs)

    def shapes(self, shapes: Any) -> list[Any]:
        """The shape of each component of one example, as far as known.

        Args:
            shapes: What the caller says of them, or None.

        Raises:
            ValueError: A rank is not known; or the inputs have different shapes.
        """
        if shapes is not None:
            return [as_shape(each) for each in shapes]
        return [as_shape(self._row_shape(each)) for each in _transposed(self.inputs)]

    def _row_shape(self, tensors: Sequence[Tensor]) -> Dims:
        known = [each.known_dims for each in tensors]
        if None in known:
            raise ValueError(f"Cannot infer Tensor's rank: {tensors[known.index(None)]}")
        if self._many and () in known:
            raise ValueError(
                f"{tensors[known.index(())]} is a scalar: with enqueue_many the first axis counts examples"
            )
        return merged_all([each[1:] if self._many and each else each for each in known])

    def batch_of(self, dequeued: Any) -> Any:
        """What a queue gives, as the caller wants it: sparse again, in a dict or list, or alone."""
        tensors = dequeued if isinstance(dequeued, list) else [dequeued]
        made = [
            each if kind is None else _unpacked(each, kind) for each, kind in zip(tensors, self._sparse, strict=True)
        ]
        if isinstance(self._structure, dict):
            return dict(zip(_sorted_keys(self._structure), made, strict=True))
        return made if len(made) > 1 else made[0]


def _sorted_keys(structure: dict[Any, Any]) -> list[Any]:
    return sorted(structure, key=str)


def _in_order(structure: Any, first: Any) -> list[Any]:
    """The components of one input; those of a dict in the order of their keys."""
    if isinstance(first, dict):
        if not isinstance(structure, dict) or set(structure) != set(first):
            raise ValueError(f"all inputs must have the same keys, got {structure!r} beside {first!r}")
        components = [structure[key] for key in _sorted_keys(structure)]
    else:
        components = list(structure)
    if not components:
        raise ValueError("expected at least one tensor")
    return components


def _component(value: Any) -> Component:
    return value if isinstance(value, SparseTensor) else convert_to_tensor(value)


def _transposed(inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    if len({len(each) for each in inputs}) > 1:
        raise ValueError(f"all inputs must have the same number of tensors, got {[len(each) for each in inputs]}")
    return list(zip(*inputs, strict=True))


def _common_kind(components: Sequence[Component], *, many: bool) -> SparseKind | None:
    kinds = {_kind(each, many=many) for each in components}
    if len(kinds) > 1:
        raise ValueError(f"all inputs must be sparse in the same places, with the same types and ranks: {components}")
    return kinds.pop()


def _kind(component: Component, *, many: bool) -> SparseKind | None:
    if not isinstance(component, SparseTensor):
        return None
    dims = component.dense_shape.known_dims
    rank = dims[0] if dims else None
    return SparseKind(component.dtype.base_dtype, rank if rank is None or many else rank + 1)


def _packed(component: Component, *, many: bool) -> Tensor:
    if not isinstance(component, SparseTensor):
        return component
    parts = (component.indices, component.values, component.dense_shape)
    return apply("PackManySparse" if many else "PackSparse", *parts)


def _unpacked(packed: Tensor, kind: SparseKind) -> SparseTensor:
    return SparseTensor(*apply_many("UnpackManySparse", packed, dtype=kind.dtype, rank=kind.rank))


def _common_dtypes(inputs: Sequence[Sequence[Tensor]]) -> list[DType]:
    dtypes = [[each.dtype.base_dtype for each in one] for one in inputs]
    for other in dtypes[1:]:
        if other != dtypes[0]:
            names = [[each.name for each in one] for one in (dtypes[0], other)]
            raise TypeError(f"all inputs must have the same types, got {names[0]} and {names[1]}")
    return dtypes[0]
