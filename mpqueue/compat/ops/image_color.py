"""Contrast, hue and saturation of images, by the functions of `mpqueue.images.colour`."""

from typing import Final

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.registry import FLOATS, Types, op
from mpqueue.images import colour

_SMALL_FLOATS: Final = Types((dtypes.float16, dtypes.float32), dtypes.float32)
_SPACE: Final = Types(FLOATS, dtypes.float32)

_SAME = "T[... h w c]"
op("AdjustContrastv2", f"images: {_SAME}, contrast_factor: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_contrast)
op("AdjustHue", f"images: {_SAME}, delta: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_hue)
op("AdjustSaturation", f"images: {_SAME}, scale: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_saturation)
op("RGBToHSV", "images: T[... 3] -> T[... 3]", "image.rgb_to_hsv", T=_SPACE)(colour.rgb_to_hsv)
op("HSVToRGB", "images: T[... 3] -> T[... 3]", "image.hsv_to_rgb", T=_SPACE)(colour.hsv_to_rgb)
op("RGBToGrayscale", "images: float32[... 3] -> float32[... 1]")(colour.rgb_to_grayscale)
