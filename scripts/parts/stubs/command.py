"""Writes the stubs of all public modules."""

import subprocess
import sys
from pathlib import Path

from mpqueue.tf1.compat.names import Namespaces
from mpqueue.tf1.compat.surface import NOTES, SURFACE
from parts.machine import ROOT
from parts.stubs.module import stub_of

_MODULE = "mpqueue.compat.v1"
FOLDER = ROOT / "mpqueue/compat/v1"


def print_stubs(folder: Path) -> None:
    """Write the formatted stubs into a folder, and remove its old stubs."""
    surface = Namespaces(_MODULE, SURFACE, NOTES)
    stubs = {
        _file_of(path, folder, is_package=bool(surface.inside(path))): stub_of(surface, _MODULE, path)
        for path in surface.paths()
    }
    for old in folder.rglob("*.pyi"):  # not earlier, because an import could have failed
        old.unlink()
    for file, text in stubs.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--quiet"]
    subprocess.run([sys.executable, "-m", "ruff", "format", *settings, str(folder)], check=True)


def _file_of(path: str, folder: Path, *, is_package: bool) -> Path:
    place = folder.joinpath(*path.split(".")) if path else folder
    return place / "__init__.pyi" if is_package else place.with_suffix(".pyi")


def main() -> int:
    """Write the stubs, and compare them with the modules at run time."""
    print_stubs(FOLDER)
    settings = ["--mypy-config-file", "pyproject.toml"]
    checked = [sys.executable, "-m", "mypy.stubtest", _MODULE, *settings]
    return subprocess.run(checked, cwd=ROOT, check=False).returncode
