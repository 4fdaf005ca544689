"""Exceptions with which a server refuses or disconnects a consumer."""


class Refused(Exception):
    """The consumer may not attach; the message states the reason."""


class Occupied(Exception):
    """The rank has a consumer; another one may attach when that consumer has left."""


class Misbehaved(Exception):
    """A consumer sent a record that no consumer of this package sends."""
