"""Workers that declare that they hang. A clock cannot distinguish a hanging worker from a slow one."""

import os
import time
from pathlib import Path

from mpqueue.backends.processes.hang import HangWatch

TIMEOUT_S = 60.0  # a `batch_timeout` for tests with declared hangs, which no slow worker reaches
_LOOK_S = 0.02


class DeclaredHangs:
    """The set of processes that have declared that they hang. Sources carry it to their workers.

    Args:
        folder: Folder with a file for each process id; created here.
    """

    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(folder, exist_ok=True)

    def declare(self):
        """Declare that this process hangs."""
        Path(self.folder, str(os.getpid())).touch()

    def __contains__(self, pid):
        return Path(self.folder, str(pid)).exists()


class Stopped:
    """The set of processes that are stopped by a signal."""

    def __contains__(self, pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False


def judge_by(pids, monkeypatch=None):
    """Make workers exceed `batch_timeout` exactly when their processes are in ``pids``.

    Args:
        pids: A container of process ids.
        monkeypatch: The fixture that reverts the change, or None in a separate process of the test.
    """

    def ends_at(_, worker):
        hangs = worker.process is not None and worker.process.pid in pids
        return 0.0 if hangs else time.perf_counter_ns() / 1e9 + _LOOK_S

    if monkeypatch is None:
        HangWatch._ends_at = ends_at
    else:
        monkeypatch.setattr(HangWatch, "_ends_at", ends_at)
