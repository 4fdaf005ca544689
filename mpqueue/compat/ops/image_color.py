"""Brightness, contrast, hue and saturation of images: the colours are the last axis."""

from typing import Any, Final

import numpy as np

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import Dims
from mpqueue.compat.ops.infer import invalid
from mpqueue.compat.ops.registry import FLOATS, Known, Types, op

_SMALL_FLOATS: Final = Types((dtypes.float16, dtypes.float32), dtypes.float32)
_GREY: Final = np.array([0.2989, 0.587, 0.114], np.float32)  # how bright red, green and blue are


def _image(images: Known, *_others: Known, **_attrs: Any) -> Dims:
    dims = images.known_dims
    if dims is not None and len(dims) < 3:
        raise ValueError(f"an image must be at least rank 3 but is rank {len(dims)}")
    return dims


def _check_colours(images: np.ndarray) -> None:
    if images.ndim < 3 or images.shape[-1] != 3:
        invalid(f"the last axis must have size 3 (red, green, blue), got shape {list(images.shape)}")


@op("AdjustContrastv2", "images: T, contrast_factor: float32 -> T", T=_SMALL_FLOATS, infer=_image)
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


@op("AdjustHue", "images: T, delta: float32 -> T", T=_SMALL_FLOATS, infer=_image)
def adjust_hue(images: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Every colour moved round the colour circle; 1 is a whole turn."""
    _check_colours(images)
    wide = images.astype(np.float32)
    low, high = _range(wide)
    hue = np.mod(_hue(wide, high, high - low) + delta, 1)
    return (low + _shares(hue) * (high - low)).astype(images.dtype)  # type: ignore[no-any-return]


@op("AdjustSaturation", "images: T, scale: float32 -> T", T=_SMALL_FLOATS, infer=_image)
def adjust_saturation(images: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Every colour's saturation times a factor, at most 1."""
    _check_colours(images)
    hsv = rgb_to_hsv(images.astype(np.float32))
    hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
    return hsv_to_rgb(hsv).astype(images.dtype)  # type: ignore[no-any-return]


def _colours(images: Known) -> Dims:
    dims = images.known_dims
    if dims is not None and (not dims or dims[-1] not in (None, 3)):
        raise ValueError(f"the last axis must have size 3, got {dims}")
    return None if dims is None else (*dims[:-1], 3)


@op("RGBToHSV", "images: T -> T", "image.rgb_to_hsv", T=Types(FLOATS, dtypes.float32), infer=_colours)
def rgb_to_hsv(images: np.ndarray) -> np.ndarray:
    """Hue, saturation and value, each from 0 to 1."""
    low, high = _range(images)
    spread = high - low
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    return np.concatenate([_hue(images, high, spread), saturation, high], -1).astype(images.dtype)


@op("HSVToRGB", "images: T -> T", "image.hsv_to_rgb", T=Types(FLOATS, dtypes.float32), infer=_colours)
def hsv_to_rgb(images: np.ndarray) -> np.ndarray:
    """The reverse of `rgb_to_hsv`."""
    hue, saturation, value = (images[..., n : n + 1] for n in range(3))
    return ((1 - saturation + saturation * _shares(hue)) * value).astype(images.dtype)  # type: ignore[no-any-return]


def _grey(images: Known) -> Dims:
    dims = _colours(images)
    return None if dims is None else (*dims[:-1], 1)


@op("RGBToGrayscale", "images: float32 -> float32", infer=_grey)
def rgb_to_grayscale(images: np.ndarray) -> np.ndarray:
    """The brightness of each colour."""
    if not images.ndim or images.shape[-1] != 3:
        invalid(f"the last axis must have size 3 (red, green, blue), got shape {list(images.shape)}")
    return images @ _GREY[:, None]
