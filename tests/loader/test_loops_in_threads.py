"""A loop that a later loop has invalidated takes no batch, whichever thread is in its `next`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from helpers.computed_source import Computed
from helpers.engine_parts import waiting_in
from helpers.waits import until

from mpqueue import Loader
from mpqueue.engine.backend import Stopped

pytestmark = pytest.mark.sample(2)

LENGTH = 6
KINDS = {"process": {"workers": 2}, "thread": {"workers": 2, "backend": "thread"}, "inline": {"workers": 0}}


def held():
    """Return a source with an item 2 that waits for an event, and the event."""
    go_on = threading.Event()

    def item(index):
        assert index != 2 or go_on.wait(60)
        return index

    return Computed(item, LENGTH), go_on


@pytest.fixture
def asleep():
    """Return a function that makes a thread wait for one more batch, and returns its future."""
    with ThreadPoolExecutor(1) as pool:

        def ask(batches):
            asking = pool.submit(next, batches)
            until(lambda: waiting_in(batches.pipeline), "no thread waits")
            return asking

        yield ask


@pytest.mark.parametrize(("is_stream", "progress"), [(False, True), (True, False)])
def test_waiting_loop_raises_at_once_when_invalidated(is_stream, progress, asleep):
    items, go_on = held()
    source = partial(map, items.function, range(LENGTH)) if is_stream else items
    workers = 1 if is_stream else 2
    with Loader(source, batch_size=None, workers=workers, backend="thread", progress=progress) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first)
        second = iter(loader)
        with pytest.raises(RuntimeError, match="was invalidated by a later iterator of the same Loader"):
            asking.result(60)
        go_on.set()
        assert list(second) == list(range(LENGTH))
        assert list(loader) == list(range(LENGTH))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_taken", [0, 2])
def test_invalidated_loop_takes_no_batch(kind, num_taken):
    """Its thread has checked for a later iterator, and acquires the lock after that iterator was created."""
    items, go_on = held()
    go_on.set()
    source = [*range(LENGTH)] if kind == "process" else items
    with Loader(source, batch_size=None, **KINDS[kind]) as loader:
        first = iter(loader)
        assert [next(first) for _ in range(num_taken)] == list(range(num_taken))
        pipeline, before = first.pipeline, first.pipeline.loop
        second = iter(loader)
        with pytest.raises(Stopped):
            pipeline.next(before)
        assert list(second) == list(range(LENGTH))


def test_stop_ends_waiting_loop_silently(asleep):
    items, go_on = held()
    with Loader(items, batch_size=None, **KINDS["thread"]) as loader:
        first = iter(loader)
        assert [next(first), next(first)] == [0, 1]
        asking = asleep(first)
        loader.stop()
        assert isinstance(asking.exception(60), StopIteration)
        go_on.set()
