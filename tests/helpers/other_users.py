"""Peers of a connection that seem to belong to another user."""

from mpqueue.transport import credentials

_credentials_of = credentials.credentials_of


def as_of_user(uid):
    """Return a function like `credentials_of` that reports this user for each peer."""
    return lambda end: _credentials_of(end)._replace(uid=uid)
