"""Programs that begin in a fork of an interpreter that has imported what they need, which is most of what they cost.

The interpreter is a process of its own, which has run nothing else. What it forks is a child of the process that asked
for it, not its own (Linux can do that: `CLONE_PARENT`): so whoever asked waits for it, and signals it, as it does with
what it has started itself. A program is its module ``__main__``; it has the folder, arguments, environment, descriptors
and random numbers of a new one, and ends as that does. The kernel shows it with the command and the environment of the
interpreter, and it inherits that one's limits and signals: where these matter, a test starts a new interpreter. The one
that is forked has no threads, also none of OpenBLAS, which the end of a program would wait for. It ends when whoever
has started it closes the socket of the orders, or dies.

Where there is no such fork, each program has an interpreter of its own, which becomes it.
"""

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import platform
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

_ROOT, _TESTS = Path(__file__).resolve().parents[2], Path(__file__).resolve().parents[1]
_SERVE = "from helpers import forked; exec(forked.serve(), vars(__import__('__main__')))"
_SYS_CLONE = {("linux", "x86_64"): 56, ("linux", "aarch64"): 220}.get((sys.platform, platform.machine()))
_CLONE_PARENT = 0x8000
_ORDERS = 63  # the descriptor of the orders


class Child:
    """A process, as `subprocess.Popen` shows it.

    Attributes:
        pid: Its id.
        returncode: How it ended, if `wait` or `poll` has seen that.
    """

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        """Return how it ended, or None."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the thread that waits for parked fork servers has reaped it
                self.returncode = 0  # as `subprocess.Popen` has it
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=None):
        """Wait for its end, and return how it ended.

        Raises:
            subprocess.TimeoutExpired: It has not ended within so many seconds.
        """
        if self.poll() is None:
            ended = os.pidfd_open(self.pid)
            try:
                if not select.select([ended], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            finally:
                os.close(ended)
        return self.poll()

    def send_signal(self, number):
        """Send it a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Interpreter:
    """An interpreter that is forked; a context.

    Args:
        modules: What it imports.
        flags: Of its command line.
        environ: In which it starts, and its forks if nothing else is said.
    """

    def __init__(self, *modules, flags=(), environ=None):
        self._modules, self._flags = modules, flags
        self._environ = dict(os.environ if environ is None else environ)
        self._standing = self._begin() if _SYS_CLONE else None

    def _begin(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = [*map(str, (_TESTS, _ROOT)), *filter(None, [self._environ.get("PYTHONPATH")])]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *self._flags, "-c", _SERVE, str(theirs.fileno()), *self._modules],
                env=self._environ | {"PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
            )
        self._hear(ours)  # for who looks at processes, it is what it is from now on
        return ours, process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._standing:
            orders, process = self._standing
            orders.shutdown(socket.SHUT_RDWR)  # also where a fork of this process has a copy, and does not end
            orders.close()
            process.wait()

    def start(self, code, arguments, descriptors, *, folder=None, environ=None, new_session=False):
        """Run code as a program; return its process.

        Args:
            code: Text, or the path of a script.
            arguments: ``sys.argv``.
            descriptors: From its numbers to ours: at least 0, 1 and 2; it has no others.
            folder: Its working directory.
            environ: Its environment.
            new_session: It leads a session of its own.
        """
        orders, process = self._standing or self._begin()
        order = {
            "code": code if isinstance(code, str) else None,
            "argv": [*map(str, arguments)],
            "folder": str(folder or os.getcwd()),
            "environ": dict(self._environ if environ is None else environ),
            "numbers": [*descriptors],
            "new_session": new_session,
        }
        socket.send_fds(orders, [json.dumps(order).encode()], [*descriptors.values()])
        if self._standing:
            return Child(int(self._hear(orders)))
        orders.close()
        return process

    def _hear(self, orders):
        said = orders.recv(100)
        assert said, "the interpreter that is forked has ended"
        return said

    def run(self, command, folder, environ, timeout):
        """Run a script with its arguments in a folder; return its exit status, and what it wrote to stdout and stderr.

        What it leaves in the folder for temporary files, as examples do, goes with that.

        Raises:
            subprocess.TimeoutExpired: It did not end within so many seconds; it was killed.
        """
        with (
            tempfile.TemporaryDirectory(prefix="run", ignore_cleanup_errors=True) as temporary,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            open(os.devnull) as nothing,
        ):
            environ = {**environ, "TMPDIR": temporary}
            descriptors = {0: nothing.fileno(), 1: out.fileno(), 2: err.fileno()}
            where = {"folder": folder, "environ": environ, "new_session": True}
            child = self.start(Path(command[0]), command, descriptors, **where)
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                raise
            return child.returncode, *(file.seek(0) or file.read() for file in (out, err))


def serve():
    """Return the code of a program in each fork that is asked for; end the process when nobody is there to ask."""
    for module in sys.argv[2:]:
        importlib.import_module(module)
    assert not _SYS_CLONE or len(os.listdir("/proc/self/task")) == 1, "what was imported has started threads"
    with socket.socket(fileno=os.dup2(int(sys.argv[1]), _ORDERS)) as orders:
        os.close(int(sys.argv[1]))
        orders.send(b"ready")
        while True:
            words, files, *_ = socket.recv_fds(orders, 1 << 20, 16)
            if not words:
                os._exit(0)
            pid = _fork() if _SYS_CLONE else 0
            if pid == 0:
                break
            for file in files:
                os.close(file)
            orders.send(str(pid).encode())
    return _become(json.loads(words), files)


def _fork():
    """Fork a child of the parent."""
    call, python = ctypes.PyDLL(None).syscall, ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = call(_SYS_CLONE, _CLONE_PARENT, None, None, None, None)
    python.PyOS_AfterFork_Parent() if pid else python.PyOS_AfterFork_Child()
    assert pid >= 0
    return pid


def _become(order, files):
    if order["new_session"]:
        os.setsid()
    os.chdir(order["folder"])
    above = max(_ORDERS, *order["numbers"]) + 1  # no copy takes a number that another one is to have
    copies = [fcntl.fcntl(file, fcntl.F_DUPFD, above) for file in files]
    os.closerange(0, above)
    for number, copy in zip(order["numbers"], copies, strict=True):
        os.dup2(copy, number)
        os.close(copy)
    os.environ.clear()
    os.environ.update(order["environ"])
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    sys.argv = order["argv"]
    script = sys.argv[0]
    path = [os.path.dirname(script), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = [*path, *[folder for folder in sys.path if folder not in ("", str(_TESTS), *path)]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if order["code"] is not None:
        return order["code"]
    main.__file__ = script
    return compile(Path(script).read_text("utf-8"), script, "exec")
