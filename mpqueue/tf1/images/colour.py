"""Contrast, hue and saturation of images, and other spaces of colours.

The colours are the last axis, of floats; a result has the type of its input. Any number of axes may stand before height
and width. A factor or a distance is a number, or an array that broadcasts with the images.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpqueue.tf1.values.conversion import invalid

Pixels = NDArray[Any]

_GREY: Final = np.array([0.2989, 0.587, 0.114], np.float32)  # how bright red, green and blue are


def adjust_contrast(images: Pixels, contrast_factor: ArrayLike) -> Pixels:
    """Multiply each channel's distance from its mean over the image by a factor."""
    mean = images.mean(axis=(-3, -2), keepdims=True, dtype=np.float32)
    return ((images.astype(np.float32) - mean) * contrast_factor + mean).astype(images.dtype)  # type: ignore[no-any-return]


def _range(images: Pixels) -> tuple[Pixels, Pixels]:
    return images.min(-1, keepdims=True), images.max(-1, keepdims=True)


def _hue(images: Pixels, top: Pixels, spread: Pixels) -> Pixels:
    """Return the place on the colour circle, from 0 to below 1."""
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
    """Return the shares of the spread that red, green and blue have at a place on the colour circle."""
    six = hue * 6
    return np.clip(np.concatenate([np.abs(six - 3) - 1, 2 - np.abs(six - 2), 2 - np.abs(six - 4)], -1), 0, 1)  # type: ignore[no-any-return]


def adjust_hue(images: Pixels, delta: ArrayLike) -> Pixels:
    """Move every colour round the colour circle; 1 is a whole turn.

    Raises:
        InvalidArgumentError: There are not three colours.
    """
    if images.shape[-1] != 3:
        invalid(f"the last axis must have size 3 (red, green, blue), got shape {list(images.shape)}")
    wide = images.astype(np.float32)
    low, high = _range(wide)
    hue = np.mod(_hue(wide, high, high - low) + delta, 1)
    return (low + _shares(hue) * (high - low)).astype(images.dtype)  # type: ignore[no-any-return]


def adjust_saturation(images: Pixels, scale: ArrayLike) -> Pixels:
    """Multiply every colour's saturation by a factor; it becomes at most 1."""
    hsv = rgb_to_hsv(images.astype(np.float32))
    hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
    return hsv_to_rgb(hsv).astype(images.dtype)


def rgb_to_hsv(images: Pixels) -> Pixels:
    """Return hue, saturation and value of colours, each from 0 to 1."""
    low, high = _range(images)
    spread = high - low
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    return np.concatenate([_hue(images, high, spread), saturation, high], -1).astype(images.dtype)


def hsv_to_rgb(images: Pixels) -> Pixels:
    """Return the colours of a hue, saturation and value: the reverse of `rgb_to_hsv`."""
    hue, saturation, value = (images[..., n : n + 1] for n in range(3))
    return ((1 - saturation + saturation * _shares(hue)) * value).astype(images.dtype)  # type: ignore[no-any-return]


def rgb_to_grayscale(images: Pixels) -> Pixels:
    """Return the brightness of each colour, as one channel."""
    return images @ _GREY[:, None]
