"""Image decoding, encoding, resizing and color conversion, implemented by `mpqueue.tf1.images`."""

from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Array, Known, ints_of
from mpqueue.tf1.compat.ops.registry import FLOATS, Types, op
from mpqueue.tf1.images import colour, files, resize
from mpqueue.tf1.runs.axes import of_images, of_stacks


def _jpeg_dims(
    _contents: Known, *, channels: int, fancy_upscaling: bool, acceptable_fraction: float, dct_method: str, **_used: Any
) -> Dims:
    # Pillow has no such options of libjpeg.
    if not fancy_upscaling:
        raise ValueError("fancy_upscaling must be True: mpqueue always uses libjpeg's fancy upscaling")
    if acceptable_fraction != 1:
        raise ValueError(
            f"acceptable_fraction must be 1, got {acceptable_fraction}: use try_recover_truncated=True, which returns "
            "the available part of any truncated file"
        )
    if dct_method not in ("", "INTEGER_ACCURATE"):
        raise ValueError(f"dct_method must be '' or 'INTEGER_ACCURATE', which mpqueue always uses, got {dct_method!r}")
    return (None, None, channels or None)


@op("DecodeJpeg", "contents: string[] -> uint8", "image.decode_jpeg", infer=_jpeg_dims)
def decode_jpeg(
    contents: Array,
    *,
    channels: int = 0,
    ratio: int = 1,
    fancy_upscaling: bool = True,
    try_recover_truncated: bool = False,
    acceptable_fraction: float = 1.0,
    dct_method: str = "",
) -> Array:
    """Decode a JPEG (or PNG, or one-frame GIF) file to uint8 of shape (height, width, channels).

    Args:
        contents: The contents of the file, a scalar string.
        channels: 0 for the channels of the file, or 1 or 3.
        ratio: Factor by which the image is downscaled: 1, 2, 4 or 8.
        fancy_upscaling: Must be True.
        try_recover_truncated: Whether to return the available part of a truncated file.
        acceptable_fraction: Must be 1.
        dct_method: "" or "INTEGER_ACCURATE", which mpqueue always uses.

    Raises:
        ValueError: ``fancy_upscaling``, ``acceptable_fraction`` or ``dct_method`` has another value.
    """
    del fancy_upscaling, acceptable_fraction, dct_method  # checked by `_jpeg_dims`
    return files.decode_jpeg(contents.item(), channels, ratio, recover=try_recover_truncated)


def _png_dims(_contents: Known, *, channels: int, dtype: DType) -> Dims:
    if dtype not in (dtypes.uint8, dtypes.uint16):
        raise TypeError(f"dtype of decode_png must be uint8 or uint16, got {dtype.name}")
    return (None, None, channels or None)


@op("DecodePng", "contents: string[] -> dtype", "image.decode_png", infer=_png_dims)
def decode_png(contents: Array, *, channels: int = 0, dtype: DType = dtypes.uint8) -> Array:
    """Decode a PNG (or JPEG, or one-frame GIF) file to shape (height, width, channels).

    Args:
        contents: The contents of the file, a scalar string.
        channels: 0 for the channels of the file, or 1, 3, or 4.
        dtype: uint8 or uint16.

    Raises:
        TypeError: Another dtype.
    """
    return files.decode_png(contents.item(), channels, dtype.as_numpy_dtype)


@op("DecodeGif", "contents: string[] -> uint8[_ _ _ 3]", "image.decode_gif")
def decode_gif(contents: Array) -> Array:
    """Decode the frames of a GIF file to uint8 of shape (frames, height, width, 3)."""
    return files.decode_gif(contents.item())


@op("DecodeBmp", "contents: string[] -> uint8[_ _ channels]", "image.decode_bmp")
def decode_bmp(contents: Array, *, channels: int = 0) -> Array:
    """Decode a BMP file to uint8 of shape (height, width, channels)."""
    return files.decode_bmp(contents.item(), channels)


