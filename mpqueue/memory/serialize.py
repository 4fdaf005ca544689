"""Pickling by value: what `pickle` cannot name, cloudpickle describes.

Classes and functions of a script, a notebook cell or ``python - <<EOF`` have no module that another process could
import. cloudpickle sends them by value, and recognises them when they come back, so that an exception class of the
script is the same class again in the trainer.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any


def dumps_object(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    """Pickle ``value`` with protocol 5, by value where it has no importable name.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    import cloudpickle  # 10 ms that most workers never need

    with io.BytesIO() as file:
        cloudpickle.Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


class ByValue:
    """Has a value pickled by value also where plain `pickle` pickles what holds it; in its place comes the value.

    Args:
        value: It.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (dumps_object(self.value, None),)


def itself(value: Any) -> Any:
    """Return it: what a pickle calls that has a value by value already."""
    return value


def collector(buffers: list[memoryview], least_bytes: int) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a buffer callback that adds the large contiguous ones to ``buffers``, and keeps all others inside."""

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()  # a buffer that is not contiguous does not get here: pickle refuses it
        if view.nbytes < least_bytes:
            return True
        buffers.append(view)
        return False

    return keep_inside
