"""Programs that import Keras without the optional packages that it imports if they are installed.

Keras uses these packages for plots, wrappers and tables; no test does. They take 40 % of its import time with JAX.
"""

import contextlib
import os
import tempfile
from pathlib import Path

_LEFT_OUT = ("matplotlib", "pandas", "sklearn")


@contextlib.contextmanager
def lean_environ(**environ):
    """Yield an environment without these packages, for a program and its workers."""
    with tempfile.TemporaryDirectory(prefix="mpqueue-lean-") as folder:
        for name in _LEFT_OUT:
            Path(folder, f"{name}.py").write_text("raise ImportError('left out')\n", "utf-8")
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        yield {**os.environ, "PYTHONPATH": path, **environ}
