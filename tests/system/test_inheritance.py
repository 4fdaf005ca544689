"""A process that was started before its parent changed is told from one that is started now."""

import os
import resource

import pytest

from mpqueue.system import inheritance
from mpqueue.system.inheritance import inherited

ENVIRON = {"LD_PRELOAD": "", "OMP_NUM_THREADS": "4", "WORD": "1"}
WITHOUT = frozenset({"OMP_NUM_THREADS"})


def test_it_is_equal_as_long_as_nothing_of_it_changes():
    before = inherited(ENVIRON, WITHOUT)
    assert inherited({"WORD": "2", **dict(reversed(ENVIRON.items())), "OMP_NUM_THREADS": "1"}, WITHOUT) == before


@pytest.mark.parametrize("name", ["getuid", "geteuid", "getgid", "getegid", "getpgrp"])
def test_another_user_group_or_process_group_is_seen(name, monkeypatch):
    before, number = inherited(ENVIRON, WITHOUT), getattr(os, name)()
    monkeypatch.setattr(os, name, lambda: number + 1)
    assert inherited(ENVIRON, WITHOUT) != before


def test_a_limit_is_seen(monkeypatch):
    before, limit = inherited(ENVIRON, WITHOUT), resource.getrlimit(resource.RLIMIT_CORE)
    monkeypatch.setattr(resource, "getrlimit", lambda number: (-2, limit[1]))
    assert inherited(ENVIRON, WITHOUT) != before


def test_a_stream_that_goes_elsewhere_is_seen_and_one_that_is_closed_is_no_error(monkeypatch):
    before = inherited(ENVIRON, WITHOUT)
    monkeypatch.setattr(inheritance, "_file_of", lambda fd: (fd, 0))
    assert inherited(ENVIRON, WITHOUT) != before
    monkeypatch.undo()
    read_end, write_end = os.pipe()
    assert inheritance._file_of(read_end) != inheritance._file_of(1)
    os.close(read_end)
    os.close(write_end)
    assert inheritance._file_of(read_end) is None


def test_a_variable_that_is_read_at_the_start_is_seen():
    assert inherited({**ENVIRON, "LD_PRELOAD": "x"}, WITHOUT) != inherited(ENVIRON, WITHOUT)


def test_the_umask_is_seen_where_the_system_tells_it():
    before, mask = inherited(ENVIRON, WITHOUT), os.umask(0o070)
    try:
        if os.path.exists("/proc/self/status"):
            assert inherited(ENVIRON, WITHOUT) != before
    finally:
        os.umask(mask)
