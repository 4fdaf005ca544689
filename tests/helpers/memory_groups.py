"""Memory control groups for trainers in tests."""

import contextlib
import os

import pytest

from helpers.waits import until

_MEMORY = "/sys/fs/cgroup/memory"

# For the first lines of a script, before it starts a process.
ENTER = """
with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
"""
# The same, followed by sources of large batches.
BIG = (
    ENTER
    + """
import logging
import numpy as np
logging.basicConfig(stream=sys.stdout, format="WARNED %(message)s")
class Big:
    def __init__(self, length=30, megabytes=25):
        self.length, self.size = length, megabytes << 17
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        return np.full(self.size, index)
def whole(batch):
    assert (batch == batch[0]).all()
    return int(batch[0])
"""
)


@contextlib.contextmanager
def memory_group(nbytes):
    """Yield the folder of a memory control group (version 1) with a limit."""
    folder = f"{_MEMORY}/mpqueue-test-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"cannot make a memory control group (version 1): {error}")
    try:
        with open(f"{folder}/memory.limit_in_bytes", "w") as file:
            file.write(str(nbytes))
        yield folder
    finally:
        until(lambda: is_removed(folder), f"a process of {folder} does not exit")


def is_removed(folder):
    """Remove a control group, unless one of its processes is still exiting; return whether it is removed."""
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def kills(folder):
    """Return the number of processes in a group that the out-of-memory killer has killed."""
    with open(f"{folder}/memory.oom_control") as file:
        return int(dict(line.split() for line in file)["oom_kill"])
