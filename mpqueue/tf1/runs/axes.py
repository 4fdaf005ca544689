"""Rules of operations with axis or shape arguments, which move each axis one place to the right."""

import math
from collections.abc import Sequence

import numpy as np

from mpqueue.tf1.runs.rows import Array, Rows, Value, common, spread
from mpqueue.tf1.runs.rules import Call, CannotJoin, Rule, array_of, checked, has_rows, leading, per_row


def along(axis: int, *, adds: int = 0, only_first: bool = False) -> Rule:
    """Return the rule of an operation with an input that contains an axis or several axes.

    Args:
        axis: Index of that input.
        adds: Number of axes that the output has in addition. The axis may be one of these.
        only_first: True if the axis belongs to the first input only, and other inputs must be shared by all records.
    """

    def rule(call: Call) -> Sequence[Value]:
        place = axis % len(call.inputs)
        axes = common(call.inputs[place])
        moved = [0] if only_first else [n for n in range(len(call.inputs)) if n != place]
        rows = {n: spread(call.inputs[n], call.num_records) for n in moved}
        ranks = {each.rank for each in rows.values()}
        kept = [each for n, each in enumerate(call.inputs) if n not in moved and n != place]
        if axes is None or len(ranks) > 1 or has_rows(kept):
            return per_row(call)
        (rank,) = ranks
        if rank is None:
            return per_row(call)
        shifted = _shifted(axes, rank + adds)
        inputs = [shifted if n == place else array_of(rows.get(n, each)) for n, each in enumerate(call.inputs)]
        return checked(call, call.apply(inputs))

    return rule


def along_attribute(name: str, *, adds: int = 0) -> Rule:
    """Return the rule of an operation with an axis as an attribute.

    Args:
        name: Name of the attribute.
        adds: As for `along`.
    """

    def rule(call: Call) -> Sequence[Value]:
        rows = [spread(each, call.num_records) for each in call.inputs]
        rank = rows[0].rank
        if rank is None or {each.rank for each in rows} != {rank}:
            return per_row(call)
        axis = int(_shifted(np.array(call.attributes[name]), rank + adds))
        return checked(call, call.apply([array_of(each) for each in rows], **{name: axis}))

    return rule


def one_hot(call: Call) -> Sequence[Value]:
    """The rule of `one_hot`, where axis -1 is the last axis of the output."""
    indices, *others = call.inputs
    if not isinstance(indices, Rows) or indices.stacked is None or has_rows(others):
        return per_row(call)
    axis = call.attributes["axis"]
    return checked(call, call.apply([indices.stacked, *others], axis=axis if axis == -1 else axis + 1))


def gather(call: Call) -> Sequence[Value]:
    """The rule of `gather`: one table for all records, or one set of indices for all records."""
    table, numbers, axis = call.inputs
    where, places = common(axis), common(numbers)
    if where is None or call.attributes.get("batch_dims"):
        return per_row(call)
    if isinstance(table, Rows) and table.rank is not None and places is not None:
        return checked(call, call.apply([table.stacked, places, _shifted(where, table.rank)]))
    if not isinstance(table, Rows) and isinstance(numbers, Rows) and numbers.stacked is not None and not where:
        return checked(call, call.apply([table, numbers.stacked, where]))
    return per_row(call)


def select(call: Call) -> Sequence[Value]:
    """The rule of `select`, where a scalar condition selects whole records."""
    condition, *others = call.inputs
    one, other = (spread(each, call.num_records).stacked for each in others)
    if one is None or other is None or one.shape != other.shape:
        return per_row(call)
    ranks = {0, one.ndim - 1}
    rank = condition.rank if isinstance(condition, Rows) else condition.ndim
    if rank not in ranks or (rank and not isinstance(condition, Rows)):
        return per_row(call)
    return checked(call, call.apply([array_of(condition), one, other]))


def reshape(call: Call) -> Sequence[Value]:
    """The rule of `reshape`, which keeps the first axis."""
    tensor, shape = call.inputs
    target = common(shape)
    if not isinstance(tensor, Rows) or tensor.stacked is None or target is None:
        return per_row(call)
    sizes = [int(size) for size in target]
    size = math.prod(tensor.stacked.shape[1:])
    if -1 in sizes:
        part = math.prod(each for each in sizes if each != -1)
        if part <= 0:
            return per_row(call)
        sizes[sizes.index(-1)] = size // part
    if min(sizes, default=0) < 0 or math.prod(sizes) != size:
        raise CannotJoin(f"cannot reshape {size} elements to the shape {target}")
    return [Rows(tensor.stacked.reshape(call.num_records, *sizes))]


