"""Images of another size or way round: flipping, cropping, padding, resizing."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Final

from mpqueue.compat.functions.array import (
    expand_dims,
    pad,
    reshape,
    reverse,
    shape,
    squeeze,
    stack,
    unstack,
)
from mpqueue.compat.functions.array import (
    transpose as transpose_axes,
)
from mpqueue.compat.functions.checks import assert_greater_equal, assert_positive
from mpqueue.compat.functions.cond import cond
from mpqueue.compat.functions.control import Assert, with_dependencies
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.math import cast, equal, maximum, minimum
from mpqueue.compat.functions.math import round as rounded
from mpqueue.compat.functions.random import random_uniform
from mpqueue.compat.functions.select import slice as cut
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Operation, Tensor
from mpqueue.compat.graph.static import get_static_value
from mpqueue.compat.ops import dtypes

resize_bilinear = direct("ResizeBilinear", "image.resize_bilinear", after_name=1)
resize_bicubic = direct("ResizeBicubic", "image.resize_bicubic", after_name=1)
resize_nearest_neighbor = direct("ResizeNearestNeighbor", "image.resize_nearest_neighbor", after_name=1)
resize_area = direct("ResizeArea", "image.resize_area")


class ResizeMethod:
    """How `resize_images` makes new pixels.

    Follows: ``tf.image.ResizeMethod`` of TensorFlow 1.
    """

    BILINEAR: ClassVar[int] = 0
    NEAREST_NEIGHBOR: ClassVar[int] = 1
    BICUBIC: ClassVar[int] = 2
    AREA: ClassVar[int] = 3


_RESIZERS: Final[dict[Any, str]] = {
    0: "ResizeBilinear",
    1: "ResizeNearestNeighbor",
    2: "ResizeBicubic",
    3: "ResizeArea",
    "bilinear": "ResizeBilinear",
    "nearest": "ResizeNearestNeighbor",
    "bicubic": "ResizeBicubic",
    "area": "ResizeArea",
}


def checked_image(image: Any) -> Tensor:
    """An image (or a stack of them) of which no size is 0; where that is not known, it is checked when run.

    Raises:
        ValueError: It has fewer than three axes, or a size of 0.
    """
    image = convert_to_tensor(image, name="image")
    return with_dependencies(_image_checks(image), image)  # type: ignore[no-any-return]


def _image_checks(image: Tensor) -> list[Operation]:
    dims = image.known_dims
    if dims is not None and len(dims) < 3:
        raise ValueError(f"an image must be at least three-dimensional, got shape {image.shape}")
    inner = (None,) * 3 if dims is None else dims[-3:]
    if 0 in inner:
        raise ValueError(f"inner 3 dims of an image must be > 0, got shape {image.shape}")
    if None not in inner:
        return []
    checks = [assert_positive(shape(image)[-3:], ["inner 3 dims of the image's shape must be > 0."])]
    if dims is None:
        checks.append(
            assert_greater_equal(apply("Rank", image), 3, message="an image must be at least three-dimensional.")
        )
    return checks


def _by_rank(image: Tensor, single: Callable[[], Tensor], batch: Callable[[], Tensor]) -> Tensor:
    """What is to be done with an image, or with a stack of them; chosen when run if the rank is unknown."""
    if image.ndim is None:
        return cond(equal(apply("Rank", image), 3), single, batch)  # type: ignore[no-any-return]
    if image.ndim not in (3, 4):
        raise ValueError(f"an image (shape {image.shape}) must have either 3 or 4 dimensions.")
    return single() if image.ndim == 3 else batch()


def _flipped(image: Any, axis: int, scope: str) -> Tensor:
    with get_default_graph().name_scope(scope):
        image = checked_image(image)
        return _by_rank(image, lambda: _like(image, reverse(image, [axis])), lambda: reverse(image, [axis + 1]))


def _like(image: Tensor, result: Tensor) -> Tensor:
    result.set_shape([None, None, None] if image.ndim is None else image.get_shape())
    return result


def flip_left_right(image: Any) -> Tensor:
    """Left and right swapped, of an image (height, width, channels) or a stack of them.

    Raises:
        ValueError: Another rank, or a size of 0.

    Follows: ``tf.image.flip_left_right``.
    """
    return _flipped(image, 1, "flip_left_right")


def flip_up_down(image: Any) -> Tensor:
    """Top and bottom swapped, of an image (height, width, channels) or a stack of them.

    Raises:
        ValueError: Another rank, or a size of 0.

    Follows: ``tf.image.flip_up_down``.
    """
    return _flipped(image, 0, "flip_up_down")


def _randomly_flipped(image: Any, axis: int, seed: int | None, scope: str) -> Tensor:
    with get_default_graph().name_scope(scope):
        image = checked_image(image)

        def single() -> Tensor:
            chance = random_uniform([], 0, 1.0, seed=seed)
            return _like(image, cond(chance < 0.5, lambda: reverse(image, [axis]), lambda: image))

        def batch() -> Tensor:
            number = shape(image)[0]
            chances = reshape(random_uniform([number], 0, 1.0, seed=seed), [number, 1, 1, 1])
            flips = cast(rounded(chances), image.dtype)
            return flips * reverse(image, [axis + 1]) + (1 - flips) * image  # type: ignore[no-any-return]

        return _by_rank(image, single, batch)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """`flip_left_right` in half of the runs; of a stack, for each image by itself.

    Follows: ``tf.image.random_flip_left_right``.
    """
    return _randomly_flipped(image, 1, seed, "random_flip_left_right")


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """`flip_up_down` in half of the runs; of a stack, for each image by itself.

    Follows: ``tf.image.random_flip_up_down``.
    """
    return _randomly_flipped(image, 0, seed, "random_flip_up_down")


def transpose(image: Any, name: str | None = None) -> Tensor:
    """Height and width swapped, of an image or a stack of them.

    Follows: ``tf.image.transpose``.
    """
    with get_default_graph().name_scope(name or "transpose"):
        image = checked_image(image)
        return _by_rank(image, lambda: transpose_axes(image, [1, 0, 2]), lambda: transpose_axes(image, [0, 2, 1, 3]))


transpose_image = transpose


def rot90(image: Any, k: Any = 1, name: str | None = None) -> Tensor:
    """Turned ``k`` times by 90 degrees, against the clock; ``k`` is a Python int here.

    Follows: ``tf.image.rot90``.
    """
    with get_default_graph().name_scope(name or "rot90"):
        image = checked_image(image)
        turns = int(get_static_value(k)) % 4

        def turned(first: int) -> Tensor:
            order = [*range(first), first + 1, first, first + 2]
            out = image if turns != 2 else reverse(image, [first, first + 1])
            if turns % 2:
                out = transpose_axes(out, order)
                out = reverse(out, [first if turns == 1 else first + 1])
            return out  # type: ignore[no-any-return]

        return _by_rank(image, lambda: turned(0), lambda: turned(1))


def _is_node(value: Any) -> bool:
    return isinstance(value, Tensor)


def _check(condition: Any, message: str) -> list[Operation]:
    """A check now where the condition is known, else an operation."""
    if _is_node(condition):
        return [Assert(condition, [message])]
    if not condition:
        raise ValueError(message)
    return []


def _sizes(image: Tensor) -> list[Any]:
    """The sizes of a stack: ints where they are known, else nodes."""
    dims = image.known_dims
    assert dims is not None
    if None not in dims:
        return list(dims)
    nodes = unstack(shape(image), len(dims))
    return [node if size is None else size for size, node in zip(dims, nodes, strict=True)]


def _as_stack(image: Any) -> tuple[Tensor, bool]:
    """A stack of images, and whether it was given as one."""
    image = convert_to_tensor(image, name="image")
    if image.ndim not in (None, 3, 4):
        raise ValueError(f"an image (shape {image.shape}) must have either 3 or 4 dimensions.")
    if image.ndim == 4:
        return image, True
    known = image.ndim is not None
    image = expand_dims(image, 0)
    if not known:
        image.set_shape([None] * 4)
    return image, False


def _finished(stack_of_images: Tensor, dims: list[Any], was_stack: bool) -> Tensor:
    stack_of_images.set_shape([None if _is_node(size) else size for size in dims])
    return stack_of_images if was_stack else squeeze(stack_of_images, axis=[0])


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

    Follows: ``tf.image.crop_to_bounding_box``.
    """
    with get_default_graph().name_scope("crop_to_bounding_box"):
        image, was_stack = _as_stack(image)
        batch, height, width, depth = _sizes(image)
        checks = _image_checks(image)
        for value, what in ((offset_width, "offset_width"), (offset_height, "offset_height")):
            checks += _check(value >= 0, f"{what} must be >= 0.")
        for value, what in ((target_width, "target_width"), (target_height, "target_height")):
            checks += _check(value > 0, f"{what} must be > 0.")
        checks += _check(width >= target_width + offset_width, "width must be >= target + offset.")
        checks += _check(height >= target_height + offset_height, "height must be >= target + offset.")
        image = with_dependencies(checks, image)
        begin = stack([0, offset_height, offset_width, 0])
        cropped = cut(image, begin, stack([-1, target_height, target_width, -1]))
        return _finished(cropped, [batch, target_height, target_width, depth], was_stack)


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

    Follows: ``tf.image.pad_to_bounding_box``.
    """
    with get_default_graph().name_scope("pad_to_bounding_box"):
        image, was_stack = _as_stack(image)
        batch, height, width, depth = _sizes(image)
        below, right = target_height - offset_height - height, target_width - offset_width - width
        checks = _image_checks(image)
        for value, what in ((offset_height, "offset_height must be >= 0"), (offset_width, "offset_width must be >= 0")):
            checks += _check(value >= 0, what)
        for value, what in ((right, "width must be <= target - offset"), (below, "height must be <= target - offset")):
            checks += _check(value >= 0, what)
        image = with_dependencies(checks, image)
        paddings = reshape(stack([0, 0, offset_height, below, offset_width, right, 0, 0]), [4, 2])
        return _finished(pad(image, paddings), [batch, target_height, target_width, depth], was_stack)


def _either(on_nodes: Callable[..., Any], on_ints: Callable[..., Any], x: Any, y: Any) -> Any:
    return on_nodes(x, y) if _is_node(x) or _is_node(y) else on_ints(x, y)


_largest: Final = functools.partial(_either, maximum, max)
_smallest: Final = functools.partial(_either, minimum, min)


def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor:
    """Cut around its centre, or surrounded with zeros, so that it has the given size.

    Args:
        image: An image (height, width, channels), or a stack of them.
        target_height: Rows of the result.
        target_width: Columns of the result.

    Raises:
        ValueError: Another rank, or a size of 0.

    Follows: ``tf.image.resize_image_with_crop_or_pad``.
    """
    with get_default_graph().name_scope("resize_image_with_crop_or_pad"):
        image, was_stack = _as_stack(image)
        checks = _image_checks(image) + _check(target_width > 0, "target_width must be > 0.")
        checks += _check(target_height > 0, "target_height must be > 0.")
        image = with_dependencies(checks, image)
        batch, height, width, depth = _sizes(image)
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
        return _finished(padded, [batch, target_height, target_width, depth], was_stack)


resize_with_crop_or_pad = resize_image_with_crop_or_pad


def central_crop(image: Any, central_fraction: Any) -> Tensor:
    """The middle part of an image, or of a stack of them; ``central_fraction`` of its height and width.

    Raises:
        ValueError: The fraction is not in (0, 1], or another rank.

    Follows: ``tf.image.central_crop``.
    """
    with get_default_graph().name_scope("central_crop"):
        pixels = convert_to_tensor(image, name="image")
        fraction = get_static_value(central_fraction)
        if fraction is not None and not 0.0 < fraction <= 1.0:
            raise ValueError("central_fraction must be within (0, 1]")
        if fraction == 1.0:
            return pixels
        if pixels.ndim not in (3, 4):
            raise ValueError(f"an image must have rank 3 or 4, got shape {pixels.shape}")
        _image_checks(pixels)
        first = pixels.ndim - 3
        edges = [
            _margin(pixels, axis, central_fraction if fraction is None else fraction) for axis in (first, first + 1)
        ]
        begin = [0] * first + [edge for edge, _ in edges] + [0]
        size = [-1] * first + [length for _, length in edges] + [-1]
        cropped = cut(pixels, stack(begin), stack(size))
        known = [None if _is_node(length) else length for _, length in edges]
        cropped.set_shape([*pixels.get_shape()[:first], *known, pixels.get_shape()[-1]])
        return cropped  # type: ignore[no-any-return]


def _margin(image: Tensor, axis: int, fraction: Any) -> tuple[Any, Any]:
    """(What is cut off at one side, what is left) of an axis."""
    assert image.known_dims is not None
    size = image.known_dims[axis]
    if size is not None and not _is_node(fraction):
        margin: Any = int((size - size * float(fraction)) / 2)
        return margin, size - margin * 2
    length = shape(image)[axis] if size is None else size
    wide = cast(length, dtypes.float64)
    margin = cast((wide - wide * cast(fraction, dtypes.float64)) / 2, dtypes.int32)
    return margin, length - margin * 2


def resize_images(
    images: Any,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Tensor:
    """Images of another size; float32, except with the nearest-neighbour method.

    Where the size is known to be the same already, the images themselves (of any type).

    Args:
        images: An image (height, width, channels), or a stack of them; its rank must be known.
        size: (height, width), int32.
        method: One of `ResizeMethod`, or "bilinear", "nearest", "bicubic", "area".
        align_corners: The corner pixels keep their values.
        preserve_aspect_ratio: Make them as large as fits into ``size``.
        name: Begins the names of the nodes.

    Raises:
        ValueError: An unknown or other rank, another method, or a size that is none.

    Follows: ``tf.image.resize_images``: no antialiasing, no half-pixel centres.
    """
    with get_default_graph().name_scope(name or "resize"):
        images = convert_to_tensor(images, name="images")
        if images.ndim is None:
            raise ValueError("'images' contains no shape: tell it with set_shape")
        images, was_stack = _as_stack(images)
        _, height, width, channels = images.known_dims or (None,) * 4
        size = _size_tensor(size)
        if preserve_aspect_ratio:
            size = _within(images, size)
        new_height, new_width = size.known_as_shape() or (None, None)
        if None not in (height, width) and (height, width) == (new_height, new_width):
            return images if was_stack else squeeze(images, axis=[0])
        if method not in _RESIZERS:
            raise ValueError(f"Resize method is not implemented: {method}")
        out = apply(_RESIZERS[method], images, size, align_corners=align_corners)
        return _finished(out, [None, new_height, new_width, channels], was_stack)


resize = resize_images


def _size_tensor(size: Any) -> Tensor:
    try:
        tensor = convert_to_tensor(size, dtypes.int32, "size")
    except (TypeError, ValueError):
        raise ValueError(f"'size' must be a 1-D int32 Tensor, got {size!r}") from None
    if not tensor.get_shape().is_compatible_with([2]):
        raise ValueError("'size' must be a 1-D Tensor of 2 elements: new_height, new_width")
    return tensor


def _within(images: Tensor, size: Tensor) -> Tensor:
    _, height, width, _ = _sizes(images)
    rows, columns = (cast(each, dtypes.float32) for each in (height, width))
    wanted = cast(size, dtypes.float32)
    scale = minimum(wanted[0] / rows, wanted[1] / columns)
    return stack([cast(rounded(scale * each), dtypes.int32) for each in (rows, columns)])
