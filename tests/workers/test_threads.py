"""Worker threads: whom a ticket wakes."""

import threading

import pytest

from mpqueue import Loader

LENGTH = 300


class MostlyQuick:
    """Quick batches, but for one that takes until another one has been begun."""

    def __init__(self, slow: int, freed_by: int) -> None:
        self.slow, self.freed_by = slow, freed_by
        self.is_free, self.threads = threading.Event(), set()

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        if index == self.freed_by:
            self.is_free.set()
        if index == self.slow:
            assert self.is_free.wait(60), "nobody has begun the other one"
        return index


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("workers", [2, 8])
def test_among_quick_batches_a_slow_one_does_not_keep_the_others_from_being_computed(workers, ordered):
    source = MostlyQuick(slow=200, freed_by=205)
    with Loader(source, workers=workers, backend="thread", ordered=ordered) as loader:
        assert sorted(loader) == list(range(LENGTH))
    assert len(source.threads) > 1


def test_all_threads_work_at_slow_batches():
    all_here = threading.Barrier(4, timeout=60)

    class Slow:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            all_here.wait()
            return index

    with Loader(Slow(), workers=4, backend="thread") as loader:
        assert list(loader) == list(range(8))
