"""Decoded parts are kept while there is room, decoded once by threads that ask together, and not shared with a child."""

import os
import pickle
import threading

import pytest

from mpqueue.files.decoded import DecodedParts


def test_the_parts_used_last_are_kept():
    parts, decoded = DecodedParts(25), []

    def get(key):
        return parts.get(key, lambda: (decoded.append(key) or key.upper(), 10))

    assert [get(key) for key in "abacab"] == list("ABACAB")
    assert decoded == list("abcb")  # c put b out, which was used before a


def test_a_part_that_is_too_large_is_kept_alone():
    parts, decoded = DecodedParts(0), []
    for key in "aab":
        parts.get(key, lambda key=key: (decoded.append(key) or key, 10))
    assert decoded == ["a", "b"]


def test_threads_that_want_one_part_decode_it_once():
    parts, started, go = DecodedParts(100), threading.Event(), threading.Event()
    decoded, got = [], []

    def decode():
        started.set()
        assert go.wait(60)
        decoded.append(1)
        return "part", 1

    threads = [threading.Thread(target=lambda: got.append(parts.get("a", decode))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    assert parts.get("b", lambda: ("other", 1)) == "other"  # nobody waits for what he does not want
    go.set()
    for thread in threads:
        thread.join(60)
    assert (decoded, got) == ([1], ["part"] * 4)


def test_an_error_is_raised_and_not_kept():
    parts = DecodedParts(100)
    with pytest.raises(ZeroDivisionError):
        parts.get("a", lambda: 1 / 0)
    assert parts.get("a", lambda: ("part", 1)) == "part"


def test_a_child_begins_with_nothing_even_if_a_lock_was_held():
    parts = DecodedParts(100)
    parts.get("a", lambda: ("parent", 1))
    with parts._kept.lock:
        child = os.fork()
        if not child:
            os._exit(0 if parts.get("a", lambda: ("child", 1)) == "child" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert parts.get("a", lambda: ("again", 1)) == "parent"


def test_a_pickle_has_no_parts():
    parts = DecodedParts(100)
    parts.get("a", lambda: (b"x" * 100_000, 1))
    copy = pickle.loads(pickle.dumps(parts))
    assert copy.max_bytes == 100
    assert len(pickle.dumps(parts)) < 200


@pytest.mark.parametrize(("given", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_cache_bytes_is_a_number_of_bytes(given, error):
    with pytest.raises(error, match="cache_bytes"):
        DecodedParts(given)
