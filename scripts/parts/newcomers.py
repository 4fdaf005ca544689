"""Runs of ``scripts/test`` in fresh clones, as ordinary users of other machines would start it.

The line of a run names its machine: its Python, user, /proc and package versions. A machine may lack a second
Python, and only root can become another user and mount another /proc.

This process owns the folder of a run, and removes it. The tests remove their own processes and shared memory.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from parts.machine import ROOT

_RUNS = ("oldest", "newest")
_ORDINARY = "nobody"  # exists on every Linux, so that no user has to be created
_NAMES = ("/usr/bin/python3", "python3", *(f"python3.{minor}" for minor in range(20, 10, -1)))
_ABOUT = (
    "import ensurepip, json, sys, sysconfig, venv;"
    "print(json.dumps([sys.version_info[:3], sys._base_executable, sys.base_prefix]))"
)
_VERSIONS = (
    "from importlib.metadata import version;"
    "import platform;"
    "print('ran with Python', platform.python_version(), end=', ');"
    "print(*(f'{name} {version(name)}' for name in ('numpy', 'cloudpickle', 'psutil')), sep=', ')"
)
# The name of a socket is limited to 107 bytes, and many users have a longer TMPDIR.
_LONG = "a-folder-for-temporary-files-with-a-long-name-as-batch-systems-create-them-for-each-job"
_NEWEST_OF_OLDEST = (3, 11)  # NumPy 1.25.0 has no wheels for newer ones
_HIDES_PROCESSES = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh")
# Shows the folder of a Python, at its place, below a folder that only root can read. The Python may name its own path.
_SHOWS_FOLDER = (
    "sh",
    "-c",
    (
        'mount --bind "$2" "$3" && mount -t tmpfs -o mode=755 tmpfs "$1" && '
        'mkdir -p "$2" && mount --bind "$3" "$2" && shift 3 && exec "$@"'
    ),
    "sh",
)


class Interpreter(NamedTuple):
    """An installed Python: its version, its executable and its folder."""

    version: tuple[int, ...]
    executable: str
    prefix: str

    def __str__(self) -> str:
        """Return the name and the version."""
        return f"Python {'.'.join(map(str, self.version))} ({self.executable})"


class Run(NamedTuple):
    """A Python, and the lines of a constraints file for pip."""

    name: str
    interpreter: Interpreter
    constraints: list[str]


def interpreters() -> list[Interpreter]:
    """Return the installed Pythons from 3.11 on that can create environments, one of each minor version, sorted.

    Of one minor version, the system's Python is first: it is the one that most people have.
    """
    found: dict[tuple[int, ...], Interpreter] = {}
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin/python3"))
    for name in (*_NAMES, *map(str, pyenv), sys.executable):
        path = shutil.which(name)
        done = subprocess.run([path, "-c", _ABOUT], capture_output=True, text=True, check=False) if path else None
        if done is not None and done.returncode == 0:
            version, executable, prefix = json.loads(done.stdout)
            if version >= [3, 11]:
                found.setdefault(tuple(version[:2]), Interpreter(tuple(version), executable, prefix))
    return [found[version] for version in sorted(found)]


def oldest_versions(project: Path, extras: Iterable[str] = ()) -> list[str]:
    """Return the oldest version of each run-time dependency, and of the extras', that a ``pyproject.toml`` allows."""
    settings = tomllib.loads(project.read_text("utf-8"))["project"]
    of_extras = [each for extra in extras for each in settings["optional-dependencies"][extra]]
    return [re.sub(r"\s*>=\s*", "==", dependency) for dependency in (*settings["dependencies"], *of_extras)]


def runs_of(found: list[Interpreter], project: Path, extras: Iterable[str] = ()) -> list[Run]:
    """Return a run with the oldest Python and packages, and one with the newest."""
    old = [each for each in found if each.version[:2] <= _NEWEST_OF_OLDEST]
    return [
        *(Run(_RUNS[0], each, oldest_versions(project, extras)) for each in old[:1]),
        *(Run(_RUNS[1], each, []) for each in found[-1:]),
    ]


