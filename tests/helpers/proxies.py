"""A proxy that forwards its class, as proxies of wrapt and of lazy objects do."""

from typing import Any


class Proxy:
    """Forwards attributes and the class of an object, which it keeps where no search of attributes finds it."""

    __slots__ = ("_wrapped",)

    def __init__(self, wrapped):
        self._wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __getitem__(self, key):
        return self._wrapped[key]

    def __len__(self):
        return len(self._wrapped)

    def __reduce_ex__(self, protocol):
        return Proxy, (self._wrapped,)

    __class__: Any = property(lambda self: type(self._wrapped))


class Raising:
    """A lazy object that raises for any operation."""

    def __getattribute__(self, name):
        raise RuntimeError(name)
