"""Programs that import Keras without the packages of others that it imports where they are installed.

Keras uses these for plots, wrappers and tables, and no test does: they are 40 % of what its import costs on JAX.
"""

import contextlib
import os
import tempfile
from pathlib import Path

_LEFT_OUT = ("matplotlib", "pandas", "sklearn")


@contextlib.contextmanager
def lean_environ(**environ):
    """Make the environment of a program, in which these packages, also for its workers, are not to be found."""
    with tempfile.TemporaryDirectory(prefix="mpqueue-lean-") as folder:
        for name in _LEFT_OUT:
            Path(folder, f"{name}.py").write_text("raise ImportError('left out')\n", "utf-8")
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        yield {**os.environ, "PYTHONPATH": path, **environ}
