"""Rounds in a separate process: one that is killed."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from parts.machine import SCRIPTS
from parts.processes import comes_true, killed_with_parent
from parts.soak.rounds import Deviation, Round, Tally

_MARK = "MPQUEUE_SOAK"
_GONE_WITHIN_S = 1.0
_SCRIPT = str(SCRIPTS / "soak")


def killed_trainer(chance: random.Random) -> Tally:
    """Start a trainer, kill it at a random moment, and check for leaks a second later."""
    mark = uuid.uuid4().hex
    command = killed_with_parent([sys.executable, _SCRIPT, "--round", str(chance.randrange(1 << 32)), "--endless"])
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # A killed trainer cannot remove its temporary folder.
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        environ = os.environ | {_MARK: mark, "TMPDIR": folder}
        return _killed(subprocess.Popen(command, env=environ, start_new_session=True, **pipes), mark, chance)


def _killed(process: "subprocess.Popen[bytes]", mark: str, chance: random.Random) -> Tally:
    time.sleep(chance.uniform(0.0, 2.0))
    kind = "trainer killed"
    if chance.randrange(3) == 0 and _stop_a_worker(process.pid):
        kind = "trainer killed, with a stopped worker"
    if process.poll() is not None:
        raise Deviation(f"a trainer exited unexpectedly: {process.communicate()[1].decode()[-2000:]}")
    process.kill()
    process.wait()
    if not comes_true(lambda: not _marked(mark), _GONE_WITHIN_S):
        raise Deviation(f"a second after its trainer was killed, these remain: {_marked(mark)}")
    process.communicate()
    return Tally(["rounds", kind])


def _stop_a_worker(trainer: int) -> bool:
    """Stop a worker of this trainer's fork server; return False if it has no worker."""
    try:
        for child in psutil.Process(trainer).children():
            workers = child.children()
            if workers:
                workers[-1].send_signal(signal.SIGSTOP)
                return True
    except psutil.Error:  # a process has just ended
        return False
    return False


def _marked(mark: str) -> list[psutil.Process]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            if wanted in environ.split(b"\0") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def run_here(seed: int, *, endless: bool) -> Tally:
    """Run one round in this process, which `killed_trainer` has started."""
    return Round(seed, endless=endless).run()
