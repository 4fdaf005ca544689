"""Helpers of functions of images: one image or a stack of them, and the checks of both."""

from collections.abc import Callable
from typing import Any

from mpqueue.compat.functions.array import shape
from mpqueue.compat.functions.array_join import unstack
from mpqueue.compat.functions.checks import assert_greater_equal, assert_positive
from mpqueue.compat.functions.cond import cond
from mpqueue.compat.functions.control import with_dependencies
from mpqueue.compat.functions.direct import direct
from mpqueue.compat.graph import Operation, Tensor, apply, convert_to_tensor


def checked_image(image: Any) -> Tensor:
    """An image (or a stack of them) of which no size is 0; where that is not known, it is checked when run.

    Raises:
        ValueError: It has fewer than three axes, or a size of 0.
    """
    image = convert_to_tensor(image, name="image")
    return with_dependencies(image_checks(image), image)  # type: ignore[no-any-return]


def image_checks(image: Tensor) -> list[Operation]:
    """Make the checks of images that have to wait for the run; what is known of them is checked now.

    Raises:
        ValueError: They have fewer than three axes, or a size of 0.
    """
    dims = image.known_dims
    if dims is not None and len(dims) < 3:
        raise ValueError(f"an image must be at least three-dimensional, got shape {image.shape}")
    inner = (None,) * 3 if dims is None else dims[-3:]
    if 0 in inner:
        raise ValueError(f"inner 3 dims of an image must be > 0, got shape {image.shape}")
    if None not in inner:
        return []
    checks = [assert_positive(shape(image)[-3:], ["inner 3 dims of the image's shape must be > 0."])]
    if dims is None:
        checks.append(
            assert_greater_equal(apply("Rank", image), 3, message="an image must be at least three-dimensional.")
        )
    return checks


def by_rank(image: Tensor, single: Callable[[], Tensor], batch: Callable[[], Tensor]) -> Tensor:
    """Treat one image, or a stack of them; which of both it is, is chosen when run if the rank is unknown."""
    if image.ndim is None:
        return cond(direct.equal(apply("Rank", image), 3), single, batch)  # type: ignore[no-any-return]
    if image.ndim not in (3, 4):
        raise ValueError(f"an image (shape {image.shape}) must have either 3 or 4 dimensions.")
    return single() if image.ndim == 3 else batch()


def like(image: Tensor, result: Tensor) -> Tensor:
    """A result that has the shape of the image."""
    result.set_shape([None, None, None] if image.ndim is None else image.get_shape())
    return result


def as_stack(image: Any) -> tuple[Tensor, bool]:
    """A stack of images, and whether it was given as one."""
    image = convert_to_tensor(image, name="image")
    if image.ndim not in (None, 3, 4):
        raise ValueError(f"an image (shape {image.shape}) must have either 3 or 4 dimensions.")
    if image.ndim == 4:
        return image, True
    known = image.ndim is not None
    image = direct.expand_dims(image, 0)
    if not known:
        image.set_shape([None] * 4)
    return image, False


def finished(stack_of_images: Tensor, dims: list[Any], was_stack: bool) -> Tensor:
    """A result of these sizes; of a single image if that was given."""
    stack_of_images.set_shape([None if is_node(size) else size for size in dims])
    return stack_of_images if was_stack else direct.squeeze(stack_of_images, axis=[0])


def is_node(value: Any) -> bool:
    """Return True for a size that is known only while running."""
    return isinstance(value, Tensor)


def sizes(image: Tensor) -> list[Any]:
    """The sizes of a stack: ints where they are known, else nodes."""
    dims = image.known_dims
    assert dims is not None
    if None not in dims:
        return list(dims)
    nodes = unstack(shape(image), len(dims))
    return [node if size is None else size for size, node in zip(dims, nodes, strict=True)]
