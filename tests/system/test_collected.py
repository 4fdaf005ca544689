"""Functions that are called when an object is collected, even by an exiting interpreter."""

import subprocess
import sys

import pytest

from mpqueue.system.collected import WhenCollected

# The interpreter clears the remaining modules one by one, the latest first. The object, which `os` refers to, outlives
# all names of the module that defines the function.
AT_END = """
import os
import builtins
from mpqueue.system import collected

class Owner: pass
os.owner = Owner()
os.owner.watch = collected.WhenCollected(os.owner, print, "called")
builtins.kept = os, collected
"""


def test_function_is_called_once_at_interpreter_exit():
    ended = subprocess.run([sys.executable, "-c", AT_END], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("called\n", "")


@pytest.mark.parametrize("end", ["collected", "called", "detached"])
def test_function_is_called_once_unless_detached(end):
    class Owner:
        pass

    calls, owner = [], Owner()
    watch = WhenCollected(owner, calls.append, 1)
    if end == "called":
        watch.call()
    elif end == "detached":
        watch.detach()
    del owner
    watch.call()
    assert calls == ([] if end == "detached" else [1])
