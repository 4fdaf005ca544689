"""A `Loader`: continuation after errors, batches computed ahead, shared iterators, and the state after the end."""

import gc
import itertools
import pickle
import signal
import threading
import weakref
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.concurrent_calls import in_threads
from helpers.faults import Numbers
from helpers.signal_handlers import handling, raising

import mpqueue
from mpqueue import Loader

KINDS = pytest.mark.parametrize(("backend", "workers"), [("process", 2), ("thread", 2), ("process", 0)])


def numbers_of(batches):
    return [int(batch[0]) for batch in batches]


def test_numbers_of_workers_and_batches_may_be_numpy_integers():
    with Loader(Numbers(), workers=np.int64(1), max_queue_size=np.uint8(2)) as loader:
        assert (type(loader.workers), type(loader.max_queue_size)) == (int, int)
        assert len(list(loader)) == len(Numbers())


def counting(length):
    """Return a source for threads, and the list of its computed items."""
    computed = []
    return Computed(lambda index: computed.append(index) or np.full(64, index), length), computed


def test_first_epoch_computes_no_batch_of_second():
    source, computed = counting(5)
    with Loader(source, workers=2, backend="thread") as loader:
        batches = iter(loader)
        assert numbers_of(batches) == [0, 1, 2, 3, 4]
        batches.pipeline.dealing.pause()  # until no work item is running
        assert sorted(computed) == [0, 1, 2, 3, 4]


def test_on_epoch_end_does_not_open_unrequested_epoch():
    (source, computed), ends = counting(3), []
    source.on_epoch_end = lambda: ends.append(1)
    with Loader(source, workers=2, backend="thread") as loader:
        batches = iter(loader)
        assert numbers_of(batches) == [0, 1, 2]
        batches.pipeline.epochs.finish()
        batches.pipeline.dealing.pause()
        assert sorted(computed) == [0, 1, 2]
        assert ends == [1]
        batches.pipeline.dealing.resume()
        assert numbers_of(loader) == [0, 1, 2]
        assert ends == [1, 1]


@KINDS
def test_threads_share_iterator_and_all_see_its_end(backend, workers):
    with Loader(Numbers(200), workers=workers, backend=backend) as loader:
        for _ in range(2):
            found = in_threads(*[partial(numbers_of, iter(loader))] * 4)
            assert sorted(itertools.chain(*found)) == list(range(200))


def test_statistics_remain_after_stop():
    with Loader(Numbers(4), workers=1) as loader:
        assert repr(loader) == "<Loader of Numbers, 1 worker (process), not started>"
        list(loader)
    assert loader.statistics().batches == 4
    assert loader.statistics().bytes > 0
    assert "stopped" in repr(loader)
    assert repr(Loader(Numbers(4), workers=0)) == "<Loader of Numbers, no workers, not started>"


def test_loader_cannot_be_pickled():
    with pytest.raises(TypeError, match="Send the source, and create a Loader there"):
        pickle.dumps(Loader(Numbers(4), workers=1))


@KINDS
def test_source_is_released_with_its_loader(backend, workers):
    """By its reference count: its files are closed at once, without waiting for the garbage collector."""
    source = Numbers(6)
    is_gone = weakref.ref(source)
    with Loader(source, workers=workers, backend=backend) as loader:
        batches = iter(loader)
        next(batches)
    for thread in threading.enumerate():  # `stop` does not wait for a thread that computes a batch
        if thread.name.startswith("mpqueue-worker"):
            thread.join()
    gc.disable()
    try:
        del source, loader, batches
        assert is_gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_unsharded_generator_function_warns_once(backend):
    def unsharded():
        yield from range(3)

    with Loader(unsharded, workers=2, backend=backend) as loader:
        with pytest.warns(UserWarning, match="never called mpqueue.worker_info") as caught:
            assert len(list(loader)) == 6
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert len(list(loader)) == 6


def stand_in_for_torch():
    """Return a class hierarchy like torch's."""
    dataset = type("Dataset", (), {"__module__": "torch.utils.data.dataset", "__getitem__": lambda self, index: 1 / 0})
    return type("IterableDataset", (dataset,), {"__module__": "torch.utils.data.dataset"})


@KINDS
def test_torch_iterable_dataset_is_iterated(backend, workers):
    class Lines(stand_in_for_torch()):
        def __len__(self):
            return 5

        def __iter__(self):
            info = mpqueue.worker_info()
            for number in range(info.id, 5, info.num_workers):
                yield np.full(2, number)

    with Loader(Lines(), workers=workers, backend=backend) as loader:
        for _ in range(2):
            assert numbers_of(loader) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("backend", "workers", "batch_size"),
    [("process", 2, None), ("process", 2, 2), ("thread", 2, 2), ("process", 0, None)],
)
def test_unused_iterator_takes_no_batch(backend, workers, batch_size):
    """Trainers create one to test the loader; batches that workers have computed for it are still delivered."""

    def sharded():
        info = mpqueue.worker_info()
        yield from range(info.id, 32, info.num_workers)

    with Loader(sharded, workers=workers, backend=backend, batch_size=batch_size, max_queue_size=2) as loader:
        for _ in range(2):
            iter(loader)
            iter(loader)
            assert sorted(np.ravel([*loader]).tolist()) == list(range(32))
        next(iter(loader))
        assert sorted(np.ravel([*loader]).tolist()) == list(range(32))


