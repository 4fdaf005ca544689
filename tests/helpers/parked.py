"""Fork servers that tests reuse, as one program reuses them for several streams.

A fork server is an interpreter with its imports loaded. Starting a new one for each test would take a third of the time
of the tests, so the next test of the same file reuses the parked fork server if it is equivalent to a new one.

That is checked after each test, from outside. The fork server must have read all messages and sent none. The kernel's
view of it (children, threads, descriptors, limits, signals, shared memory, command line, environment) must equal a new
one's. Otherwise, it is ended. The trainer's folder, path and environment are sent at each start.
"""

import array
import collections
import fcntl
import functools
import os
import re
import select
import sys
import termios
import time
from typing import NamedTuple

from helpers.footprint import DEADLOCK_S, children_of, mappings_of

import mpqueue
from mpqueue.workers import launcher

_MAX_GROWTH = 64 << 20  # bytes that the modules and sources of one file may add to it
_SETTLED_S = 2.0  # messages are read within a millisecond; a fork server that hangs is ended
_INHERITED = ("Umask", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list", "NoNewPrivs", "Seccomp", "CapEff")


class _State(NamedTuple):
    """The kernel's view of a fork server, except its size.

    Command line and environment are compared with the current path and environment of this process.
    """

    command: set
    environ: set
    children: list
    threads: str
    descriptors: collections.Counter
    limits: str
    inherited: list
    mappings: int


def _status(pid):
    with open(f"/proc/{pid}/status") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


def _words(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read().split(b"\0")[:-1]


def _state(pid):
    status = _status(pid)
    command = set(_words(pid, "cmdline")[:-2]) ^ set(map(os.fsencode, sys.path))  # the last are descriptors
    environ = set(_words(pid, "environ")) ^ {name + b"=" + value for name, value in os.environb.items()}
    environ = {word for word in environ if not word.startswith(b"PYTEST_CURRENT_TEST=")}
    names = os.listdir(f"/proc/{pid}/fd")
    links = [re.sub(r":\[\d+\]", "", os.readlink(f"/proc/{pid}/fd/{name}")) for name in names]
    with open(f"/proc/{pid}/limits") as limits:
        text = limits.read()
    inherited = [status.get(name) for name in _INHERITED]
    descriptors, threads = collections.Counter(links), status["Threads"]
    return _State(command, environ, children_of(pid), threads, descriptors, text, inherited, mappings_of(pid))


def _size(pid):
    return int(_status(pid)["VmRSS"].split()[0]) << 10


@functools.cache
def _new():
    """Return the state and the size of a new fork server."""
    fork_server = launcher.ForkServer(spawn=False)
    try:
        fork_server.settle()
        assert _is_settled(fork_server, DEADLOCK_S)
        return _state(fork_server._process.pid), _size(fork_server._process.pid)
    finally:
        fork_server.end()


def _unread(sock):
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


def _is_settled(fork_server, within_s=_SETTLED_S):
    """Wait until the fork server has read all messages. Return False if it sends a message or exits."""
    until = time.monotonic() + within_s
    while _unread(fork_server._socket):
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    poll = select.poll()
    poll.register(fork_server._socket, select.POLLIN)
    return not poll.poll(0)


def _is_as_new(fork_server):
    try:
        state, size = _new()
        return (
            fork_server.kind == launcher._kind_of(spawn=False)
            and fork_server._is_whole
            and _is_settled(fork_server)
            and _state(fork_server._process.pid) == state
            and _size(fork_server._process.pid) <= size + _MAX_GROWTH
        )
    except (OSError, KeyError):  # ended, or a zombie
        return False


def prepare():
    """Record the state of a new fork server before a test changes inherited state."""
    _new()


def keep_one():
    """End all parked and idle fork servers, except one that is equivalent to a new one."""
    for end_idle in launcher._before_shutdown:
        end_idle()
    with launcher._parked_lock:
        kept = launcher._parked.pop() if launcher._parked else None
    mpqueue.shutdown()
    if kept is None:
        return
    if _is_as_new(kept):
        with launcher._parked_lock:
            launcher._parked.append(kept)
    else:
        kept.end()
