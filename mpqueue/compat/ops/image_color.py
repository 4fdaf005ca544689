"""Brightness, contrast, hue and saturation of images: the colours are the last axis."""

from typing import Final

import numpy as np

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.infer import invalid
from mpqueue.compat.ops.registry import FLOATS, Types, op

_SMALL_FLOATS: Final = Types((dtypes.float16, dtypes.float32), dtypes.float32)
_GREY: Final = np.array([0.2989, 0.587, 0.114], np.float32)  # how bright red, green and blue are


@op("AdjustContrastv2", "images: T[... h w c], contrast_factor: float32 -> T[... h w c]", T=_SMALL_FLOATS)
def adjust_contrast(images: np.ndarray, contrast_factor: np.ndarray) -> np.ndarray:
    """Each channel's distance from its mean over the image, times a factor."""
    mean = images.mean(axis=(-3, -2), keepdims=True, dtype=np.float32)
    return ((images.astype(np.float32) - mean) * contrast_factor + mean).astype(images.dtype)  # type: ignore[no-any-return]


def _range(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images.min(-1, keepdims=True), images.max(-1, keepdims=True)


def _hue(images: np.ndarray, top: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The place on the colour circle, from 0 to below 1."""
    red, green, blue = (images[..., n : n + 1] for n in range(3))
    unit = 1 / (6 * np.where(spread > 0, spread, 1))
    hue = np.where(
        red == top,
        unit * (green - blue),
        np.where(green == top, unit * (blue - red) + 2 / 6, unit * (red - green) + 4 / 6),
    )
    hue = np.where(spread > 0, hue, 0)
    return np.where(hue < 0, hue + 1, hue)


def _shares(hue: np.ndarray) -> np.ndarray:
    """Return the shares of the spread that red, green and blue have at a place on the colour circle."""
    six = hue * 6
    return np.clip(np.concatenate([np.abs(six - 3) - 1, 2 - np.abs(six - 2), 2 - np.abs(six - 4)], -1), 0, 1)  # type: ignore[no-any-return]


@op("AdjustHue", "images: T[... h w c], delta: float32 -> T[... h w c]", T=_SMALL_FLOATS)
def adjust_hue(images: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Every colour moved round the colour circle; 1 is a whole turn."""
    if images.shape[-1] != 3:
        invalid(f"the last axis must have size 3 (red, green, blue), got shape {list(images.shape)}")
    wide = images.astype(np.float32)
    low, high = _range(wide)
    hue = np.mod(_hue(wide, high, high - low) + delta, 1)
    return (low + _shares(hue) * (high - low)).astype(images.dtype)  # type: ignore[no-any-return]


@op("AdjustSaturation", "images: T[... h w c], scale: float32 -> T[... h w c]", T=_SMALL_FLOATS)
def adjust_saturation(images: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Every colour's saturation times a factor, at most 1."""
    hsv = rgb_to_hsv(images.astype(np.float32))
    hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
    return hsv_to_rgb(hsv).astype(images.dtype)  # type: ignore[no-any-return]


@op("RGBToHSV", "images: T[... 3] -> T[... 3]", "image.rgb_to_hsv", T=Types(FLOATS, dtypes.float32))
def rgb_to_hsv(images: np.ndarray) -> np.ndarray:
    """Hue, saturation and value, each from 0 to 1."""
    low, high = _range(images)
    spread = high - low
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    return np.concatenate([_hue(images, high, spread), saturation, high], -1).astype(images.dtype)


@op("HSVToRGB", "images: T[... 3] -> T[... 3]", "image.hsv_to_rgb", T=Types(FLOATS, dtypes.float32))
def hsv_to_rgb(images: np.ndarray) -> np.ndarray:
    """The reverse of `rgb_to_hsv`."""
    hue, saturation, value = (images[..., n : n + 1] for n in range(3))
    return ((1 - saturation + saturation * _shares(hue)) * value).astype(images.dtype)  # type: ignore[no-any-return]


@op("RGBToGrayscale", "images: float32[... 3] -> float32[... 1]")
def rgb_to_grayscale(images: np.ndarray) -> np.ndarray:
    """The brightness of each colour."""
    return images @ _GREY[:, None]
