"""Finds state of an object that may change although the object itself does not: memory that others can write to.

A comparison of a source cannot detect such a change, so workers must not compute with it earlier than necessary.

======================  ==============================================================================================
Shared                  `multiprocessing.shared_memory`, `multiprocessing.Value` and `Array`, proxies of a manager;
                        arrays, torch tensors, ctypes objects and `mmap` objects in a map that is shared and writable
Not shared              private memory; maps for reading only, and copy-on-write maps
Not detected            files, databases, servers: their owner sets the attribute ``constant = False``
======================  ==============================================================================================

The search examines the contents of an object (`mpqueue.system.user_code.object_walk`), the default arguments of
functions, and the global variables that functions and methods use. An object with ``constant = True`` is not searched.
"""

import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mpqueue.system.descriptors.memory_maps import Area, read_areas
from mpqueue.system.user_code.object_walk import Found, contents, is_a, names_in

# Classes by module. A program that has not imported a module has no such objects, and imports take time.
_ALWAYS = {
    "multiprocessing.shared_memory": ("SharedMemory", "ShareableList"),
    "multiprocessing.sharedctypes": ("SynchronizedBase",),
    "multiprocessing.managers": ("BaseProxy",),
}
_BY_ADDRESS = {
    "numpy": ("ndarray",),
    "torch": ("Tensor",),
    "mmap": ("mmap",),
    "_ctypes": ("_SimpleCData", "Array", "Structure", "Union"),
}


def constancy(value: Any) -> bool | None:
    """Return the attribute ``constant`` of an object or its class.

    True: it never changes. False: it may change in a way that cannot be detected. None: changes are detected.
    """
    if is_a(value, type):
        return None  # its attribute describes its instances
    # Not by `getattr`, which runs the code of lazy objects and proxies for a missing attribute.
    attributes = getattr(value, "__dict__", None)
    positions: list[Mapping[str, Any]] = [attributes] if isinstance(attributes, dict) else []
    positions += [vars(kind) for kind in type(value).__mro__]
    declared = next((position["constant"] for position in positions if "constant" in position), None)
    if hasattr(type(declared), "__get__"):  # a property, or a slot
        declared = getattr(value, "constant", None)
    return declared if isinstance(declared, bool) else None


def find_shared_state(roots: Iterable[Any]) -> Found | None:
    """Return the first part of these objects that may change without a trace; None if no part was found.

    It is shared memory, or it declares ``constant = False``.
    """
    search = _Search()
    for root in roots:
        for found in contents(root, search.is_wanted):
            if search.is_shared(found.value) or constancy(found.value) is not True:
                return found
    return None


class _Search:
    def __init__(self) -> None:
        self._always, self._by_address = _classes(_ALWAYS), _classes(_BY_ADDRESS)
        self._areas: list[Area] | None = None
        self._shared_globals: dict[int, frozenset[str]] = {}  # names, by the identity of the dict of a module
        self._uses: dict[type, bool] = {}
        self._is_plain: dict[type, bool] = {}  # only an instance's own attribute can declare something

    def is_wanted(self, value: Any) -> bool:
        """Return whether an object is shared, or declares whether it changes."""
        kind = type(value)
        is_plain = self._is_plain.get(kind)
        if is_plain is None:
            is_plain = self._is_plain[kind] = self._find_plain(kind)
        if is_plain:
            attributes = getattr(value, "__dict__", None)
            return isinstance(attributes, dict) and isinstance(attributes.get("constant"), bool)
        return self.is_shared(value) or constancy(value) is not None or self._uses_shared(value)

    def _find_plain(self, kind: type) -> bool:
        if issubclass(kind, (memoryview, types.FunctionType, type, *self._always, *self._by_address)):
            return False
        return not (self._class_uses_shared(kind) or any("constant" in vars(each) for each in kind.__mro__))

    def is_shared(self, value: Any) -> bool:
        """Return whether an object is memory that others can write to."""
        while is_a(value, memoryview):
            try:
                value = value.obj
            except ValueError:  # it was released
                return False
        if is_a(value, self._always):
            return True
        if not is_a(value, self._by_address):
            return False
        address = _address_of(value)
        return address is not None and self._is_at_shared(address) and not _is_pinned(value)

    def _is_at_shared(self, address: int) -> bool:
        if self._areas is None:
            self._areas = [area for area in read_areas() if area.is_shared and area.is_writable]
        return any(area.first <= address < area.end for area in self._areas)

    def _uses_shared(self, value: Any) -> bool:
        """Return whether a function, or a method of the class of an object, uses a shared global or default."""
        if is_a(value, types.FunctionType):
            return self._function_uses_shared(value)
        return self._class_uses_shared(value if is_a(value, type) else type(value))

    def _class_uses_shared(self, kind: type) -> bool:
        for each in kind.__mro__:
            if each not in self._uses:
                self._uses[each] = any(map(self._function_uses_shared, _methods(each)))
        return any(self._uses[each] for each in kind.__mro__)

    def _function_uses_shared(self, function: types.FunctionType) -> bool:
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        if any(map(self.is_shared, defaults)):
            return True
        known = function.__globals__
        shared = self._shared_globals.get(id(known))
        if shared is None:
            shared = frozenset(name for name, value in list(known.items()) if self.is_shared(value))
            self._shared_globals[id(known)] = shared
        return bool(shared) and not shared.isdisjoint(names_in(function.__code__))


def _classes(names: dict[str, tuple[str, ...]]) -> tuple[type, ...]:
    """Return the classes with these names, of modules that are imported."""
    found = [getattr(sys.modules.get(module), name, None) for module in names for name in names[module]]
    return tuple(kind for kind in found if isinstance(kind, type))


def _address_of(value: Any) -> int | None:
    """Return the address of the memory of an object; None if that memory is certainly private."""
    if is_a(value, np.ndarray):
        owner = value
        while is_a(owner.base, np.ndarray):
            owner = owner.base
        # Without a base, the array has allocated its own memory.
        return None if owner.base is None or not value.size else int(value.__array_interface__["data"][0])
    if type(value).__module__ == "mmap":
        try:
            return _address_of(np.frombuffer(value, np.uint8))
        except ValueError:  # it was closed
            return None
    if is_a(value, _classes({"torch": ("Tensor",)})):
        return _address_of_tensor(value)
    return int(sys.modules["ctypes"].addressof(value))


def _address_of_tensor(tensor: Any) -> int | None:
    if tensor.device.type != "cpu" or tensor.layout is not sys.modules["torch"].strided:
        return None
    try:
        return int(tensor.data_ptr()) or None
    except RuntimeError:  # a tensor without memory, such as a fake one
        return None


def _is_pinned(value: Any) -> bool:
    """Return whether this is a pinned tensor: the kernel lists its memory as shared, but only this process maps it."""
    return is_a(value, _classes({"torch": ("Tensor",)})) and bool(value.is_pinned())


def _methods(kind: type) -> Iterator[types.FunctionType]:
    """Yield the functions that a class defines in Python."""
    for attribute in list(vars(kind).values()):
        function = attribute
        if is_a(attribute, (staticmethod, classmethod)):
            function = attribute.__func__
        elif is_a(attribute, property):
            function = attribute.fget
        if is_a(function, types.FunctionType):
            yield function
