"""Child processes of the programs in ``scripts/`` that must not outlive their parent."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any


@contextmanager
def forks(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> Iterator[list[BaseProcess]]:
    """Call a function in a fork of this process for each tuple of arguments, and kill the forks at the end."""
    context = multiprocessing.get_context("fork")
    running: list[BaseProcess] = [context.Process(target=function, args=args, daemon=True) for args in arguments]
    for process in running:
        process.start()
    try:
        yield running
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.join()


def killed_with_parent(command: list[str]) -> list[str]:
    """Return a command line for a process that is killed when its parent ends, even by SIGKILL.

    The parent is the thread that starts the process, so this thread must live as long. Without `setpriv`, as on macOS,
    the command is returned unchanged.
    """
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command
