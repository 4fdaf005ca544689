"""Memory control groups for the trainers of tests."""

import contextlib
import os
import time

import pytest

_MEMORY = "/sys/fs/cgroup/memory"

# At the beginning of a script: before it starts a process.
ENTER = """
with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
"""
# Such a beginning, and sources of large batches.
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
        while True:
            try:
                os.rmdir(folder)
                break
            except OSError:  # as long as a process is on its way out
                time.sleep(0.01)


def kills(folder):
    """Return how many processes of a group the kernel has killed for their memory."""
    with open(f"{folder}/memory.oom_control") as file:
        return int(dict(line.split() for line in file)["oom_kill"])
