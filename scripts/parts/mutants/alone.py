"""The same program in its own PID namespace.

There, neither signals nor leaked processes of a mutant can affect other programs, because the namespace ends with its
first process. That process ends with `unshare`, and `unshare` with the program that was called: see `parts.children`.
The folder of the copy belongs to the outer program, which removes it in any case, unless it is killed by SIGKILL.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from parts.children import killed_with_parent

FOLDER = "MPQUEUE_MUTANTS_FOLDER"


def run(command: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run a command in a namespace, with an empty folder in the variable `FOLDER`; return the exit status."""
    # Without a user namespace, if permitted, tests can become another user.
    for users in ([], ["--user", "--map-root-user"]):
        isolated = killed_with_parent(["unshare", *users, "--pid", "--fork", "--kill-child", "--mount-proc"])
        if shutil.which("unshare") and _succeeds([*isolated, "true"]):
            break
    else:
        print("unshare(1) does not work here: a mutant could send signals to other programs", file=sys.stderr)
        return 2
    # As an exception, SIGTERM kills `unshare` at once and removes the folder.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # After a signal, processes in the namespace may still write.
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        return subprocess.run([*isolated, *command], env={**environment, FOLDER: folder}, check=False).returncode


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
