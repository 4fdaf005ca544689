"""Scopes, which apply to the nodes that are made now, and collections, in which a graph keeps things for later.

Everything that a ``with`` statement changes for the nodes made inside it is a field of `Scopes`, an immutable record:
entering puts a changed copy in place, leaving puts the old one back. The graphs and sessions whose ``as_default()`` a
thread has entered are the thread's own.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from mpqueue.system.locks import RLock

_ROOT_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_.\\/>-]*")
_DEVICE: Final = re.compile(r"/(cpu|gpu):(\d+|\*)", re.IGNORECASE)  # the short form of /device:CPU:0


class _Entered(threading.local):
    """The graphs, or the sessions, whose ``as_default()`` this thread has entered, innermost last."""

    def __init__(self) -> None:
        self._things: list[Any] = []

    @property
    def innermost(self) -> Any:
        """The thing that was entered last and not left, None if there is none."""
        return self._things[-1] if self._things else None

    @contextmanager
    def context(self, thing: Any) -> Iterator[Any]:
        """A context in which ``thing`` is the innermost."""
        self._things.append(thing)
        try:
            yield thing
        finally:
            # They may be left in another order than entered: an InteractiveSession is closed when the user likes.
            for place in reversed(range(len(self._things))):
                if self._things[place] is thing:
                    del self._things[place]
                    break


graphs: Final = _Entered()
sessions: Final = _Entered()


@dataclass(frozen=True)
class Scopes:
    """The settings of the nodes that are made now."""

    name: str = ""  # the prefix of names, without the final slash
    control_inputs: tuple[Any, ...] = ()  # the operations that they wait for
    device: str = ""  # without effect
    container: str = ""  # the group of names to which shared names belong
    branch: Any = None  # the branch of a `cond` to which they belong


class Scoped:
    """The scopes of a graph, and its names, each given once."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self.scopes = Scopes()
        self._lock = RLock()

    @contextmanager
    def changed(self, **scopes: Any) -> Iterator[None]:
        """Inside, other `Scopes` apply."""
        before = self.scopes
        self.scopes = replace(before, **scopes)
        try:
            yield
        finally:
            self.scopes = before

    def get_name_scope(self) -> str:
        """The prefix of new names, without the final slash."""
        return self.scopes.name

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Inside, the names of new nodes begin with ``name/``, made unique; with a name ending in "/", just with it.

        Yields: The prefix, ending in "/"; empty for None, which leaves all scopes.

        Raises:
            ValueError: ``name`` has characters that names may not have.
        """
        name = name or "/"
        scope = name[:-1] if name.endswith("/") else self._claimed(name)
        with self.changed(name=scope):
            yield f"{scope}/" if scope else ""

    def _claimed(self, name: str) -> str:
        """A new unique name in the scope, checked."""
        allowed = _NAME if self.scopes.name else _ROOT_NAME
        if not allowed.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a valid name: use letters, digits, and _ . - / after the first character"
            )
        return self.unique_name(name)

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """``name`` within the current scope, with ``_1``, ``_2``, ... behind it if it is taken (in any case)."""
        name = f"{self.scopes.name}/{name}" if self.scopes.name else name
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
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Inside, new nodes carry this device; mpqueue computes on the CPU all the same."""
        named = device_name_or_function if isinstance(device_name_or_function, str) else ""
        named = _DEVICE.sub(lambda found: f"/device:{found[1].upper()}:{found[2]}", named)
        with self.changed(device=named):
            yield

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
        """No effect: there is one device."""
        del op, ignore_existing
        return nullcontext()

    @contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """Inside, the shared names of new queues are names in this container: others than those of other containers."""
        with self.changed(container=container_name):
            yield container_name


class Collections:
    """Lists by name, in which functions put nodes for others to find."""

    def __init__(self) -> None:
        self._collections: dict[str, list[Any]] = {}

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
