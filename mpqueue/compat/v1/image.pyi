# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.tf1.compat.functions.image import ResizeMethod as ResizeMethod
from mpqueue.tf1.compat.graph.nodes import Tensor
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

def crop_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor: ...
def flip_left_right(image: Any) -> Tensor: ...
def flip_up_down(image: Any) -> Tensor: ...
def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor: ...
def pad_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor: ...
def per_image_standardization(image: Any) -> Tensor: ...
def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor: ...
def resize_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor: ...
def transpose(image: Any, name: str | None = None) -> Tensor: ...
def transpose_image(image: Any, name: str | None = None) -> Tensor: ...
def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor: ...
def resize_area(images: Any, size: Any, align_corners: bool = False, name: str | None = None) -> Tensor: ...
def resize_bicubic(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor: ...
def resize_bilinear(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor: ...
def resize_nearest_neighbor(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor: ...
def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor: ...
def decode_bmp(contents: Any, channels: int = 0, name: str | None = None) -> Tensor: ...
def decode_gif(contents: Any, name: str | None = None) -> Tensor: ...
def decode_jpeg(
    contents: Any,
    channels: int = 0,
    ratio: int = 1,
    fancy_upscaling: bool = True,
    try_recover_truncated: bool = False,
    acceptable_fraction: float = 1.0,
    dct_method: str = "",
    name: str | None = None,
) -> Tensor: ...
def decode_png(contents: Any, channels: int = 0, dtype: Any = ..., name: str | None = None) -> Tensor: ...
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
) -> Tensor: ...
def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor: ...
def extract_jpeg_shape(contents: Any, output_type: Any = ..., name: str | None = None) -> Tensor: ...
def decode_image(
    contents: Any,
    channels: int | None = None,
    dtype: Any = ...,
    name: str | None = None,
    expand_animations: bool = True,
) -> Tensor: ...
def is_jpeg(contents: Any, name: str | None = None) -> Tensor: ...
def central_crop(image: Any, central_fraction: Any) -> Tensor: ...
def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor: ...
def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor: ...
def resize(
    images: Any,
    size: Any,
    method: Any = 0,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Tensor: ...
def resize_images(
    images: Any,
    size: Any,
    method: Any = 0,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Tensor: ...
def rot90(image: Any, k: Any = 1, name: str | None = None) -> Tensor: ...
def adjust_brightness(image: Any, delta: Any) -> Tensor: ...
def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor: ...
def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor: ...
def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor: ...
def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor: ...
def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: str | None = None) -> Tensor: ...
def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor: ...
def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor: ...
def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor: ...
def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor: ...
def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor: ...
def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor: ...
