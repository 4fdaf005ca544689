"""The same program again in a namespace of its own for process numbers.

Neither a signal of a mutant nor what a mutant leaves can reach another program then: the first process of the namespace
takes all others with it. That one dies with `unshare`, and `unshare` with the program that was called: see
`parts.children`. The folder of the copy is the outer program's, which is there to remove it whatever becomes of the
inner one; only a SIGKILL of the outer one leaves it.
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
    """Run a command in a namespace, with an empty folder that `FOLDER` of its environment names; the exit status."""
    # Where it can be had without a namespace for users, tests may take the rights of another user.
    for users in ([], ["--user", "--map-root-user"]):
        apart = killed_with_parent(["unshare", *users, "--pid", "--fork", "--kill-child", "--mount-proc"])
        if shutil.which("unshare") and _succeeds([*apart, "true"]):
            break
    else:
        print("unshare(1) does not work here: a mutant that sends signals might hit other programs", file=sys.stderr)
        return 2
    # As an exception it kills `unshare` at once, on its way out of `run`, and has the folder removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # After a signal the namespace may still be about to end, and write.
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        return subprocess.run([*apart, *command], env={**environment, FOLDER: folder}, check=False).returncode


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
