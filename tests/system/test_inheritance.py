"""A process that was started before its parent changed is distinguished from one that is started now."""

import os
import resource

import pytest

from mpqueue.system.inheritance import inherited

ENVIRON = {"LD_PRELOAD": "", "OMP_NUM_THREADS": "4", "WORD": "1"}
WITHOUT = frozenset({"OMP_NUM_THREADS"})


def test_inherited_is_equal_without_changes():
    before = inherited(ENVIRON, WITHOUT)
    assert inherited({"WORD": "2", **dict(reversed(ENVIRON.items())), "OMP_NUM_THREADS": "1"}, WITHOUT) == before


@pytest.mark.parametrize("name", ["getuid", "geteuid", "getgid", "getegid", "getpgrp"])
def test_changed_user_group_or_process_group_is_detected(name, monkeypatch):
    before, number = inherited(ENVIRON, WITHOUT), getattr(os, name)()
    monkeypatch.setattr(os, name, lambda: number + 1)
    assert inherited(ENVIRON, WITHOUT) != before


def test_changed_limit_is_detected(monkeypatch):
    before, limit = inherited(ENVIRON, WITHOUT), resource.getrlimit(resource.RLIMIT_CORE)
    monkeypatch.setattr(resource, "getrlimit", lambda number: (-2, limit[1]))
    assert inherited(ENVIRON, WITHOUT) != before


def test_redirected_or_closed_stream_is_detected():
    before, stream, (read_end, write_end) = inherited(ENVIRON, WITHOUT), os.dup(2), os.pipe()
    try:
        os.dup2(write_end, 2)
        assert inherited(ENVIRON, WITHOUT) != before
        os.close(2)
        assert inherited(ENVIRON, WITHOUT) != before
    finally:
        os.dup2(stream, 2)
        for fd in (stream, read_end, write_end):
            os.close(fd)
    assert inherited(ENVIRON, WITHOUT) == before


@pytest.mark.parametrize("name", ["LD_PRELOAD", "TZ", "LC_ALL", "LANG", "KMP_BLOCKTIME", "MPQUEUE_LOG", "PYTHONUTF8"])
def test_changed_variable_read_at_start_is_detected(name):
    assert inherited({**ENVIRON, name: "x"}, WITHOUT) != inherited(ENVIRON, WITHOUT)


def test_changed_umask_is_detected():
    before, mask = inherited(ENVIRON, WITHOUT), os.umask(0o070)
    try:
        if os.path.exists("/proc/self/status"):
            assert inherited(ENVIRON, WITHOUT) != before
    finally:
        os.umask(mask)
