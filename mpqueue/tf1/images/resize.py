"""Image resizing as in TensorFlow 1: without antialiasing, and by default without half-pixel centers.

An output pixel ``n`` is sampled at input position ``n * scale``, where ``scale`` is input size / output size, or with
``align_corners`` (input size - 1) / (output size - 1). With ``half_pixel_centers``, the position is
``(n + 0.5) * scale - 0.5``. All computations use float32, as in TensorFlow. Each function takes a stack of images of
shape (number, height, width, channels), and the new (height, width).
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpqueue.tf1.values.conversion import invalid

Pixels = NDArray[Any]

_TABLE_SIZE: Final = 1024  # the cubic weights are looked up in steps of 1/1024
_HALF: Final = np.float32(0.5)


def _checked(images: Pixels, size: Sequence[int]) -> tuple[int, int]:
    height, width = map(int, size)
    if height <= 0 or width <= 0:
        invalid(f"Output dimensions must be positive, got {[height, width]}")
    if not images.size:
        invalid(f"Input image must be of non-zero size, got shape {list(images.shape)}")
    return height, width


def _scale(have: int, want: int, align_corners: bool) -> np.float32:
    if align_corners and want > 1:
        return np.float32(have - 1) / np.float32(want - 1)
    return np.float32(have) / np.float32(want)


def _places(have: int, want: int, align_corners: bool, half_pixel_centers: bool) -> Pixels:
    """Return the sampled input position of each output pixel."""
    scale, numbers = _scale(have, want, align_corners), np.arange(want, dtype=np.float32)
    return (numbers + _HALF) * scale - _HALF if half_pixel_centers else numbers * scale


class _Neighbours(NamedTuple):
    """The two input pixels along an axis that surround the sampled position of each output pixel.

    Attributes:
        lower: Indices of the pixels before the position, or a slice.
        upper: Indices of the pixels after the position, or a slice.
        share: Relative position between the two pixels.
    """

    lower: Pixels | slice
    upper: Pixels | slice
    share: Pixels


@lru_cache
def _neighbours(have: int, want: int, align_corners: bool, half_pixel_centers: bool) -> _Neighbours:
    places = _places(have, want, align_corners, half_pixel_centers)
    floor = np.floor(places)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(places), have - 1).astype(np.int64)
    return _Neighbours(lower, upper, (places - floor).astype(np.float32))


def bilinear(
    images: Pixels, size: Sequence[int], *, align_corners: bool = False, half_pixel_centers: bool = False
) -> Pixels:
    """Interpolate between the four nearest pixels; returns float32."""
    neighbours = []
    for axis, want in enumerate(_checked(images, size), 1):
        between = _neighbours(images.shape[axis], want, align_corners, half_pixel_centers)
        if 2 * want < images.shape[axis]:  # only sampled pixels have to be converted to float32
            images = images.take(np.concatenate([between.lower, between.upper]), axis)
            between = _Neighbours(slice(want), slice(want, None), between.share)
        neighbours.append(between)
    for axis, between in enumerate(neighbours, 1):
        images = _between(images, axis, between)
    return images


def _between(image: Pixels, axis: int, between: _Neighbours) -> Pixels:
    """Interpolate between neighbors along an axis."""
    low, high = (_picked(image, axis, places).astype(np.float32, copy=False) for places in between[:2])
    line = [1] * image.ndim
    line[axis] = len(between.share)
    share = between.share.reshape(line)
    if axis == image.ndim - 2:  # repeat per channel, so that NumPy processes long contiguous rows
        share = np.repeat(share, image.shape[-1], -1)
    values = high - low
    values *= share
    values += low
    return values


def _picked(image: Pixels, axis: int, places: Pixels | slice) -> Pixels:
    if isinstance(places, slice):
        return image[(slice(None),) * axis + (places,)]
    return image.take(places, axis)


def nearest_neighbor(
    images: Pixels, size: Sequence[int], *, align_corners: bool = False, half_pixel_centers: bool = False
) -> Pixels:
    """Return the pixel to the left and above, or the nearest one with ``align_corners``; the type is unchanged."""
    for axis, want in enumerate(_checked(images, size), 1):
        images = _nearest(images, axis, want, align_corners, half_pixel_centers)
    return images


def _nearest(image: Pixels, axis: int, want: int, align_corners: bool, half_pixel_centers: bool) -> Pixels:
    """Select the nearest neighbors along an axis."""
    have = image.shape[axis]
    numbers = np.arange(want, dtype=np.float32) + (_HALF if half_pixel_centers else np.float32(0))
    places = numbers * _scale(have, want, align_corners)
    nearest = np.floor(places + _HALF) if align_corners else np.floor(places)
    return np.asarray(image.take(np.clip(nearest, 0, have - 1).astype(np.int64), axis))


@cache
def _cubic_weights(sharpness: float) -> Pixels:
    """Return the weights at distances 0 to 1 (column 0) and 1 to 2 (column 1), in steps of 1/1024."""
    a, near = np.float32(sharpness), np.arange(_TABLE_SIZE + 1, dtype=np.float32) / np.float32(_TABLE_SIZE)
    far = near + np.float32(1)
    return np.stack(
        [((a + 2) * near - (a + 3)) * near * near + 1, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a], axis=1
    ).astype(np.float32)


def bicubic(
    images: Pixels, size: Sequence[int], *, align_corners: bool = False, half_pixel_centers: bool = False
) -> Pixels:
    """Interpolate the sixteen nearest pixels with cubic weights; returns float32."""
    for axis, want in enumerate(_checked(images, size), 1):
        images = _cubic(images, axis, want, align_corners, half_pixel_centers)
    return images


def _cubic(image: Pixels, axis: int, want: int, align_corners: bool, half_pixel_centers: bool) -> Pixels:
    """Sum four weighted neighbors along an axis. With half-pixel centers, pixels outside the image have no weight."""
    places = _places(image.shape[axis], want, align_corners, half_pixel_centers)
    table = _cubic_weights(-0.5 if half_pixel_centers else -0.75)
    first = np.floor(places).astype(np.int64)
    step = np.rint((places - first) * _TABLE_SIZE).astype(np.int64)
    weights = np.stack([table[step, 1], table[step, 0], table[_TABLE_SIZE - step, 0], table[_TABLE_SIZE - step, 1]])
    neighbours = first + np.arange(-1, 3)[:, None]
    inside = np.clip(neighbours, 0, image.shape[axis] - 1)
    if half_pixel_centers:
        weights = np.where(inside == neighbours, weights, np.float32(0))
        weights = weights / weights.sum(axis=0)
    line = [-1 if n == axis else 1 for n in range(image.ndim)]
    parts = [image.take(at, axis).astype(np.float32) * w.reshape(line) for at, w in zip(inside, weights, strict=True)]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float32))


def _area_weights(have: int, want: int, align_corners: bool) -> Pixels:
    """Return a row per output pixel: the fraction of its width that each input pixel covers."""
    scale = _scale(have, want, align_corners)
    weights = np.zeros((want, have), np.float32)
    for place in range(want):
        start, stop = np.float32(place) * scale, np.float32(place + 1) * scale
        for pixel in range(int(np.floor(start)), int(np.ceil(stop))):
            under = min(np.float32(pixel + 1), stop) - max(np.float32(pixel), start)
            weights[place, min(max(pixel, 0), have - 1)] += under / scale
    return weights


def area(images: Pixels, size: Sequence[int], *, align_corners: bool = False) -> Pixels:
    """Return the mean of the area that each output pixel covers; float32."""
    height, width = _checked(images, size)
    down = _area_weights(images.shape[1], height, align_corners)
    across = _area_weights(images.shape[2], width, align_corners)
    made = np.einsum("ph,bhwc,qw->bpqc", down, images.astype(np.float32), across, optimize=True)
    return np.asarray(made)
