"""Programs that start as forks of an interpreter with their imports loaded, because imports dominate their start time.

The interpreter is a separate process without other activity. With `CLONE_PARENT` (Linux), the process that it forks
is a child of the test's process. So the test can wait for it and signal it like any child that it started.

A program runs as the module ``__main__``. It has the folder, arguments, environment, descriptors and random state of a
new process, and exits like one. However, the kernel lists it with the command line and the environment of the
interpreter, and it inherits the interpreter's limits and signals. Tests that depend on these start a new interpreter.

The interpreter has no threads, not even OpenBLAS's, because a program's exit would wait for them. It exits when its
parent closes the socket, or is killed. On systems without `CLONE_PARENT`, each program gets its own interpreter.
"""

import contextlib
import ctypes
import fcntl
import gc
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
import traceback
import types
from pathlib import Path

_ROOT, _TESTS = Path(__file__).resolve().parents[2], Path(__file__).resolve().parents[1]
_SERVE = "from helpers import forked_programs; exec(forked_programs.serve(), vars(__import__('__main__')))"
_SYS_CLONE = {("linux", "x86_64"): 56, ("linux", "aarch64"): 220}.get((sys.platform, platform.machine()))
_CLONE_PARENT = 0x8000
_ORDERS = 63  # the descriptor of the socket for requests


class Child:
    """A child process with the interface of `subprocess.Popen`.

    Attributes:
        pid: Its process id.
        returncode: Its exit status, once `wait` or `poll` has read it, otherwise None.
    """

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        """Return the exit status, or None if the process is running."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # reaped by the thread that waits for parked fork servers
                self.returncode = 0  # the same value as in `subprocess.Popen`
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=None):
        """Wait for the process to end, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: The process is still running after ``timeout`` seconds.
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
        """Send a signal, unless the process is known to be dead."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kill the process."""
        self.send_signal(signal.SIGKILL)


class Interpreter:
    """An interpreter that forks programs; a context manager.

    Args:
        modules: Modules to import.
        flags: Options of its command line.
        environ: Its environment, and the default environment of its forks.
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
        self._hear(ours)  # wait until its command line is final, because tests look at processes
        return ours, process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._standing:
            orders, process = self._standing
            orders.shutdown(socket.SHUT_RDWR)  # `close` is not enough: a fork may have a copy of the socket
            orders.close()
            process.wait()

    def start(self, code, arguments, descriptors, *, folder=None, environ=None, new_session=False, forks_servers=False):
        """Run code as a program; return its process.

        Args:
            code: Source code, or the path of a script.
            arguments: ``sys.argv``.
            descriptors: Dictionary from its descriptors to ours, with at least 0, 1 and 2. It inherits no others.
            folder: Its working directory.
            environ: Its environment.
            new_session: Whether it leads a new session.
            forks_servers: Whether its fork servers are forks, too; see `helpers.new_fork_servers.use_forks`.
        """
        orders, process = self._standing or self._begin()
        order = {
            "code": code if isinstance(code, str) else None,
            "argv": [*map(str, arguments)],
            "folder": str(folder or os.getcwd()),
            "environ": dict(self._environ if environ is None else environ),
            "numbers": [*descriptors],
            "new_session": new_session,
            "forks_servers": forks_servers,
        }
        socket.send_fds(orders, [json.dumps(order).encode()], [*descriptors.values()])
        if self._standing:
            return Child(int(self._hear(orders)))
        orders.close()
        return process

    def _hear(self, orders):
        reply = orders.recv(100)
        assert reply, "the interpreter that forks programs exited"
        return reply

    def run(self, command, folder, environ, timeout, *, forks_servers=False):
        """Run a script in a folder; return its exit status and the contents of stdout and stderr.

        Its temporary folder is removed with all files that it leaves there. See `start` for ``forks_servers``.

        Raises:
            subprocess.TimeoutExpired: The script did not end within ``timeout`` seconds, and was killed.
        """
        with (
            tempfile.TemporaryDirectory(prefix="run", ignore_cleanup_errors=True) as temporary,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            open(os.devnull) as nothing,
        ):
            environ = {**environ, "TMPDIR": temporary}
            descriptors = {0: nothing.fileno(), 1: out.fileno(), 2: err.fileno()}
            where = {"folder": folder, "environ": environ, "new_session": True, "forks_servers": forks_servers}
            child = self.start(Path(command[0]), command, descriptors, **where)
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                raise
            return child.returncode, *(file.seek(0) or file.read() for file in (out, err))


class Copy(Interpreter):
    """An interpreter that is a fork of this program. The modules that this program has imported are loaded."""

    def __init__(self):
        self._environ = dict(os.environ)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                exec(_serve(theirs.detach()), vars(sys.modules["__main__"]))  # of the fork that `_serve` returns in
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        self._hear(ours)
        self._standing = ours, Child(pid)


def serve():
    """Serve requests for forks; in each fork, return the code of its program. Exit when the socket is closed."""
    gc.disable()  # imports create much and no garbage: with the collector, TensorFlow's takes a fifth longer
    for module in sys.argv[2:]:
        importlib.import_module(module)
    assert not _SYS_CLONE or len(os.listdir("/proc/self/task")) == 1, "the imported modules have started threads"
    # Otherwise collections of a program, also those at its exit, would visit, and so copy, the objects of the modules.
    gc.collect()
    gc.freeze()
    gc.enable()
    return _serve(int(sys.argv[1]))


def _serve(fd):
    with socket.socket(fileno=os.dup2(fd, _ORDERS)) as orders:
        os.close(fd)
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
    """Fork a child of the parent process."""
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
    above = max(_ORDERS, *order["numbers"]) + 1  # copies must not use descriptor numbers that are assigned below
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
    if order["forks_servers"] and _SYS_CLONE:
        sys.modules["helpers.new_fork_servers"].use_forks()
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if order["code"] is not None:
        return order["code"]
    main.__file__ = script
    return compile(Path(script).read_text("utf-8"), script, "exec")
