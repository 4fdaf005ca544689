"""Arrays put together and taken apart."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.array import identity
from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dimension import Dimension


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """The tensors one behind the other along ``axis``.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ in another axis, or they are scalars.

    Follows: ``tf.concat``.
    """
    values = list(values) if isinstance(values, list | tuple) else [values]
    if len(values) == 1:
        place = convert_to_tensor(axis, dtypes.int32, "concat_dim")
        if place.ndim:
            raise ValueError(f"axis of concat must be a scalar, got shape {place.shape}")
        return identity(values[0], name)  # type: ignore[no-any-return]
    return apply("ConcatV2", values, axis, name=name)


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """The tensors, of one shape, side by side along a new axis.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ, or ``axis`` is out of range.

    Follows: ``tf.stack``.
    """
    if axis == 0:
        try:
            return convert_to_tensor(values, name=name)
        except (TypeError, ValueError):
            pass  # lists of arrays, and mixed types, which the operation can report better
    first = convert_to_tensor(values[0])
    if first.ndim is not None and not -first.ndim - 1 <= axis <= first.ndim:
        raise ValueError(f"axis = {axis} not in [{-first.ndim - 1}, {first.ndim + 1})")
    return apply("Pack", list(values), name=name, axis=axis)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> list[Tensor]:
    """The slices along ``axis``, as a list of ``num`` tensors with one axis less.

    Raises:
        ValueError: ``num`` is not given and not known, or ``axis`` is out of range.

    Follows: ``tf.unstack``.
    """
    value = convert_to_tensor(value)
    if num is None:
        dims = value.known_dims
        if dims is not None and not -len(dims) <= axis < len(dims):
            raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)})")
        num = None if dims is None else dims[axis]
        if num is None:
            raise ValueError(f"Cannot infer num from shape {value.shape}: give it")
    return apply_many("Unpack", value, name=name, num=num, axis=axis)


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Parts along ``axis``: so many equal ones, or of these sizes (one may be -1, the rest).

    Raises:
        ValueError: The parts do not fit, or their number is not known.

    Follows: ``tf.split``.
    """
    if isinstance(num_or_size_splits, int | np.integer | Dimension):
        return apply_many("Split", axis, value, name=name, num_split=int(num_or_size_splits))
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.ndim == 0:
        raise ValueError("Rank-0 tensors are not supported as the num_or_size_splits argument to split.")
    if num is None and sizes.known_dims:
        num = sizes.known_dims[0]
    if num is None:
        raise ValueError(f"Cannot infer num from shape {sizes.shape}: give it")
    return apply_many("SplitV", value, sizes, axis, name=name, num_split=num)
