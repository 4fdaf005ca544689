"""A queue with a shared name as plain data, which a process sends to the owner that finds or creates the queue.

The format is JSON, because unpickling another process's data could run code in the owner. `Description.decode` bounds
all sizes and rejects types and values that this package cannot have sent. The queue's constructor validates the rest.
"""

import json
import math
from typing import Any, NamedTuple

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.values.shapes import is_fully_known
from mpqueue.values.dtypes import STRING, DType, as_dtype
from mpqueue.values.shapes import Shape, as_shape

MAX_BYTES = 1 << 16
MAX_COMPONENT_BYTES = (1 << 31) - 1  # of a fixed shape: NumPy's limit for one array item
_MAX_INTEGER = 1 << 128
_CLASSES = ("FIFOQueue", "PaddingFIFOQueue", "RandomShuffleQueue")


class Signature(NamedTuple):
    """The properties that all queues of one shared name must agree in."""

    class_name: str
    dtypes: tuple[DType, ...]
    shapes: tuple[Shape, ...] | None
    capacity: int
    min_after_dequeue: int = 0
    seed: int | None = None


class Description(NamedTuple):
    """A queue that another process requests.

    Attributes:
        shared_name: Name that identifies the queue, also in its error messages.
        signature: Properties of the queue.
    """

    shared_name: str
    signature: Signature

    def encode(self) -> bytes:
        """Return the description as JSON.

        Raises:
            InvalidArgumentError: The JSON exceeds the size limit.
        """
        fields = self._asdict() | self.signature._asdict()
        del fields["signature"]
        dtypes = [dtype if isinstance(dtype, str) else dtype.name for dtype in self.signature.dtypes]
        data = json.dumps(fields | {"dtypes": dtypes}).encode()
        if len(data) > MAX_BYTES:
            raise _invalid(f"It must have at most {MAX_BYTES:,} bytes, got {len(data):,}. Use shorter names.")
        return data

    @classmethod
    def decode(cls, data: bytes) -> "Description":
        """Return the description that was encoded as JSON.

        Raises:
            InvalidArgumentError: The data is not JSON, or describes no valid queue.
        """
        message = _parsed(data)
        shared_name = _text(message, "shared_name")
        if not shared_name:
            raise _invalid("`shared_name` must not be empty.")
        return cls(shared_name, _signature(message))


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise _invalid(f"It must have at most {MAX_BYTES:,} bytes, got {len(data):,}.")
    try:
        message = json.loads(data.decode())
    except (ValueError, RecursionError):  # a deeply nested list exhausts the stack of the parser
        message = None
    if not isinstance(message, dict):
        raise _invalid("It must be a JSON object.")
    return message


def _signature(message: dict[str, Any]) -> Signature:
    class_name = _text(message, "class_name")
    if class_name not in _CLASSES:
        raise _invalid(f"`class_name` must be one of {', '.join(_CLASSES)}, got {class_name!r}.")
    dtypes = tuple(_dtype(each) for each in _list(message.get("dtypes")))
    if not dtypes:
        raise _invalid("`dtypes` must not be empty.")
    shapes = _shapes(message.get("shapes"), dtypes)
    if shapes is not None and not all(_fits(class_name, shape) for shape in shapes):
        raise _invalid(f"A {class_name} cannot have elements of the shapes {shapes}.")
    capacity, minimum = _integer(message.get("capacity"), -1), _integer(message.get("min_after_dequeue"), 0)
    if minimum and 0 <= capacity <= minimum:
        raise _invalid(f"`min_after_dequeue` must be less than the capacity {capacity}, got {minimum}.")
    seed = message.get("seed")
    return Signature(class_name, dtypes, shapes, capacity, minimum, None if seed is None else _integer(seed))


def _dtype(name: Any) -> DType:
    try:
        dtype = as_dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    # Only canonical names, as `encode` writes them.
    if dtype is None or name not in (STRING, getattr(dtype, "name", None)):
        raise _invalid(f"{name!r} is not a dtype that the queue's process supports.")
    return dtype


def _shapes(value: Any, dtypes: tuple[DType, ...]) -> tuple[Shape, ...] | None:
    if value is None:
        return None
    shapes = tuple(None if each is None else as_shape([_size(size) for size in _list(each)]) for each in _list(value))
    if len(shapes) != len(dtypes):
        raise _invalid(f"Expected one shape for each of the {len(dtypes)} dtypes, got {len(shapes)} shapes.")
    for dtype, shape in zip(dtypes, shapes, strict=True):
        itemsize = 1 if isinstance(dtype, str) else dtype.itemsize
        if is_fully_known(shape) and math.prod(shape) * itemsize > MAX_COMPONENT_BYTES:
            raise _invalid(f"A component must have at most {MAX_COMPONENT_BYTES:,} bytes, got the shape {shape}.")
    return shapes


def _fits(class_name: str, shape: Shape) -> bool:
    return shape is not None if class_name == "PaddingFIFOQueue" else is_fully_known(shape)


def _size(value: Any) -> int | None:
    return None if value is None else _integer(value, 0)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(f"Expected a list, got {value!r}.")
    return value


def _text(message: dict[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise _invalid(f"`{key}` must be a string, got {value!r}.")
    return value


def _integer(value: Any, least: int = -_MAX_INTEGER) -> int:
    # `bool` is a subclass of `int`, but True is not a valid size.
    if type(value) is not int or not least <= value < _MAX_INTEGER:
        raise _invalid(f"Expected an integer from {least} to {_MAX_INTEGER - 1}, got {value!r}.")
    return value


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"Invalid description of a queue with a shared name. {problem}")
