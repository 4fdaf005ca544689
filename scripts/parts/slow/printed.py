"""The blocks of a page that commands have printed.

A comment names the command, and the block behind it begins with the same command, after a ``$``::

    <!-- printed by: mpqueue top --count 1, beside: python slow_decode.py -->

The command runs in the folder of the programs; what stands behind ``beside`` runs meanwhile.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PROGRAMS = Path(__file__).parent / "programs"
_BLOCK = re.compile(
    r"<!-- printed by: (?P<command>.*?)(?:, beside: (?P<beside>.*?))? -->\n```text\n.*?^```$", re.DOTALL | re.MULTILINE
)
_BEGIN_S = 3.0  # until a program beside it has workers, and some batches to be counted
_LIMIT_S = 300


class Printed(NamedTuple):
    """A block: its command, and what runs beside it, if anything does."""

    command: str
    beside: str | None


def commands_of(page: str) -> list[Printed]:
    """Return the commands of all blocks of a page's text."""
    return [Printed(found["command"], found["beside"]) for found in _BLOCK.finditer(page)]


def printed_anew(page: str) -> str:
    """Return a page's text with each block as its command prints it now."""

    def replace(found: re.Match[str]) -> str:
        command, beside = found["command"], found["beside"]
        print(f"$ {command}", file=sys.stderr)
        head = f"<!-- printed by: {command}" + (f", beside: {beside}" if beside else "")
        return f"{head} -->\n```text\n$ {command}\n{output_of(command, beside)}\n```"

    return _BLOCK.sub(replace, page)


def output_of(command: str, beside: str | None = None) -> str:
    """Run a command, and return its output.

    Raises:
        subprocess.CalledProcessError: It has ended with another status than 0 or 1.
    """
    surroundings = os.environ | {"MPQUEUE_MONITOR": "1", "PYTHONPATH": str(PROGRAMS.parents[3])}
    other = (
        subprocess.Popen(words_of(beside), cwd=PROGRAMS, env=surroundings, stdout=subprocess.DEVNULL)
        if beside
        else None
    )
    try:
        if other is not None:
            time.sleep(_BEGIN_S)
        done = subprocess.run(
            words_of(command),
            cwd=PROGRAMS,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    finally:
        if other is not None:
            other.terminate()
            other.wait()
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def words_of(command: str) -> list[str]:
    """Return the words of a command for this interpreter."""
    first, *others = shlex.split(command)
    return [sys.executable, *{"mpqueue": ["-m", "mpqueue"], "python": []}[first], *others]
