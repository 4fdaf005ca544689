"""Images in other colours and types."""

from collections.abc import Callable
from typing import Any

from mpqueue.compat.functions.array import identity, shape
from mpqueue.compat.functions.array_join import concat
from mpqueue.compat.functions.checks import assert_equal
from mpqueue.compat.functions.control import with_dependencies
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_stack import checked_image
from mpqueue.compat.functions.math import (
    add,
    cast,
    divide,
    floordiv,
    maximum,
    multiply,
    rsqrt,
    saturate_cast,
    sqrt,
    square,
)
from mpqueue.compat.functions.random import random_uniform
from mpqueue.compat.functions.reduce import reduce_mean, reduce_prod
from mpqueue.compat.graph.build import apply
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import DType, as_dtype

rgb_to_hsv = direct("RGBToHSV", "image.rgb_to_hsv")
hsv_to_rgb = direct("HSVToRGB", "image.hsv_to_rgb")


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: str | None = None) -> Tensor:
    """An image in another type, its values scaled: floats are from 0 to 1, ints from 0 to the type's largest.

    Args:
        image: The image.
        dtype: A float or int type.
        saturate: Cut values beyond the range instead of wrapping around.
        name: Name of the node.

    Raises:
        AttributeError: One of the types is neither a float nor an int.

    Follows: ``tf.image.convert_image_dtype``.
    """
    image, wanted = convert_to_tensor(image, name="image"), as_dtype(dtype)
    for kind in (wanted, image.dtype):
        if not kind.is_floating and not kind.is_integer:
            raise AttributeError(f"an image must be of floating point or integer type, got {kind.name}")
    if image.dtype == wanted:
        return identity(image, name)  # type: ignore[no-any-return]
    with get_default_graph().name_scope(name or "convert_image") as scope:
        own = image.dtype.base_dtype
        into = saturate_cast if saturate else cast
        if own.is_integer and wanted.is_integer:
            return _rescaled(image, own, wanted, into, scope)
        if own.is_floating and wanted.is_floating:
            return cast(image, wanted, scope)  # type: ignore[no-any-return]
        if own.is_integer:
            return multiply(cast(image, wanted), 1.0 / own.max, name=scope)  # type: ignore[no-any-return]
        return into(multiply(image, wanted.max + 0.5), wanted, scope)


