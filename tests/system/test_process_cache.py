"""Values that a process keeps: made once by concurrent threads, not shared with a child, not decided by an interrupt."""

import contextlib
import os
import sys
import threading

import pytest
from helpers import injected_exceptions
from helpers.forked_calls import status_of_fork
from helpers.injected_exceptions import Strike, Struck, StruckError, StruckLimit, each_strike

import mpqueue
from mpqueue.memory import main_module as script_names
from mpqueue.system.process_cache import ProcessCache


def test_threads_that_need_the_same_part_decode_it_once():
    parts, started, go = ProcessCache(100), threading.Event(), threading.Event()
    decoded, got = [], []

    def decode(_):
        started.set()
        assert go.wait(60)
        decoded.append(1)
        return "part", 1

    threads = [threading.Thread(target=lambda: got.append(parts.get("a", decode))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    assert parts.get("b", lambda _: ("other", 1)) == "other"  # threads do not wait for other parts
    go.set()
    for thread in threads:
        thread.join(60)
    assert (decoded, got) == ([1], ["part"] * 4)


def test_child_starts_with_an_empty_cache_even_if_the_part_is_being_decoded():
    """The lock of that part is held at the time of the fork, and no thread of the child releases it."""
    parts = ProcessCache(100)

    def decode_and_fork(_):
        assert status_of_fork(lambda: parts.get("a", lambda _: ("child", 1)) == "child") == 1
        return "parent", 1

    assert parts.get("a", decode_and_fork) == "parent"
    assert parts.get("a", lambda _: ("again", 1)) == "parent"


@pytest.mark.parametrize(("given", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_invalid_cache_bytes_raises(given, error, tmp_path):
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow_parquet.write_table(pytest.importorskip("pyarrow").table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(error, match="cache_bytes"):
        mpqueue.files.Parquet(tmp_path / "a.parquet", cache_bytes=given, index=tmp_path)


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
