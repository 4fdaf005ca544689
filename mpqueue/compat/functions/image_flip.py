"""Images the other way round."""

from typing import Any

from mpqueue.compat.functions.array import reshape, reverse, shape
from mpqueue.compat.functions.array import transpose as transpose_axes
from mpqueue.compat.functions.cond import cond
from mpqueue.compat.functions.image_stack import by_rank, checked_image, like
from mpqueue.compat.functions.math import cast
from mpqueue.compat.functions.math import round as rounded
from mpqueue.compat.functions.random import random_uniform
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.static import get_static_value


def _flipped(image: Any, axis: int, scope: str) -> Tensor:
    with get_default_graph().name_scope(scope):
        image = checked_image(image)
        return by_rank(image, lambda: like(image, reverse(image, [axis])), lambda: reverse(image, [axis + 1]))


def flip_left_right(image: Any) -> Tensor:
    """Left and right swapped, of an image (height, width, channels) or a stack of them.

    Raises:
        ValueError: Another rank, or a size of 0.

    Follows: ``tf.image.flip_left_right``.
    """
    return _flipped(image, 1, "flip_left_right")


def flip_up_down(image: Any) -> Tensor:
    """Top and bottom swapped, of an image (height, width, channels) or a stack of them.

    Raises:
        ValueError: Another rank, or a size of 0.

    Follows: ``tf.image.flip_up_down``.
    """
    return _flipped(image, 0, "flip_up_down")


def _randomly_flipped(image: Any, axis: int, seed: int | None, scope: str) -> Tensor:
    with get_default_graph().name_scope(scope):
        image = checked_image(image)

        def single() -> Tensor:
            chance = random_uniform([], 0, 1.0, seed=seed)
            return like(image, cond(chance < 0.5, lambda: reverse(image, [axis]), lambda: image))

        def batch() -> Tensor:
            number = shape(image)[0]
            chances = reshape(random_uniform([number], 0, 1.0, seed=seed), [number, 1, 1, 1])
            flips = cast(rounded(chances), image.dtype)
            return flips * reverse(image, [axis + 1]) + (1 - flips) * image  # type: ignore[no-any-return]

        return by_rank(image, single, batch)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """`flip_left_right` in half of the runs; of a stack, for each image by itself.

    Follows: ``tf.image.random_flip_left_right``.
    """
    return _randomly_flipped(image, 1, seed, "random_flip_left_right")


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """`flip_up_down` in half of the runs; of a stack, for each image by itself.

    Follows: ``tf.image.random_flip_up_down``.
    """
    return _randomly_flipped(image, 0, seed, "random_flip_up_down")


def transpose(image: Any, name: str | None = None) -> Tensor:
    """Height and width swapped, of an image or a stack of them.

    Follows: ``tf.image.transpose``.
    """
    with get_default_graph().name_scope(name or "transpose"):
        image = checked_image(image)
        return by_rank(image, lambda: transpose_axes(image, [1, 0, 2]), lambda: transpose_axes(image, [0, 2, 1, 3]))


transpose_image = transpose


def rot90(image: Any, k: Any = 1, name: str | None = None) -> Tensor:
    """Turned ``k`` times by 90 degrees, against the clock; ``k`` is a Python int here.

    Follows: ``tf.image.rot90``.
    """
    with get_default_graph().name_scope(name or "rot90"):
        image = checked_image(image)
        turns = int(get_static_value(k)) % 4

        def turned(first: int) -> Tensor:
            order = [*range(first), first + 1, first, first + 2]
            out = image if turns != 2 else reverse(image, [first, first + 1])
            if turns % 2:
                out = transpose_axes(out, order)
                out = reverse(out, [first if turns == 1 else first + 1])
            return out  # type: ignore[no-any-return]

        return by_rank(image, lambda: turned(0), lambda: turned(1))
