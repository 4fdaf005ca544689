"""Images the other way round, or cut, of which single operations do not know all: the others are `direct`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.math import cast
from mpqueue.compat.functions.random import Generator, random_node
from mpqueue.compat.graph import Tensor, apply, convert_to_tensor, get_static_value
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.image_geometry import checked_image


@public("image.rot90(image, k=1, name)")
def rot90(image: Any, k: Any, name: str | None) -> Tensor:
    """Turned ``k`` times by 90 degrees, against the clock; ``k`` is a Python int here."""
    return apply("Rot90", image, k=int(get_static_value(k)), name=name)


@public("image.central_crop(...)")
def central_crop(image: Tensor, central_fraction: Any) -> Tensor:
    """The middle part of an image, or of a stack of them; ``central_fraction`` of its height and width.

    Raises:
        ValueError: The fraction is not in (0, 1], or another rank.
    """
    fraction = get_static_value(central_fraction)
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ValueError("central_fraction must be within (0, 1]")
    if fraction == 1.0:
        return image
    return apply("CentralCrop", image, cast(central_fraction, dtypes.float64) if fraction is None else fraction)


def _randomly_flipping(name: str, axis: int) -> Callable[..., Tensor]:
    text = f"`{name}` in half of the runs; of a stack, for each image by itself."

    @public(f"image.random_{name}(...)", doc=text)
    def function(image: Any, seed: int | None = None) -> Tensor:
        image = convert_to_tensor(image, name="image")

        def flipped(generator: Generator, image: np.ndarray) -> np.ndarray:
            checked_image(image.shape)
            chances = generator.draw("random", (*image.shape[:-3], 1, 1, 1))
            return np.where(chances < 0.5, np.flip(image, axis), image)

        output = (image.dtype.base_dtype, checked_image(image.known_dims))
        return random_node(f"Random_{name}", [image], output, seed, None, flipped)

    return function


random_flip_left_right = _randomly_flipping("flip_left_right", -2)
random_flip_up_down = _randomly_flipping("flip_up_down", -3)
