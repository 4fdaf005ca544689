"""A loop that another one has ended takes nothing of it, whichever thread is in its `next`."""

import threading
import time

import pytest

from mpqueue import Loader
from mpqueue.engine.backend import Stopped

LENGTH = 6
KINDS = {
    "process": {"workers": 2},
    "thread": {"workers": 2, "backend": "thread"},
    "inline": {"workers": 0},
}


class Held:
    """Item 2 waits for an event."""

    def __init__(self):
        self.go_on = threading.Event()

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        assert index != 2 or self.go_on.wait(60)
        return index


def stream_of(held):
    def numbers():
        yield from (held[index] for index in range(LENGTH))

    return numbers


class Asking(threading.Thread):
    """Asks an iterator for one more."""

    def __init__(self, batches):
        super().__init__(daemon=True)
        self.batches, self.got = batches, None

    def run(self):
        try:
            self.got = next(self.batches)
        except Exception as error:
            self.got = error


def asleep(batches, loader):
    """Return a thread that asks for one more, and waits for it."""
    asking = Asking(batches)
    asking.start()
    while not loader._engine.pipeline.backend._consumers:
        time.sleep(0.001)
    return asking


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("is_stream", [False, True])
def test_who_waits_in_a_loop_is_told_at_once_that_another_has_begun(is_stream, progress):
    held = Held()
    source = stream_of(held) if is_stream else held
    workers = 1 if is_stream else 2
    with Loader(source, batch_size=None, workers=workers, backend="thread", progress=progress) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first, loader)
        second = iter(loader)
        asking.join(60)
        assert isinstance(asking.got, RuntimeError)
        assert "was invalidated by a later iterator of the same Loader" in str(asking.got)
        held.go_on.set()
        assert list(second) == list(range(LENGTH))
        assert list(loader) == list(range(LENGTH))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_taken", [0, 2])
def test_one_that_looked_before_the_other_began_takes_nothing(kind, num_taken):
    """Its thread has looked whether it is the latest, and gets the lock of the stream after the other began."""
    held = Held()
    held.go_on.set()
    source = [*range(LENGTH)] if kind == "process" else held
    with Loader(source, batch_size=None, **KINDS[kind]) as loader:
        first = iter(loader)
        assert [next(first) for _ in range(num_taken)] == list(range(num_taken))
        before = first._loop
        second = iter(loader)
        with pytest.raises(Stopped):
            first._next(before)
        assert list(second) == list(range(LENGTH))


def test_who_waits_when_the_loader_is_stopped_has_a_silent_end():
    held = Held()
    with Loader(held, batch_size=None, **KINDS["thread"]) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first, loader)
        loader.stop()
        asking.join(60)
        assert isinstance(asking.got, StopIteration)
        held.go_on.set()
