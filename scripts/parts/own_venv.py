"""Programs that any Python can start: missing packages are installed into ``.venv``, and the program goes on there."""

import importlib.util
import os
import subprocess
import sys

from parts.machine import ROOT, SCRIPTS


def require(*packages: str, extras: str = "", groups: str = "") -> None:
    """Return if all packages can be imported; else start the program once more by the Python of ``.venv``.

    Args:
        packages: Names to import.
        extras: The extras of mpqueue that bring them, separated by commas.
        groups: The dependency groups that bring the others, separated by commas.
    """
    if all(importlib.util.find_spec(name) is not None for name in packages):
        return
    # `environment.sh` finds the checkout by the name of the script that sources it.
    set_up = ["sh", "-c", f". '{SCRIPTS}/parts/environment.sh'", str(SCRIPTS / "demo")]
    subprocess.run(set_up, env=os.environ | {"EXTRAS": extras, "DEPENDENCY_GROUPS": groups}, check=True)
    python = str(ROOT / ".venv/bin/python")
    os.execv(python, [python, *sys.argv])
