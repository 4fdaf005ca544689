"""StopIteration raised by user code is an error on every frontend. It never ends a loop."""

import numpy as np
import pytest
from helpers.computed_source import Computed

import mpqueue
from mpqueue.frameworks.keras.loader_passes import LoaderEnqueuer, LoaderEpochs
from mpqueue.frameworks.keras.passes import PassEnqueuer

WAYS = [
    pytest.param(1, {"backend": "process"}, id="process"),
    pytest.param(1, {"backend": "thread"}, id="thread"),
    pytest.param(0, {"backend": "process"}, id="inline"),
]


# Item 1 raises StopIteration, like a bare ``next(iterator)``.
STOPS = Computed(lambda index: index if index != 1 else next(iter(())), 3)


class EndsInItsHook(Computed):
    def on_epoch_end(self):
        next(iter(()))


def function_that_stops():
    """Raise StopIteration in the call itself, because this is not a generator function."""
    return next(iter(()))


def next_raises(batches):
    """Check that the next batch is an error that names the cause, and return the error."""
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        next(batches)
    assert "StopIteration" in repr(caught.value.__cause__)  # or the text of the traceback from another process
    return caught.value


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_ordered_enqueuer_raises_error_and_stops(workers, options):
    with mpqueue.OrderedEnqueuer(STOPS, workers=workers, **options) as enqueuer:
        enqueuer.start()
        batches = enqueuer.get()
        assert next(batches) == 0
        error = next_raises(batches)
        assert "raised for index 1 of epoch 0" in "".join(error.__notes__)
        assert not enqueuer.is_running()


def test_queue_of_enqueuer_raises_error_and_continues():
    with mpqueue.OrderedEnqueuer(STOPS, workers=1) as enqueuer:
        enqueuer.start()
        assert enqueuer.queue.get() == 0
        next_raises(iter(enqueuer.queue.get, None))
        assert enqueuer.queue.get() == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_queue_of_enqueuer_raises_a_named_error_after_the_end(workers):
    with mpqueue.GeneratorEnqueuer(iter([1])) as enqueuer:
        enqueuer.start(workers)
        assert enqueuer.queue.get() == 1
        with pytest.raises(RuntimeError, match="no batches are left: the generator has ended"):
            enqueuer.queue.get()


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_ordered_enqueuer_raises_error_of_hook(workers, options):
    with mpqueue.OrderedEnqueuer(EndsInItsHook(int, 3), workers=workers, **options) as enqueuer:
        enqueuer.start()
        batches = enqueuer.get()
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        next_raises(batches)


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_generator_enqueuer_raises_error_of_call(workers, options):
    with mpqueue.GeneratorEnqueuer(function_that_stops, **options) as enqueuer:
        enqueuer.start(workers)
        next_raises(enqueuer.get())


@pytest.mark.parametrize(
    ("workers", "options", "batch_size"), [(1, {}, None), (1, {}, 2), (1, {"backend": "thread"}, 2), (0, {}, None)]
)
def test_loader_raises_error_instead_of_batch_and_continues(workers, options, batch_size):
    with mpqueue.Loader(STOPS, workers=workers, batch_size=batch_size, **options) as loader:
        batches = iter(loader)
        assert batch_size is not None or next(batches) == 0
        error = next_raises(batches)
        assert "raised for" in "".join(error.__notes__)
        assert [int(np.max(batch)) for batch in batches] == [2]


def test_epoch_in_keras_raises_error_of_item():
    with mpqueue.Loader(STOPS, workers=1) as loader:
        passes = LoaderEnqueuer(LoaderEpochs(loader)), PassEnqueuer(STOPS, 1, True), PassEnqueuer(STOPS, 1)
        for enqueuer in passes:
            enqueuer.start()
            batches = enqueuer.get()
            assert next(batches) == 0
            next_raises(batches)
