"""Images from and to files."""

from typing import Any

from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_color import convert_image_dtype
from mpqueue.compat.functions.math import equal
from mpqueue.compat.functions.text import substr
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype

decode_jpeg = direct("DecodeJpeg", "image.decode_jpeg")
decode_gif = direct("DecodeGif", "image.decode_gif")
decode_bmp = direct("DecodeBmp", "image.decode_bmp")


def decode_png(contents: Any, channels: int = 0, dtype: Any = dtypes.uint8, name: str | None = None) -> Tensor:
    """The pixels of a PNG (or JPEG, or one-frame GIF) file, of shape (height, width, channels).

    Args:
        contents: The file, a scalar text.
        channels: 0 as in the file, 1, 3, or 4.
        dtype: uint8 or uint16.
        name: Name of the node.

    Raises:
        TypeError: Another dtype.

    Follows: ``tf.image.decode_png``.
    """
    kind = as_dtype(dtype)
    if kind not in (dtypes.uint8, dtypes.uint16):
        raise TypeError(f"decode_png gives uint8 or uint16, not {kind.name}")
    return apply("DecodePng", contents, name=name, channels=channels, dtype=kind)


def decode_image(
    contents: Any,
    channels: int | None = None,
    dtype: Any = dtypes.uint8,
    name: str | None = None,
    expand_animations: bool = True,
) -> Tensor:
    """The pixels of a JPEG, PNG, GIF or BMP file, whichever it is.

    Args:
        contents: The file, a scalar text.
        channels: None or 0 as in the file, 1, 3, or 4.
        dtype: A float or int type; the values are scaled as by `convert_image_dtype`.
        name: Name of the node.
        expand_animations: Give the frames of a GIF as a first axis, instead of the first of them; the rank of the
            result is unknown then.

    Follows: ``tf.image.decode_image``.
    """
    wanted = as_dtype(dtype)
    own = wanted if wanted in (dtypes.uint8, dtypes.uint16, dtypes.float32) else dtypes.uint16
    options = {"channels": channels or 0, "dtype": own, "expand_animations": expand_animations}
    image = apply("DecodeImage", contents, name=name, **options)
    return image if own is wanted else convert_image_dtype(image, wanted)


def encode_jpeg(
    image: Any,
    format: str = "",
    quality: int = 95,
    progressive: bool = False,
    optimize_size: bool = False,
    chroma_downsampling: bool = True,
    density_unit: str = "in",
    x_density: int = 300,
    y_density: int = 300,
    xmp_metadata: str = "",
    name: str | None = None,
) -> Tensor:
    """A JPEG file of a uint8 image with 1 or 3 channels.

    Args:
        image: uint8 of shape (height, width, channels).
        format: "" as the channels say, "grayscale" or "rgb".
        quality: 0 to 100.
        progressive: Write a file that can be shown while it is loaded.
        optimize_size: Take longer, for a smaller file.
        chroma_downsampling: Halve the resolution of the colours.
        density_unit: "in" or "cm".
        x_density: Pixels per unit.
        y_density: Pixels per unit.
        xmp_metadata: Text for the file's header.
        name: Name of the node.

    Raises:
        ValueError: Another format or unit, or another rank.

    Follows: ``tf.image.encode_jpeg``.
    """
    if format not in ("", "grayscale", "rgb"):
        raise ValueError(f"format must be '', 'grayscale' or 'rgb', got {format!r}")
    if density_unit not in ("in", "cm"):
        raise ValueError(f"density_unit must be 'in' or 'cm', got {density_unit!r}")
    return apply(
        "EncodeJpeg",
        image,
        name=name,
        format=format,
        quality=quality,
        progressive=progressive,
        optimize_size=optimize_size,
        chroma_downsampling=chroma_downsampling,
        density_unit=density_unit,
        x_density=x_density,
        y_density=y_density,
        xmp_metadata=xmp_metadata,
    )


encode_png = direct("EncodePng", "image.encode_png")


def extract_jpeg_shape(contents: Any, output_type: Any = dtypes.int32, name: str | None = None) -> Tensor:
    """Height, width and channels of a JPEG file, from its header.

    Follows: ``tf.image.extract_jpeg_shape``.
    """
    return apply("ExtractJpegShape", contents, name=name, output_type=as_dtype(output_type))


def is_jpeg(contents: Any, name: str | None = None) -> Tensor:
    """Whether a text begins as a JPEG file does.

    Follows: ``tf.image.is_jpeg``.
    """
    return equal(substr(contents, 0, 3), b"\xff\xd8\xff", name=name)  # type: ignore[no-any-return]
