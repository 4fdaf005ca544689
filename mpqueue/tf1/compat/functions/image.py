"""Image decoding, rotation, cropping and resizing by several operations; `direct` has the other functions."""

from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np

from mpqueue.tf1.compat.functions.array import shape
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.image_color import convert_image_dtype
from mpqueue.tf1.compat.functions.math import cast
from mpqueue.tf1.compat.functions.math import round as rounded
from mpqueue.tf1.compat.functions.random import Generator, random_node
from mpqueue.tf1.compat.functions.reduce import reduce_min
from mpqueue.tf1.compat.graph import Tensor, apply, convert_to_tensor, get_static_value
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.image_geometry import checked_image


@public("image.decode_image(contents, channels=None, dtype=uint8, name, expand_animations=True)")
def decode_image(
    contents: Any, channels: int | None, dtype: DType, name: str | None, expand_animations: bool
) -> Tensor:
    """Decode a JPEG, PNG, GIF or BMP file, and detect its format.

    Args:
        contents: The contents of the file, a scalar string.
        channels: None or 0 for the channels of the file, or 1, 3, or 4.
        dtype: A float or integer type; the values are scaled as by `convert_image_dtype`.
        expand_animations: Return the frames of a GIF along a first axis instead of only the first frame. The rank of
            the result is then unknown.
    """
    own = dtype if dtype in (dtypes.uint8, dtypes.uint16, dtypes.float32) else dtypes.uint16
    options = {"channels": channels or 0, "dtype": own, "expand_animations": expand_animations}
    image = apply("DecodeImage", contents, name=name, **options)
    return image if own is dtype else convert_image_dtype(image, dtype)


@public("image.is_jpeg")
def is_jpeg(contents: Any, name: str | None = None) -> Tensor:
    """Return whether strings start like a JPEG file."""
    return direct.equal(direct.substr(contents, 0, 3), b"\xff\xd8\xff", name=name)


@public("image.rot90(image, k=1, name)")
def rot90(image: Any, k: Any, name: str | None) -> Tensor:
    """Rotate ``k`` times by 90 degrees counter-clockwise; in mpqueue, ``k`` is a Python integer."""
    return apply("Rot90", image, k=int(get_static_value(k)), name=name)


@public("image.central_crop(...)")
def central_crop(image: Tensor, central_fraction: Any) -> Tensor:
    """Crop the central part, ``central_fraction`` of the height and width, of an image or a stack of images.

    Raises:
        ValueError: The fraction is not in (0, 1], or the rank is not 3 or 4.
    """
    fraction = get_static_value(central_fraction)
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ValueError("central_fraction must be within (0, 1]")
    if fraction == 1.0:
        return image
    return apply("CentralCrop", image, cast(central_fraction, dtypes.float64) if fraction is None else fraction)


def _randomly_flipping(name: str, axis: int) -> Callable[..., Tensor]:
    text = f"Apply `{name}` in half of the runs, at random; in a stack, independently for each image."

    @public(f"image.random_{name}(...)", doc=text)
    def function(image: Any, seed: int | None = None) -> Tensor:
        image = convert_to_tensor(image, name="image")

        def flipped(generator: Generator, image: np.ndarray) -> np.ndarray:
            checked_image(image.shape)
            chances = generator.draw("random", (*image.shape[:-3], 1, 1, 1))
            return np.where(chances < 0.5, np.flip(image, axis), image)

        output = (image.dtype.base_dtype, checked_image(image.known_dims))
        return random_node(f"Random_{name}", [image], output, seed, None, flipped)

    return function


random_flip_left_right = _randomly_flipping("flip_left_right", -2)
random_flip_up_down = _randomly_flipping("flip_up_down", -3)


class ResizeMethod:
    """The interpolation methods of `resize_images`."""

    BILINEAR: ClassVar[int] = 0
    NEAREST_NEIGHBOR: ClassVar[int] = 1
    BICUBIC: ClassVar[int] = 2
    AREA: ClassVar[int] = 3


_BY_NAME: Final = {
    "bilinear": "ResizeBilinear",
    "nearest": "ResizeNearestNeighbor",
    "bicubic": "ResizeBicubic",
    "area": "ResizeArea",
}
_RESIZERS: Final[dict[Any, str]] = _BY_NAME | dict(enumerate(_BY_NAME.values()))  # in the order of `ResizeMethod`


@public("image.resize_images", scope="resize")
def resize_images(
    images: Tensor,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
) -> Tensor:
    """Resize images; the result is float32, except with the nearest-neighbor method.

    Unlike TensorFlow 2, this function uses neither antialiasing nor half-pixel centers.
    If the size is statically known to be unchanged, the images themselves are returned, of any type.

    Args:
        images: An image (height, width, channels), or a stack of images; the rank must be known.
        size: (height, width), int32.
        method: One of `ResizeMethod`, or "bilinear", "nearest", "bicubic", "area".
        align_corners: Preserve the values of the corner pixels.
        preserve_aspect_ratio: Resize to the largest size within ``size`` that keeps the aspect ratio.
        name: Prefix of the names of the nodes.

    Raises:
        ValueError: The rank is unknown or not 3 or 4, the method is unknown, or ``size`` is not a size.
    """
    if images.ndim is None:
        raise ValueError("'images' contains no shape: set it with set_shape")
    if images.ndim not in (3, 4):
        raise ValueError(f"images must have 3 or 4 dimensions, got shape {images.shape}")
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
    current, limit = cast(shape(images)[-3:-1], dtypes.float32), cast(size, dtypes.float32)
    size_within: Tensor = cast(rounded(reduce_min(limit / current) * current), dtypes.int32)
    return size_within
