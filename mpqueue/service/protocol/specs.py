"""Specs of batches (see `mpqueue.memory.layout`) as sent to consumers: in JSON, or pickled if necessary.

    [0]                            None
    [1, "<f4", rank, is_fortran]   an array
    [2, item, ...]                 a tuple; 3: a list
    [4, [key, ...], item, ...]     a dict
    [5]                            an object, pickled in the slot

A consumer can read JSON from a server that it does not trust: JSON contains no classes, no code and no dtypes with
pointers. Records, unusual dtypes and unusual keys have no JSON form. Then the whole spec is a pickle, which a consumer
loads only if `allow_pickle` permits it.
"""

import json
import math
import pickle
import re
from typing import Any

import numpy as np

from mpqueue.errors import ServiceError
from mpqueue.memory.layout import NodeKind, Spec
from mpqueue.memory.serialize import dumps_object, is_loadable_elsewhere
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import unreadable

MAX_SPEC_BYTES = 1 << 22
MAX_SPECS = 4096  # that a server uses at the same time
_MAX_DEPTH = 64
_MAX_RANK = 64  # NumPy's own bound
_ORDINARY = re.compile(r"[<>|][biufcmMSUV]\d{1,10}(\[\w{1,24}\])?", re.ASCII)
_CONTAINERS = (NodeKind.TUPLE, NodeKind.LIST)
_LEAVES = (NodeKind.NONE, NodeKind.OBJECT)


class MissingClass(ServiceError):
    """A spec needs a class that this process cannot import."""


class _NoJSON(Exception):
    """The spec has no form in JSON."""


def encode_spec(spec: Spec) -> tuple[bytes, bool]:
    """Return the bytes of a spec, and whether they are a pickle.

    Raises:
        ServiceError: The spec is too large.
    """
    try:
        # JSON first: a consumer of a different user loads no pickles.
        body, is_pickled = json.dumps(_to_json(spec, 0), ensure_ascii=False, separators=(",", ":")).encode(), False
    except (_NoJSON, UnicodeEncodeError):
        body, is_pickled = _pickled(spec), True
    if len(body) > MAX_SPEC_BYTES:
        raise ServiceError(
            f"the structure of a batch must have at most {MAX_SPEC_BYTES:,} bytes, got {len(body):,}: "
            "use fewer arrays per batch, or shorter keys"
        )
    return body, is_pickled


def decode_spec(body: bytes, is_pickled: bool, *, allow_pickle: bool) -> Spec:
    """Return the decoded spec.

    Raises:
        ServiceError: The spec is a pickle, which is not allowed.
        MissingClass: The spec needs a class that cannot be imported.
        ProtocolError: The spec is invalid.
    """
    if len(body) > MAX_SPEC_BYTES:
        raise ProtocolError(f"expected a spec of at most {MAX_SPEC_BYTES} bytes, got {len(body)}")
    if is_pickled:
        return _unpickled(body, allow_pickle=allow_pickle)
    try:
        tree = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"expected a spec in JSON, got {type(error).__name__}") from error
    return _from_json(tree, 0)


def _pickled(spec: Spec) -> bytes:
    try:
        # Plain pickle is faster, and its result can be loaded without cloudpickle.
        pickled = pickle.dumps(spec, 5)
        if is_loadable_elsewhere(pickled):
            return pickled
    except Exception:  # noqa: S110 - classes that functions define
        pass
    return dumps_object(spec, None)


def _unpickled(body: bytes, *, allow_pickle: bool) -> Spec:
    if not allow_pickle:
        raise ServiceError(
            "the batches contain classes or unusual dtypes, which the server has pickled, and unpickling data of "
            "another user can run arbitrary code: if you trust that user, pass allow_pickle=True to attach"
        )
    try:
        spec = pickle.loads(body)
    except (ImportError, AttributeError) as error:
        unreadable(error)
        raise MissingClass(
            f"the batch contains a class that cannot be imported ({error}): install its module in this process"
        ) from error
    except Exception as error:
        unreadable(error)
        raise ProtocolError(f"expected a pickled spec, got {type(error).__name__}: {error}") from error
    # Even a trusted server may have a different version. This check only detects obvious mistakes.
    if not isinstance(spec, tuple) or not spec or spec[0] not in range(NodeKind.RECORD + 1):
        raise ProtocolError(f"expected a spec, got a pickled {type(spec).__name__}")
    return spec


