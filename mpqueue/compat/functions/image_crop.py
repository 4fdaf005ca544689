"""Parts of images, and images in larger ones."""

import functools
from collections.abc import Callable
from typing import Any, Final

from mpqueue.compat.functions.array import pad, shape
from mpqueue.compat.functions.array_join import stack
from mpqueue.compat.functions.control import Assert, with_dependencies
from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_stack import as_stack, finished, image_checks, is_node, sizes
from mpqueue.compat.functions.math import cast
from mpqueue.compat.graph import Operation, Tensor, get_static_value
from mpqueue.compat.ops import dtypes


def _check(condition: Any, message: str) -> list[Operation]:
    """A check now where the condition is known, else an operation."""
    if is_node(condition):
        return [Assert(condition, [message])]
    if not condition:
        raise ValueError(message)
    return []


@public("image.crop_to_bounding_box(...)", scope="crop_to_bounding_box")
def crop_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """The window of the given size whose top left corner is at the offsets.

    Args:
        image: An image (height, width, channels), or a stack of them.
        offset_height: Rows above the window.
        offset_width: Columns left of the window.
        target_height: Rows of the window.
        target_width: Columns of the window.

    Raises:
        ValueError: The window does not lie in the image, as far as known.
    """
    image, was_stack = as_stack(image)
    batch, height, width, depth = sizes(image)
    checks = image_checks(image)
    for value, what in ((offset_width, "offset_width"), (offset_height, "offset_height")):
        checks += _check(value >= 0, f"{what} must be >= 0.")
    for value, what in ((target_width, "target_width"), (target_height, "target_height")):
        checks += _check(value > 0, f"{what} must be > 0.")
    checks += _check(width >= target_width + offset_width, "width must be >= target + offset.")
    checks += _check(height >= target_height + offset_height, "height must be >= target + offset.")
    image = with_dependencies(checks, image)
    begin = stack([0, offset_height, offset_width, 0])
    cropped = direct.slice(image, begin, stack([-1, target_height, target_width, -1]))
    return finished(cropped, [batch, target_height, target_width, depth], was_stack)


@public("image.pad_to_bounding_box(...)", scope="pad_to_bounding_box")
def pad_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """Zeros around the image so that it has the given size and its top left corner is at the offsets.

    Args:
        image: An image (height, width, channels), or a stack of them.
        offset_height: Rows of zeros above.
        offset_width: Columns of zeros to the left.
        target_height: Rows of the result.
        target_width: Columns of the result.

    Raises:
        ValueError: The image does not fit in, as far as known.
    """
    image, was_stack = as_stack(image)
    batch, height, width, depth = sizes(image)
    below, right = target_height - offset_height - height, target_width - offset_width - width
    checks = image_checks(image)
    for value, what in ((offset_height, "offset_height must be >= 0"), (offset_width, "offset_width must be >= 0")):
        checks += _check(value >= 0, what)
    for value, what in ((right, "width must be <= target - offset"), (below, "height must be <= target - offset")):
        checks += _check(value >= 0, what)
    image = with_dependencies(checks, image)
    paddings = direct.reshape(stack([0, 0, offset_height, below, offset_width, right, 0, 0]), [4, 2])
    return finished(pad(image, paddings), [batch, target_height, target_width, depth], was_stack)


def _either(on_nodes: Callable[..., Any], on_ints: Callable[..., Any], x: Any, y: Any) -> Any:
    return on_nodes(x, y) if is_node(x) or is_node(y) else on_ints(x, y)


@public("image.resize_image_with_crop_or_pad(...)", scope="resize_image_with_crop_or_pad")
def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor:
    """Cut around its centre, or surrounded with zeros, so that it has the given size.

    Args:
        image: An image (height, width, channels), or a stack of them.
        target_height: Rows of the result.
        target_width: Columns of the result.

    Raises:
        ValueError: Another rank, or a size of 0.
    """
    image, was_stack = as_stack(image)
    checks = image_checks(image) + _check(target_width > 0, "target_width must be > 0.")
    checks += _check(target_height > 0, "target_height must be > 0.")
    image = with_dependencies(checks, image)
    batch, height, width, depth = sizes(image)
    more_rows, more_columns = target_height - height, target_width - width
    cropped = crop_to_bounding_box(
        image,
        _largest(-more_rows // 2, 0),
        _largest(-more_columns // 2, 0),
        _smallest(target_height, height),
        _smallest(target_width, width),
    )
    offsets = _largest(more_rows // 2, 0), _largest(more_columns // 2, 0)
    padded = pad_to_bounding_box(cropped, *offsets, target_height, target_width)
    return finished(padded, [batch, target_height, target_width, depth], was_stack)


resize_with_crop_or_pad = resize_image_with_crop_or_pad


@public("image.central_crop(...)", scope="central_crop")
def central_crop(image: Tensor, central_fraction: Any) -> Tensor:
    """The middle part of an image, or of a stack of them; ``central_fraction`` of its height and width.

    Raises:
        ValueError: The fraction is not in (0, 1], or another rank.
    """
    fraction = get_static_value(central_fraction)
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ValueError("central_fraction must be within (0, 1]")
    if fraction == 1.0:
        return image
    if image.ndim not in (3, 4):
        raise ValueError(f"an image must have rank 3 or 4, got shape {image.shape}")
    image_checks(image)
    first = image.ndim - 3
    edges = [_margin(image, axis, central_fraction if fraction is None else fraction) for axis in (first, first + 1)]
    begin = [0] * first + [edge for edge, _ in edges] + [0]
    size = [-1] * first + [length for _, length in edges] + [-1]
    cropped = direct.slice(image, stack(begin), stack(size))
    known = [None if is_node(length) else length for _, length in edges]
    cropped.set_shape([*image.get_shape()[:first], *known, image.get_shape()[-1]])
    return cropped


def _margin(image: Tensor, axis: int, fraction: Any) -> tuple[Any, Any]:
    """(What is cut off at one side, what is left) of an axis."""
    assert image.known_dims is not None
    size = image.known_dims[axis]
    if size is not None and not is_node(fraction):
        margin: Any = int((size - size * float(fraction)) / 2)
        return margin, size - margin * 2
    length = shape(image)[axis] if size is None else size
    wide = cast(length, dtypes.float64)
    margin = cast((wide - wide * cast(fraction, dtypes.float64)) / 2, dtypes.int32)
    return margin, length - margin * 2


_largest: Final = functools.partial(_either, direct.maximum, max)
_smallest: Final = functools.partial(_either, direct.minimum, min)
