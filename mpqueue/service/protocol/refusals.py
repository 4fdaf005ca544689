"""Exceptions with which a server refuses or disconnects a consumer, and attributes that only a `Loader` has."""

from collections.abc import Mapping
from typing import ClassVar, NoReturn

from mpqueue.system.user_code.keywords import unknown_attribute


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
        raise unknown_attribute(self, name, self._elsewhere.get(name))