SOURCES = pytest.mark.parametrize(
    "source", [Numbers(3), lambda: (np.array([number]) for number in range(3))], ids=["sequence", "generator"]
)


@SOURCES
@KINDS
def test_second_loop_invalidates_first_loop(backend, workers, source):
    with Loader(source, workers=min(workers, 1), backend=backend) as loader:
        with pytest.raises(RuntimeError, match=r"of epoch 0 was invalidated by a later iterator .* create two Loaders"):
            list(zip(loader, loader, strict=False))
        with pytest.raises(RuntimeError, match="create two Loaders"):
            for _ in loader:
                for _ in loader:
                    pass
        old, new = iter(loader), iter(loader)
        next(new)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="create two Loaders"):
                next(old)
        assert numbers_of(new) == [1, 2], "the error of the older iterator takes no batch"
        assert numbers_of(loader) == [0, 1, 2]


@SOURCES
@KINDS
def test_finished_or_abandoned_iterator_ends_without_error(backend, workers, source):
    with Loader(source, workers=min(workers, 1), backend=backend) as loader:
        for _ in loader:
            break
        over = iter(loader)
        assert numbers_of(over) == [0, 1, 2]
        assert numbers_of(loader) == [0, 1, 2]
        assert next(over, None) is None
        stopped = iter(loader)
        next(stopped)
        loader.stop()
        assert next(stopped, None) is None


@KINDS
def test_iterator_is_finished_after_last_batch(backend, workers):
    with Loader(Numbers(3), workers=workers, backend=backend) as loader:
        asked_thrice = iter(loader)
        assert [int(next(asked_thrice)[0]) for _ in range(3)] == [0, 1, 2]
        assert numbers_of(loader) == [0, 1, 2]
        assert next(asked_thrice, None) is None


class Countdown:
    """An iterator that can be pickled."""

    def __init__(self):
        self.left = 4

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return np.array([3 - self.left])


ITERATORS = pytest.mark.parametrize(
    "make", [lambda: (np.array([number]) for number in range(4)), Countdown], ids=["generator", "iterator"]
)


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
@ITERATORS
@KINDS
def test_second_epoch_of_generator_object_raises_with_remedy(backend, workers, make):
    with Loader(make(), workers=min(workers, 1), backend=backend) as loader:
        assert numbers_of(loader) == [0, 1, 2, 3]
        for _ in range(2):
            with pytest.raises(
                RuntimeError, match=r"returned all of its elements.* pass the generator function itself"
            ):
                numbers_of(loader)
        loader.stop()
        with pytest.raises(RuntimeError, match="pass the generator function itself"):
            iter(loader)


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
@ITERATORS
@KINDS
def test_next_loop_continues_abandoned_generator_object(backend, workers, make):
    with Loader(make(), workers=min(workers, 1), backend=backend) as loader:
        for batch in loader:
            assert batch[0] == 0
            break
        state = loader.state_dict()
        assert numbers_of(loader) == [1, 2, 3]
        with pytest.raises(RuntimeError, match="returned all"):
            iter(loader)
    with Loader(make(), workers=min(workers, 1), backend=backend) as loader:
        loader.load_state_dict(state)
        assert numbers_of(loader) == [1, 2, 3]


class Both(Countdown):
    """A sequence that is its own iterator, like Keras's image iterators."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.array([index])


@KINDS
def test_sequence_that_is_an_iterator_has_epochs(backend, workers):
    with Loader(Both(), workers=workers, backend=backend) as loader:
        next(iter(loader))
        assert [numbers_of(loader) for _ in range(2)] == [[0, 1]] * 2


class TimeIsOver(Exception):
    """Raised by a signal handler."""


def test_exception_of_a_handler_in_the_length_of_a_source_is_raised():
    class Counted(Numbers):
        left = -1  # calls until the signal

        def __len__(self):
            self.left -= 1
            if not self.left:
                signal.raise_signal(signal.SIGALRM)
            return 8

    for number in itertools.count(1):
        source = Counted()
        with handling(raising(TimeIsOver), signal.SIGALRM), Loader(source, batch_size=2, workers=0) as loader:
            source.left = number
            try:
                iter(loader)
            except TimeIsOver:
                continue
            assert source.left > 0, f"call {number} hid the exception"
            break
    assert number > 2
