"""Images of another size, by the functions of `mpqueue.images.resize`."""

from typing import Any, Final

from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dims import Dims
from mpqueue.compat.ops.infer import ints_of
from mpqueue.compat.ops.known import Known
from mpqueue.compat.ops.registry import FLOATS, op
from mpqueue.images import resize

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
    op(_kind, f"images: T[_ _ _ _], size: int32[2] -> {_result}", _form, T=_PIXELS, infer=_resized)(_function)

op("ResizeArea", "images: T[_ _ _ _], size: int32[2] -> float32", "image.resize_area", T=_PIXELS, infer=_resized)(
    resize.area
)
