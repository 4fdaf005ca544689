"""The shared memory of a ring: without a name, and without another process that looks after names."""

import errno
import os
import subprocess
import sys

from mpqueue.memory import segment
from mpqueue.memory.segment import Segment


def test_it_has_no_name(monkeypatch):
    monkeypatch.setattr(segment, "_shm_is_roomy", lambda: True)
    before = set(os.listdir("/dev/shm"))
    made = Segment.create(1 << 20)
    assert made.kind == "shm"
    assert os.fstat(made.fd).st_nlink == 0
    assert os.fstat(made.fd).st_mode & 0o777 == 0o600
    assert os.readlink(f"/proc/self/fd/{made.fd}").startswith("/dev/shm/")
    assert set(os.listdir("/dev/shm")) <= before
    made.close()


def test_where_the_kernel_makes_none_it_is_a_memory_file(monkeypatch):
    def refuse():
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(segment, "_shared_memory", refuse)
    made = Segment.create(1 << 20)
    assert made.kind == "memfd"
    made.close()


def test_pythons_resource_tracker_is_not_started():
    code = """
import psutil
import mpqueue

with mpqueue.Loader(range(8), workers=2) as loader:
    batches = iter(loader)
    next(batches)
    print([" ".join(process.cmdline()) for process in psutil.Process().children() if "tracker" in process.cmdline()[-1]])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
