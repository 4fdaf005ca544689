"""Functions of `WhenCollected` when the interpreter exits."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("at_exit", "written"), [(True, "called"), (False, "")])
def test_function_is_called_at_exit_only_if_wanted(at_exit, written):
    """Not even when the interpreter deletes the object: its modules may not exist then."""
    code = f"""
import os
from mpqueue.system.signals.collected import WhenCollected

class Owner:
    pass

owner = Owner()
WhenCollected(owner, os.write, 1, b"called", at_exit={at_exit})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, written, "")
