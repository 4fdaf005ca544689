"""A graph: its nodes by name, the scopes in which new ones are made, and its collections.

Everything that a ``with`` statement changes for the nodes made inside it is a field of `Scopes`, an immutable record:
entering puts a changed copy in place, leaving puts the old one back.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from mpqueue.compat.graph.defaults import entered
from mpqueue.compat.graph.nodes import Operation, Tensor

_Attached = TypeVar("_Attached")
_ROOT_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_DEVICE: Final = re.compile(r"/(cpu|gpu):(\d+|\*)", re.IGNORECASE)  # the short form of /device:CPU:0
_NAME: Final = re.compile(r"[A-Za-z0-9_.\\/>-]*")


@dataclass(frozen=True)
class Scopes:
    """What applies to the nodes that are made now."""

    name: str = ""
    control_inputs: tuple[Operation, ...] = ()
    device: str = ""
    branch: Any = None


class Graph:
    """A set of operations that a `Session` can run.

    Nodes are made in the default graph, that is, the innermost one whose ``as_default()`` is entered in this thread,
    else one global graph.

    Follows: ``tf.Graph``.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._names: dict[str, int] = {}
        self._scopes = Scopes()
        self._collections: dict[str, list[Any]] = {}
        self._unfeedable: set[Tensor] = set()
        self._attached: dict[type, Any] = {}
        self._finalized = False
        self._lock = threading.RLock()
        self.seed: int | None = None

    # Nodes

    def add(self, make: Callable[[str], Operation], name: str) -> Operation:
        """Make a node under the name scope ``name`` (ending in "/") or a new unique name.

        Raises:
            RuntimeError: The graph is finalized.
            ValueError: The name has characters that names may not have.
        """
        with self._lock:
            if self._finalized:
                raise RuntimeError("Graph is finalized and cannot be modified.")
            if not name.endswith("/"):
                _check_name(name, _ROOT_NAME if not self._scopes.name else _NAME)
                name = self.unique_name(name)
            made = make(name.rstrip("/"))
            made.control_inputs = tuple(op for op in self._scopes.control_inputs if op not in _producers(made))
            self._operations[made.name] = made
            return made

    @property
    def version(self) -> int:
        """Grows with every node."""
        return len(self._operations)

    def get_operations(self) -> list[Operation]:
        """All operations, oldest first."""
        return list(self._operations.values())

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            TypeError: ``name`` is no str.
            KeyError: There is none.
            ValueError: The name is a tensor's.
        """
        found = self.as_graph_element(_as_str(name), allow_tensor=False)
        assert isinstance(found, Operation)
        return found

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of that name, such as "add:0".

        Raises:
            TypeError: ``name`` is no str.
            KeyError: There is none.
            ValueError: The name is an operation's.
        """
        found = self.as_graph_element(_as_str(name), allow_operation=False)
        assert isinstance(found, Tensor)
        return found

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Tensor | Operation:
        """The node that ``obj`` is, stands for (a variable), or names.

        Raises:
            TypeError: It is of another kind than allowed.
            ValueError: It belongs to another graph, or is a name of the wrong form.
            KeyError: No node has this name.
        """
        stands_for = getattr(obj, "_as_graph_element", None)
        element = stands_for() if stands_for is not None else obj
        if isinstance(element, str):
            return self._named(element, allow_tensor, allow_operation)
        allowed = (Tensor,) * allow_tensor + (Operation,) * allow_operation
        if not isinstance(element, allowed):
            kinds = " or ".join(kind.__name__ for kind in allowed)
            raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")
        if element.graph is not self:
            raise ValueError(f"{element!r} is not an element of this graph.")
        return element

    def _named(self, name: str, allow_tensor: bool, allow_operation: bool) -> Tensor | Operation:
        base, colon, place = name.rpartition(":")
        if colon and allow_tensor:
            if not place.isdigit():
                raise ValueError(f"The name {name!r} looks like a tensor's, but is not of the form <op_name>:<output>")
            op = self._operations.get(base)
            if op is None or int(place) >= len(op.outputs):
                raise KeyError(f"The name {name!r} refers to a Tensor which does not exist in the graph.")
            return op.outputs[int(place)]
        if colon or not allow_operation:
            raise ValueError(f"The name {name!r} is not that of {'an operation' if allow_operation else 'a tensor'}.")
        if name not in self._operations:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return self._operations[name]

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Refuse feeds for this tensor: the graph was made believing its value."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """Whether a session may feed this tensor."""
        return tensor not in self._unfeedable

    def finalize(self) -> None:
        """Refuse new nodes from now on."""
        self._finalized = True

    def reopen(self) -> None:
        """Allow new nodes again."""
        self._finalized = False

    @property
    def finalized(self) -> bool:
        """Whether `finalize` was called."""
        return self._finalized

    def attached(self, kind: type[_Attached]) -> _Attached:
        """The one object of this class that belongs to the graph, made at first use."""
        return self._attached.setdefault(kind, kind())  # type: ignore[no-any-return]

    # Scopes

    @contextmanager
    def changed(self, **scopes: Any) -> Iterator[None]:
        """Inside, other `Scopes` apply."""
        before = self._scopes
        self._scopes = replace(before, **scopes)
        try:
            yield
        finally:
            self._scopes = before

    @property
    def current_device(self) -> str:
        """The device of new nodes; without effect."""
        return self._scopes.device

    @property
    def current_branch(self) -> Any:
        """The branch of a `cond` in which new nodes are made."""
        return self._scopes.branch

    @property
    def current_control_inputs(self) -> tuple[Operation, ...]:
        """What new nodes wait for."""
        return self._scopes.control_inputs

    def get_name_scope(self) -> str:
        """The prefix of new names, without the final slash."""
        return self._scopes.name

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Inside, the names of new nodes begin with ``name/``, made unique; with a name ending in "/", just with it.

        Yields: The prefix, ending in "/"; empty for None, which leaves all scopes.

        Raises:
            ValueError: ``name`` has characters that names may not have.
        """
        if not name:
            scope = ""
        elif name.endswith("/"):
            scope = name[:-1]
        else:
            _check_name(name, _ROOT_NAME if not self._scopes.name else _NAME)
            scope = self.unique_name(name)
        with self.changed(name=scope):
            yield f"{scope}/" if scope else ""

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """``name`` within the current scope, with ``_1``, ``_2``, ... behind it if it is taken (in any case)."""
        name = f"{self._scopes.name}/{name}" if self._scopes.name else name
        with self._lock:
            key, number = name.lower(), self._names.get(name.lower(), 0)
            if mark_as_used:
                self._names[key] = number + 1
            if not number:
                return name
            while f"{key}_{number}" in self._names:
                number += 1
            if mark_as_used:
                self._names[f"{key}_{number}"] = 1
            return f"{name}_{number}"

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Inside, new nodes run after ``control_inputs``; None lifts those of outer scopes.

        Raises:
            TypeError: An entry is no node.
            ValueError: It belongs to another graph.
        """
        inputs: tuple[Operation, ...] = ()
        if control_inputs is not None:
            added = [_operation_of(self, each) for each in control_inputs]
            inputs = tuple(dict.fromkeys([*self._scopes.control_inputs, *added]))
        with self.changed(control_inputs=inputs):
            yield

    @contextmanager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Inside, new nodes carry this device; mpqueue computes on the CPU all the same."""
        named = device_name_or_function if isinstance(device_name_or_function, str) else ""
        named = _DEVICE.sub(lambda found: f"/device:{found[1].upper()}:{found[2]}", named)
        with self.changed(device=named):
            yield

    @contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        """No effect: there is one device."""
        del op, ignore_existing
        yield

    @contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """No effect: state belongs to a session."""
        yield container_name

    def as_default(self) -> Any:
        """A context in which this is the default graph of this thread."""
        return entered.graph_context(self)

    # Collections

    def add_to_collection(self, name: str, value: Any) -> None:
        """Put ``value`` into the list called ``name``."""
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: str | Iterable[str], value: Any) -> None:
        """Put ``value`` into several lists."""
        for name in {names} if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: str) -> list[Any]:
        """The list called ``name`` itself."""
        return self._collections.setdefault(name, [])

    def get_collection(self, name: str, scope: str | None = None) -> list[Any]:
        """A copy of the list called ``name``; with ``scope``, of the entries whose names match it from the start on."""
        found = list(self._collections.get(name, ()))
        if scope is None:
            return found
        return [each for each in found if re.match(scope, getattr(each, "name", "\n"))]

    def get_all_collection_keys(self) -> list[str]:
        """The names of all lists."""
        return list(self._collections)

    def clear_collection(self, name: str) -> None:
        """Forget the list called ``name``."""
        self._collections.pop(name, None)

    def session_for(self, session: Any, what: str) -> Any:
        """The given session, or the default one, checked to be of this graph.

        Raises:
            ValueError: There is none, or it is of another graph.
        """
        found = entered.session if session is None else session
        if found is None:
            raise ValueError(
                f"Cannot use {what}: No default session is registered. Use `with sess.as_default()` or pass "
                "an explicit session"
            )
        if found.graph is not self:
            raise ValueError(f"Cannot use {what}: the session's graph is different from the node's graph.")
        return found


_global_graph = Graph()


def get_default_graph() -> Graph:
    """The graph in which nodes are made now, in this thread.

    Follows: ``tf.get_default_graph``.
    """
    return entered.graph or _global_graph


def reset_default_graph() -> None:
    """Begin a new global graph; nodes of the old one can no longer be mixed with new ones.

    Raises:
        AssertionError: A graph is entered by ``as_default()``.

    Follows: ``tf.reset_default_graph``.
    """
    global _global_graph
    if entered.graph is not None:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, exit the nesting "
            "and create a new graph."
        )
    _global_graph = Graph()


def _check_name(name: str, allowed: re.Pattern[str]) -> None:
    if not allowed.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name: use letters, digits, and _ . - / after the first character")


def _as_str(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names are strings (or similar), not {type(name).__name__}.")
    return name


def _producers(op: Operation) -> set[Operation]:
    return {each.op for each in op.inputs}


def _operation_of(graph: Graph, value: Any) -> Operation:
    element = graph.as_graph_element(value)
    return element.op if isinstance(element, Tensor) else element
