"""The interpreters that become nurseries: how one is started, and that the first is started early.

With NumPy and what runs in a worker, an interpreter takes longer than all else at a cold start. So the first use of a
name whose batches come from workers, `mpqueue.Loader` say, begins one at once (`begin_early`), and this process imports
NumPy and the engine meanwhile. Nobody knows then whether it will be needed. It gets nothing of the program's before it
is taken: its source, directory, path and environment are sent to it as to any. It ends by itself after the time for
which a nursery is parked, at the end of this process in any case, and it is not taken if this process is not what it
was (`mpqueue.system.inheritance`). A first stream that has no use for it ends it; so does `mpqueue.shutdown`. What has
ended by itself is reaped by the same.

None is begun where it would be no gain, or do harm:

    in a nursery or worker, and in processes of `multiprocessing`   they import the names that the main module imports
    where workers were started before                               all is imported, or a nursery is parked
    at a prompt                                                     who types does not notice a tenth of a second
    in a program that has Python in itself                          started again it would do so again
"""

import atexit
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from mpqueue.memory.glibc import with_large_copies_uncached
from mpqueue.system import descriptors, hash_seed, parent_death
from mpqueue.system.inheritance import inherited
from mpqueue.system.interrupts import defer_signals
from mpqueue.workers.entry_code import EARLY_CODE, NURSERY_CODE

if TYPE_CHECKING:
    import subprocess

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_TOLD = frozenset({hash_seed.VARIABLE, *ONE_THREAD})  # an interpreter is given values of ours


class NurseryKind(NamedTuple):
    """A nursery serves streams of its own kind only.

    Attributes:
        spawn: Each worker is a fresh interpreter.
        hash_seed: Its hash seed.
        inherited: What it has from the trainer of its start.
    """

    spawn: bool
    hash_seed: str
    inherited: tuple[object, ...]


def kind_of(*, spawn: bool) -> NurseryKind:
    """Return the kind of nursery that a stream needs which starts now."""
    return NurseryKind(spawn, hash_seed.chosen_hash_seed(os.environ), inherited(os.environ, _TOLD))


class Interpreter(NamedTuple):
    """An interpreter that is, or becomes, a nursery.

    Attributes:
        kind: Which streams it may serve.
        socket: Our end of the socket of messages.
        lifeline: Our end of the pipe with which it dies.
        process: The process.
    """

    kind: NurseryKind
    socket: socket.socket
    lifeline: int
    process: "subprocess.Popen[bytes]"

    def end(self) -> None:
        """End the process and wait for it."""
        descriptors.close(self.lifeline)  # which kills its workers, whatever it is doing
        self.process.kill()  # it holds nothing that needs a clean end
        self.process.wait()
        descriptors.close_object(self.socket)


def start(kind: NurseryKind, *, is_early: bool = False) -> Interpreter:
    """Start one.

    Args:
        kind: Its kind.
        is_early: It is to end by itself if nobody has use for it.

    Raises:
        OSError: There are not enough processes or descriptors.
    """
    with defer_signals(), contextlib.ExitStack() as undo:
        ours, theirs = descriptors.socketpair()
        undo.callback(descriptors.close_object, ours)
        undo.enter_context(theirs)
        lifeline_read, lifeline = descriptors.pipe()
        undo.callback(descriptors.close, lifeline_read)
        undo.callback(descriptors.close, lifeline)
        process = _start_interpreter([theirs.fileno(), lifeline_read], kind.hash_seed, is_early=is_early)
        undo.pop_all()
        theirs.close()
        parent_death.arm(lifeline_read, process.pid)
        descriptors.close(lifeline_read)
        return Interpreter(kind, ours, lifeline, process)


def _interpreter_flags() -> list[str]:
    import subprocess

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    # -P: with -c, an empty path entry would let a file of the working directory stand in for a module.
    return [*flags, "-P"]


def _nursery_environ(salt: str) -> dict[str, str]:
    return hash_seed.with_hash_seed(with_large_copies_uncached({**os.environ, **ONE_THREAD}), salt)


def _start_interpreter(fds: list[int], salt: str, *, is_early: bool) -> "subprocess.Popen[bytes]":
    """Start a nursery, which finds these descriptors under the same numbers."""
    import subprocess

    code = EARLY_CODE if is_early else NURSERY_CODE
    command = [sys.executable, *_interpreter_flags(), "-c", code, *sys.path, *map(str, fds)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited until it knows to ignore it
    try:
        return subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=_nursery_environ(salt))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_early: Interpreter | None = None


def begin_early() -> None:
    """Start the interpreter of the first nursery, if that is a gain here; see the head of this module."""
    global _early
    if _early is None and _is_gain():
        # Too few processes or descriptors are an error of the start that needs them, if there is one.
        with contextlib.suppress(OSError), defer_signals():
            _early = start(kind_of(spawn=False), is_early=True)


def _is_gain() -> bool:
    modules = sys.modules
    if "mpqueue.workers.launcher" in modules or "mpqueue.workers.nursery" in modules:
        return False
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return False
    if getattr(sys, "frozen", False) or not os.path.basename(sys.executable or "").startswith("python"):
        return False
    of_process = modules.get("multiprocessing.process")
    if of_process is not None and of_process.parent_process() is not None:
        return False
    # Before a process that it has spawned knows its parent, it imports the main module.
    return not any("multiprocessing" in word for word in sys.orig_argv[1:4])


def take_early(*, spawn: bool) -> Interpreter | None:
    """Return the one that was begun, which is the caller's from now on; None: there is none.

    Args:
        spawn: It is to serve streams whose workers are fresh interpreters. It has served none, so it may become either.
    """
    global _early
    early, _early = _early, None
    return early and early._replace(kind=early.kind._replace(spawn=spawn))


def end_early() -> None:
    """End the one that was begun, if there is one: a stream starts without it, or nothing will."""
    early = take_early(spawn=False)
    if early is not None:
        early.end()


def _forget_early() -> None:
    """In a forked child: the process is its parent's, and the descriptors are closed."""
    global _early
    _early = None


os.register_at_fork(after_in_child=_forget_early)
atexit.register(end_early)
