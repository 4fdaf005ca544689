"""Conversion to tensors: Python and NumPy values become constants, lists that contain tensors are packed."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mpqueue.tf1.compat.graph.make import node_of, table_node
from mpqueue.tf1.compat.graph.nodes import Operation, Tensor, get_default_graph
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype, int32, int64
from mpqueue.tf1.compat.ops.literals import leaves, to_array
from mpqueue.tf1.compat.ops.table import TABLE
from mpqueue.tf1.compat.ops.tensorshape import Dimension, TensorShape

Conversion = Callable[[Any, DType | None, str | None], Tensor]


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False
) -> Tensor:
    """Create a tensor with a constant value.

    Args:
        value: Numbers or strings, possibly in nested lists, or a NumPy array.
        dtype: Type of the elements. If None, inferred from the value (``int``: int32, ``float``: float32).
        shape: Shape of the tensor. The last element is repeated to fill it.
        name: Name of the node.
        verify_shape: If True, the value must have exactly that shape.

    Raises:
        TypeError: The value cannot be converted to ``dtype`` or to any type.
        ValueError: The value is None, its lists have different lengths, or it has more elements than ``shape``.

    Follows: ``tf.constant``.
    """
    if any(isinstance(leaf, Tensor) for leaf in leaves(value)):
        raise TypeError("Expected any non-tensor type, but got a tensor instead.")
    array = to_array(value, None if dtype is None else as_dtype(dtype).base_dtype, shape, verify_shape=verify_shape)
    return node_of(array, name)


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Tensor:
    """Convert a value to a tensor; a tensor is returned unchanged.

    Args:
        value: A tensor, a variable, numbers or strings, an array, a shape, or lists of them.
        dtype: The type that the tensor must have.
        name: Name of a new node.
        preferred_dtype: A type to try first if ``dtype`` is None.
        dtype_hint: The newer name of ``preferred_dtype``.

    Raises:
        ValueError: ``value`` is None, or a tensor with a type other than ``dtype``.
        TypeError: ``value`` cannot be converted to a tensor, or not to one of type ``dtype``.

    Follows: ``tf.convert_to_tensor``.
    """
    requested = None if dtype is None else as_dtype(dtype).base_dtype
    preferred = preferred_dtype if dtype_hint is None else dtype_hint
    convert = _conversion(value)
    if requested is None and preferred is not None:
        try:
            return convert(value, as_dtype(preferred).base_dtype, name)
        except (TypeError, ValueError):
            pass  # only a preference
    return convert(value, requested, name)


def convert_all(values: Iterable[Any], dtype: DType | None, name: str) -> list[Tensor]:
    """Convert each value to a tensor; the names of new nodes are numbered."""
    return [convert_to_tensor(value, dtype, f"{name}_{place}") for place, value in enumerate(values)]


def _conversion(value: Any) -> Conversion:
    own = getattr(value, "_as_tensor", None)
    if own is not None:
        return lambda _value, dtype, _name: _same(own(), dtype, None)
    return next((made for kind, made in CONVERSIONS if isinstance(value, kind)), _convert_literal)


def _same(value: Tensor, dtype: DType | None, _name: str | None) -> Tensor:
    if dtype is not None and not dtype.is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {dtype.name} for Tensor with dtype {value.dtype.name}: {value!r}"
        )
    return value


def _convert_literal(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    return constant(value, dtype, name=name or "Const")


def _refuse(value: Any, _dtype: DType | None, _name: str | None) -> Tensor:
    raise TypeError(f"Can't convert {value!r} to a Tensor.")


def _convert_shape(value: TensorShape, dtype: DType | None, name: str | None) -> Tensor:
    if not value.is_fully_defined():
        raise ValueError(f"Cannot convert a partially known TensorShape {value} to a Tensor.")
    return _sizes(value.as_list(), dtype, name)


def _convert_dimension(value: Dimension, dtype: DType | None, name: str | None) -> Tensor:
    if value.value is None:
        raise ValueError(f"Cannot convert an unknown Dimension to a Tensor: {value}")
    return _sizes(value.value, dtype, name)


def _sizes(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    if dtype not in (None, int32, int64):
        raise TypeError(f"Expected int32 or int64 as the type of a shape tensor, got {dtype!r}")
    return constant(value, dtype or int32, name=name or "shape_as_tensor")


def _convert_list(value: Any, dtype: DType | None, name: str | None) -> Tensor:
    inferred = next((each.dtype.base_dtype for each in _tensors(value)), None)
    if inferred is None:
        return _convert_literal(value, dtype, name)
    return _pack(value, dtype or inferred, name or "packed", cast=dtype not in (None, inferred))


def _tensors(value: Any) -> Iterator[Tensor]:
    for leaf in leaves(value):
        own = getattr(leaf, "_as_tensor", None)
        if isinstance(leaf, Tensor) or own is not None:
            yield leaf if own is None else own()


def _pack(value: Any, dtype: DType, name: str, *, cast: bool) -> Tensor:
    """Stack lists that contain tensors, level by level; if `cast` is set, cast all tensors to `dtype`."""
    graph = get_default_graph()
    with graph.name_scope(name) as scope:
        parts: list[Tensor] = []
        for place, item in enumerate(value):
            if next(_tensors(item), None) is None:
                parts.append(constant(item, dtype, name=str(place)))
            elif isinstance(item, list | tuple):
                parts.append(_pack(item, dtype, str(place), cast=cast))
            else:
                tensor = next(_tensors(item))
                if tensor.dtype.base_dtype is not dtype and not cast:
                    raise TypeError(
                        f"Cannot convert a list containing a tensor of dtype {tensor.dtype.name} to {dtype.name}: "
                        f"{tensor!r}"
                    )
                if tensor.dtype.base_dtype is not dtype:
                    tensor = table_node(TABLE["Cast"], [tensor], [dtype], {"DstT": dtype}, "Cast").outputs[0]
                parts.append(tensor)
        return table_node(TABLE["Pack"], [parts], [dtype], {"axis": 0}, scope).outputs[0]


CONVERSIONS: Final[list[tuple[type | tuple[type, ...], Conversion]]] = [
    (Tensor, _same),
    (TensorShape, _convert_shape),
    (Dimension, _convert_dimension),
    (Operation, _refuse),
    ((list, tuple), _convert_list),
]
"""Conversions to tensors by class; the first match is used. Other values are literals."""
