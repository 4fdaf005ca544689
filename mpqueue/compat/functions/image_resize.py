"""Images of another size."""

from typing import Any, ClassVar, Final

from mpqueue.compat.functions.array import shape
from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.math import cast
from mpqueue.compat.functions.math import round as rounded
from mpqueue.compat.functions.reduce import reduce_min
from mpqueue.compat.graph import Tensor, apply, convert_to_tensor
from mpqueue.compat.ops import dtypes


class ResizeMethod:
    """The methods by which `resize_images` makes new pixels."""

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
    if images.ndim not in (3, 4):
        raise ValueError(f"an image (shape {images.shape}) must have either 3 or 4 dimensions.")
    *_, height, width, channels = images.known_dims or ()
    size = _size_tensor(size)
    if preserve_aspect_ratio:
        size = _within(images, size)
    new_height, new_width = size.known_as_shape() or (None, None)
    if None not in (height, width) and (height, width) == (new_height, new_width):
        return images
    if method not in _RESIZERS:
        raise ValueError(f"Resize method is not implemented: {method}")
    stack = images if images.ndim == 4 else direct.expand_dims(images, 0)
    out = apply(_RESIZERS[method], stack, size, align_corners=align_corners)
    out.set_shape([None, new_height, new_width, channels])
    return out if images.ndim == 4 else direct.squeeze(out, axis=[0])


def _size_tensor(size: Any) -> Tensor:
    try:
        tensor = convert_to_tensor(size, dtypes.int32, "size")
    except (TypeError, ValueError):
        raise ValueError(f"'size' must be a 1-D int32 Tensor, got {size!r}") from None
    if not tensor.get_shape().is_compatible_with([2]):
        raise ValueError("'size' must be a 1-D Tensor of 2 elements: new_height, new_width")
    return tensor


def _within(images: Tensor, size: Tensor) -> Tensor:
    have, wanted = cast(shape(images)[-3:-1], dtypes.float32), cast(size, dtypes.float32)
    return cast(rounded(reduce_min(wanted / have) * have), dtypes.int32)  # type: ignore[no-any-return]
