"""Scopes, which apply to new nodes, and collections, where a graph keeps values under names.

`Scopes` is an immutable record with every setting that a ``with`` statement changes for new nodes. Entering replaces
the record by a changed copy, leaving restores the old one. The graphs and sessions whose ``as_default()`` is entered
are stored per thread.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.locks import RLock

_ROOT_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_.\\/>-]*")
_DEVICE: Final = re.compile(r"/(cpu|gpu):(\d+|\*)", re.IGNORECASE)  # the short form of /device:CPU:0


class _Entered(threading.local):
    """The graphs or sessions that this thread has entered with ``as_default()``, innermost last."""

    def __init__(self) -> None:
        self._things: list[Any] = []

    @property
    def innermost(self) -> Any:
        """The innermost entered graph or session, or None."""
        return self._things[-1] if self._things else None

    @context_manager
    def context(self, thing: Any) -> Iterator[Any]:
        """Return a context that makes ``thing`` the innermost."""
        self._things.append(thing)
        try:
            yield thing
        finally:
            # Contexts can be left in any order: an InteractiveSession can be closed at any time.
            for place in reversed(range(len(self._things))):
                if self._things[place] is thing:
                    del self._things[place]
                    break


graphs: Final = _Entered()
sessions: Final = _Entered()


@dataclass(frozen=True)
class Scopes:
    """The settings of new nodes."""

    name: str = ""  # the prefix of names, without the final slash
    control_inputs: tuple[Any, ...] = ()  # operations that must run before
    device: str = ""  # without effect
    container: str = ""  # the namespace of shared names
    branch: Any = None  # the branch of a `cond` that the nodes belong to


class Scoped:
    """The scopes of a graph, and its unique names."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self.scopes = Scopes()
        self._lock = RLock()

    @context_manager
    def changed(self, **scopes: Any) -> Iterator[None]:
        """Change `Scopes` within this context."""
        before = self.scopes
        self.scopes = replace(before, **scopes)
        try:
            yield
        finally:
            self.scopes = before

    def get_name_scope(self) -> str:
        """Return the prefix of new names, without the final slash."""
        return self.scopes.name

    @context_manager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Prefix the names of new nodes with ``name/`` in this context, made unique; a name ending in "/" is reused.

        Yields: The prefix, ending in "/"; empty for None, which leaves all scopes.

        Raises:
            ValueError: ``name`` contains invalid characters.
        """
        name = name or "/"
        scope = name[:-1] if name.endswith("/") else self._claimed(name)
        with self.changed(name=scope):
            yield f"{scope}/" if scope else ""

    def _claimed(self, name: str) -> str:
        """Return a new unique name in the scope, after checking its characters."""
        allowed = _NAME if self.scopes.name else _ROOT_NAME
        if not allowed.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a valid name: use letters, digits, and _ . - / after the first character"
            )
        return self.unique_name(name)

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """Return ``name`` in the current scope, with a suffix ``_1``, ``_2``, ... if taken (ignoring case)."""
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

    @context_manager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Set the device of new nodes in this context; it is recorded, but mpqueue always computes on the CPU."""
        named = device_name_or_function if isinstance(device_name_or_function, str) else ""
        named = _DEVICE.sub(lambda match: f"/device:{match[1].upper()}:{match[2]}", named)
        with self.changed(device=named):
            yield

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
        """Accept the call without effect: there is only one device."""
        del op, ignore_existing
        return nullcontext()

    @context_manager
    def container(self, container_name: str) -> Iterator[str]:
        """Put the shared names of new queues into this container, separate from other containers."""
        with self.changed(container=container_name):
            yield container_name


class Collections:
    """Lists by name, where functions store nodes for later use."""

    def __init__(self) -> None:
        self._collections: dict[str, list[Any]] = {}

    def add_to_collection(self, name: str, value: Any) -> None:
        """Append ``value`` to the list called ``name``."""
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: str | Iterable[str], value: Any) -> None:
        """Append ``value`` to several lists."""
        for name in {names} if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: str) -> list[Any]:
        """Return the list called ``name`` itself, not a copy."""
        return self._collections.setdefault(name, [])

    def get_collection(self, name: str, scope: str | None = None) -> list[Any]:
        """Return a copy of the list called ``name``; ``scope`` selects names that start with a match."""
        entries = list(self._collections.get(name, ()))
        if scope is None:
            return entries
        return [each for each in entries if re.match(scope, getattr(each, "name", "\n"))]

    def get_all_collection_keys(self) -> list[str]:
        """Return the names of all lists."""
        return list(self._collections)

    def clear_collection(self, name: str) -> None:
        """Remove the list called ``name``."""
        self._collections.pop(name, None)
