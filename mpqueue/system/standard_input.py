"""Standard input of worker processes: the terminal, or an error that names the remedy.

A child of `multiprocessing` reads the end of a file. `pdb` ends at it: with a `BdbQuit` without a message, or silently
after `pdb.post_mortem`. A fork of the trainer would share the input of the trainer, together with the lines that the
trainer has buffered. In a notebook, it would wait forever for the kernel.
"""

import builtins
import io
import os
import sys
from types import BuiltinFunctionType
from typing import Any, NoReturn

from mpqueue.system.log import documented
from mpqueue.system.signals.exceptions import add_note, matches


def _remedy() -> str:
    return (
        "a worker process has no standard input, which debuggers and input() read. To debug the source, compute its "
        "batches in your own process: pass workers=0 to a Loader, or num_workers=0 to a DataLoader; see "
        f"{documented('Debug a source')}"
    )


def _refuse(*_arguments: object) -> NoReturn:
    raise RuntimeError(_remedy())


class _NoInput(io.RawIOBase):
    # Not an end of file, and not an `EOFError`, which debuggers handle.
    def readinto(self, buffer: Any) -> int:
        _refuse(buffer)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0  # programs that a worker starts may inherit it


class _Refusing(io.TextIOWrapper):
    """The replacement of `sys.stdin`, which user code may replace in turn."""


def keep_terminal_only() -> None:
    """Make reads of standard input raise an error, unless it is a terminal; called in a worker at its start."""
    # IPython kernels and similar programs replace `input`: it sends a request from a process that gets no answer.
    is_replaced = type(builtins.input) is not BuiltinFunctionType
    if os.isatty(0) and not is_replaced:
        return
    sys.stdin = _Refusing(io.BufferedReader(_NoInput()), encoding="utf-8")
    if is_replaced:
        builtins.input = _refuse


def explain_quit(error: BaseException) -> None:
    """Add the remedy to the `BdbQuit` of a debugger that has read the descriptor, such as IPython's."""
    bdb = sys.modules.get("bdb")
    if bdb is not None and type(sys.stdin) is _Refusing and matches(error, bdb.BdbQuit):
        add_note(error, _remedy())