def _any_dims(_contents: Known, *, channels: int, expand_animations: bool, **_types: DType) -> Dims:
    return None if expand_animations else (None, None, channels or None)


@op("DecodeImage", "contents: string[] -> dtype", infer=_any_dims)
def decode_image(
    contents: Array, *, channels: int = 0, dtype: DType = dtypes.uint8, expand_animations: bool = True
) -> Array:
    """Decode a file of any of the four formats; the frames of a GIF are along the first axis."""
    return files.decode_image(contents.item(), channels, dtype.as_numpy_dtype, expand_animations)


def _encoded_jpeg(_image: Known, *, format: str, density_unit: str, **_options: Any) -> Dims:
    files.check_jpeg_words(format, density_unit)
    return ()


# Options of these functions are keyword-only parameters, and therefore attributes of the operation.
op("EncodeJpeg", "image: uint8[_ _ _] -> string", "image.encode_jpeg", infer=_encoded_jpeg)(files.encode_jpeg)

_DEPTHS = Types((dtypes.uint8, dtypes.uint16), dtypes.uint8)
op("EncodePng", "image: T[_ _ _] -> string[]", "image.encode_png", T=_DEPTHS)(files.encode_png)


@op("ExtractJpegShape", "contents: string[] -> output_type[3]", "image.extract_jpeg_shape")
def extract_jpeg_shape(contents: Array, *, output_type: DType = dtypes.int32) -> Array:
    """Read the height, width and channels of a JPEG file from its header."""
    return np.array(files.jpeg_shape(contents.item()), output_type.as_numpy_dtype)


_PIXELS: Final = (dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.uint16, dtypes.int32, dtypes.int64, *FLOATS)


def _resized(images: Known, size: Known, **_options: Any) -> Dims:
    batch, _, _, channels = images.known_dims or (None,) * 4
    height, width = ints_of(size) or size.known_as_shape() or (None, None)
    return (batch, height, width, channels)


_BY_NAME: Final = (
    ("ResizeBilinear", "float32", "resize_bilinear", resize.bilinear),
    ("ResizeNearestNeighbor", "T", "resize_nearest_neighbor", resize.nearest_neighbor),
    ("ResizeBicubic", "float32", "resize_bicubic", resize.bicubic),
)
for _kind, _result, _name, _function in _BY_NAME:
    _form = f"image.{_name}(images, size, align_corners, name, half_pixel_centers)"
    _pattern = f"images: T[_ _ _ _], size: int32[2] -> {_result}"
    op(_kind, _pattern, _form, T=_PIXELS, infer=_resized, rows=of_stacks)(_function)

_AREA: Final = "images: T[_ _ _ _], size: int32[2] -> float32"
op("ResizeArea", _AREA, "image.resize_area", T=_PIXELS, infer=_resized, rows=of_stacks)(resize.area)

_SMALL_FLOATS: Final = Types((dtypes.float16, dtypes.float32), dtypes.float32)
_SPACE: Final = Types(FLOATS, dtypes.float32)

_SAME = "T[... h w c]"
op("AdjustContrastv2", f"images: {_SAME}, contrast_factor: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_contrast)
op("AdjustHue", f"images: {_SAME}, delta: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_hue)
op("AdjustSaturation", f"images: {_SAME}, scale: float32 -> {_SAME}", T=_SMALL_FLOATS)(colour.adjust_saturation)
op("RGBToHSV", "images: T[... 3] -> T[... 3]", "image.rgb_to_hsv", T=_SPACE, rows=of_images)(colour.rgb_to_hsv)
op("HSVToRGB", "images: T[... 3] -> T[... 3]", "image.hsv_to_rgb", T=_SPACE, rows=of_images)(colour.hsv_to_rgb)
op("RGBToGrayscale", "images: float32[... 3] -> float32[... 1]", rows=of_images)(colour.rgb_to_grayscale)
