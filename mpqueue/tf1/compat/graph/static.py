"""Values of tensors that functions may use while they make nodes.

This is less than shape functions know (`Tensor.known_entries`): only constants, and what a few simple operations make
of constants and shapes. Values that were found out so can no longer be fed: the graph was made believing them.
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
    """The value of a tensor, if it is a constant, or made of constants and shapes by a few simple functions.

    The tensor can no longer be fed afterwards.

    Args:
        tensor: The tensor; anything else is given back as it is.
        partial: No effect.

    Returns: The value, None if it is not known.

    Follows: ``tf.get_static_value``.
    """
    del partial
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
    """A vector that describes a shape, as far as known."""
    if _is_folded(vector) or vector.op.type in ("Pack", "ConcatV2", "StridedSlice", "Cast", "PlaceholderWithDefault"):
        return vector.known_as_shape()
    length = None if not vector.known_dims else vector.known_dims[0]
    return None if length is None else (None,) * length
