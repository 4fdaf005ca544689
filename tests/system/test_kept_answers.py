"""Answers about the system that a process looks up once: an interrupted look does not decide them."""

import contextlib
import os
import sys

import pytest
from helpers import strikes
from helpers.strikes import Strike, Struck, StruckError, each_strike

import mpqueue
from mpqueue.dataset.description import fingerprint
from mpqueue.memory import script_names
from mpqueue.system import limits, oom

DEADLOCK_S = 120


class StruckLimit(Struck, TimeoutError):
    """A time limit, which is an OSError: most calls of `os.path` and of the import system expect one."""


# By name: what forgets the answer, and what looks it up.
LOOKS = {
    "findable": (script_names._findable.clear, lambda: script_names.is_findable(mpqueue)),
    "installed": (fingerprint._is_installed.cache_clear, lambda: fingerprint._is_installed("numpy")),
    "control groups": (limits._folders.cache_clear, lambda: limits.control_groups("memory")),
    "counter of kills": (oom.find_counter.cache_clear, oom.find_counter),
}


@pytest.mark.parametrize("error", [StruckLimit, StruckError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("name", LOOKS)
def test_interrupted_look_is_not_kept(name, error, monkeypatch):
    # The library's code, too: it drops exceptions of the kinds that it expects.
    parts = (strikes._PACKAGE, "<frozen importlib", "<frozen posixpath", os.path.__file__)
    monkeypatch.setattr(strikes, "is_ours", lambda frame: frame.f_code.co_filename.startswith(parts))
    monkeypatch.setattr(strikes, "_tables", {})
    forget, look = LOOKS[name]
    right = look()
    for _after, strike in each_strike(least=0, make=lambda after: Strike(after, error=error)):
        forget()
        sys.path_importer_cache.clear()
        with contextlib.suppress(Struck), strike:
            look()
        assert look() == right
