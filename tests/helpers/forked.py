"""Programs that begin in a fork of an interpreter that has imported mpqueue, which is most of what a short one costs.

The interpreter is a process of its own, which has run nothing else. A program is its module ``__main__``, and ends as
any interpreter does; it has its own folder, arguments, environment, standard streams and random numbers. What it leaves
in the folder for temporary files, as examples do, goes with that.
"""

import contextlib
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

_ROOT, _TESTS = Path(__file__).resolve().parents[2], Path(__file__).resolve().parents[1]
_SERVE = "from helpers import forked; program = forked.serve(); exec(program, vars(__import__('__main__')))"


class Launcher:
    """The interpreter that is forked; a context.

    Args:
        modules: What it imports.
    """

    def __init__(self, *modules):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(theirs.fileno()), *modules],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (_TESTS, _ROOT)))},
                pass_fds=[theirs.fileno()],
            )
        self._heard(None)  # for who looks at processes, it is what it is from now on

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.wait()

    def run(self, command, folder, environ, timeout):
        """Run a script with its arguments in a folder; return its exit status, and what it wrote to stdout and stderr.

        Raises:
            TimeoutError: It did not end within so many seconds; it was killed.
        """
        with (
            tempfile.TemporaryDirectory(prefix="run", ignore_cleanup_errors=True) as temporary,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            environ = environ | {"TMPDIR": temporary}
            order = {"command": [*map(str, command)], "folder": str(folder), "environ": environ}
            socket.send_fds(self._socket, [json.dumps(order).encode()], [out.fileno(), err.fileno()])
            pid = int(self._heard(timeout))
            try:
                status = int(self._heard(timeout))
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, 9)
                self._heard(timeout)
                raise
            return status, *(file.seek(0) or file.read() for file in (out, err))

    def _heard(self, timeout):
        self._socket.settimeout(timeout)
        said = self._socket.recv(100)
        assert said, "the interpreter that is forked has ended"
        return said


def serve():
    """Return the code of a script in each fork that is asked for; end the process when nobody is there to ask."""
    for module in sys.argv[2:]:
        importlib.import_module(module)
    sys.path.remove(str(_TESTS))
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        orders.send(b"ready")
        while True:
            words, files, *_ = socket.recv_fds(orders, 1 << 20, 2)
            if not words:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                break
            for file in files:
                os.close(file)
            orders.send(str(pid).encode())
            orders.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    return _become(json.loads(words), files)


def _become(order, files):
    os.setsid()
    os.chdir(order["folder"])
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environ"])
    random.seed()
    np.random.seed()
    sys.argv = order["command"]
    script, path = sys.argv[0], os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [os.path.dirname(script), *path, *[folder for folder in sys.path[1:] if folder not in path]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = script
    return compile(Path(script).read_text("utf-8"), script, "exec")
