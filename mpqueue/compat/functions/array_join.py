"""Arrays put together and taken apart."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.array import identity
from mpqueue.compat.functions.declare import public
from mpqueue.compat.graph import Tensor, apply, apply_many, convert_to_tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dimension import Dimension


@public("concat(values, axis, name='concat')")
def concat(values: Any, axis: Any, name: str) -> Tensor:
    """The tensors one behind the other along ``axis``.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ in another axis, or they are scalars.
    """
    values = list(values) if isinstance(values, list | tuple) else [values]
    if len(values) == 1:
        place = convert_to_tensor(axis, dtypes.int32, "concat_dim")
        if place.ndim:
            raise ValueError(f"axis of concat must be a scalar, got shape {place.shape}")
        return identity(values[0], name)  # type: ignore[no-any-return]
    return apply("ConcatV2", values, axis, name=name)


@public("stack(values, axis=0, name='stack')")
def stack(values: Any, axis: int, name: str) -> Tensor:
    """The tensors, of one shape, side by side along a new axis.

    Raises:
        TypeError: Their types differ.
        ValueError: Their shapes differ, or ``axis`` is out of range.
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


def _number(given: int | None, sizes: Tensor, axis: int) -> int:
    """Return the number of parts: the given one, or the size of the axis."""
    if given is not None:
        return given
    dims = sizes.known_dims
    if dims is not None and not -len(dims) <= axis < len(dims):
        raise ValueError(f"axis = {axis} not in [{-len(dims)}, {len(dims)})")
    known = None if dims is None else dims[axis]
    if known is None:
        raise ValueError(f"Cannot infer num from shape {sizes.shape}: give it")
    return known


@public("unstack(value, num=None, axis=0, name='unstack')")
def unstack(value: Tensor, num: int | None, axis: int, name: str) -> list[Tensor]:
    """The slices along ``axis``, as a list of ``num`` tensors with one axis less.

    Raises:
        ValueError: ``num`` is not given and not known, or ``axis`` is out of range.
    """
    return apply_many("Unpack", value, name=name, num=_number(num, value, axis), axis=axis)


@public("split(value, num_or_size_splits, axis=0, num=None, name='split')")
def split(value: Any, num_or_size_splits: Any, axis: Any, num: int | None, name: str) -> list[Tensor]:
    """Parts along ``axis``: so many equal ones, or of these sizes (one may be -1, the rest).

    Raises:
        ValueError: The parts do not fit, or their number is not known.
    """
    if isinstance(num_or_size_splits, int | np.integer | Dimension):
        return apply_many("Split", axis, value, name=name, num_split=int(num_or_size_splits))
    sizes = convert_to_tensor(num_or_size_splits)
    if sizes.ndim == 0:
        raise ValueError("Rank-0 tensors are not supported as the num_or_size_splits argument to split.")
    return apply_many("SplitV", value, sizes, axis, name=name, num_split=_number(num, sizes, 0))
