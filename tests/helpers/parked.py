"""Fork servers that stay parked from one test to the next, as they do from one stream of a program to the next.

A fork server is an interpreter with its imports; a new one for each test would be a third of what the tests cost. So the
next test of the same file takes the one that is parked, if it is as good as new. That is found out after each test,
from outside: it has read all that it was told and says nothing, and what the kernel knows of it (children, threads,
descriptors, limits, signals, shared memory, and the command and environment that it was started with) is what it knows
of a new one. Any other is ended. The trainer's directory, path and environment are sent to a fork server at each start.
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

_MAX_GROWTH = 64 << 20  # bytes that the modules and sources of a file may need in it
_SETTLED_S = 2.0  # it has its messages read in a millisecond; one that hangs is ended
_INHERITED = ("Umask", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list", "NoNewPrivs", "Seccomp", "CapEff")


class _State(NamedTuple):
    """What the kernel knows of a fork server, but for its size.

    Of its command and environment, in what they differ from this process's path and environment of now.
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
    command = set(_words(pid, "cmdline")[:-2]) ^ set(map(os.fsencode, sys.path))  # the last are numbers of descriptors
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
    """The state and the size of a new fork server."""
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
    """Wait until it has read all that it was told; False if it says something itself, or is gone."""
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
    except (OSError, KeyError):  # it is gone, or a zombie
        return False


def prepare():
    """Learn how a new fork server looks, before a test changes what it would inherit."""
    _new()


def keep_one():
    """End all that is parked or idle, but for one fork server that is as good as new."""
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
