"""The complete table of operations: each imported module registers its operations."""

from mpqueue.tf1.compat.ops import (  # noqa: F401
    array_join,
    array_make,
    array_select,
    array_shape,
    decoding,
    image,
    image_geometry,
    math_elementwise,
    math_reduce,
    sparse,
    strided_slice,
    text,
)
from mpqueue.tf1.compat.ops.registry import TABLE

__all__ = ["TABLE"]
