"""A bounded cache of values: made once by concurrent threads, and not shared with a child process."""

import threading

import pytest
from helpers.forked_calls import status_of_fork

import mpqueue
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
