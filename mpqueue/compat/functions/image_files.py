"""Images from and to files."""

from typing import Any

from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_color import convert_image_dtype
from mpqueue.compat.graph import Tensor, apply
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import DType


@public("image.decode_image(contents, channels=None, dtype=uint8, name, expand_animations=True)")
def decode_image(
    contents: Any, channels: int | None, dtype: DType, name: str | None, expand_animations: bool
) -> Tensor:
    """The pixels of a JPEG, PNG, GIF or BMP file, whichever it is.

    Args:
        contents: The file, a scalar text.
        channels: None or 0 as in the file, 1, 3, or 4.
        dtype: A float or int type; the values are scaled as by `convert_image_dtype`.
        expand_animations: Give the frames of a GIF as a first axis, instead of the first of them; the rank of the
            result is unknown then.
    """
    own = dtype if dtype in (dtypes.uint8, dtypes.uint16, dtypes.float32) else dtypes.uint16
    options = {"channels": channels or 0, "dtype": own, "expand_animations": expand_animations}
    image = apply("DecodeImage", contents, name=name, **options)
    return image if own is dtype else convert_image_dtype(image, dtype)


@public("image.is_jpeg")
def is_jpeg(contents: Any, name: str | None = None) -> Tensor:
    """True where a text begins as a JPEG file does."""
    return direct.equal(direct.substr(contents, 0, 3), b"\xff\xd8\xff", name=name)
