"""Contrast, hue and saturation of images, and conversion between color spaces.

The channels are the last axis, with float values. Results have the type of the input. Any number of axes can precede
height and width. A factor or delta is a number, or an array that broadcasts with the images.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpqueue.tf1.values.conversion import invalid

Pixels = NDArray[Any]

_GREY: Final = np.array([0.2989, 0.587, 0.114], np.float32)  # luminance of red, green and blue


def adjust_contrast(images: Pixels, contrast_factor: ArrayLike) -> Pixels:
    """Multiply each channel's distance from its mean over the image by a factor."""
    mean = images.mean(axis=(-3, -2), keepdims=True, dtype=np.float32)
    return np.array((images.astype(np.float32) - mean) * contrast_factor + mean, images.dtype)


def _range(images: Pixels) -> tuple[Pixels, Pixels]:
    return images.min(-1, keepdims=True), images.max(-1, keepdims=True)


def _hue(images: Pixels, top: Pixels, spread: Pixels) -> Pixels:
    """Return the hue: the position on the color circle, from 0 to below 1."""
    red, green, blue = (images[..., n : n + 1] for n in range(3))
    unit = 1 / (6 * np.where(spread > 0, spread, 1))
    hue = np.where(
        red == top,
        unit * (green - blue),
        np.where(green == top, unit * (blue - red) + 2 / 6, unit * (red - green) + 4 / 6),
    )
    hue = np.where(spread > 0, hue, 0)
    return np.where(hue < 0, hue + 1, hue)


def _shares(hue: Pixels) -> Pixels:
    """Return the fractions of the spread that red, green and blue have for a hue."""
    six = hue * 6
    return np.clip(np.concatenate([np.abs(six - 3) - 1, 2 - np.abs(six - 2), 2 - np.abs(six - 4)], -1), 0, 1)  # type: ignore[no-any-return]


def adjust_hue(images: Pixels, delta: ArrayLike) -> Pixels:
    """Rotate all colors on the color circle; a delta of 1 is a full turn.

    Raises:
        InvalidArgumentError: There are not three channels.
    """
    if images.shape[-1] != 3:
        invalid(f"The last axis must have size 3 (red, green, blue), got shape {list(images.shape)}")
    wide = images.astype(np.float32)
    low, high = _range(wide)
    hue = np.mod(_hue(wide, high, high - low) + delta, 1)
    return np.array(low + _shares(hue) * (high - low), images.dtype)


def adjust_saturation(images: Pixels, scale: ArrayLike) -> Pixels:
    """Multiply the saturation of all colors by a factor, with a maximum of 1."""
    hsv = rgb_to_hsv(images.astype(np.float32))
    hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
    return hsv_to_rgb(hsv).astype(images.dtype)


def rgb_to_hsv(images: Pixels) -> Pixels:
    """Convert RGB to hue, saturation and value, each from 0 to 1."""
    low, high = _range(images)
    spread = high - low
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    return np.concatenate([_hue(images, high, spread), saturation, high], -1).astype(images.dtype)


def hsv_to_rgb(images: Pixels) -> Pixels:
    """Convert hue, saturation and value to RGB: the inverse of `rgb_to_hsv`."""
    hue, saturation, value = (images[..., n : n + 1] for n in range(3))
    return np.array((1 - saturation + saturation * _shares(hue)) * value, images.dtype)


def rgb_to_grayscale(images: Pixels) -> Pixels:
    """Convert RGB to one channel with the luminance."""
    return images @ _GREY[:, None]
