"""Images the other way round."""

from collections.abc import Callable
from typing import Any

from mpqueue.compat.functions.array import shape
from mpqueue.compat.functions.array import transpose as transpose_axes
from mpqueue.compat.functions.cond import cond
from mpqueue.compat.functions.declare import public
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.functions.image_stack import by_rank, checked_image, like
from mpqueue.compat.functions.math import cast
from mpqueue.compat.functions.math import round as rounded
from mpqueue.compat.functions.random import random_uniform
from mpqueue.compat.graph import Tensor, get_static_value


def _flipping(name: str, axis: int, what: str) -> Callable[..., Tensor]:
    text = f"""{what} swapped, of an image (height, width, channels) or a stack of them.

Raises:
    ValueError: Another rank, or a size of 0.
"""

    @public(f"image.{name}(...)", scope=name, doc=text)
    def function(image: Any) -> Tensor:
        image = checked_image(image)
        return by_rank(
            image, lambda: like(image, direct.reverse(image, [axis])), lambda: direct.reverse(image, [axis + 1])
        )

    return function


flip_left_right = _flipping("flip_left_right", 1, "Left and right")
flip_up_down = _flipping("flip_up_down", 0, "Top and bottom")


def _randomly_flipping(name: str, axis: int) -> Callable[..., Tensor]:
    text = f"`{name}` in half of the runs; of a stack, for each image by itself."

    @public(f"image.random_{name}(...)", scope=f"random_{name}", doc=text)
    def function(image: Any, seed: int | None = None) -> Tensor:
        image = checked_image(image)

        def single() -> Tensor:
            chance = random_uniform([], 0, 1.0, seed=seed)
            return like(image, cond(chance < 0.5, lambda: direct.reverse(image, [axis]), lambda: image))

        def batch() -> Tensor:
            number = shape(image)[0]
            chances = direct.reshape(random_uniform([number], 0, 1.0, seed=seed), [number, 1, 1, 1])
            flips = cast(rounded(chances), image.dtype)
            return flips * direct.reverse(image, [axis + 1]) + (1 - flips) * image  # type: ignore[no-any-return]

        return by_rank(image, single, batch)

    return function


random_flip_left_right = _randomly_flipping("flip_left_right", 1)
random_flip_up_down = _randomly_flipping("flip_up_down", 0)


@public("image.transpose", scope="transpose")
def transpose(image: Any) -> Tensor:
    """Height and width swapped, of an image or a stack of them."""
    image = checked_image(image)
    return by_rank(image, lambda: transpose_axes(image, [1, 0, 2]), lambda: transpose_axes(image, [0, 2, 1, 3]))


transpose_image = transpose


@public("image.rot90(image, k=1, name)", scope="rot90")
def rot90(image: Any, k: Any) -> Tensor:
    """Turned ``k`` times by 90 degrees, against the clock; ``k`` is a Python int here."""
    image = checked_image(image)
    turns = int(get_static_value(k)) % 4

    def turned(first: int) -> Tensor:
        order = [*range(first), first + 1, first, first + 2]
        out = image if turns != 2 else direct.reverse(image, [first, first + 1])
        if turns % 2:
            out = transpose_axes(out, order)
            out = direct.reverse(out, [first if turns == 1 else first + 1])
        return out

    return by_rank(image, lambda: turned(0), lambda: turned(1))
