"""Flipping, rotation, cropping and padding of one image or a stack of images."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims, text
from mpqueue.tf1.compat.ops.dtypes import float32
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of
from mpqueue.tf1.compat.ops.registry import INDEX, op
from mpqueue.tf1.runs.axes import of_images


def checked_image(dims: Dims) -> Dims:
    """Check the shape of an image or a stack of images.

    Raises:
        ValueError: The rank is not 3 or 4, or a size is 0.
    """
    if dims is not None and (len(dims) not in (3, 4) or 0 in dims[-3:]):
        raise ValueError(f"Expected 3 axes for an image or 4 for a stack, none of size 0, got shape {text(dims)}")
    return dims


def _with_size(dims: Dims, height: int | None, width: int | None) -> Dims:
    """Return the shape with another height and width; an unknown rank is treated as one image."""
    return (height, width, None) if dims is None else (*dims[:-3], height, width, dims[-1])


def _flipping(name: str, public: str, axis: int, what: str) -> None:
    text = f"""Swap {what} of an image (height, width, channels) or a stack of images.

Raises:
    ValueError: The rank is not 3 or 4, or a size is 0.
"""

    @op(
        name,
        "image: T -> T",
        f"image.{public}(image)",
        infer=lambda image: checked_image(image.known_dims),
        doc=text,
        rows=of_images,
    )
    def flip(image: Array) -> Array:
        checked_image(image.shape)
        return np.flip(image, axis)


_flipping("FlipLeftRight", "flip_left_right", -2, "left and right")
_flipping("FlipUpDown", "flip_up_down", -3, "top and bottom")


def _turned(image: Known, *, k: int) -> Dims:
    dims = checked_image(image.known_dims)
    return dims if dims is None or k % 2 == 0 else _with_size(dims, dims[-2], dims[-3])


@op("Rot90", "image: T -> T", infer=_turned, rows=of_images)
def rot90(image: Array, *, k: int) -> Array:
    """Rotate ``k`` times by 90 degrees counter-clockwise."""
    checked_image(image.shape)
    return np.rot90(image, k, (-3, -2))


@op("TransposeImage", "image: T -> T", "image.transpose_image", infer=partial(_turned, k=1), rows=of_images)
def transpose_image(image: Array) -> Array:
    """Swap height and width of an image or a stack of images."""
    checked_image(image.shape)
    return image.swapaxes(-2, -3)


def _check_window(lengths: Iterable[int | None], starts: Iterable[int | None], wholes: Iterable[int | None]) -> None:
    """Raise an error if a window is known not to be inside the whole."""
    for length, start, whole in zip(lengths, starts, wholes, strict=True):
        if (length is not None and length <= 0) or (start is not None and start < 0):
            raise ValueError(f"offsets must be >= 0 and sizes > 0, got {start} and {length}")
        if length is not None and start is not None and whole is not None and start + length > whole:
            raise ValueError(f"The window must be within {whole} pixels, got {length} pixels from offset {start}")


def _on_window(kind: str, name: str, *, crops: bool) -> Callable[..., Callable[..., Array]]:
    """Declare an operation on an image and a window, which is inside the image if it ``crops``, otherwise around it."""

    def infer(image: Known, *window: Known) -> Dims:
        dims, known = checked_image(image.known_dims), [int_of(each) for each in window]
        inner = (None, None) if dims is None else dims[-3:-1]
        part, whole = (known[2:], inner) if crops else (inner, known[2:])
        _check_window(part, known[:2], whole)
        return _with_size(dims, *known[2:])

    inputs = "image: T, offset_height: A[], offset_width: B[], target_height: C[], target_width: D[]"
    form = f"image.{name}(image, offset_height, offset_width, target_height, target_width)"
    types: Any = dict.fromkeys("ABCD", INDEX)
    return op(kind, f"{inputs} -> T", form, infer=infer, rows=of_images, **types)


@_on_window("CropToBoundingBox", "crop_to_bounding_box", crops=True)
def crop_to_bounding_box(image: Array, *window: Array) -> Array:
    """Crop to a window of the given size, with its top left corner at the offsets.

    Args:
        image: An image (height, width, channels), or a stack of images.
        offset_height: Rows above the window.
        offset_width: Columns left of the window.
        target_height: Rows of the window.
        target_width: Columns of the window.

    Raises:
        ValueError: The window is known not to be inside the image.
    """
    checked_image(image.shape)
    top, left, height, width = map(int, window)
    _check_window((height, width), (top, left), image.shape[-3:-1])
    return image[..., top : top + height, left : left + width, :]


@_on_window("PadToBoundingBox", "pad_to_bounding_box", crops=False)
def pad_to_bounding_box(image: Array, *window: Array) -> Array:
    """Pad with zeros to the given size, with the top left corner of the image at the offsets.

    Args:
        image: An image (height, width, channels), or a stack of images.
        offset_height: Rows of zeros above.
        offset_width: Columns of zeros to the left.
        target_height: Rows of the result.
        target_width: Columns of the result.

    Raises:
        ValueError: The image is known to exceed the given size.
    """
    checked_image(image.shape)
    top, left, height, width = map(int, window)
    _check_window(image.shape[-3:-1], (top, left), (height, width))
    below, right = height - top - image.shape[-3], width - left - image.shape[-2]
    return np.pad(image, [(0, 0)] * (image.ndim - 3) + [(top, below), (left, right), (0, 0)])


def _resized(image: Known, target_height: Known, target_width: Known) -> Dims:
    height, width = int_of(target_height), int_of(target_width)
    _check_window((height, width), (0, 0), (None, None))
    return _with_size(checked_image(image.known_dims), height, width)


@op(
    "ResizeWithCropOrPad",
    "image: T, target_height: A[], target_width: B[] -> T",
    "image.resize_image_with_crop_or_pad(image, target_height, target_width)",
    infer=_resized,
    rows=of_images,
    A=INDEX,
    B=INDEX,
)
def resize_with_crop_or_pad(image: Array, target_height: Array, target_width: Array) -> Array:
    """Crop around the center, or pad with zeros, to the given size.

    Args:
        image: An image (height, width, channels), or a stack of images.
        target_height: Rows of the result.
        target_width: Columns of the result.

    Raises:
        ValueError: The rank is not 3 or 4, or a size is 0.
    """
    checked_image(image.shape)
    have, want = np.array(image.shape[-3:-1]), np.array([target_height, target_width])
    cut = np.maximum(have - want, 0) // 2
    cropped = crop_to_bounding_box(image, *cut, *np.minimum(have, want))
    return pad_to_bounding_box(cropped, *(np.maximum(want - have, 0) // 2), *want)


def _central(image: Known, central_fraction: Known) -> Dims:
    dims, fraction = checked_image(image.known_dims), central_fraction.known_value()
    if dims is None:
        raise ValueError("central_crop requires an image of known rank 3 or 4: set it with set_shape")
    known = [None if size is None or fraction is None else size - 2 * _margin(size, fraction) for size in dims[-3:-1]]
    return _with_size(dims, *known)


def _margin(size: Any, fraction: Any) -> int:
    """Return the number of pixels to cut off at each end of an axis."""
    return int((size - size * float(fraction)) / 2)


@op("CentralCrop", "image: T, central_fraction: float64[] -> T", infer=_central, rows=of_images)
def central_crop(image: Array, central_fraction: Array) -> Array:
    """Return the central part."""
    rows, columns = (_margin(size, central_fraction) for size in image.shape[-3:-1])
    return image[..., rows : image.shape[-3] - rows, columns : image.shape[-2] - columns, :]


@op("GrayscaleToRgb", "images: T[... w 1] -> T[... w 3]", "image.grayscale_to_rgb", rows=of_images)
def grayscale_to_rgb(images: Array) -> Array:
    """Repeat the single channel three times.

    Raises:
        ValueError: The size of the last axis is known and not 1.
    """
    return np.repeat(images, 3, -1)


def _inner_checked(image: Known) -> Dims:
    checked_image(None if image.known_dims is None else image.known_dims[-3:])
    return image.known_dims


@op(
    "PerImageStandardization",
    "image: T[... h w c] -> float32",
    "image.per_image_standardization(image)",
    infer=_inner_checked,
    rows=of_images,
)
def per_image_standardization(image: Array) -> Array:
    """Scale each image to mean 0 and standard deviation 1, as float32; the deviation is at least 1/sqrt(pixels).

    Raises:
        ValueError: The image has fewer than three axes, or a size of 0.
    """
    inner = image.shape[-3:]
    checked_image(inner)
    centred = image.astype(np.float32)
    centred -= centred.mean(axis=(-3, -2, -1), keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=(-3, -2, -1), keepdims=True))
    return np.asarray(centred / np.maximum(spread, 1 / np.sqrt(np.float32(np.prod(inner)))), float32.as_numpy_dtype)
