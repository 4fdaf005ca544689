"""Selection of elements: gather, masks, conditions, and ``x[...]`` on nodes."""

import operator
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.functions.array import concat, shape
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.math import cast
from mpqueue.tf1.compat.graph import Tensor, apply, convert_to_tensor, get_default_graph
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.tensorshape import dimension_value


@public(
    "strided_slice(input_, begin, end, strides=None, begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0, "
    "shrink_axis_mask=0, var!=None, name)"
)
def strided_slice(
    input_: Any,
    begin: Tensor,
    end: Any,
    strides: Any,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
    name: str | None,
) -> Tensor:
    """Extract a strided slice, as ``x[...]`` does; bit n of a mask applies to entry n of the vectors."""
    steps = apply("OnesLike", begin) if strides is None else strides
    masks = {"begin_mask": begin_mask, "end_mask": end_mask, "ellipsis_mask": ellipsis_mask}
    masks |= {"new_axis_mask": new_axis_mask, "shrink_axis_mask": shrink_axis_mask}
    return apply("StridedSlice", input_, begin, end, steps, name=name, **masks)


@public("gather(params, indices, validate_indices=None, name, axis=None, batch_dims=0)")
def gather(params: Any, indices: Any, axis: Any, batch_dims: int, name: str | None) -> Tensor:
    """Gather the slices of ``params`` along ``axis`` at ``indices``; an index out of range is an error."""
    place = batch_dims if axis is None else axis
    return apply("GatherV2", params, indices, place, name=name, batch_dims=batch_dims)


@public("gather_nd(params, indices, name, batch_dims=0, bad_indices_policy='')")
def gather_nd(params: Any, indices: Any, name: str | None, batch_dims: int, bad_indices_policy: str) -> Tensor:
    """Gather the slices of ``params`` at the positions along the last axis of ``indices``.

    Raises:
        ValueError: ``batch_dims`` or ``bad_indices_policy`` is set, which TensorFlow 1.15 does not support.
    """
    if batch_dims or bad_indices_policy not in ("", "DEFAULT", "ERROR"):
        raise ValueError("gather_nd does not support batch_dims or bad_indices_policy: use gather instead")
    return apply("GatherNd", params, indices, name=name)


@public("where")
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Return elements of ``x`` where the condition is True and of ``y`` elsewhere, or the positions of True.

    Unlike in TensorFlow 2, there is no broadcasting.

    Args:
        condition: Bools in the shape of ``x`` and ``y``, or a vector that selects rows.
        x: Values where the condition is True. If both ``x`` and ``y`` are None, return positions.
        y: Values elsewhere, of the same type and shape as ``x``.

    Returns: The selected elements, or an int64 array with one position per row.

    Raises:
        ValueError: Only one of ``x`` and ``y`` is passed, or the shapes are incompatible.
    """
    if (x is None) != (y is None):
        raise ValueError("x and y must both be non-None or both be None.")
    if x is None:
        condition = convert_to_tensor(condition, name="condition", preferred_dtype=dtypes.bool_)
        return apply("Where", condition, name=name)
    return apply("Select", condition, x, y, name=name)


@public("where_v2")
def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Select elements of ``x`` or ``y`` like `where`, with broadcasting."""
    if x is None or y is None:
        return where(condition, x, y, name)
    return apply("SelectV2", condition, x, y, name=name)


@public("boolean_mask(tensor, mask, name='boolean_mask', axis=None)", scope="boolean_mask")
def boolean_mask(tensor: Tensor, mask: Tensor, axis: Any) -> Tensor:
    """Return the elements, or slices, of a tensor where a mask is True.

    Args:
        tensor: The array.
        mask: Bools in the shape of the axes of ``tensor`` from ``axis`` on; the rank must be known.
        axis: First axis that the mask applies to, 0 by default.

    Returns: The selected elements; the masked axes are replaced by one axis.

    Raises:
        ValueError: The mask is a scalar, has an unknown rank, or does not have the shape of the axes.
    """
    if not mask.ndim:
        raise ValueError(f"mask must have a known rank of at least 1, got shape {mask.shape}")
    first = 0 if axis is None else int(np.asarray(_value(axis)))
    last = first + mask.ndim
    whole = tensor.get_shape()
    whole[first:last].assert_is_compatible_with(mask.get_shape())
    sizes = shape(tensor)
    joined = apply("Prod", sizes[first:last], [0])
    rows = direct.reshape(tensor, concat([sizes[:first], [joined], sizes[last:]], 0))
    rows.set_shape(whole[:first].concatenate([whole[first:last].num_elements()]).concatenate(whole[last:]))
    places = direct.squeeze(where(direct.reshape(mask, [-1])), axis=[1])
    return gather(rows, places, axis=first)


def _value(axis: Any) -> Any:
    known = axis.known_value() if isinstance(axis, Tensor) else axis
    if known is None:
        raise ValueError("The axis of boolean_mask must be known while the graph is built")
    return known


