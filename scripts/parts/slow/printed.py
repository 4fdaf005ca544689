"""The blocks of a page that show the output of commands.

A comment names the command. The block after it starts with the same command after a ``$``::

    <!-- printed by: python slow_decode.py --workers 1 -->

The commands run one after another in a copy of the programs' folder.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
_BLOCK = re.compile(
    r"<!-- printed by: (?P<command>.*?) -->\n```text\n.*?^```$",
    re.DOTALL | re.MULTILINE,
)
_LIMIT_S = 300


def commands_of(page: str) -> list[str]:
    """Return the commands of all blocks of a page."""
    return [found["command"] for found in _BLOCK.finditer(page)]


def with_current_output(page: str) -> str:
    """Return a page with each block updated by the current output of its command."""

    def replace(found: re.Match[str]) -> str:
        command = found["command"]
        print(f"$ {command}", file=sys.stderr)
        return f"<!-- printed by: {command} -->\n```text\n$ {command}\n{output_of(command, folder)}\n```"

    with tempfile.TemporaryDirectory() as parent:
        folder = shutil.copytree(PROGRAMS, Path(parent) / "programs")
        return _BLOCK.sub(replace, page)


def output_of(command: str, folder: Path = PROGRAMS) -> str:
    """Run a command in a folder, and return its output.

    Raises:
        subprocess.CalledProcessError: The exit status is neither 0 nor 1.
    """
    done = subprocess.run(
        words_of(command), cwd=folder, env=os.environ | {"PYTHONPATH": str(PROGRAMS.parents[3])}, text=True,
        capture_output=True, timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def words_of(command: str) -> list[str]:
    """Return the command line of a command for this interpreter."""
    first, *others = shlex.split(command)
    return [sys.executable, *{"mpqueue": ["-m", "mpqueue"], "python": []}[first], *others]
