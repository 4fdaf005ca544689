"""The names of ``tf.image``. Reading and writing files needs Pillow (extra ``[image]``)."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.image_color": (
            "adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation convert_image_dtype "
            "grayscale_to_rgb hsv_to_rgb per_image_standardization random_brightness random_contrast random_hue "
            "random_saturation rgb_to_grayscale rgb_to_hsv"
        ),
        "mpqueue.compat.functions.image_files": (
            "decode_bmp decode_gif decode_image decode_jpeg decode_png encode_jpeg encode_png extract_jpeg_shape "
            "is_jpeg"
        ),
        "mpqueue.compat.functions.image_crop": (
            "central_crop crop_to_bounding_box pad_to_bounding_box resize_image_with_crop_or_pad "
            "resize_with_crop_or_pad"
        ),
        "mpqueue.compat.functions.image_flip": (
            "flip_left_right flip_up_down random_flip_left_right random_flip_up_down rot90 transpose transpose_image"
        ),
        "mpqueue.compat.functions.image_resize": (
            "ResizeMethod resize resize_area resize_bicubic resize_bilinear resize_images resize_nearest_neighbor"
        ),
        "mpqueue.compat.functions.random": "random_crop",
    },
    prefix="tf.image",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
