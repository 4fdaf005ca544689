"""Fork servers that start as forks of an interpreter with their imports loaded, at a fifth of the cost of a new one.

If something that a new process would inherit has changed since the interpreter started (limits, signals, CPUs,
environment variables that Python reads at startup), a new interpreter is started, as always outside of these tests.
"""

import os
import resource
import signal
import sys

from helpers import forked_programs
from mpqueue.backends.start import launcher
from mpqueue.backends.start.entry_code import FORK_SERVER_CODE
from mpqueue.system.processes import hash_seed
from mpqueue.system.signals import group_signals

_LIMITS = sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", "OMP_", "OPENBLAS_")
start_new = launcher._start_interpreter


def _inherited():
    """Return the state that a new process would inherit."""
    handled = {number: signal.getsignal(number) == signal.SIG_IGN for number in signal.valid_signals()}
    environ = {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_START)}
    umask = os.umask(0)
    os.umask(umask)
    limits = [resource.getrlimit(limit) for limit in _LIMITS]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return handled, environ, umask, limits, blocked, cpus, os.getpriority(os.PRIO_PROCESS, 0)


def _environ_of(salt):
    return launcher._fork_server_environ(salt)


def interpreter(*modules, environ=None):
    """Return an interpreter that can be forked into fork servers.

    Args:
        modules: Modules to import, in addition to the modules of a fork server.
        environ: Additional environment variables.
    """
    started = _environ_of(hash_seed.chosen_hash_seed(os.environ)) | (environ or {})
    flags = launcher._interpreter_flags()
    with group_signals.blocked():
        return forked_programs.Interpreter("mpqueue.backends.start.fork_server", *modules, flags=flags, environ=started)


def start_with(start):
    """Start all fork servers of this program with a function that has the interface of `start_new`."""
    launcher._start_interpreter = start


def use_forks():
    """Start all fork servers of this program as forks of its present state, as made by `interpreter`."""
    copy = forked_programs.Copy()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # some are blocked by `interpreter`, as for a fork server
    start_with(NewForkServers(copy).start)


class NewForkServers:
    """A context manager that starts fork servers as forks of an interpreter if the inherited state is unchanged."""

    def __init__(self, forking):
        self._interpreter, self._salt = forking, hash_seed.chosen_hash_seed(os.environ)
        self._inherited, self._pid = _inherited(), os.getpid()

    def start(self, fds, salt):
        """Start a fork server, with the interface of `start_new`."""
        if (salt, os.getpid(), _inherited()) != (self._salt, self._pid, self._inherited):
            return start_new(fds, salt)
        with open(os.devnull) as nothing:
            descriptors = {0: nothing.fileno(), 1: 1, 2: 2, **{fd: fd for fd in fds}}
            # A folder that always exists: the trainer's folder is sent to the fork server at each start.
            where = {"folder": "/", "environ": _environ_of(salt)}
            return self._interpreter.start(FORK_SERVER_CODE, ["-c", *sys.path, *fds], descriptors, **where)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._interpreter.__exit__()
