"""The blocks of a page that commands have printed.

A comment names the command, and the block behind it begins with the same command, after a ``$``::

    <!-- printed by: mpqueue top --count 1, beside: python slow_decode.py -->

The commands run in a copy of the folder of the programs, one after the other; what stands behind ``beside`` runs
meanwhile. Pictures that they draw go beside the page.
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


def printed_anew(page: str, pictures: Path | None = None) -> str:
    """Return a page's text with each block as its command prints it now.

    Args:
        page: The text.
        pictures: The folder into which pictures go; None: nowhere.
    """

    def replace(found: re.Match[str]) -> str:
        command, beside = found["command"], found["beside"]
        print(f"$ {command}", file=sys.stderr)
        head = f"<!-- printed by: {command}" + (f", beside: {beside}" if beside else "")
        return f"{head} -->\n```text\n$ {command}\n{output_of(command, beside, folder)}\n```"

    with tempfile.TemporaryDirectory() as parent:
        folder = shutil.copytree(PROGRAMS, Path(parent) / "programs")
        anew = _BLOCK.sub(replace, page)
        for picture in folder.glob("*.png"):
            if pictures is not None:
                shutil.copy(picture, pictures)
    return anew


def output_of(command: str, beside: str | None = None, folder: Path = PROGRAMS) -> str:
    """Run a command in a folder, and return its output.

    Raises:
        subprocess.CalledProcessError: It has ended with another status than 0 or 1.
    """
    surroundings = os.environ | {"MPQUEUE_MONITOR": "1", "PYTHONPATH": str(PROGRAMS.parents[3])}
    options: dict[str, Any] = {"cwd": folder, "env": surroundings, "text": True}
    other = subprocess.Popen(words_of(beside), stdout=subprocess.DEVNULL, **options) if beside else None
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
    """Return the words of a command for this interpreter."""
    first, *others = shlex.split(command)
    return [sys.executable, *{"mpqueue": ["-m", "mpqueue"], "python": []}[first], *others]
