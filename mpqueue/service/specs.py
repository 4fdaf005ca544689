"""Specs of batches (see `mpqueue.memory.layout`) on their way to consumers: as JSON, or as a pickle where it must be.

    [0]                            None
    [1, "<f4", rank, is_fortran]   an array
    [2, item, ...]                 a tuple; 3: a list
    [4, [key, ...], item, ...]     a dict
    [5]                            an object, whose value lies in the slot as a pickle

A consumer can read the JSON of a server that it does not trust: it names no class and no code, and no dtype that holds
addresses. Records and the classes of unusual dtypes and keys have no such form; then all of the spec is a pickle, which
a consumer loads only where it is allowed to.
"""

import json
import math
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.errors import ServiceError
from mpqueue.memory.layout import NodeKind, Spec
from mpqueue.memory.serialize import dumps_object
from mpqueue.system.interrupts import defer_signals
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import unreadable

MAX_SPEC_BYTES = 1 << 22
_MAX_SPECS = 4096
_MAX_DEPTH = 64
_MAX_RANK = 64  # NumPy's own bound
_ORDINARY = re.compile(r"[<>|][biufcmMSUV]\d{1,10}(\[\w{1,24}\])?", re.ASCII)
_CONTAINERS = (NodeKind.TUPLE, NodeKind.LIST)


class MissingClass(ServiceError):
    """A spec needs a class that this process cannot import."""


class _NoJSON(Exception):
    """A spec that has no form in JSON."""


def encode_spec(spec: Spec) -> tuple[bytes, bool]:
    """Return the bytes of a spec, and whether they are a pickle.

    Raises:
        ServiceError: They would be too many.
    """
    try:
        body, is_pickled = json.dumps(_to_json(spec, 0), ensure_ascii=False, separators=(",", ":")).encode(), False
    except (_NoJSON, UnicodeEncodeError):
        body, is_pickled = _pickled(spec), True
    if len(body) > MAX_SPEC_BYTES:
        raise ServiceError(
            f"the structure of a batch takes {len(body):,} bytes, and {MAX_SPEC_BYTES:,} can be sent to consumers: "
            "give batches of fewer arrays, or with shorter keys"
        )
    return body, is_pickled


def decode_spec(body: bytes, is_pickled: bool, *, allow_pickle: bool) -> Spec:
    """Return the spec.

    Raises:
        ServiceError: It is a pickle and must not be loaded.
        MissingClass: It needs a module that is not there.
        ProtocolError: It is no spec.
    """
    if len(body) > MAX_SPEC_BYTES:
        raise ProtocolError(f"a spec of {len(body)} bytes, expected at most {MAX_SPEC_BYTES}")
    if is_pickled:
        return _unpickled(body, allow_pickle=allow_pickle)
    # A signal handler may raise a ValueError, too, which is not a fault of the server.
    with defer_signals():
        try:
            found = json.loads(body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"a spec that is no JSON: {type(error).__name__}") from error
        return _from_json(found, 0)


def _pickled(spec: Spec) -> bytes:
    try:
        return pickle.dumps(spec, 5)
    except Exception:  # classes that only the script knows
        return dumps_object(spec, None)


def _unpickled(body: bytes, *, allow_pickle: bool) -> Spec:
    if not allow_pickle:
        raise ServiceError(
            "the batches hold classes or unusual dtypes, which the server describes by a pickle, and a pickle of "
            "another user may run any code here: if you trust that user, pass allow_pickle=True to attach"
        )
    try:
        spec = pickle.loads(body)
    except (ImportError, AttributeError) as error:
        unreadable(error, partial(pickle.loads, body))
        raise MissingClass(
            f"the batch holds a class that this process cannot import ({error}): install its module here, too"
        ) from error
    except Exception as error:
        unreadable(error, partial(pickle.loads, body))
        raise ProtocolError(f"a spec that is no pickle: {type(error).__name__}: {error}") from error
    if not isinstance(spec, tuple) or not spec or spec[0] not in range(NodeKind.RECORD + 1):
        raise ProtocolError(f"a spec that is a {type(spec).__name__}")
    return spec