@public("sequence_mask(lengths, maxlen=None, dtype=bool, name)", scope="SequenceMask")
def sequence_mask(lengths: Tensor, maxlen: Any, dtype: DType) -> Any:
    """Return a mask with a new last axis of size ``maxlen`` that is True at the first ``lengths`` positions.

    ``maxlen`` defaults to the maximum length.

    Raises:
        ValueError: ``maxlen`` is not a scalar.
    """
    if maxlen is None:
        longest = apply("Max", direct.reshape(lengths, [-1]), [0])
        maxlen = apply("Maximum", convert_to_tensor(0, longest.dtype), longest)
    maxlen = convert_to_tensor(maxlen)
    if maxlen.ndim not in (None, 0):
        raise ValueError(f"maxlen must be scalar for sequence_mask, got shape {maxlen.shape}")
    zero, one = (convert_to_tensor(each, maxlen.dtype) for each in (0, 1))
    row = apply("Range", zero, maxlen, one)
    marks = apply("Less", row, cast(apply("ExpandDims", lengths, -1), maxlen.dtype))
    return cast(marks, dtype)


newaxis: Final = None
"""In an index: a new axis of size 1."""

_SUBSCRIPTS: Final = (dtypes.int16, dtypes.int32, dtypes.int64)


def getitem(tensor: Any, key: Any) -> Tensor:
    """Index with integers or scalar tensors, slices with steps, ``...``, ``None`` (new axis), or a bool tensor (mask).

    Raises:
        TypeError: An index is of another kind.
        ValueError: An index is known to be out of range.

    Follows: ``tf.Tensor.__getitem__``.
    """
    if isinstance(key, bool) or (isinstance(key, Tensor | np.ndarray) and key.dtype in (dtypes.bool_, np.bool_)):
        return boolean_mask(tensor, key)
    entries = _Entries()
    for entry in key if isinstance(key, list | tuple) else [key]:
        entries.add(entry)
    return entries.applied_to(tensor)


class _Entries:
    """The entries of an index as three vectors and five bit masks."""

    def __init__(self) -> None:
        self._begin: list[Any] = []
        self._end: list[Any] = []
        self._strides: list[Any] = []
        self._masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)

    def add(self, entry: Any) -> None:
        if isinstance(entry, slice):
            self._add_slice(entry)
        elif entry is Ellipsis:
            self._add(0, 0, 1, "ellipsis_mask")
        elif entry is None:
            self._add(0, 0, 1, "new_axis_mask")
        else:
            index = _checked(entry)
            one = np.ones((), index.dtype.as_numpy_dtype) if isinstance(index, Tensor) else 1
            self._add(index, index + 1, one, "shrink_axis_mask")

    def _add_slice(self, entry: slice) -> None:
        start, stop, step = (
            None if dimension_value(each) is None else _checked(each) for each in (entry.start, entry.stop, entry.step)
        )
        masks = ["begin_mask"] * (start is None) + ["end_mask"] * (stop is None)
        self._add(0 if start is None else start, 0 if stop is None else stop, 1 if step is None else step, *masks)

    def _add(self, begin: Any, end: Any, stride: Any, *masks: str) -> None:
        for mask in masks:
            self._masks[mask] |= 1 << len(self._begin)
        self._begin.append(begin)
        self._end.append(end)
        self._strides.append(stride)

    def applied_to(self, tensor: Any) -> Tensor:
        with get_default_graph().name_scope("strided_slice") as scope:
            named = [(self._begin, "stack"), (self._end, "stack_1"), (self._strides, "stack_2")]
            nodes = [each for vector, _ in named for each in vector if isinstance(each, Tensor)]
            kind = dtypes.int64 if any(each.dtype == dtypes.int64 for each in nodes) else dtypes.int32
            vectors = [_vector(each, kind, name) for each, name in named]
            return apply("StridedSlice", tensor, *vectors, name=scope, **self._masks)


def _vector(values: list[Any], kind: dtypes.DType, name: str) -> Tensor:
    if not any(isinstance(each, Tensor) for each in values):
        return convert_to_tensor(np.array(values, kind.as_numpy_dtype), name=name)
    parts = [
        cast(each, kind) if isinstance(each, Tensor) else convert_to_tensor(np.asarray(each, kind.as_numpy_dtype))
        for each in values
    ]
    return apply("Pack", parts, name=name)


def _checked(index: Any) -> Any:
    own = getattr(index, "_as_tensor", None)
    index = index if own is None else own()
    if isinstance(index, Tensor):
        if index.dtype not in _SUBSCRIPTS or index.ndim == 1:
            raise TypeError(f"Index must be a scalar of type int16, int32 or int64, got {index!r}")
        return index
    if isinstance(index, bool | np.bool_):
        raise TypeError(f"A bool can only be used alone, as a mask, not as an index: {index!r}")
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(
            "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar tf.int32/tf.int64 tensors "
            f"are valid indices, got {index!r}"
        ) from None