def _rescaled(image: Tensor, own: DType, wanted: DType, into: Callable[..., Any], scope: str) -> Tensor:
    if own.max > wanted.max:
        return into(floordiv(image, (int(own.max) + 1) // (int(wanted.max) + 1)), wanted, scope)  # type: ignore[no-any-return]
    return multiply(into(image, wanted), (int(wanted.max) + 1) // (int(own.max) + 1), name=scope)  # type: ignore[no-any-return]


def _as_floats(image: Any) -> tuple[Tensor, DType]:
    """The image as float32 (or float16), and the type that it had."""
    image = convert_to_tensor(image, name="image")
    own = image.dtype.base_dtype
    return (image if own in (dtypes.float16, dtypes.float32) else convert_image_dtype(image, dtypes.float32)), own


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """``delta`` added to all pixels, which count from 0 to 1; ints are cut at their ends.

    Follows: ``tf.image.adjust_brightness``.
    """
    with get_default_graph().name_scope("adjust_brightness"):
        floats, own = _as_floats(image)
        return convert_image_dtype(add(floats, cast(delta, floats.dtype)), own, saturate=True)


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Each channel's distance from its mean over the image, times a factor; ints are cut at their ends.

    Follows: ``tf.image.adjust_contrast``.
    """
    with get_default_graph().name_scope("adjust_contrast"):
        floats, own = _as_floats(images)
        return convert_image_dtype(apply("AdjustContrastv2", floats, contrast_factor), own, saturate=True)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor:
    """All colours moved round the colour circle; a ``delta`` of 1 is a whole turn.

    Follows: ``tf.image.adjust_hue``.
    """
    with get_default_graph().name_scope(name or "adjust_hue"):
        floats, own = _as_floats(image)
        return convert_image_dtype(apply("AdjustHue", floats, delta), own)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """The saturation of all colours times a factor.

    Follows: ``tf.image.adjust_saturation``.
    """
    with get_default_graph().name_scope(name or "adjust_saturation"):
        floats, own = _as_floats(image)
        return convert_image_dtype(apply("AdjustSaturation", floats, saturation_factor), own)


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """``gain * pixel ** gamma``, of pixels from 0 to 1.

    Raises:
        ValueError: ``gamma`` is below 0.

    Follows: ``tf.image.adjust_gamma``.
    """
    if not isinstance(gamma, Tensor) and gamma < 0:
        raise ValueError("Gamma should be a non-negative real number.")
    with get_default_graph().name_scope("adjust_gamma"):
        floats, own = _as_floats(image)
        return convert_image_dtype(gain * floats**gamma, own, saturate=True)


def _drawn(lower: float, upper: float, seed: int | None) -> Tensor:
    return random_uniform([], lower, upper, seed=seed)


def _check_bounds(lower: float, upper: float) -> None:
    if upper <= lower:
        raise ValueError(f"upper must be > lower, got {upper} and {lower}")
    if lower < 0:
        raise ValueError(f"lower must be non-negative, got {lower}")


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_brightness` by a random delta of at most ``max_delta``, up or down.

    Raises:
        ValueError: ``max_delta`` is below 0.

    Follows: ``tf.image.random_brightness``.
    """
    if max_delta < 0:
        raise ValueError(f"max_delta must be non-negative, got {max_delta}")
    return adjust_brightness(image, _drawn(-max_delta, max_delta, seed))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_hue` by a random delta of at most ``max_delta``, up or down.

    Raises:
        ValueError: ``max_delta`` is not in [0, 0.5].

    Follows: ``tf.image.random_hue``.
    """
    if not 0 <= max_delta <= 0.5:
        raise ValueError(f"max_delta must be in [0, 0.5], got {max_delta}")
    return adjust_hue(image, _drawn(-max_delta, max_delta, seed))


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_contrast` by a random factor.

    Raises:
        ValueError: The bounds are below 0 or not in order.

    Follows: ``tf.image.random_contrast``.
    """
    _check_bounds(lower, upper)
    return adjust_contrast(image, _drawn(lower, upper, seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_saturation` by a random factor.

    Raises:
        ValueError: The bounds are below 0 or not in order.

    Follows: ``tf.image.random_saturation``.
    """
    _check_bounds(lower, upper)
    return adjust_saturation(image, _drawn(lower, upper, seed))


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """How bright each colour is, in one channel of the same type.

    Raises:
        ValueError: The last axis has not size 3, where that is known.

    Follows: ``tf.image.rgb_to_grayscale``.
    """
    with get_default_graph().name_scope(name or "rgb_to_grayscale"):
        images = convert_to_tensor(images, name="images")
        grey = apply("RGBToGrayscale", convert_image_dtype(images, dtypes.float32))
        return convert_image_dtype(grey, images.dtype)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The one channel three times.

    Raises:
        ValueError: The last axis has not size 1, where that is known.

    Follows: ``tf.image.grayscale_to_rgb``.
    """
    with get_default_graph().name_scope(name or "grayscale_to_rgb") as scope:
        images = convert_to_tensor(images, name="images")
        dims = images.known_dims
        if dims is not None and (len(dims) < 2 or dims[-1] not in (None, 1)):
            raise ValueError(f"Last dimension of a grayscale image should be size 1, got shape {images.shape}")
        if dims is None or dims[-1] is None:
            fits = assert_equal(shape(images)[-1], 1, message="Last dimension of a grayscale image should be size 1.")
            images = with_dependencies([fits], images)
        out = concat([images] * 3, -1, name=scope.rstrip("/") or "concat")
        out.set_shape(None if dims is None else [*dims[:-1], 3])
        return out


def per_image_standardization(image: Any) -> Tensor:
    """Each image with mean 0 and standard deviation 1, as float32; the deviation counts at least 1/sqrt(pixels).

    Raises:
        ValueError: It has fewer than three axes, or a size of 0.

    Follows: ``tf.image.per_image_standardization``.
    """
    with get_default_graph().name_scope("per_image_standardization"):
        image = cast(checked_image(image), dtypes.float32)
        count = cast(reduce_prod(shape(image)[-3:]), dtypes.float32)
        centred = image - reduce_mean(image, [-1, -2, -3], keepdims=True)
        spread = sqrt(reduce_mean(square(centred), [-1, -2, -3], keepdims=True))
        return divide(centred, maximum(spread, rsqrt(count)))
