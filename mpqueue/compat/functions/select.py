"""Picking elements: gather, masks, conditions, partitions."""

from typing import Any

import numpy as np

from mpqueue.compat.functions.array import reshape, shape, squeeze
from mpqueue.compat.functions.array_join import concat
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.math import cast
from mpqueue.compat.graph.build import apply, apply_many
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype

dynamic_partition = direct("DynamicPartition", "dynamic_partition")
dynamic_stitch = direct("DynamicStitch", "dynamic_stitch")
scatter_nd = direct("ScatterNd", "scatter_nd")
slice = direct("Slice", "slice", input="input_")


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """What ``x[...]`` is made of; bit n of a mask is for entry n of the vectors.

    Follows: ``tf.strided_slice``.
    """
    del var
    begin = convert_to_tensor(begin)
    if strides is None:
        strides = apply("OnesLike", begin)
    masks = {
        "begin_mask": begin_mask,
        "end_mask": end_mask,
        "ellipsis_mask": ellipsis_mask,
        "new_axis_mask": new_axis_mask,
        "shrink_axis_mask": shrink_axis_mask,
    }
    return apply("StridedSlice", input_, begin, end, strides, name=name, **masks)


def gather(
    params: Any,
    indices: Any,
    validate_indices: bool | None = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:
    """The slices of ``params`` along ``axis`` with the numbers in ``indices``; a number out of range is an error.

    Follows: ``tf.gather``.
    """
    del validate_indices
    place = batch_dims if axis is None else axis
    return apply("GatherV2", params, indices, place, name=name, batch_dims=batch_dims)


def gather_nd(
    params: Any, indices: Any, name: str | None = None, batch_dims: int = 0, bad_indices_policy: str = ""
) -> Tensor:
    """The slices of ``params`` at the positions that the last axis of ``indices`` tells.

    Follows: ``tf.gather_nd``.
    """
    if batch_dims or bad_indices_policy not in ("", "DEFAULT", "ERROR"):
        raise ValueError("gather_nd has neither batch_dims nor another bad_indices_policy here: use gather")
    return apply("GatherNd", params, indices, name=name)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Elements of ``x`` where the condition holds, else of ``y``; without them, the positions where it holds.

    Args:
        condition: Bools in the shape of ``x`` and ``y``, or a vector that chooses among their rows.
        x: Of one type and shape with ``y``: nothing is broadcast.
        y: As ``x``.
        name: Name of the node.

    Returns: The chosen elements, or an int64 table of positions, one a row.

    Raises:
        ValueError: Only one of ``x`` and ``y``, or shapes that do not fit.

    Follows: ``tf.where`` of TensorFlow 1.
    """
    if (x is None) != (y is None):
        raise ValueError("x and y must both be non-None or both be None.")
    if x is None:
        condition = convert_to_tensor(condition, name="condition", preferred_dtype=dtypes.bool_)
        return apply("Where", condition, name=name)
    return apply("Select", condition, x, y, name=name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """As `where`, with broadcasting.

    Follows: ``tf.where_v2``.
    """
    if x is None or y is None:
        return where(condition, x, y, name)
    return apply("SelectV2", condition, x, y, name=name)


def boolean_mask(tensor: Any, mask: Any, name: str = "boolean_mask", axis: Any = None) -> Tensor:
    """The elements, or slices, of a tensor where a mask holds.

    Args:
        tensor: The array.
        mask: Bools whose shape is that of the axes of ``tensor`` from ``axis`` on; its rank must be known.
        name: Name of the nodes.
        axis: Where the mask applies, default 0.

    Returns: The masked axes become one.

    Raises:
        ValueError: A scalar mask, one of unknown rank, or of another shape than the axes.

    Follows: ``tf.boolean_mask``.
    """
    with get_default_graph().name_scope(name):
        tensor, mask = convert_to_tensor(tensor, name="tensor"), convert_to_tensor(mask, name="mask")
        if not mask.ndim:
            raise ValueError("a mask must have a known rank of at least 1, got shape " + str(mask.shape))
        first = 0 if axis is None else int(np.asarray(_value(axis)))
        last = first + mask.ndim
        whole = tensor.get_shape()
        whole[first:last].assert_is_compatible_with(mask.get_shape())
        sizes = shape(tensor)
        joined = apply("Prod", sizes[first:last], [0])
        rows = reshape(tensor, concat([sizes[:first], [joined], sizes[last:]], 0))
        rows.set_shape(whole[:first].concatenate([whole[first:last].num_elements()]).concatenate(whole[last:]))
        places = squeeze(where(reshape(mask, [-1])), axis=[1])
        return gather(rows, places, axis=first)


def _value(axis: Any) -> Any:
    known = axis.known_value() if isinstance(axis, Tensor) else axis
    if known is None:
        raise ValueError("axis of boolean_mask must be known while the graph is built")
    return known


def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """The distinct elements of a vector in the order of their first appearance, and where each element went.

    Follows: ``tf.unique``.
    """
    return tuple(apply_many("Unique", x, name=name, out_idx=as_dtype(out_idx)))


def unique_with_counts(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """As `unique`, and how often each element came.

    Follows: ``tf.unique_with_counts``.
    """
    return tuple(apply_many("UniqueWithCounts", x, name=name, out_idx=as_dtype(out_idx)))


def setdiff1d(x: Any, y: Any, index_dtype: Any = dtypes.int32, name: str | None = None) -> Any:
    """The elements of ``x`` that ``y`` has not, and their places.

    Follows: ``tf.setdiff1d``.
    """
    return tuple(apply_many("ListDiff", x, y, name=name, out_idx=as_dtype(index_dtype)))


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool_, name: str | None = None) -> Tensor:
    """A new last axis of size ``maxlen`` (default the longest), True in the first ``lengths`` places.

    Raises:
        ValueError: ``maxlen`` is no scalar.

    Follows: ``tf.sequence_mask``.
    """
    with get_default_graph().name_scope(name or "SequenceMask"):
        lengths = convert_to_tensor(lengths)
        if maxlen is None:
            longest = apply("Max", reshape(lengths, [-1]), [0])
            maxlen = apply("Maximum", convert_to_tensor(0, longest.dtype), longest)
        maxlen = convert_to_tensor(maxlen)
        if maxlen.ndim not in (None, 0):
            raise ValueError(f"maxlen must be scalar for sequence_mask, got shape {maxlen.shape}")
        zero, one = (convert_to_tensor(each, maxlen.dtype) for each in (0, 1))
        row = apply("Range", zero, maxlen, one)
        marks = apply("Less", row, cast(apply("ExpandDims", lengths, -1), maxlen.dtype))
        return cast(marks, as_dtype(dtype))  # type: ignore[no-any-return]
