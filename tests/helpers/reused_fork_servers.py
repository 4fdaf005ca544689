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
from typing import NamedTuple

import mpqueue
from helpers.footprint import DEADLOCK_S, children_of, mappings_of, pid_of
from helpers.fork_server_parts import parked_fork_servers
from helpers.waits import comes_true
from mpqueue.backends.start import launcher

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
    """Return the kind, the state and the size of a new fork server."""
    fork_server = launcher.ForkServer(spawn=False)
    try:
        fork_server.settle()
        assert _is_settled(fork_server, DEADLOCK_S)
        pid = pid_of(fork_server)
        return fork_server.kind, _state(pid), _size(pid)
    finally:
        fork_server.end()


def _unread(fd):
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.TIOCOUTQ, count)
    return count[0]


def _is_settled(fork_server, within_s=_SETTLED_S):
    """Wait until the fork server has read all messages. Return False if it sends a message or exits."""
    if not comes_true(lambda: not _unread(fork_server.fileno()), within_s):
        return False
    poll = select.poll()
    poll.register(fork_server.fileno(), select.POLLIN)
    return not poll.poll(0)


def _is_as_new(fork_server):
    pid = pid_of(fork_server)
    try:
        kind, state, size = _new()
        return (
            fork_server.kind == kind
            and _is_settled(fork_server)
            and not fork_server.events()
            and _state(pid) == state
            and _size(pid) <= size + _MAX_GROWTH
        )
    except (OSError, KeyError, launcher.LauncherGone):  # ended, a zombie, or interrupted within a message
        return False


def prepare():
    """Record the state of a new fork server before a test changes inherited state."""
    _new()


def keep_one():
    """End all parked and idle fork servers, except one that is equivalent to a new one."""
    for end_idle in launcher._before_shutdown:
        end_idle()
    parked = parked_fork_servers()
    with launcher._parked_lock:
        kept = parked.pop() if parked else None
    mpqueue.shutdown()
    if kept is None:
        return
    if _is_as_new(kept):
        parked.append(kept)  # no other thread uses the empty list
    else:
        kept.end()
