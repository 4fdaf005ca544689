"""The blocks of a page that show the output of commands.

A comment names the command. The block after it starts with the same command after a ``$``::

    <!-- printed by: mpqueue top --count 1, alongside: python slow_decode.py -->

The commands run one after another in a copy of the programs' folder. A command after ``alongside`` runs at the same
time.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

PROGRAMS = Path(__file__).parent / "programs"
_BLOCK = re.compile(
    r"<!-- printed by: (?P<command>.*?)(?:, alongside: (?P<alongside>.*?))? -->\n```text\n.*?^```$",
    re.DOTALL | re.MULTILINE,
)
_BEGIN_S = 3.0  # until a program that runs at the same time has workers, and some batches to count
_LIMIT_S = 300


class Printed(NamedTuple):
    """A block: its command, and the command that runs at the same time, if any."""

    command: str
    alongside: str | None


def commands_of(page: str) -> list[Printed]:
    """Return the commands of all blocks of a page."""
    return [Printed(found["command"], found["alongside"]) for found in _BLOCK.finditer(page)]


def with_current_output(page: str) -> str:
    """Return a page with each block updated by the current output of its command."""

    def replace(found: re.Match[str]) -> str:
        command, alongside = found["command"], found["alongside"]
        print(f"$ {command}", file=sys.stderr)
        head = f"<!-- printed by: {command}" + (f", alongside: {alongside}" if alongside else "")
        return f"{head} -->\n```text\n$ {command}\n{output_of(command, alongside, folder)}\n```"

    with tempfile.TemporaryDirectory() as parent:
        folder = shutil.copytree(PROGRAMS, Path(parent) / "programs")
        return _BLOCK.sub(replace, page)


def output_of(command: str, alongside: str | None = None, folder: Path = PROGRAMS) -> str:
    """Run a command in a folder, and return its output.

    Raises:
        subprocess.CalledProcessError: The exit status is neither 0 nor 1.
    """
    surroundings = os.environ | {"MPQUEUE_MONITOR": "1", "PYTHONPATH": str(PROGRAMS.parents[3])}
    options: dict[str, Any] = {"cwd": folder, "env": surroundings, "text": True}
    other = subprocess.Popen(words_of(alongside), stdout=subprocess.DEVNULL, **options) if alongside else None
    try:
        if other is not None:
            time.sleep(_BEGIN_S)
        done = subprocess.run(words_of(command), capture_output=True, timeout=_LIMIT_S, check=False, **options)
    finally:
        if other is not None:
            other.terminate()
            other.wait()
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def words_of(command: str) -> list[str]:
    """Return the command line of a command for this interpreter."""
    first, *others = shlex.split(command)
    return [sys.executable, *{"mpqueue": ["-m", "mpqueue"], "python": []}[first], *others]
