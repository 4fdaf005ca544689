"""Scripts that any Python can start: what it lacks is installed into ``.venv``, and the script goes on there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent


def require(*packages: str, extras: str) -> None:
    """Return if all packages are here; else run the script that was started once more, by the Python of ``.venv``.

    Args:
        packages: Names to import.
        extras: Those of mpqueue that bring them, separated by commas.
    """
    if all(importlib.util.find_spec(name) is not None for name in packages):
        return
    # `_environment` finds its folder by the name of the script that sources it.
    set_up = ["sh", "-c", f". '{SCRIPTS}/_environment'", str(SCRIPTS / "demo")]
    subprocess.run(set_up, env=os.environ | {"EXTRAS": extras}, check=True)
    python = str(SCRIPTS.parent / ".venv/bin/python")
    os.execv(python, [python, *sys.argv])