class Host(NamedTuple):
    """What ordinary users have here.

    Attributes:
        user: The name of the user.
        uid: The number of the user, or None if it is the current one.
        prefix: The command that starts others so that they do not see the processes of other users; may be empty.
    """

    user: str
    uid: int | None
    prefix: tuple[str, ...]

    def command(self, command: list[str]) -> list[str]:
        """Return the command line that runs a command as the user."""
        dropped = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"] if self.uid else []
        return [*self.prefix, *dropped, *command]


def this_host() -> Host:
    """Return the options that runs can have here: only root can change the user and mount another /proc."""
    if os.getuid():
        return Host(pwd.getpwuid(os.getuid()).pw_name, None, ())
    hides = not subprocess.run([*_HIDES_PROCESSES, "true"], capture_output=True, check=False).returncode
    return Host(_ORDINARY, pwd.getpwnam(_ORDINARY).pw_uid, _HIDES_PROCESSES if hides else ())


@contextmanager
def _folder() -> Iterator[Path]:
    """Create a folder that every user can read, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="mpqueue-newcomer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        (folder / _LONG).mkdir()
        yield folder


def _host_with(interpreter: Interpreter, host: Host, folder: Path) -> Host:
    """Return the host, where the user can start the interpreter: root's own Python is shown to the user.

    Raises:
        SystemExit: The user cannot start it.
    """
    prefix = Path(interpreter.prefix)
    hidden = next((each for each in [*reversed(prefix.parents), prefix] if not each.stat().st_mode & 0o001), None)
    if hidden is not None and host.prefix:
        place = folder / "python"
        place.mkdir()
        host = host._replace(prefix=(*host.prefix, *_SHOWS_FOLDER, str(hidden), str(prefix), str(place)))
    tried = host.command([interpreter.executable, "-c", "import venv"])
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{host.user} cannot start {interpreter}: {done.stderr.strip()}")
    return host


def result_of(run: Run, host: Host, arguments: list[str]) -> tuple[int, str]:
    """Clone the last commit, run ``scripts/test`` there, and return its exit status and the installed versions."""
    with _folder() as folder:
        clone = folder / "mpqueue für alle"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "XDG"))},
            "HOME": str(folder / "home"),
            "USER": host.user,
            "LOGNAME": host.user,
            "TMPDIR": str(folder / _LONG),
            "PYTHON": run.interpreter.executable,
        }
        host = _host_with(run.interpreter, host, folder)
        if run.constraints:
            constraints = folder / "constraints.txt"
            constraints.write_text("".join(f"{line}\n" for line in run.constraints))
            environment["PIP_CONSTRAINT"] = str(constraints)
        if host.uid:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, host.uid, host.uid, follow_symlinks=False)
        command = host.command(["scripts/test", *arguments])
        status = subprocess.run(command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
        asked = host.command([".venv/bin/python", "-c", _VERSIONS])
        return status, subprocess.run(asked, cwd=clone, capture_output=True, text=True, check=False).stdout.strip()


def main(arguments: list[str]) -> int:
    """Run the tests as newcomers; return 1 if a run failed, otherwise 0."""
    host = this_host()
    extras = [*filter(None, os.environ.get("EXTRAS", "").split(","))]  # `scripts/test` reads it, too
    runs = runs_of(interpreters(), ROOT / "pyproject.toml", extras)
    if arguments and arguments[0] in _RUNS:
        name, *arguments = arguments
        runs = [run for run in runs if run.name == name]
    if not runs:
        sys.exit("Expected a Python 3.11 or newer with venv and ensurepip (Debian: python3-venv); found none.")
    proc = "hides the processes of other users" if host.prefix else "is as it is"
    lines = []
    for run in runs:
        about = f"newcomer ({run.name}): {run.interpreter}, user {host.user}, /proc {proc}"
        print(f"=== {about}: started", flush=True)
        begun = time.monotonic()
        status, versions = result_of(run, host, arguments)
        minutes, seconds = divmod(round(time.monotonic() - begun), 60)
        result = f"FAILED with status {status}" if status else "passed"
        lines.append(f"=== {about}, {versions}: {result} after {minutes}:{seconds:02}")
        print(lines[-1], flush=True)
    print("\n".join(lines), flush=True)
    return int(any(": FAILED with" in line for line in lines))
