"""The table of operations, with all families in it."""

from typing import Final

from mpqueue.compat.ops import (
    array_join,
    array_make,
    array_select,
    array_shape,
    decoding,
    image_color,
    image_files,
    image_resize,
    math_elementwise,
    math_reduce,
    sparse,
    sparse_packing,
    strided_slice,
    text,
    text_numbers,
)
from mpqueue.compat.ops.registry import TABLE

__all__ = ["FAMILIES", "TABLE"]

FAMILIES: Final = (
    array_join,
    array_make,
    array_select,
    array_shape,
    decoding,
    image_color,
    image_files,
    image_resize,
    math_elementwise,
    math_reduce,
    sparse,
    sparse_packing,
    strided_slice,
    text,
    text_numbers,
)
"""The modules of operations; each has put its own into the table."""
