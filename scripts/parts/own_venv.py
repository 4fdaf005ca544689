"""Programs that any Python can start: missing packages are installed into ``.venv``, and the program restarts there."""

import importlib.util
import os
import subprocess
import sys

from parts.machine import ROOT, SCRIPTS


def require(*packages: str, extras: str = "", groups: str = "") -> None:
    """Return if all packages can be imported; otherwise restart the program with the Python of ``.venv``.

    Args:
        packages: Names to import.
        extras: Extras of mpqueue that provide them, separated by commas.
        groups: Dependency groups that provide the others, separated by commas.
    """
    if all(importlib.util.find_spec(name) is not None for name in packages):
        return
    # `environment.sh` finds the checkout from the path of the script that sources it.
    set_up = ["sh", "-c", f". '{SCRIPTS}/parts/environment.sh'", str(SCRIPTS / "demo")]
    subprocess.run(set_up, env=os.environ | {"EXTRAS": extras, "DEPENDENCY_GROUPS": groups}, check=True)
    python = str(ROOT / ".venv/bin/python")
    os.execv(python, [python, *sys.argv])
