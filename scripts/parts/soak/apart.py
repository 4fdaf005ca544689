"""Rounds in a separate process that is killed."""

import os
import random
import signal
import sys
import tempfile
import time

import psutil
from helpers.trainer_processes import Trainer

from parts.processes import killed_with_parent
from parts.soak.rounds import Deviation, Tally

_GONE_WITHIN_S = 1.0
_SCRIPT = """
from parts.soak.rounds import Round
say("begins")
Round({}, endless=True).run()
"""


def killed_trainer(chance: random.Random) -> Tally:
    """Start a trainer, kill it at a random moment, and check for leaks a second later."""
    script = _SCRIPT.format(chance.randrange(1 << 32))
    # A killed trainer cannot remove its temporary folder.
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        env = {"TMPDIR": folder, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with Trainer(script, command=killed_with_parent([]), env=env) as trainer:
            trainer.heard()  # the imports are over
            time.sleep(chance.uniform(0.0, 2.0))
            kind = "trainer killed"
            if chance.randrange(3) == 0 and _stop_a_worker(trainer):
                kind = "trainer killed, with a stopped worker"
            if trainer.process.poll() is not None:
                raise Deviation(f"a trainer exited unexpectedly: {trainer.output()[-2000:]}")
            trainer.process.kill()
            trainer.process.wait()
            if not trainer.left_nothing(_GONE_WITHIN_S):
                raise Deviation(f"a second after its trainer was killed, these remain: {trainer.processes()}")
    return Tally(["rounds", kind])


def _stop_a_worker(trainer: Trainer) -> bool:
    """Stop a worker of this trainer's fork server; return False if it has no worker."""
    try:
        trainer.workers()[-1].send_signal(signal.SIGSTOP)
    except (ValueError, IndexError, psutil.Error):  # without a fork server or a worker, or a process has just ended
        return False
    return True
