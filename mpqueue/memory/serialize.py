"""Pickling by value, by cloudpickle, of objects that `pickle` cannot pickle by name.

Classes and functions of a script, a notebook cell or ``python - <<EOF`` have no module that another process could
import. cloudpickle sends them by value and recognizes them when they return, so that an exception class of the
script is the same class again in the trainer.

A worker that is forked from the trainer shares the trainer's main module. It has the trainer's classes under the same
names, but cloudpickle does not know them there and would make copies. `share_main` and `dumps_reply` use the names.
Consumers of a server are other programs without these names. So its workers pickle them by value (`part_from_main`),
and cloudpickle knows them because `identify_main` has run before the fork.
"""

import enum
import functools
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any, ClassVar, NamedTuple

import numpy as np

_attributes_of_class = vars(type)["__dict__"].__get__
_REBUILDS = b"_rebuild_tensor_v3"
_NO_FILE = "<dynamic-code>"  # cloudpickle's
script_modules: tuple[bytes, ...] = ()
"""In a worker: modules whose names only this worker and the trainer know, set by `mpqueue.memory.main_module`, or by
`part_from_main` in a forked worker."""
# The classes and functions of the main module by name; None if this process was not forked from the trainer.
_shared_main: dict[str, Any] | None = None


def dumps_object(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    """Pickle ``value`` with protocol 5, by value if it has no importable name.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    with io.BytesIO() as file:
        value_pickler()(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


@functools.cache
def value_pickler() -> Any:
    """Return the class of `dumps_object`'s pickler, a subclass of ``cloudpickle.Pickler``."""
    import cloudpickle  # takes 10 ms, and most workers never need it

    class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        """A cloudpickle pickler that keeps the file names of code.

        It also pickles torch's untyped storages, and functions of `functools.singledispatch`.
        """

        dispatch_table: ClassVar = ChainMap({CodeType: reduced_code}, *cloudpickle.Pickler.dispatch_table.maps)

        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduced_of_torch(obj) or super().reducer_override(obj)
            if reduced is not NotImplemented and issubclass(type(obj), type):
                _add_slots(obj, reduced[1])
            if reduced is NotImplemented or type(obj) is not FunctionType or obj.__code__ is not _DISPATCHING:
                return reduced
            # Its closure has a cache with weak references, which cannot be pickled.
            registry = dict(vars(obj)["registry"])
            own = {name: value for name, value in vars(obj).items() if name not in _OF_DISPATCH}
            return _single_dispatch, (obj.__name__,), (registry, own), None, None, _fill_dispatch

    return ValuePickler


def reduced_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    """Return the reduction of a code object, with the name of its file for tracebacks."""
    import cloudpickle

    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    filename = code.co_filename
    return make, tuple(filename if type(part) is str and part == _NO_FILE else part for part in arguments)


def _add_slots(kind: type, arguments: tuple[Any, ...]) -> None:
    """Add the slots of a class to the arguments with which cloudpickle makes a copy of it.

    Otherwise instances of the copy would have a ``__dict__``, and the class itself could not load their pickles.

    Raises:
        TypeError: The copy would lack data of the class.
    """
    own = _attributes_of_class(kind)
    if "__slots__" not in own or issubclass(kind, enum.Enum):
        return
    _, _, bases, attributes, *_ = arguments
    if any(base is NamedTuple for base in bases):  # which makes the slots itself
        return
    metaclass: Any = type(kind)
    if metaclass.__basicsize__ > type.__basicsize__:  # such as the metaclass of `msgspec.Struct`
        raise TypeError(
            f"the class {kind.__qualname__} has data of its metaclass {metaclass.__qualname__} that its pickle lacks. "
            "Define the class in a module that worker processes can import"
        )
    # Not from `__slots__`, which may be a string or a dictionary. Private names are mangled here, and remain so.
    slots = [name for name, value in own.items() if type(value) is MemberDescriptorType and value.__objclass__ is kind]
    slots += [name for name in ("__dict__", "__weakref__") if name in own]
    # Copies, as in cloudpickle: the pickle must not depend on interned strings.
    attributes["__slots__"] = tuple("".join(name) for name in slots)


def _single_dispatch(name: str) -> Any:
    def unset(_value: Any) -> None:
        """Serve as a placeholder: the function may refer to the result. `_fill_dispatch` replaces it."""

    unset.__name__ = name  # in error messages
    return functools.singledispatch(unset)


_DISPATCHING = _single_dispatch("").__code__
_OF_DISPATCH = {*vars(_single_dispatch(""))} - {"__wrapped__"}


def _fill_dispatch(function: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    registry, own = state
    functools.update_wrapper(function, own["__wrapped__"])
    vars(function).update(own)
    for kind, implementation in registry.items():
        function.register(kind, implementation)


def is_loadable(pickled: bytes) -> bool:
    """Return whether any process can load a pickle of `pickle.dumps`.

    Names of a script exist in the trainer and its workers, but not in other consumers of a server. And torch's own
    pickles of tensors in uint16, uint32, uint64 and float8 cannot be loaded: the function that rebuilds such a tensor
    expects a storage of a different class. `dumps_object` and `dumps_reply` pickle both correctly.
    """
    for module in script_modules:
        if module in pickled:
            return False
    return _REBUILDS not in pickled


def is_loadable_elsewhere(pickled: bytes) -> bool:
    """Return whether other programs can load a pickle of `pickle.dumps`; their main module is different."""
    return sys.modules["__main__"].__name__.encode() not in pickled and is_loadable(pickled)


def _reduced_of_torch(obj: Any) -> tuple[Any, ...] | None:
    """Return the reduction of an object that torch cannot pickle, see `is_loadable`; None for all other objects."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "UntypedStorage"):  # also a module of that name that is not PyTorch
        return None
    if type(obj) is torch.UntypedStorage:
        memory = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj)
        return _storage, (pickle.PickleBuffer(memory.cpu().numpy()), str(obj.device))
    return (_tensor_maker, ()) if obj is torch._utils._rebuild_tensor_v3 else None


def _storage(memory: Any, device: str) -> Any:
    import torch

    # A copy, because the memory of an unpickled buffer may be read-only, which torch does not support.
    data = np.frombuffer(bytearray(memory), np.uint8) if memoryview(memory).nbytes else np.empty(0, np.uint8)
    return torch.from_numpy(data).to(device).untyped_storage()


def _tensor_maker() -> Any:
    import torch

    def make(storage: Any, *arguments: Any) -> Any:
        wrapped = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.uint8, _internal=True)
        return torch._utils._rebuild_tensor_v3(wrapped, *arguments)

    return make


def share_main() -> None:
    """Use names for the classes and functions of the main module in replies to the parent process.

    A forked worker calls this function before it runs user code. Later definitions are unknown to the parent process.
    """
    global _shared_main
    _shared_main = {name: value for name, value in vars(sys.modules["__main__"]).items() if _has_name(value)}


def identify_main() -> None:
    """Register the classes of the main module with cloudpickle, so that workers forked next pickle the same classes.

    Otherwise a consumer would get a separate class from each worker.
    """
    import cloudpickle

    main = sys.modules["__main__"]
    if main.__name__ != "__main__":  # in a child of `multiprocessing`
        cloudpickle.register_pickle_by_value(main)
    _identify(value_pickler()(io.BytesIO(), protocol=5), main, main.__name__, set())


def _identify(pickler: Any, holder: Any, module_name: str, seen: set[int]) -> None:
    for value in list(vars(holder).values()):
        if id(value) in seen:
            continue
        try:
            if isinstance(value, type) and value.__module__ == module_name:
                seen.add(id(value))
                pickler.reducer_override(value)  # only the outline of the class: its attributes may be large
                _identify(pickler, value, module_name, seen)
        except Exception:  # noqa: S112 - of a metaclass or a proxy of the user
            continue


def part_from_main() -> None:
    """Pickle classes and functions of the main module by value: replies go to other programs.

    A forked worker of a server calls this function before it runs user code.
    """
    global script_modules
    script_modules = (sys.modules["__main__"].__name__.encode(),)


def dumps_reply(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    """Pickle ``value`` for the process that started this worker, with protocol 5.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    with io.BytesIO() as file:
        reply_pickler()(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


@functools.cache
def reply_pickler() -> Any:
    """Return the class of `dumps_reply`'s pickler, a subclass of ``cloudpickle.Pickler``."""

    class ReplyPickler(value_pickler()):  # type: ignore[misc]  # cloudpickle has no types
        """A pickler by value that pickles classes and functions of the parent process by name."""

        def reducer_override(self, obj: Any) -> Any:
            if _shared_main is not None and is_in_parent(obj):
                return _reduced_of_torch(obj) or obj.__qualname__
            return super().reducer_override(obj)

    return ReplyPickler


def is_in_parent(value: Any) -> bool:
    """Return whether the process that forked this worker has the class or function ``value`` under the same name.

    Args:
        value: Any object.
    """
    if _shared_main is None or not _has_name(value):
        return False
    module = getattr(value, "__module__", None) or ""
    outer, *inner = value.__qualname__.split(".")
    # Modules that cloudpickle pickles by value (`register_pickle_by_value`) exist in the parent process, too.
    named = _shared_main.get(outer) if module == "__main__" else getattr(sys.modules.get(module), outer, None)
    for name in inner:
        named = getattr(named, name, None)
    return named is value


def _has_name(value: Any) -> bool:
    return isinstance(value, type | FunctionType)


class ByValue:
    """A wrapper that makes plain `pickle` pickle a value by value; unpickling it returns the value itself.

    Args:
        value: The wrapped value.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (dumps_object(self.value, None),)


def itself(value: Any) -> Any:
    """Return ``value``. A pickle that already contains it by value calls this function."""
    return value


def collector(buffers: list[memoryview], least_bytes: int) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a buffer callback that moves large contiguous buffers to ``buffers`` and leaves others in the pickle."""

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()  # always contiguous: pickle refuses other buffers
        if view.nbytes < least_bytes:
            return True
        buffers.append(view)
        return False

    return keep_inside
