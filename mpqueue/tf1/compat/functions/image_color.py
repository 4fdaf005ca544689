"""Color spaces and types of images."""

import math
from collections.abc import Callable
from typing import Any

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.math import add, cast, saturate_cast
from mpqueue.tf1.compat.functions.random import random_uniform
from mpqueue.tf1.compat.graph import Tensor, apply, get_default_graph
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import DType


@public("image.convert_image_dtype")
def convert_image_dtype(image: Tensor, dtype: DType, saturate: bool = False, name: str | None = None) -> Tensor:
    """Convert an image to another type and scale its values: floats to [0, 1], integers to [0, maximum of the type].

    Args:
        image: The image.
        dtype: A float or integer type.
        saturate: Clip values outside of the range instead of wrapping around.

    Raises:
        AttributeError: One of the types is neither a float nor an integer type.
    """
    own = image.dtype.base_dtype
    for kind in (dtype, own):
        if not kind.is_floating and not kind.is_integer:
            raise AttributeError(f"an image must be of floating point or integer type, got {kind.name}")
    if own is dtype:
        return apply("Identity", image, name=name)
    with get_default_graph().name_scope(name or "convert_image") as scope:
        into: Callable[..., Tensor] = saturate_cast if saturate else cast
        if own.is_integer and dtype.is_integer:
            return _rescaled(image, own, dtype, into, scope)
        if own.is_floating and dtype.is_floating:
            return apply("Cast", image, DstT=dtype, name=scope)
        if own.is_integer:
            return direct.multiply(cast(image, dtype), 1.0 / own.max, name=scope)
        return into(direct.multiply(image, dtype.max + 0.5), dtype, scope)


def _rescaled(image: Tensor, own: DType, target: DType, into: Callable[..., Tensor], scope: str) -> Tensor:
    if own.max > target.max:
        return into(direct.floordiv(image, (int(own.max) + 1) // (int(target.max) + 1)), target, scope)
    return direct.multiply(into(image, target), (int(target.max) + 1) // (int(own.max) + 1), name=scope)


def _as_floats(image: Tensor) -> Tensor:
    """Convert an image to float32, unless it is float32 or float16."""
    small = image.dtype.base_dtype in (dtypes.float16, dtypes.float32)
    return image if small else convert_image_dtype(image, dtypes.float32)


@public("image.adjust_brightness(...)", scope="adjust_brightness")
def adjust_brightness(image: Tensor, delta: Any) -> Tensor:
    """Add ``delta`` to all pixels, on a scale from 0 to 1; integer types are clipped."""
    floats = _as_floats(image)
    return convert_image_dtype(add(floats, cast(delta, floats.dtype)), image.dtype, saturate=True)


@public("image.adjust_contrast(...)", scope="adjust_contrast")
def adjust_contrast(images: Tensor, contrast_factor: Any) -> Tensor:
    """Scale each channel's distance from its mean over the image by a factor; integer types are clipped."""
    made = apply("AdjustContrastv2", _as_floats(images), contrast_factor)
    return convert_image_dtype(made, images.dtype, saturate=True)


@public("image.adjust_hue", scope="adjust_hue")
def adjust_hue(image: Tensor, delta: Any) -> Tensor:
    """Rotate all colors on the color circle; a ``delta`` of 1 is a full turn."""
    return convert_image_dtype(apply("AdjustHue", _as_floats(image), delta), image.dtype)


@public("image.adjust_saturation", scope="adjust_saturation")
def adjust_saturation(image: Tensor, saturation_factor: Any) -> Tensor:
    """Multiply the saturation of all colors by a factor."""
    return convert_image_dtype(apply("AdjustSaturation", _as_floats(image), saturation_factor), image.dtype)


@public("image.adjust_gamma(...)", scope="adjust_gamma")
def adjust_gamma(image: Tensor, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """Compute ``gain * pixel ** gamma`` for pixels from 0 to 1.

    Raises:
        ValueError: ``gamma`` is below 0.
    """
    if not isinstance(gamma, Tensor) and gamma < 0:
        raise ValueError("Gamma should be a non-negative real number.")
    return convert_image_dtype(gain * _as_floats(image) ** gamma, image.dtype, saturate=True)


def _by_delta(adjust: Callable[..., Tensor], most: float) -> Callable[..., Tensor]:
    name = adjust.__name__.removeprefix("adjust_")
    text = f"""Apply `adjust_{name}` with a random delta in [-max_delta, max_delta].

Raises:
    ValueError: ``max_delta`` is not in [0, {most}].
"""

    @public(f"image.random_{name}(...)", doc=text)
    def function(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
        if not 0 <= max_delta <= most:
            raise ValueError(f"max_delta must be in [0, {most}], got {max_delta}")
        return adjust(image, random_uniform([], -max_delta, max_delta, seed=seed))

    return function


def _by_factor(adjust: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = adjust.__name__.removeprefix("adjust_")
    text = f"""Apply `adjust_{name}` with a random factor in [lower, upper).

Raises:
    ValueError: ``lower`` is negative, or not less than ``upper``.
"""

    @public(f"image.random_{name}(...)", doc=text)
    def function(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
        if not 0 <= lower < upper:
            raise ValueError(f"lower and upper must satisfy 0 <= lower < upper, got {lower} and {upper}")
        return adjust(image, random_uniform([], lower, upper, seed=seed))

    return function


random_brightness = _by_delta(adjust_brightness, math.inf)
random_hue = _by_delta(adjust_hue, 0.5)
random_contrast = _by_factor(adjust_contrast)
random_saturation = _by_factor(adjust_saturation)


@public("image.rgb_to_grayscale", scope="rgb_to_grayscale")
def rgb_to_grayscale(images: Tensor) -> Tensor:
    """Convert RGB to one channel with the luminance of each pixel, of the same type.

    Raises:
        ValueError: The size of the last axis is known and not 3.
    """
    grey = apply("RGBToGrayscale", convert_image_dtype(images, dtypes.float32))
    return convert_image_dtype(grey, images.dtype)
