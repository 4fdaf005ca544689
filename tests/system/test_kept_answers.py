"""An answer that a process looks up once: an interrupted look does not decide it."""

import contextlib
import os
import sys

import pytest
from helpers import injected_exceptions
from helpers.injected_exceptions import Strike, Struck, StruckError, StruckLimit, each_strike

import mpqueue
from mpqueue.memory import main_module as script_names

DEADLOCK_S = 120


@pytest.mark.parametrize("error", [StruckLimit, StruckError], ids=lambda error: error.__name__)
def test_interrupted_look_for_a_module_is_not_kept(error, monkeypatch):
    # The library's code, too: it drops exceptions of the kinds that it expects.
    parts = (injected_exceptions._PACKAGE, "<frozen importlib", "<frozen posixpath", os.path.__file__)
    monkeypatch.setattr(injected_exceptions, "is_ours", lambda frame: frame.f_code.co_filename.startswith(parts))
    monkeypatch.setattr(injected_exceptions, "_tables", {})
    for _after, strike in each_strike(least=0, make=lambda after: Strike(after, error=error)):
        script_names._findable.clear()
        sys.path_importer_cache.clear()
        with contextlib.suppress(Struck), strike:
            script_names.is_findable(mpqueue)
        assert script_names.is_findable(mpqueue)
