"""The release of a version: its checks, its distributions, and their tests with each installed Python.

A source distribution has each file of the commit, so that others can test and change the package without the
repository. The tests run in its unpacked folder, where the package is a link to the installed wheel.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from parts.machine import ROOT
from parts.newcomers import Interpreter, interpreters

_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_VALID = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
_HEADING = re.compile(r"^## \[(.+?)\](?: - (.*))?$", re.MULTILINE)
_EXTRAS = "tfrecord,compat"  # as for `scripts/test`
_RUNS_TESTS = "import sys; sys.path.insert(0, 'scripts'); from parts import checks; sys.exit(checks.main([]))"


def version_of(root: Path) -> str:
    """Return the version of the package, without importing it."""
    found = _VERSION.search((root / "mpqueue/version.py").read_text("utf-8"))
    return found[1] if found else ""


def problems_of(root: Path) -> list[str]:
    """Return why this version cannot be released, a line for each reason."""
    version = version_of(root)
    valid = [] if _VALID.fullmatch(version) else [f"Expected a version such as 1.0.0 or 1.0.0rc1, got {version!r}."]
    return [*valid, *problems_of_changelog(root, version), *problems_of_golden_data(root, version), *_changes(root)]


def problems_of_changelog(root: Path, version: str) -> list[str]:
    """Check that the first heading of the changelog is the version, with a date."""
    heading = _HEADING.search((root / "CHANGELOG.md").read_text("utf-8"))
    name, day = (heading[1], heading[2]) if heading else ("", None)
    if name != version:
        return [f"The first heading of CHANGELOG.md must be [{version}], got [{name}]."]
    try:
        date.fromisoformat(day or "")
    except ValueError:
        return [f"The heading [{version}] of CHANGELOG.md must have a date such as 2026-11-30, got {day!r}."]
    return []


def problems_of_golden_data(root: Path, version: str) -> list[str]:
    """Check that this minor version has golden data, which it has written."""
    folder = root / "tests/golden" / ".".join(version.split(".")[:2])
    files = sorted(folder.glob("*.json"))
    if not files:
        return [f"tests/golden/{folder.name} has no golden data: run scripts/golden."]
    writers = {file.name: json.loads(file.read_text("utf-8"))["made_with"]["mpqueue"] for file in files}
    return [
        f"tests/golden/{folder.name}/{name} was written by mpqueue {writer}: run scripts/golden."
        for name, writer in writers.items()
        if writer.split(".")[:2] != version.split(".")[:2]  # patches have the data of their minor version
    ]


def _changes(root: Path) -> list[str]:
    """Check that all files are in the commit."""
    status = _output("git", "status", "--porcelain", cwd=root)
    return [f"The commit lacks changes: {line}" for line in status.splitlines()]


def missing_in(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Return the files of a commit that a source distribution lacks; its names begin with a folder."""
    present = {name.partition("/")[2] for name in names}
    return [name for name in tracked if name not in present]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution and, from it, the wheel; return their paths."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def status_with(interpreter: Interpreter, sdist: Path, wheel: Path) -> int:
    """Test a wheel in an empty environment with the tests of the source distribution, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="mpqueue-release-") as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,), environment = Path(folder).iterdir(), Path(folder, "environment")
        subprocess.run([interpreter.executable, "-m", "venv", str(environment)], check=True)
        python = str(environment / "bin/python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        group = f"{unpacked}/pyproject.toml:test"
        subprocess.run([*pip, f"{wheel}[{_EXTRAS}]", "--group", group], check=True)
        # Its files are compared with those of the tests, and the current folder is the first one of `sys.path`.
        shutil.rmtree(unpacked / "mpqueue")
        os.symlink(_output(python, "-c", "import mpqueue; print(*mpqueue.__path__)", cwd=folder), unpacked / "mpqueue")
        return subprocess.run([python, "-c", _RUNS_TESTS], cwd=unpacked, check=False).returncode


def _output(*command: str, cwd: str | Path) -> str:
    return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout.rstrip("\n")


def main(arguments: list[str]) -> int:
    """Check the version, and without ``check`` build and test it; return 1 if anything failed, otherwise 0."""
    version = version_of(ROOT)
    if problems := problems_of(ROOT):
        print(*problems, sep="\n")
        return 1
    print(f"mpqueue {version}: version, changelog, golden data and commit agree")
    if arguments == ["check"]:
        return 0
    folder = ROOT / "dist" / version
    shutil.rmtree(folder, ignore_errors=True)
    sdist, wheel = build(folder)
    with tarfile.open(sdist) as archive:
        missing = missing_in(archive.getnames(), _output("git", "ls-files", cwd=ROOT).splitlines())
    if missing:
        print("The source distribution lacks files of the commit:", *missing, sep="\n    ")
        return 1
    failed = [each for each in interpreters() if status_with(each, sdist, wheel)]
    if failed:
        print("FAILED with", *failed, sep="\n    ")
        return 1
    print(f"Passed. To publish:\n    uv publish {sdist} {wheel}    (or: twine upload {sdist} {wheel})")
    print(f"    git tag --annotate v{version} --message 'mpqueue {version}' && git push origin v{version}")
    return 0
