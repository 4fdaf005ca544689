"""Work that is done when an object is collected: also by an interpreter that is about to end."""

import subprocess
import sys

import pytest

from mpqueue.system.collected import WhenCollected

# The interpreter empties the modules that are left one by one, the latest first: the object, which `os` has, outlives
# all names of the module whose function is called when it goes.
AT_END = """
import os
import builtins
from mpqueue.system import collected

class Owner: pass
os.owner = Owner()
os.owner.watch = collected.WhenCollected(os.owner, print, "called")
builtins.kept = os, collected
"""


def test_at_the_end_of_the_interpreter_it_is_called_once_and_no_error_is_printed():
    ended = subprocess.run([sys.executable, "-c", AT_END], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("called\n", "")


@pytest.mark.parametrize("end", ["collected", "called", "detached"])
def test_it_is_called_once_unless_it_was_detached(end):
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
