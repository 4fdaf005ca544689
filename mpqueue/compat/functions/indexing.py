"""``x[...]`` on nodes."""

import operator
from typing import Any, Final

import numpy as np

from mpqueue.compat.functions.select import boolean_mask
from mpqueue.compat.graph import Tensor, apply, convert_to_tensor, get_default_graph
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dimension import Dimension

newaxis: Final = None
"""In a subscript: a new axis of one element."""

_SUBSCRIPTS: Final = (dtypes.int16, dtypes.int32, dtypes.int64)


def getitem(tensor: Any, key: Any) -> Tensor:
    """Ints (also scalar tensors), slices with steps, ``...``, ``None`` for a new axis; or a bool tensor as a mask.

    Raises:
        TypeError: Anything else between the brackets.
        ValueError: An index out of range, where that is known.

    Follows: ``tf.Tensor.__getitem__``.
    """
    if _is_mask(key):
        return boolean_mask(tensor, key)
    entries = _Entries()
    for entry in key if isinstance(key, list | tuple) else [key]:
        entries.add(entry)
    return entries.applied_to(tensor)


def _is_mask(key: Any) -> bool:
    return isinstance(key, bool) or (isinstance(key, Tensor | np.ndarray) and key.dtype in (dtypes.bool_, np.bool_))


class _Entries:
    """The entries between the brackets as three vectors and five bit masks."""

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
            None if _is_open(each) else _checked(each) for each in (entry.start, entry.stop, entry.step)
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
            kind = self._type()
            vectors = [_vector(each, kind, name) for each, name in self._named()]
            return apply("StridedSlice", tensor, *vectors, name=scope, **self._masks)

    def _named(self) -> list[tuple[list[Any], str]]:
        return [(self._begin, "stack"), (self._end, "stack_1"), (self._strides, "stack_2")]

    def _type(self) -> dtypes.DType:
        """int64 if one of the nodes is, else int32."""
        nodes = [each for vector, _ in self._named() for each in vector if isinstance(each, Tensor)]
        return dtypes.int64 if any(each.dtype == dtypes.int64 for each in nodes) else dtypes.int32


def _vector(values: list[Any], kind: dtypes.DType, name: str) -> Tensor:
    if not any(isinstance(each, Tensor) for each in values):
        return convert_to_tensor(np.array(values, kind.as_numpy_dtype), name=name)
    parts = [_as(each, kind) for each in values]
    return apply("Pack", parts, name=name)


def _as(value: Any, kind: dtypes.DType) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.dtype == kind else apply("Cast", value, DstT=kind)
    return convert_to_tensor(np.asarray(value, kind.as_numpy_dtype))


def _is_open(bound: Any) -> bool:
    return bound is None or (isinstance(bound, Dimension) and bound.value is None)


def _checked(index: Any) -> Any:
    own = getattr(index, "_as_tensor", None)
    index = index if own is None else own()
    if isinstance(index, Tensor):
        if index.dtype not in _SUBSCRIPTS or index.ndim == 1:
            raise TypeError(f"an index must be a scalar of type int16, int32 or int64, got {index!r}")
        return index
    if isinstance(index, bool | np.bool_):
        raise TypeError(f"a bool is an index only by itself, as a mask: {index!r}")
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(
            "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar tf.int32/tf.int64 tensors "
            f"are valid indices, got {index!r}"
        ) from None
