"""The end of a process that runs the user's code, by `os._exit`: what it has inherited is cleaned up by its parent."""

import os
import sys
from typing import NoReturn


def exit_code_of(leaving: SystemExit) -> int:
    """Return the exit code that Python would give for it."""
    return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def leave(code: int) -> NoReturn:
    """End this process, after what it has printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, or None: there is nobody to tell
            continue
    os._exit(code & 0xFF)
