"""The signals, streams and heap of a fork server or worker."""

import faulthandler
import signal
import sys
from collections.abc import Mapping

from mpqueue.memory.glibc import keep_freed_memory
from mpqueue.system.program_streams import is_lost
from mpqueue.system.signals import group_signals
from mpqueue.system.signals.masks import set_signal_mask
from mpqueue.system.standard_input import keep_terminal_only
from mpqueue.worker.config import DUMP_SIGNAL, WorkerEnds


def prepare_process(installed: Mapping[int, group_signals.Handler] | None = None) -> None:
    """Set signals, streams and heap for a fork server or worker, independently of the trainer's settings.

    Args:
        installed: In a child of a fork server, the handlers of group signals that the source has installed there.
    """
    keep_freed_memory()
    if installed is None:
        group_signals.ignore()
    else:
        group_signals.install(installed)
    # A forked worker inherits the descriptor that asyncio has set: its signals would wake the event loop of the
    # trainer.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the trainer
    # The trainer ends workers by SIGTERM. An inherited handler belongs to its program, and might not end this process.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, the exit status of children would be lost
    # Ignored until the worker runs: the default action would end it. Children of a fork server inherit this, also
    # across `exec`.
    signal.signal(DUMP_SIGNAL, signal.SIG_IGN)
    # A fork server starts with the signals blocked that it ignores, and a worker forked from the trainer with all.
    set_signal_mask()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not is_lost(stream):
            reconfigure(line_buffering=True)  # whole lines, at once
    keep_terminal_only()


def answer_for_stacks(ends: WorkerEnds) -> None:
    """Make `DUMP_SIGNAL` write the stacks of all threads."""
    faulthandler.register(DUMP_SIGNAL, ends.stacks, all_threads=True)
