"""StopIteration that the user's code raises is an error in its place on every face, and never the end of a loop."""

import threading

import numpy as np
import pytest

import mpqueue
from mpqueue.frameworks.keras.loader_passes import LoaderEnqueuer, LoaderEpochs
from mpqueue.frameworks.keras.passes import PassEnqueuer

WAYS = [
    pytest.param(1, {"backend": "process"}, id="process"),
    pytest.param(1, {"backend": "thread"}, id="thread"),
    pytest.param(0, {"backend": "process"}, id="inline"),
]


class Stops:
    """Item 1 of 3 raises StopIteration, as a bare ``next(iterator)`` in it does."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index if index != 1 else next(iter(()))


class EndsInItsHook(Stops):
    def __getitem__(self, index):
        return index

    def on_epoch_end(self):
        next(iter(()))


def function_that_stops():
    """It is no generator function: the call itself raises."""
    return next(iter(()))


def is_told(batches):
    """The next batch is an error that names the cause, and the place in the source."""
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        next(batches)
    assert "StopIteration" in repr(caught.value.__cause__)  # itself, or the text of the traceback in another process
    return caught.value


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_an_ordered_enqueuer_raises_it_and_stops(workers, options):
    with mpqueue.OrderedEnqueuer(Stops(), workers=workers, **options) as enqueuer:
        enqueuer.start()
        batches = enqueuer.get()
        assert next(batches) == 0
        error = is_told(batches)
        assert "raised for index 1 of epoch 0" in "".join(error.__notes__)
        assert not enqueuer.is_running()


def test_the_queue_of_an_enqueuer_raises_it():
    with mpqueue.OrderedEnqueuer(Stops(), workers=1) as enqueuer:
        enqueuer.start()
        assert enqueuer.queue.get() == 0
        is_told(iter(enqueuer.queue.get, None))
        assert enqueuer.queue.get() == 2


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_an_ordered_enqueuer_raises_that_of_its_hook(workers, options):
    with mpqueue.OrderedEnqueuer(EndsInItsHook(), workers=workers, **options) as enqueuer:
        enqueuer.start()
        batches = enqueuer.get()
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        is_told(batches)


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_a_generator_enqueuer_raises_that_of_the_call(workers, options):
    with mpqueue.GeneratorEnqueuer(function_that_stops, **options) as enqueuer:
        enqueuer.start(workers)
        is_told(enqueuer.get())


@pytest.mark.parametrize(
    ("workers", "options", "batch_size"),
    [
        (1, {"backend": "process"}, None),
        (1, {"backend": "process", "start_method": "fork"}, 2),
        (1, {"backend": "thread"}, 2),
        (0, {}, None),
    ],
)
def test_a_loader_raises_it_in_the_place_of_its_batch(workers, options, batch_size):
    with mpqueue.Loader(Stops(), workers=workers, batch_size=batch_size, **options) as loader:
        batches = iter(loader)
        assert batch_size is not None or next(batches) == 0
        error = is_told(batches)
        assert "raised for" in "".join(error.__notes__)
        assert [int(np.max(batch)) for batch in batches] == [2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_raises_that_of_the_call_that_makes_its_stream(workers):
    with mpqueue.Loader(function_that_stops, workers=workers) as loader:
        is_told(iter(loader))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_raises_that_of_its_hook(workers):
    with mpqueue.Loader(EndsInItsHook(), workers=workers) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        is_told(batches)


def test_a_pass_of_keras_raises_it():
    for enqueuer in (PassEnqueuer(Stops(), 1, True), PassEnqueuer(Stops(), 1)):
        enqueuer.start()
        batches = enqueuer.get()
        assert next(batches) == 0
        is_told(batches)


def test_an_epoch_of_a_loader_in_keras_raises_it():
    with mpqueue.Loader(Stops(), workers=1) as loader:
        enqueuer = LoaderEnqueuer(LoaderEpochs(loader))
        enqueuer.start()
        batches = enqueuer.get()
        assert next(batches) == 0
        is_told(batches)


def test_threads_that_share_an_iterator_see_it_once():
    """And then the end: the enqueuer has stopped."""
    with mpqueue.OrderedEnqueuer(Stops()) as enqueuer:
        enqueuer.start(1)
        batches, seen = enqueuer.get(), []

        def take():
            try:
                seen.extend(batches)
            except RuntimeError as error:
                seen.append(type(error))

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, seen)) == ["0", "<class 'RuntimeError'>"]
