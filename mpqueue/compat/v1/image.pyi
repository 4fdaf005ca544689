# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.image_color import adjust_brightness as adjust_brightness
from mpqueue.compat.functions.image_color import adjust_contrast as adjust_contrast
from mpqueue.compat.functions.image_color import adjust_gamma as adjust_gamma
from mpqueue.compat.functions.image_color import adjust_hue as adjust_hue
from mpqueue.compat.functions.image_color import adjust_saturation as adjust_saturation
from mpqueue.compat.functions.image_color import convert_image_dtype as convert_image_dtype
from mpqueue.compat.functions.image_color import grayscale_to_rgb as grayscale_to_rgb
from mpqueue.compat.functions.image_color import per_image_standardization as per_image_standardization
from mpqueue.compat.functions.image_color import random_brightness as random_brightness
from mpqueue.compat.functions.image_color import random_contrast as random_contrast
from mpqueue.compat.functions.image_color import random_hue as random_hue
from mpqueue.compat.functions.image_color import random_saturation as random_saturation
from mpqueue.compat.functions.image_color import rgb_to_grayscale as rgb_to_grayscale
from mpqueue.compat.functions.image_crop import central_crop as central_crop
from mpqueue.compat.functions.image_crop import crop_to_bounding_box as crop_to_bounding_box
from mpqueue.compat.functions.image_crop import pad_to_bounding_box as pad_to_bounding_box
from mpqueue.compat.functions.image_crop import resize_image_with_crop_or_pad as resize_image_with_crop_or_pad
from mpqueue.compat.functions.image_files import decode_image as decode_image
from mpqueue.compat.functions.image_files import decode_png as decode_png
from mpqueue.compat.functions.image_files import encode_jpeg as encode_jpeg
from mpqueue.compat.functions.image_files import extract_jpeg_shape as extract_jpeg_shape
from mpqueue.compat.functions.image_files import is_jpeg as is_jpeg
from mpqueue.compat.functions.image_flip import flip_left_right as flip_left_right
from mpqueue.compat.functions.image_flip import flip_up_down as flip_up_down
from mpqueue.compat.functions.image_flip import random_flip_left_right as random_flip_left_right
from mpqueue.compat.functions.image_flip import random_flip_up_down as random_flip_up_down
from mpqueue.compat.functions.image_flip import rot90 as rot90
from mpqueue.compat.functions.image_flip import transpose as transpose
from mpqueue.compat.functions.image_resize import ResizeMethod as ResizeMethod
from mpqueue.compat.functions.image_resize import resize_images as resize_images
from mpqueue.compat.functions.random import random_crop as random_crop
from mpqueue.compat.graph.nodes import Tensor
from typing import Any

__all__ = [
    "ResizeMethod",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "central_crop",
    "convert_image_dtype",
    "crop_to_bounding_box",
    "decode_bmp",
    "decode_gif",
    "decode_image",
    "decode_jpeg",
    "decode_png",
    "encode_jpeg",
    "encode_png",
    "extract_jpeg_shape",
    "flip_left_right",
    "flip_up_down",
    "grayscale_to_rgb",
    "hsv_to_rgb",
    "is_jpeg",
    "pad_to_bounding_box",
    "per_image_standardization",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_flip_left_right",
    "random_flip_up_down",
    "random_hue",
    "random_saturation",
    "resize",
    "resize_area",
    "resize_bicubic",
    "resize_bilinear",
    "resize_image_with_crop_or_pad",
    "resize_images",
    "resize_nearest_neighbor",
    "resize_with_crop_or_pad",
    "rgb_to_grayscale",
    "rgb_to_hsv",
    "rot90",
    "transpose",
    "transpose_image",
]

def hsv_to_rgb(images: Any, name: Any = None) -> Any: ...
def rgb_to_hsv(images: Any, name: Any = None) -> Any: ...
def resize_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor: ...
def decode_bmp(contents: Any, channels: Any = 0, name: Any = None) -> Any: ...
def decode_gif(contents: Any, name: Any = None) -> Any: ...
def decode_jpeg(
    contents: Any,
    channels: Any = 0,
    ratio: Any = 1,
    fancy_upscaling: Any = True,
    try_recover_truncated: Any = False,
    acceptable_fraction: Any = 1.0,
    dct_method: Any = "",
    name: Any = None,
) -> Any: ...
def encode_png(image: Any, compression: Any = -1, name: Any = None) -> Any: ...
def transpose_image(image: Any, name: str | None = None) -> Tensor: ...
def resize(
    images: Any,
    size: Any,
    method: Any = 0,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Tensor: ...
def resize_area(images: Any, size: Any, align_corners: Any = False, name: Any = None) -> Any: ...
def resize_bicubic(
    images: Any, size: Any, align_corners: Any = False, name: Any = None, half_pixel_centers: Any = False
) -> Any: ...
def resize_bilinear(
    images: Any, size: Any, align_corners: Any = False, name: Any = None, half_pixel_centers: Any = False
) -> Any: ...
def resize_nearest_neighbor(
    images: Any, size: Any, align_corners: Any = False, name: Any = None, half_pixel_centers: Any = False
) -> Any: ...
