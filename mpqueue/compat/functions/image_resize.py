"""Images of another size."""

from typing import Any, ClassVar, Final

from mpqueue.compat.functions.array_join import stack
from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_stack import as_stack, finished, sizes
from mpqueue.compat.functions.math import cast
from mpqueue.compat.functions.math import round as rounded
from mpqueue.compat.graph import Tensor, apply, convert_to_tensor
from mpqueue.compat.ops import dtypes


class ResizeMethod:
    """The methods by which `resize_images` makes new pixels.

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


@public("image.resize_images", scope="resize")
def resize_images(
    images: Tensor,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
) -> Tensor:
    """Images of another size; float32, except with the nearest-neighbour method.

    There is no antialiasing, and there are no half-pixel centres, unlike in TensorFlow 2.
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
    """
    if images.ndim is None:
        raise ValueError("'images' contains no shape: tell it with set_shape")
    images, was_stack = as_stack(images)
    _, height, width, channels = images.known_dims or (None,) * 4
    size = _size_tensor(size)
    if preserve_aspect_ratio:
        size = _within(images, size)
    new_height, new_width = size.known_as_shape() or (None, None)
    if None not in (height, width) and (height, width) == (new_height, new_width):
        return images if was_stack else direct.squeeze(images, axis=[0])
    if method not in _RESIZERS:
        raise ValueError(f"Resize method is not implemented: {method}")
    out = apply(_RESIZERS[method], images, size, align_corners=align_corners)
    return finished(out, [None, new_height, new_width, channels], was_stack)


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
    _, height, width, _ = sizes(images)
    rows, columns = (cast(each, dtypes.float32) for each in (height, width))
    wanted = cast(size, dtypes.float32)
    scale = direct.minimum(wanted[0] / rows, wanted[1] / columns)
    return stack([cast(rounded(scale * each), dtypes.int32) for each in (rows, columns)])
