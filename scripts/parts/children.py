"""Processes that a program of ``scripts/`` starts, and that are not to outlive it."""

import shutil


def dying_with_us(command: list[str]) -> list[str]:
    """Return a command whose process is killed when the one that has started it ends, even by SIGKILL.

    It is what the thread of a ``subprocess`` call starts, so that thread has to live as long. Where there is no
    `setpriv`, as on macOS, the command is returned as it is.
    """
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command
