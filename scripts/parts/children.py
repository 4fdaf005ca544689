"""Child processes of the programs in ``scripts/`` that must not outlive their parent."""

import shutil


def killed_with_parent(command: list[str]) -> list[str]:
    """Return a command line for a process that is killed when its parent ends, even by SIGKILL.

    The parent is the thread that starts the process, so this thread must live as long. Without `setpriv`, as on macOS,
    the command is returned unchanged.
    """
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command
