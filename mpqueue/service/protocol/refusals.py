"""Exceptions with which a server refuses or disconnects a consumer, and attributes that only a `Loader` has."""

from collections.abc import Mapping
from typing import ClassVar, NoReturn


class Refused(Exception):
    """The consumer may not attach; the message states the reason."""


class Occupied(Exception):
    """The rank has a consumer; the next one may attach when that consumer has left."""


class Misbehaved(Exception):
    """A consumer sent a record that no consumer of this package sends."""


class Redirected:
    """A class with objects that name the remedy for attributes of a `Loader` that they lack."""

    _elsewhere: ClassVar[Mapping[str, str]]

    def __getattr__(self, name: str) -> NoReturn:
        remedy = self._elsewhere.get(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}" + (f": {remedy}" if remedy else ""),
            name=name,
            obj=self,
        )
