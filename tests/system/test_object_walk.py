"""A search of an object does not change its attributes, and does not slow down later reads of them."""

import sys
import threading

import pytest

from mpqueue.system.user_code.object_walk import contents


class Source:
    def __init__(self):
        self.words, self.count, self.inner = ["a", "b"], 3, [1.5]


def search(source, **bounds):
    return list(contents(source, lambda _: False, **bounds))


def test_attributes_keep_values_and_order_after_many_searches():
    source = Source()
    attributes = vars(source)
    for _ in range(50):
        search(source)
    assert vars(source) is attributes
    assert list(attributes.items()) == list(vars(Source()).items())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python 3.13 reads attributes fast in any case")
def test_only_a_bounded_search_gives_attributes_their_own_keys():
    shared, searched, whole = Source(), Source(), Source()
    search(searched)
    search(whole, is_whole=True)
    assert sys.getsizeof(vars(searched)) > sys.getsizeof(vars(shared)) == sys.getsizeof(vars(whole))


def test_no_thread_misses_an_attribute_during_searches():
    source, is_over, errors = Source(), threading.Event(), []

    def read():
        try:
            while not is_over.is_set():
                assert (source.inner, source.count) == ([1.5], 3)
        except Exception as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3000):
            search(source)
    finally:
        is_over.set()
        reader.join()
        sys.setswitchinterval(before)
    assert not errors
