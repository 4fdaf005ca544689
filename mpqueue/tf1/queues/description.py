"""A queue of a shared name as plain data: what a process tells an owner that is to find it, or to make it.

JSON, because the owner must not run what another process sends, as it would by unpickling it. All is bounded, and what
no queue of this library says is refused: the types and sizes here, what the values mean in the constructors that get
them.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.values.shapes import is_fully_known
from mpqueue.values.dtypes import STRING, DType, as_dtype
from mpqueue.values.shapes import Shape, as_shape

MAX_BYTES = 1 << 16
MAX_COMPONENT_BYTES = (1 << 31) - 1  # of a fixed shape: NumPy's bound for one item of an array
_MAX_INTEGER = 1 << 128
_CLASSES = ("FIFOQueue", "PaddingFIFOQueue", "RandomShuffleQueue")


class Signature(NamedTuple):
    """The properties that two queues of one shared name must agree in."""

    class_name: str
    dtypes: tuple[DType, ...]
    shapes: tuple[Shape, ...] | None
    capacity: int
    min_after_dequeue: int = 0
    seed: int | None = None


class Description(NamedTuple):
    """A queue as another process asks for it.

    Attributes:
        shared_name: The name by which it is found, and by which its errors call it.
        container: The group of names that this one belongs to; "" is the one that is meant where none is given.
        signature: Its properties.
    """

    shared_name: str
    container: str
    signature: Signature

    def encode(self) -> bytes:
        """Return it as bytes.

        Raises:
            InvalidArgumentError: They are more than an owner takes.
        """
        fields = self._asdict() | self.signature._asdict()
        del fields["signature"]
        dtypes = [dtype if isinstance(dtype, str) else dtype.name for dtype in self.signature.dtypes]
        data = json.dumps(fields | {"dtypes": dtypes}).encode()
        if len(data) > MAX_BYTES:
            raise _refused(f"it has {len(data):,} bytes, at most {MAX_BYTES:,} are taken: use shorter names")
        return data

    @classmethod
    def decode(cls, data: bytes) -> "Description":
        """Return what bytes say.

        Raises:
            InvalidArgumentError: They say nothing, or what no queue has.
        """
        said = _parsed(data)
        shared_name = _text(said, "shared_name")
        if not shared_name:
            raise _refused("it has no shared name")
        return cls(shared_name, _text(said, "container"), _signature(said))


def encode_reset(containers: Iterable[str]) -> bytes:
    """Return the request to forget all queues in these containers, without any all queues."""
    return json.dumps({"reset": list(containers)}).encode()


def decode_reset(data: bytes) -> list[str] | None:
    """Return the containers of `encode_reset`, None if the bytes are another request.

    Raises:
        InvalidArgumentError: They say nothing.
    """
    said = _parsed(data)
    if "reset" not in said:
        return None
    containers = _list(said["reset"])
    if not all(isinstance(each, str) for each in containers):
        raise _refused(f"{containers!r} are no containers")
    return containers


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise _refused(f"it has {len(data):,} bytes, at most {MAX_BYTES:,} are taken")
    try:
        said = json.loads(data.decode())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _refused("it is no JSON object")
    return said


def _signature(said: dict[str, Any]) -> Signature:
    class_name = _text(said, "class_name")
    if class_name not in _CLASSES:
        raise _refused(f"{class_name!r} is no class of queues")
    dtypes = tuple(_dtype(each) for each in _list(said.get("dtypes")))
    if not dtypes:
        raise _refused("it has no components")
    shapes = _shapes(said.get("shapes"), dtypes)
    if shapes is not None and not all(_fits(class_name, shape) for shape in shapes):
        raise _refused(f"a {class_name} has no elements of the shapes {shapes}")
    capacity, minimum = _integer(said.get("capacity"), -1), _integer(said.get("min_after_dequeue"), 0)
    if minimum and 0 <= capacity <= minimum:
        raise _refused(f"{minimum} elements stay in a queue of capacity {capacity}")
    seed = said.get("seed")
    return Signature(class_name, dtypes, shapes, capacity, minimum, None if seed is None else _integer(seed))


def _dtype(name: Any) -> DType:
    try:
        dtype = as_dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if dtype is None or name not in (STRING, getattr(dtype, "name", None)):
        raise _refused(f"{name!r} is no dtype that is known in the process of the queue")
    return dtype


def _shapes(said: Any, dtypes: tuple[DType, ...]) -> tuple[Shape, ...] | None:
    if said is None:
        return None
    shapes = tuple(None if each is None else as_shape([_size(size) for size in _list(each)]) for each in _list(said))
    if len(shapes) != len(dtypes):
        raise _refused(f"it has {len(shapes)} shapes for {len(dtypes)} components")
    for dtype, shape in zip(dtypes, shapes, strict=True):
        itemsize = 1 if isinstance(dtype, str) else dtype.itemsize
        if is_fully_known(shape) and math.prod(size or 0 for size in shape or ()) * itemsize > MAX_COMPONENT_BYTES:
            raise _refused(f"a component of shape {shape} has more than {MAX_COMPONENT_BYTES:,} bytes")
    return shapes


def _fits(class_name: str, shape: Shape) -> bool:
    return shape is not None if class_name == "PaddingFIFOQueue" else is_fully_known(shape)


def _size(said: Any) -> int | None:
    return None if said is None else _integer(said, 0)


def _list(said: Any) -> list[Any]:
    if not isinstance(said, list):
        raise _refused(f"{said!r} is no list")
    return said


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise _refused(f"its {key} is {value!r}, and no text")
    return value


def _integer(said: Any, least: int = -_MAX_INTEGER) -> int:
    if type(said) is not int or not least <= said < _MAX_INTEGER:
        raise _refused(f"{said!r} is no integer, or too small or too large a one")
    return said


def _refused(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"this description of a queue with a shared name cannot be used: {why}")