def _to_json(spec: Spec, depth: int) -> list[Any]:
    if depth > _MAX_DEPTH:
        raise _NoJSON
    kind = spec[0]
    if kind == NodeKind.ARRAY:
        _, dtype, rank, is_fortran = spec
        return [kind, _name_of(dtype), rank, int(is_fortran)]
    if kind in _CONTAINERS:
        return [kind, *[_to_json(item, depth + 1) for item in spec[1:]]]
    if kind == NodeKind.DICT:
        keys = spec[1][0]
        if not all(map(_is_plain, keys)):
            raise _NoJSON
        return [kind, list(keys), *[_to_json(item, depth + 1) for item in spec[2:]]]
    if kind == NodeKind.RECORD:
        raise _NoJSON
    return [kind]


def _name_of(dtype: np.dtype[Any]) -> str:
    """Return the name of an ordinary dtype: one that is made of its name again, and says all of it."""
    name = dtype.str
    if _ORDINARY.fullmatch(name) and dtype.metadata is None and np.dtype(name) == dtype:
        return name
    raise _NoJSON


def _is_plain(key: Any) -> bool:
    """Return whether a key comes out of JSON as it was."""
    if type(key) is int:
        return key.bit_length() < 64
    if type(key) is float:
        return math.isfinite(key)
    return key is None or type(key) in {str, bool}


def _from_json(found: Any, depth: int) -> Spec:
    if type(found) is not list or not found or type(found[0]) is not int or depth > _MAX_DEPTH:
        raise ProtocolError("a spec with a node that is none")
    read = _READERS.get(found[0])
    if read is None:
        raise ProtocolError(f"a spec with a node of kind {found[0]}")
    return read(found, depth)


def _read_leaf(found: list[Any], _depth: int) -> Spec:
    if len(found) != 1:
        raise ProtocolError("a spec with a leaf of several parts")
    return (found[0],)


def _read_array(found: list[Any], _depth: int) -> Spec:
    if len(found) != 4:
        raise ProtocolError(f"a spec with an array of {len(found)} parts, expected 4")
    kind, name, rank, is_fortran = found
    if type(name) is not str or not _ORDINARY.fullmatch(name):
        raise ProtocolError("a spec with an array of no ordinary dtype")
    if type(rank) is not int or not 0 <= rank <= _MAX_RANK or type(is_fortran) is not int or is_fortran not in {0, 1}:
        raise ProtocolError("a spec with an array of no possible rank or order")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a spec with the dtype {name}") from error
    return (kind, dtype, rank, bool(is_fortran))


def _read_items(found: list[Any], depth: int) -> Spec:
    return (found[0], *[_from_json(item, depth + 1) for item in found[1:]])


def _read_dict(found: list[Any], depth: int) -> Spec:
    keys = found[1] if len(found) > 1 else None
    if type(keys) is not list or not all(map(_is_plain, keys)):
        raise ProtocolError("a spec with a dict of impossible keys")
    if len(set(keys)) != len(keys) or len(keys) != len(found) - 2:
        raise ProtocolError(f"a spec with a dict of {len(keys)} keys for {len(found) - 2} items, or a key twice")
    items = [_from_json(item, depth + 1) for item in found[2:]]
    return (found[0], (tuple(keys), tuple(map(type, keys))), *items)


_READERS: dict[int, Callable[[list[Any], int], Spec]] = {
    NodeKind.NONE: _read_leaf,
    NodeKind.ARRAY: _read_array,
    NodeKind.TUPLE: _read_items,
    NodeKind.LIST: _read_items,
    NodeKind.DICT: _read_dict,
    NodeKind.OBJECT: _read_leaf,
}


class Specs:
    """Numbers for the specs of batches; one that has one keeps it, as long as there are not thousands of others.

    Attributes:
        numbers: Of all that have one.
        bodies: By number: what `encode_spec` has made of it.
    """

    def __init__(self) -> None:
        self.numbers: dict[Spec, int] = {}
        self.bodies: dict[int, tuple[bytes, bool]] = {}
        self._last = 0

    def number_of(self, spec: Spec) -> int:
        """Return the number of a spec, a new one if it has none.

        Raises:
            ServiceError: As of `encode_spec`.
        """
        number = self.numbers.get(spec)
        if number is None:
            if len(self.numbers) >= _MAX_SPECS:
                self.numbers.clear()
                self.bodies.clear()
            self._last += 1
            number = self.numbers[spec] = self._last
            self.bodies[number] = encode_spec(spec)
        return number
