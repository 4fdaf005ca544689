"""Image files: JPEG, PNG, GIF and BMP, read and written with Pillow (extra ``[files]``).

PNG is exact. JPEG is decoded with libjpeg's accurate transform, like TensorFlow with ``dct_method="INTEGER_ACCURATE"``.
TensorFlow's default, a faster transform, differs by up to 4 levels. Written JPEG files are identical to TensorFlow's.
"""

import io
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.tf1.images import png16
from mpqueue.tf1.values.conversion import invalid

Pixels = NDArray[Any]
_Result = TypeVar("_Result")

_MAGIC: Final = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"))
_CHANNELS: Final = {"JPEG": (0, 1, 3), "PNG": (0, 1, 3, 4), "GIF": (0, 3), "BMP": (0, 1, 3, 4)}


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('Images require Pillow: pip install "mpqueue[files]"') from error
    return Image


def _kind(contents: bytes, operation: str, *, only: str = "") -> str:
    kind = next((name for magic, name in _MAGIC if contents.startswith(magic)), None)
    if kind is None:
        formats = ", ".join(name for _, name in _MAGIC)
        invalid(f"{operation}: Unknown image file format, expected one of {formats}, got data {contents[:8]!r}")
    if only and kind != only:
        invalid(f"{operation}: Expected a {only} file, got {kind}: use decode_image")
    return kind


def _valid(kind: str, read: Callable[..., _Result], *args: Any) -> _Result:
    """Call a function of Pillow; its parsers can raise any exception."""
    try:
        return read(*args)
    except MemoryError:
        raise
    except Exception as error:
        if is_interrupt(error):  # a time limit of the user is not an error of the data
            raise
        invalid(f"Invalid {kind} data: {error}")


def _opened(contents: bytes, kind: str) -> Any:
    return _valid(kind, partial(_pillow().open, formats=[kind]), io.BytesIO(contents))


def _loaded(image: Any, kind: str) -> Any:
    _valid(kind, image.load)
    return image


def _check_channels(kind: str, channels: int) -> None:
    if channels not in _CHANNELS[kind]:
        invalid(f"channels must be one of {_CHANNELS[kind]} for {kind}, got {channels}")


def decode_jpeg(contents: bytes, channels: int = 0, ratio: int = 1, *, recover: bool = False) -> Pixels:
    """Decode a JPEG (or PNG, or one-frame GIF) file to uint8 of shape (height, width, channels).

    Args:
        contents: The contents of the file.
        channels: 0 for the channels of the file, or 1 or 3.
        ratio: Factor by which the image is downscaled: 1, 2, 4 or 8.
        recover: Whether to return the available part of a truncated file.

    Raises:
        InvalidArgumentError: The file has another format, or cannot be decoded with these arguments.
    """
    kind = _kind(contents, "DecodeJpeg")
    if kind != "JPEG":
        return _decode_other(contents, kind, channels, np.dtype(np.uint8), "DecodeJpeg")
    return _decode_jpeg(contents, channels, ratio, recover=recover)


