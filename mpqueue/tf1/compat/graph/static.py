"""Values of tensors that functions can use while they create nodes.

Shape functions know more values (`Tensor.known_entries`). Here, only constants and the results of a few simple
operations on constants and shapes count. A value that is used so can no longer be fed: nodes were built from it.
"""

from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.ops.dims import Dims

_OF_SHAPES: Final = {"Const", "Shape", "Size", "Rank"}
_FOLDED: Final = _OF_SHAPES.union(
    ["Cast", "ConcatV2", "Equal", "Fill", "Identity", "NotEqual", "Pack", "Range", "Split", "StopGradient", "Unpack"]
)


def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """Return the value of a tensor that a few simple operations compute from constants and shapes.

    The tensor can no longer be fed afterwards.

    Args:
        tensor: The tensor. Other values are returned unchanged.
        partial: Must be False.

    Returns: The value, or None if it is not known.

    Raises:
        ValueError: ``partial`` is True.

    Follows: ``tf.get_static_value``.
    """
    if partial:
        raise ValueError("get_static_value() supports only partial=False, which returns values that are fully known")
    if not isinstance(tensor, Tensor):
        return tensor
    value: np.ndarray | None = tensor.known_value() if _is_folded(tensor) else None
    if value is not None:
        tensor.graph.prevent_feeding(tensor)
    return value


def _is_folded(tensor: Tensor) -> bool:
    kind = tensor.op.type
    return kind in _OF_SHAPES or (kind in _FOLDED and all(_is_folded(each) for each in tensor.op.inputs))


def static_shape(vector: Tensor) -> Dims:
    """Return the static shape that a vector describes."""
    if _is_folded(vector) or vector.op.type in ("Pack", "ConcatV2", "StridedSlice", "Cast", "PlaceholderWithDefault"):
        return vector.known_as_shape()
    length = None if not vector.known_dims else vector.known_dims[0]
    return None if length is None else (None,) * length