def of_shape(call: Call) -> Sequence[Value]:
    """The rule of operations that depend only on the shape: one result if all records have the same shape."""
    (tensor,) = call.inputs
    return per_row(call) if not isinstance(tensor, Rows) or tensor.stacked is None else call.apply([tensor.row(0)])


def ensure_shape(call: Call) -> Sequence[Value]:
    """The rule of `ensure_shape`, which allows any number of records."""
    shape = call.attributes["shape"]
    (tensor,) = call.inputs
    if not isinstance(tensor, Rows) or tensor.stacked is None or shape is None:
        return per_row(call)
    return checked(call, call.apply([tensor.stacked], shape=(None, *shape)))


def squeeze(call: Call) -> Sequence[Value]:
    """The rule of `squeeze`, which never removes the axis of the records, even for a single record."""
    (tensor,) = call.inputs
    if not isinstance(tensor, Rows) or tensor.stacked is None:
        return per_row(call)
    rank, sizes = tensor.stacked.ndim - 1, tensor.stacked.shape[1:]
    axes = [int(axis) for axis in _shifted(np.array(call.attributes["squeeze_dims"], int), rank)]
    axes = axes or [axis for axis, size in enumerate(sizes, start=1) if size == 1]
    return checked(call, call.apply([tensor.stacked], squeeze_dims=tuple(axes))) if axes else [tensor]


def transpose(call: Call) -> Sequence[Value]:
    """The rule of `transpose`."""
    return _with_first(call, 0, offset=1)


def tile(call: Call) -> Sequence[Value]:
    """The rule of `tile`, which does not repeat the axis of the records."""
    return _with_first(call, 1)


def pad(call: Call) -> Sequence[Value]:
    """The rule of operations that pad an array. The axis of the records is not padded."""
    return _with_first(call, (0, 0))


def slice(call: Call) -> Sequence[Value]:
    """The rule of `slice`, which takes all records."""
    tensor, begin, size = call.inputs
    start, length = common(begin), common(size)
    if not isinstance(tensor, Rows) or tensor.stacked is None or start is None or length is None:
        return per_row(call)
    inputs = [tensor.stacked, _with_entry(start, 0), _with_entry(length, -1)]
    return checked(call, call.apply(inputs))


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def strided_slice(call: Call) -> Sequence[Value]:
    """The rule of indexing, with a full slice for the axis of the records."""
    tensor, *bounds = call.inputs
    known = [common(each) for each in bounds]
    if not isinstance(tensor, Rows) or tensor.stacked is None or any(each is None for each in known):
        return per_row(call)
    masks = {name: call.attributes.get(name, 0) << 1 for name in _MASKS}
    masks |= {name: masks[name] | 1 for name in ("begin_mask", "end_mask")}
    more = [_with_entry(each, one) for each, one in zip(known, (0, 0, 1), strict=True) if each is not None]
    return checked(call, call.apply([tensor.stacked, *more], **masks))


def of_stacks(call: Call) -> Sequence[Value]:
    """The rule of operations on a stack of images, which joins the stacks of all records."""
    stacks, *others = call.inputs
    if not isinstance(stacks, Rows) or stacks.stacked is None or stacks.rank != 4 or has_rows(others):
        return per_row(call)
    flat = stacks.stacked.reshape(-1, *stacks.stacked.shape[2:])
    (out,) = call.apply([flat, *others])
    return [Rows(out.reshape(*stacks.stacked.shape[:2], *out.shape[1:]))]


of_images = leading(rank=3)
"""The rule of operations on images that also accept a stack of images."""


def _with_first(call: Call, first: int | tuple[int, int], *, offset: int = 0) -> Sequence[Value]:
    """Compute an operation with one entry per axis in its second input, with an additional first entry."""
    tensor, entries, *others = call.inputs
    known = common(entries)
    if not isinstance(tensor, Rows) or tensor.stacked is None or known is None or has_rows(others):
        return per_row(call)
    if known.ndim == 0 or (offset and (known < 0).any()) or len(known) != tensor.rank:
        return per_row(call)
    return checked(call, call.apply([tensor.stacked, _with_entry(known + offset, first), *others]))


def _with_entry(entries: Array, first: int | tuple[int, int]) -> Array:
    """Return a vector, or the rows of a matrix, with an additional first entry."""
    return np.concatenate([np.array([first], entries.dtype), entries])


def _shifted(axes: Array, rank: int) -> Array:
    """Convert axes of one record to axes of a run.

    Raises:
        CannotJoin: An axis is out of range.
    """
    if (axes < -rank).any() or (axes >= rank).any():
        raise CannotJoin(f"axes {axes.tolist()} are out of range for rank {rank}")
    return (np.where(axes < 0, axes + rank, axes) + 1).astype(axes.dtype)
