"""Attributes that keep the loaded position of an iterable-style dataset, so that all later epochs would begin there.

A dataset that gets a state continues with it in later epochs, as with torchdata: it may count its epochs. But many
datasets keep the loaded position, such as Hugging Face datasets. Without a reset, each later epoch would lack the same
first elements. Such an attribute has two properties::

    it is unchanged since the state was loaded, although the dataset was iterated
    it would have another value if the present state were loaded

A counter of epochs lacks the second one, and a position that the iteration advances lacks the first.
"""

import copy
import types
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.user_code.object_walk import contents, is_a
from mpqueue.worker.runners.generator_lanes import digest_of

_END: Any = object()
_LEAVES = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, torch.Tensor)
_MAX_DEPTH = 5
_MAX_ATTRIBUTES = 2000


class _Attribute(NamedTuple):
    """An attribute of a dataset, or of an object in it.

    Attributes:
        owner: Its object.
        name: Its name.
        digest: A digest of its value.
    """

    owner: Any
    name: str
    digest: bytes


class LoadedPosition:
    """The position that a dataset has just loaded.

    Args:
        dataset: The dataset.
        before: A copy of it from before the load. It is never iterated.
    """

    def __init__(self, dataset: Any, before: Any) -> None:
        self._dataset, self._before = dataset, before
        self._loaded = _attributes_of(dataset)

    def forget(self, *, is_read: bool) -> None:
        """Reset the attributes that still hold the position, to their values before the load.

        Args:
            is_read: The dataset has returned elements since then. Otherwise the position was an end. If the next epoch
                would be empty, one attribute is reset that changes that, or every attribute that the load has changed.
        """
        try:
            if is_read:
                moved = copied(self._before)
                moved.load_state_dict(self._dataset.state_dict())
                self._reset(self._dataset, self._held(moved))
            elif self._is_next_empty(()):
                held = self._held(self._before)
                single = next((path for path in held if not self._is_next_empty((path,))), None)
                self._reset(self._dataset, held if single is None else [single])
        except Exception:  # of the dataset, such as an attribute that cannot be copied: it continues as it is
            return

    def _held(self, other: Any) -> list[str]:
        """Return the attributes that are unchanged since the load, and different in another dataset."""
        now, others = _attributes_of(self._dataset), _attributes_of(other)
        kept = [path for path, loaded in self._loaded.items() if path in now and now[path].digest == loaded.digest]
        return [path for path in kept if path not in others or others[path].digest != now[path].digest]

    def _reset(self, dataset: Any, paths: Sequence[str]) -> None:
        now, first = _attributes_of(dataset), _attributes_of(self._before)
        for path in paths:
            owner, name = now[path].owner, now[path].name
            if path in first:
                vars(owner)[name] = vars(first[path].owner)[name]
            elif hasattr(type(owner), name):  # it had the value of the class
                del vars(owner)[name]

    def _is_next_empty(self, paths: Sequence[str]) -> bool:
        """Return whether the next epoch is empty if these attributes are reset."""
        before, dataset = GlobalState(), copied(self._dataset)
        try:
            self._reset(dataset, paths)
            return next(iter(dataset), _END) is _END
        finally:
            before.restore()


def copied(dataset: Any) -> Any:
    """Return a deep copy of a dataset. Tensors in shared memory remain shared: the program may write to them.

    Raises:
        Exception: It cannot be copied.
    """
    shared = [found.value for found in contents(dataset, lambda value: is_a(value, torch.Tensor))]
    return copy.deepcopy(dataset, {id(each): each for each in shared if each.is_shared()})


def _attributes_of(dataset: Any) -> dict[str, _Attribute]:
    """Return the attributes of a dataset, and of the objects in it, by their paths. Objects themselves are left out."""
    found: dict[str, _Attribute] = {}
    seen = {id(dataset)}
    level: list[tuple[str, Any]] = [("", dataset)]
    for _ in range(_MAX_DEPTH):
        following: list[tuple[str, Any]] = []
        for path, owner in level:
            for name, value in list(vars(owner).items())[: _MAX_ATTRIBUTES - len(found)]:
                parts = [(key, each) for key, each in _parts(value) if _is_object(each)]
                for key, each in parts:
                    if id(each) not in seen:
                        seen.add(id(each))
                        following.append((f"{path}.{name}{key}", each))
                if not parts:
                    digest = digest_of(value)
                    if digest is not None:
                        found[f"{path}.{name}"] = _Attribute(owner, name, digest)
        level = following
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value, or the items of a container."""
    if is_a(value, dict):
        yield from ((f"[{key!r}]", each) for key, each in list(value.items()))
    elif is_a(value, (list, tuple)):
        yield from ((f"[{index}]", each) for index, each in enumerate(value))
    else:
        yield "", value


def _is_object(value: Any) -> bool:
    return not is_a(value, _LEAVES) and isinstance(getattr(value, "__dict__", None), dict)