def _decode_jpeg(contents: bytes, channels: int, ratio: int = 1, *, recover: bool = False) -> Pixels:
    _check_channels("JPEG", channels)
    if ratio not in (1, 2, 4, 8):
        invalid(f"ratio must be 1, 2, 4, or 8, got {ratio}")
    # The end-of-image marker makes libjpeg return the decoded part.
    image = _opened(contents + b"\xff\xd9" if recover else contents, "JPEG")
    if image.mode == "CMYK":
        return _from_cmyk(np.asarray(_loaded(image, "JPEG")), channels)
    # libjpeg itself converts to gray and downscales while decoding, which avoids unnecessary computation.
    image.draft("L" if channels == 1 else None, tuple(-(-size // ratio) for size in image.size) if ratio > 1 else None)
    return _with_channels(_pixels(_loaded(image, "JPEG")), channels)


def _from_cmyk(pixels: Pixels, channels: int) -> Pixels:
    if channels == 1:
        invalid("A CMYK JPEG file has no gray channel: decode it with channels=3")
    light = 255 - pixels.astype(np.uint32)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def _pixels(image: Any) -> Pixels:
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _with_channels(pixels: Pixels, channels: int, alpha: int | None = None) -> Pixels:
    """Convert to the requested channels: gray is repeated, alpha is dropped or filled in, colors are weighted."""
    have = pixels.shape[-1]
    if channels in (0, have):
        return np.ascontiguousarray(pixels)
    colours = pixels[..., : have - (have in (2, 4))]
    if channels == 1:
        return np.ascontiguousarray(colours if colours.shape[-1] == 1 else _weighed(colours))
    colours = np.repeat(colours, 3, -1) if colours.shape[-1] == 1 else colours
    if channels == 3:
        return np.ascontiguousarray(colours)
    full = np.full_like(colours[..., :1], np.iinfo(pixels.dtype).max if alpha is None else alpha)
    return np.concatenate([colours, pixels[..., -1:] if have in (2, 4) else full], -1)


def _weighed(colours: Pixels) -> Pixels:
    """Convert to gray like libpng: with weights in units of 1/32768 and without rounding; gray pixels are unchanged."""
    red, green, blue = (colours[..., n : n + 1].astype(np.uint64) for n in range(3))
    grey = (9797 * red + 19234 * green + 3737 * blue) >> np.uint64(15)
    return np.where((red == green) & (red == blue), red, grey).astype(colours.dtype)


def _decode_png(contents: bytes, channels: int, dtype: np.dtype[Any]) -> Pixels:
    _check_channels("PNG", channels)
    image = _opened(contents, "PNG")
    if dtype == np.uint16 and png16.is_deep(image):
        return _with_channels(_valid("PNG", png16.read, lambda: _opened(contents, "PNG")), channels)
    pixels = _pixels(_loaded(image, "PNG"))
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    if dtype == np.uint16:
        pixels = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)
    elif pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    bits = contents[24]  # per channel; TensorFlow fills in alpha at the bit depth of the file
    return _with_channels(pixels, channels, 2**bits - 1 if bits < 8 else None)


def _decode_gif(contents: bytes, channels: int) -> Pixels:
    _check_channels("GIF", channels)
    return _valid("GIF", _frames, _opened(contents, "GIF"))


def _frames(image: Any) -> Pixels:
    frames = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def _decode_bmp(contents: bytes, channels: int) -> Pixels:
    _check_channels("BMP", channels)
    pixels = _pixels(_loaded(_opened(contents, "BMP"), "BMP"))
    if channels == 1 and pixels.shape[-1] != 1:
        invalid(f"channels attribute 1 does not match bits per pixel from file: {pixels.shape[-1] * 8}")
    return _with_channels(pixels, channels)


def _decode_other(contents: bytes, kind: str, channels: int, dtype: np.dtype[Any], operation: str) -> Pixels:
    """Decode a file in a different format than the native one of DecodeJpeg or DecodePng."""
    if kind == "PNG":
        return _decode_png(contents, channels, dtype)
    if kind == "JPEG":
        return _scaled(_decode_jpeg(contents, channels), dtype)
    if kind == "BMP":
        invalid(f"{operation}: Expected another format than BMP: use decode_bmp or decode_image")
    frames = _decode_gif(contents, channels)
    if len(frames) > 1:
        invalid(f"{operation}: Expected a single frame, got a GIF with {len(frames)}: use decode_gif or decode_image")
    return _scaled(frames[0], dtype)


def _scaled(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Convert 8-bit pixels to the requested type."""
    if dtype == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return pixels.astype(np.float32) / np.float32(255) if dtype == np.float32 else pixels


def decode_png(contents: bytes, channels: int = 0, dtype: DTypeLike = np.uint8) -> Pixels:
    """Decode a PNG (or JPEG, or one-frame GIF) file to shape (height, width, channels).

    Args:
        contents: The contents of the file.
        channels: 0 for the channels of the file, or 1, 3, or 4.
        dtype: uint8 or uint16.

    Raises:
        InvalidArgumentError: The file has another format, or cannot be decoded with these arguments.
    """
    return _decode_other(contents, _kind(contents, "DecodePng"), channels, np.dtype(dtype), "DecodePng")


def decode_gif(contents: bytes) -> Pixels:
    """Decode the frames of a GIF file to uint8 of shape (frames, height, width, 3)."""
    _kind(contents, "DecodeGif", only="GIF")
    return _decode_gif(contents, 3)


def decode_bmp(contents: bytes, channels: int = 0) -> Pixels:
    """Decode a BMP file to uint8 of shape (height, width, channels)."""
    _kind(contents, "DecodeBmp", only="BMP")
    return _decode_bmp(contents, channels)


def decode_image(
    contents: bytes, channels: int = 0, dtype: DTypeLike = np.uint8, expand_animations: bool = True
) -> Pixels:
    """Decode a file of any of the four formats; the frames of a GIF are along the first axis.

    Args:
        contents: The contents of the file.
        channels: 0 for the channels of the file, or 1, 3, or 4.
        dtype: uint8, uint16, or float32 with values from 0 to 1.
        expand_animations: False to return only the first frame of a GIF.

    Raises:
        InvalidArgumentError: The file has another format, or cannot be decoded with these arguments.
    """
    kind, dtype = _kind(contents, "DecodeImage"), np.dtype(dtype)
    if kind == "GIF":
        frames = _scaled(_decode_gif(contents, channels), dtype)
        return frames if expand_animations else frames[0]
    if kind == "BMP":
        return _scaled(_decode_bmp(contents, channels), dtype)
    if kind == "PNG" and dtype == np.float32:
        return _decode_png(contents, channels, np.dtype(np.uint16)).astype(np.float32) / np.float32(65535)
    return _decode_other(contents, kind, channels, dtype, "DecodeImage")


def jpeg_shape(contents: bytes) -> tuple[int, int, int]:
    """Read the height, width and channels of a JPEG file from its header."""
    image = _opened(contents, "JPEG")
    width, height = image.size
    return height, width, len(image.getbands())


def encode_jpeg(
    image: Pixels,
    *,
    format: str = "",
    quality: int = 95,
    progressive: bool = False,
    optimize_size: bool = False,
    chroma_downsampling: bool = True,
    density_unit: str = "in",
    x_density: int = 300,
    y_density: int = 300,
    xmp_metadata: str = "",
) -> bytes:
    """Encode an image as a JPEG file.

    Args:
        image: uint8, with 1 or 3 channels.
        format: "grayscale", "rgb", or "" to choose by the channels.
        quality: 0 to 100.
        progressive: Whether the file can be displayed progressively while it is loaded.
        optimize_size: Whether to produce a smaller file at the cost of time.
        chroma_downsampling: Whether to halve the resolution of the colors.
        density_unit: "in" or "cm".
        x_density: Pixels per unit.
        y_density: Pixels per unit.
        xmp_metadata: String for the file's header.

    Raises:
        ValueError: The format or unit is unknown.
        InvalidArgumentError: The image does not match the format or is empty, or the quality is out of range.
    """
    check_jpeg_words(format, density_unit)
    _check_jpeg(image, format, quality)
    per_inch = 2.54 if density_unit == "cm" else 1
    return _written(
        image,
        "JPEG",
        quality=quality,
        progressive=progressive,
        optimize=optimize_size,
        subsampling=2 if chroma_downsampling and image.shape[-1] == 3 else 0,
        dpi=(x_density * per_inch, y_density * per_inch),
        xmp=xmp_metadata.encode(),
    )


def check_jpeg_words(format: str, density_unit: str) -> None:
    """Raise ValueError for a format or unit that `encode_jpeg` does not support."""
    if format not in ("", "grayscale", "rgb"):
        raise ValueError(f"format must be '', 'grayscale' or 'rgb', got {format!r}")
    if density_unit not in ("in", "cm"):
        raise ValueError(f"density_unit must be 'in' or 'cm', got {density_unit!r}")


def _check_jpeg(image: Pixels, format: str, quality: int) -> None:
    channels = image.shape[-1]
    if channels not in (1, 3) or channels != {"grayscale": 1, "rgb": 3}.get(format, channels):
        invalid(f"Image must match format {format!r}, got shape {list(image.shape)}")
    if not 0 <= quality <= 100:
        invalid(f"quality must be in [0,100], got {quality}")
    if not image.size:
        invalid(f"Image must not be empty, got shape {list(image.shape)}")


def _written(image: Pixels, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    options = {key: value for key, value in options.items() if value != b""}
    picture = _pillow().fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    _valid(kind, partial(picture.save, buffer, kind, **options))
    return buffer.getvalue()


def encode_png(image: Pixels, *, compression: int = -1) -> bytes:
    """Encode an image as a PNG file.

    Args:
        image: uint8 or uint16, with 1 to 4 channels.
        compression: 0 for no compression to 9 for the smallest file; -1 for zlib's default.

    Raises:
        InvalidArgumentError: The number of channels or the compression is not supported, or the image is empty.
    """
    if image.shape[-1] not in (1, 2, 3, 4) or not image.size:
        invalid(f"image must have 1, 2, 3, or 4 channels and not be empty, got shape {list(image.shape)}")
    if not -1 <= compression <= 9:
        invalid(f"compression should be in [-1,9], got {compression}")
    if image.dtype == np.uint16:
        return png16.write(image, compression)
    return _written(image, "PNG", **({} if compression < 0 else {"compress_level": compression}))