def _to_json(spec: Spec, depth: int) -> list[Any]:
    # The consumer's JSON parser is recursive. Deeper structures are pickled.
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
    """Return the name of an ordinary dtype; NumPy creates an equal dtype from it."""
    # Metadata, aliases and subclasses are not part of the name, so such dtypes are pickled.
    name = dtype.str
    if _ORDINARY.fullmatch(name) and dtype.metadata is None and np.dtype(name) == dtype:
        return name
    raise _NoJSON


def _is_plain(key: Any) -> bool:
    """Return whether JSON preserves a key."""
    # JSON objects only have string keys, so keys are sent as a list. Subclasses would lose their
    # type.
    if type(key) is int:
        return key.bit_length() < 64
    if type(key) is float:
        return math.isfinite(key)
    return key is None or type(key) in {str, bool}


def _from_json(node: Any, depth: int) -> Spec:
    if type(node) is not list or not node or type(node[0]) is not int or depth > _MAX_DEPTH:
        raise ProtocolError("expected a node of a spec as a list with its kind first")
    kind, *parts = node
    if kind in _LEAVES and not parts:
        return (kind,)
    if kind in _CONTAINERS:
        return (kind, *[_from_json(item, depth + 1) for item in parts])
    if kind == NodeKind.ARRAY and len(parts) == 3:
        return _read_array(*parts)
    if kind == NodeKind.DICT and parts and _are_keys(parts[0], len(parts) - 1):
        keys, *items = parts
        return (kind, (tuple(keys), tuple(map(type, keys))), *[_from_json(item, depth + 1) for item in items])
    raise ProtocolError(f"expected a node of kind 0 to 5 with its parts, got kind {kind} with {len(parts)}")


def _read_array(name: Any, rank: Any, is_fortran: Any) -> Spec:
    is_shape = type(rank) is int and 0 <= rank <= _MAX_RANK and type(is_fortran) is int and is_fortran in {0, 1}
    # Match before `np.dtype` parses the name: it accepts many other strings, including dtypes with object pointers.
    if not is_shape or type(name) is not str or not _ORDINARY.fullmatch(name):
        raise ProtocolError(f"expected an array of an ordinary dtype, rank 0 to {_MAX_RANK} and order 0 or 1")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"{name} is not a dtype") from error
    if dtype.str != name:  # NumPy 1 accepts sizes of 2 GiB or more, and makes negative or small ones of them
        raise ProtocolError(f"{name} is not the name of a dtype, got {dtype.str} from it")
    return (NodeKind.ARRAY, dtype, rank, bool(is_fortran))


def _are_keys(keys: Any, count: int) -> bool:
    """Return whether these are the keys of a dict with this many items."""
    # Equal keys, such as 1 and True, would leave an item without a key.
    return type(keys) is list and all(map(_is_plain, keys)) and len(set(keys)) == len(keys) == count


class Specs:
    """The ids of batch specs. A spec keeps its id unless there are thousands of specs.

    Attributes:
        ids: The id of each spec.
        bodies: By id: the result of `encode_spec`.
    """

    def __init__(self) -> None:
        self.ids: dict[Spec, int] = {}
        self.bodies: dict[int, tuple[bytes, bool]] = {}
        self._last = 0

    def id_of(self, spec: Spec) -> int:
        """Return the id of a spec; assign one if necessary.

        Raises:
            ServiceError: The spec is too large.
        """
        spec_id = self.ids.get(spec)
        if spec_id is None:
            if len(self.ids) >= MAX_SPECS:
                # A source with a constantly changing structure would otherwise grow these dicts without bound. Ids
                # are not reused, so a consumer cannot confuse two specs.
                self.ids.clear()
                self.bodies.clear()
            self._last += 1
            spec_id = self.ids[spec] = self._last
            self.bodies[spec_id] = encode_spec(spec)
        return spec_id
