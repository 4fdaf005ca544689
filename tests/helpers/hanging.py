"""Workers that hang because they say so: on a loaded machine any worker is slow, and the clock cannot tell."""

import os
import time
from pathlib import Path

from mpqueue.workers.hang import HangWatch

TIMEOUT_S = 60.0  # a `batch_timeout` for those that are told: no worker gets near it
_LOOK_S = 0.02


class Told:
    """The processes that have said that they hang now; goes with a source to its workers.

    Args:
        folder: Of files named by process ids; is made.
    """

    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(folder, exist_ok=True)

    def tell(self):
        """Say that this process hangs from here on."""
        Path(self.folder, str(os.getpid())).touch()

    def __contains__(self, pid):
        return Path(self.folder, str(pid)).exists()


class Stopped:
    """The processes that are stopped by a signal."""

    def __contains__(self, pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False


def judge_by(pids, monkeypatch=None):
    """Have workers over their time as soon as their processes are in ``pids``, and never before.

    Args:
        pids: What has `in`.
        monkeypatch: Undoes it; None in a process that is the test's own.
    """

    def ends_at(_, worker):
        hangs = worker.process is not None and worker.process.pid in pids
        return 0.0 if hangs else time.perf_counter_ns() / 1e9 + _LOOK_S

    if monkeypatch is None:
        HangWatch._ends_at = ends_at
    else:
        monkeypatch.setattr(HangWatch, "_ends_at", ends_at)
