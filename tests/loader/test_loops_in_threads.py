"""A loop that a later loop has invalidated takes no batch, whichever thread is in its `next`."""

import threading
import time

import pytest

from mpqueue import Loader
from mpqueue.engine.backend import Stopped

LENGTH = 6
KINDS = {"process": {"workers": 2}, "thread": {"workers": 2, "backend": "thread"}, "inline": {"workers": 0}}


class Held:
    """A source with an item 2 that waits for an event."""

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
    """A thread that requests one more batch from an iterator."""

    def __init__(self, batches):
        super().__init__(daemon=True)
        self.batches, self.got = batches, None

    def run(self):
        try:
            self.got = next(self.batches)
        except Exception as error:
            self.got = error


def asleep(batches):
    """Return a thread that waits for one more batch."""
    asking = Asking(batches)
    asking.start()
    while not batches.pipeline.backend._consumers:
        time.sleep(0.001)
    return asking


@pytest.mark.parametrize(("is_stream", "progress"), [(False, True), (True, False)])
def test_waiting_loop_raises_at_once_when_invalidated(is_stream, progress):
    held = Held()
    source = stream_of(held) if is_stream else held
    workers = 1 if is_stream else 2
    with Loader(source, batch_size=None, workers=workers, backend="thread", progress=progress) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first)
        second = iter(loader)
        asking.join(60)
        assert isinstance(asking.got, RuntimeError)
        assert "was invalidated by a later iterator of the same Loader" in str(asking.got)
        held.go_on.set()
        assert list(second) == list(range(LENGTH))
        assert list(loader) == list(range(LENGTH))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_taken", [0, 2])
def test_invalidated_loop_takes_no_batch(kind, num_taken):
    """Its thread has checked for a later iterator, and acquires the lock after that iterator was created."""
    held = Held()
    held.go_on.set()
    source = [*range(LENGTH)] if kind == "process" else held
    with Loader(source, batch_size=None, **KINDS[kind]) as loader:
        first = iter(loader)
        assert [next(first) for _ in range(num_taken)] == list(range(num_taken))
        pipeline, before = first.pipeline, first.pipeline.loop
        second = iter(loader)
        with pytest.raises(Stopped):
            pipeline.next(before)
        assert list(second) == list(range(LENGTH))


def test_stop_ends_waiting_loop_silently():
    held = Held()
    with Loader(held, batch_size=None, **KINDS["thread"]) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first)
        loader.stop()
        asking.join(60)
        assert isinstance(asking.got, StopIteration)
        held.go_on.set()
