"""The parts of fork servers in the trainer, for tests that disturb them or know their state."""

from mpqueue.backends.start import launcher


def parked_fork_servers():
    """Return the list of fork servers that are parked for the next stream."""
    return launcher._parked


def socket_of(fork_server):
    """Return the socket that the trainer and its fork server share."""
    return fork_server._socket


def process_of(fork_server):
    """Return the process of a fork server."""
    return fork_server._process
