"""Batches that a frontend holds. States, ``last``, changes and the end of an epoch follow the batches of the user."""

import _thread
import contextlib
import gc
import signal
import threading
from functools import partial
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.concurrent_calls import in_threads
from helpers.repeated_signals import Repeated, Repeating
from helpers.saved_states import OwnGenerator
from helpers.signal_handlers import handling

import mpqueue
from mpqueue import Dataset, Loader
from mpqueue.frameworks.keras.loader_passes import LoaderEpochs
from mpqueue.loader.ahead import Ahead
from mpqueue.worker.runners import lane_runner

pytestmark = pytest.mark.sample(2)

ARRAYS = [np.full(2, index) for index in range(23)]


def itself(batch):
    return batch


# A device to which batches are moved at once.
STILL = SimpleNamespace(start=itself, finish=itself, is_done=lambda _: True, release=lambda _: None)


class Changing(mpqueue.Sequence):
    """A source that changes itself at the end of an epoch."""

    def __init__(self, length=6):
        self.length, self.ends, self.ended = length, 0, threading.Event()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full(2, index + 100 * self.ends)

    def on_epoch_end(self):
        self.ends += 1
        self.ended.set()

    def state_dict(self):
        return {"ends": self.ends}

    def load_state_dict(self, state):
        self.ends = state["ends"]


def stream(length=60):
    return Dataset(range(length)).filter(lambda number: number % 3 != 1).shuffle(buffer=5).batch(2)


def ahead(loader, number):
    return Ahead.of(loader, STILL, number)


def rest(batches):
    return [np.asarray(batch).tolist() for batch in batches]


ORDERS = {
    "index": (lambda: ARRAYS, {"batch_size": 2}),
    "shuffled": (lambda: ARRAYS, {"batch_size": 2, "shuffle": True, "workers": 2, "backend": "thread"}),
    "processes": (lambda: ARRAYS, {"batch_size": 2, "shuffle": True, "workers": 1}),
    "unordered": (lambda: ARRAYS, {"ordered": False, "workers": 1, "backend": "thread"}),
    "sampler": (lambda: ARRAYS, {"batch_size": 2, "sampler": OwnGenerator}),
    "lanes": (stream, {"lanes": 4}),
    "endless": (stream, {"lanes": 4, "epoch_batches": 7}),
    "empty lanes": (lambda: stream(9), {"lanes": 8}),
    "mixture": (lambda: Dataset.mix([Dataset(range(20)), Dataset(range(100, 130))], [1, 2]).batch(4), {}),
    "rank": (lambda: ARRAYS, {"batch_size": 2, "shard": (1, 2)}),
    "skipped": (lambda: Dataset(range(30)).map(fails_at_seven).batch(4), {"on_error": "skip"}),
}


def fails_at_seven(number):
    if number % 10 == 7:
        raise OSError(number)
    return number


def opened(order, **more):
    source, options = ORDERS[order]
    if "sampler" in options:
        options = options | {"sampler": OwnGenerator(np.random.default_rng(7), len(ARRAYS))}
    return Loader(source(), **{"seed": 3, "workers": 0, **options, **more})


@pytest.fixture(autouse=True)
def many_snapshots(monkeypatch):
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 0)


def state_of(loader):
    """Return the state without parts that depend on time: when snapshots are taken, and which lanes ended ahead."""
    return {name: value for name, value in loader.state_dict().items() if name not in {"checksum", "ends", "starts"}}


def positions(loader, loop, num_loops=3):
    """Return the batches of several loops, and the state and ``last`` after each of them."""
    found = []
    for _ in range(num_loops):
        for batch in loop(loader):
            last = loader.last
            found.append((np.asarray(batch).tolist(), state_of(loader), (last.epoch, last.batch, last.step)))
            if not last.batch:
                found.append((list(last.samples), list(last.skipped)))
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("number", [1, 4])
def test_states_and_last_equal_those_of_a_plain_loop(order, number):
    with opened(order) as plain, opened(order) as held:
        assert positions(held, lambda loader: ahead(loader, number)) == positions(plain, iter)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_taken", [1, 2, 5])
def test_resumed_run_returns_what_was_held(order, num_taken):
    with opened(order) as held, opened(order) as resumed:
        batches = ahead(held, 3)
        for _ in range(num_taken):
            next(batches)
        resumed.load_state_dict(held.state_dict())
        assert rest(resumed) == rest(batches)


@pytest.mark.parametrize("order", [name for name in ORDERS if name not in {"unordered", "rank"}])
def test_change_applies_to_the_next_batch_and_equals_a_resumed_run(order):
    with opened(order) as plain, opened(order) as held, opened(order) as resumed, opened(order) as following:
        loops = iter(plain), ahead(held, 3)
        for _ in range(2):
            assert len({repr(batch) for batch in rest(map(next, loops))}) == 1
        following.load_state_dict(plain.state_dict())
        next(iter(following))
        samples = list(following.last.samples)[:1]
        plain.exclude(samples)
        held.exclude(samples)
        assert state_of(held) == state_of(plain)
        resumed.load_state_dict(held.state_dict())
        expected = rest(loops[0])
        assert rest(loops[1]) == expected
        assert rest(ahead(resumed, 2)) == expected


def test_weights_apply_to_the_next_batch():
    found = []
    for loop in (iter, lambda loader: ahead(loader, 3)):
        with opened("mixture") as loader:
            batches = loop(loader)
            first = rest([next(batches)])
            loader.set_weights([5, 1])
            found.append((first, rest(batches)))
    assert found[0] == found[1]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [0, 1, 9])
def test_epoch_ends_after_the_user_got_its_last_batch(workers, number):
    source = Changing(4)
    with Loader(source, workers=workers, backend="thread") as loader:
        batches = ahead(loader, number)
        for index in range(4):
            state = loader.state_dict()  # it would end an epoch that is due
            assert (source.ends, state["epoch"], state["position"]) == (0, 0, index)
            assert next(batches)[0] == index
        if workers:
            assert source.ended.wait(60), "the timer starts with the last batch"
        assert list(batches) == []
        assert (source.ends, loader.state_dict()["epoch"]) == (1, 1)
        assert [int(batch[0]) for batch in ahead(loader, number)] == [100, 101, 102, 103]


def test_last_batch_that_keras_took_ahead_is_used_at_the_next_request():
    source = Changing(3)
    with Loader(source, workers=1, backend="thread") as loader:
        epoch = LoaderEpochs(loader, takes_ahead=lambda: True).begin()
        for index in range(3):
            assert (next(epoch)[0], source.ends) == (index, 0)
            state = loader.state_dict()
            assert (source.ends, state["epoch"], state["position"]) == (0, 0, index)
        assert next(epoch, None) is None
        assert source.ends == 1


def fails_at_two(index):
    if index == 2:
        raise ValueError("cannot read 2")
    return index


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loop_after_a_change_begins_the_next_epoch_though_an_error_was_held(count):
    """A later loop does not continue at the error, if the change has dropped it before the user got it."""
    with Loader(Computed(fails_at_two, 12), workers=0) as loader:
        batches = ahead(loader, 3)
        assert next(batches) == 0
        loader.exclude([2])  # batch 1 and the error of sample 2 are held
        assert rest(next(batches) for _ in range(count)) == [1, 3, 4][:count]
        assert next(ahead(loader, 3)) == 0
        assert loader.epoch == 1


def test_excluding_computes_no_batch_again_that_keras_took_ahead():
    with Loader(range(8), batch_size=2, workers=0) as loader:
        epoch = LoaderEpochs(loader, takes_ahead=lambda: True).begin()
        assert rest([next(epoch), next(epoch)]) == [[0, 1], [2, 3]]
        assert loader.state_dict()["position"] == 1
        loader.exclude([2, 5])
        assert rest(epoch) == [[4], [6, 7]]


def test_batches_of_a_dropped_iterator_do_not_count():
    source = Changing(4)
    with Loader(source, workers=0) as loader:
        batches = ahead(loader, 9)
        next(batches)
        del batches
        gc.collect()
        state = loader.state_dict()
        assert (source.ends, state["epoch"], state["position"]) == (0, 0, 1)
        assert [int(batch[0]) for batch in loader] == [100, 101, 102, 103]


def test_a_later_loop_ends_an_iterator_and_drops_its_batches():
    with Loader(range(6), workers=0) as loader:
        batches = ahead(loader, 2)
        assert next(batches) == 0
        later = iter(loader)
        assert next(later) == 0
        assert loader.epoch == 1
        with pytest.raises(RuntimeError, match="invalidated by a later iterator"):
            next(batches)
        assert list(later) == [1, 2, 3, 4, 5]


def test_left_loop_over_an_endless_stream_loses_no_element():
    with opened("endless", seed=5) as plain, opened("endless", seed=5) as held:
        loop, batches = iter(plain), ahead(held, 3)
        assert rest([next(batches), next(batches)]) == rest([next(loop), next(loop)])
        assert rest(ahead(held, 3)) == rest(plain)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_can_be_got_after_a_stop_and_count_then(workers):
    with Loader(range(6), workers=workers) as loader:
        batches = ahead(loader, 2)
        assert next(batches) == 0
        loader.stop()
        assert loader.state_dict()["position"] == 1
        assert list(batches) == [1, 2]
        assert loader.state_dict()["position"] == 3
        assert list(loader) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_another_place_ends_an_iterator_and_drops_its_batches(is_stopped, is_loaded):
    with Loader(range(6), workers=0) as loader:
        batches = ahead(loader, 2)
        next(batches)
        state = loader.state_dict()
        if is_stopped:
            loader.stop()
        if is_loaded:
            loader.load_state_dict(state)
        else:
            loader.seek(0, 1)
        assert list(batches) == []
        assert list(loader) == [1, 2, 3, 4, 5]


def test_error_counts_when_it_is_raised():
    source = Dataset(range(10)).map(fails_at_seven)
    with Loader(source, workers=0) as loader:
        batches = ahead(loader, 4)
        for index in range(7):
            assert next(batches) == index
        state = loader.state_dict()
        assert state["position"] == 7
        with pytest.raises(OSError, match="7"):
            next(batches)
        assert loader.state_dict()["position"] == 8
        assert loader.last.batch == 6
        assert next(batches) == 8
        loader.load_state_dict(state)
        with pytest.raises(OSError, match="7"):
            next(iter(loader))
        assert list(loader) == [8, 9], "a loop continues after an error"


def test_loop_that_was_left_before_its_error_begins_the_next_epoch():
    with Loader(Dataset(range(10)).map(fails_at_seven), workers=0) as loader:
        batches = ahead(loader, 4)
        for _ in range(5):
            next(batches)
        assert next(iter(loader)) == 0
        assert loader.epoch == 1


def test_threads_share_the_batches():
    with Loader(range(200), workers=2, backend="thread") as loader:
        batches, found = ahead(loader, 3), []

        def consume():
            with contextlib.suppress(StopIteration):
                while True:
                    found.append(next(batches))

        in_threads(consume, consume, consume)
        assert loader.state_dict()["epoch"] == 1
    assert sorted(found) == list(range(200))


@pytest.mark.parametrize("num_raised", [1, 2, 3])
def test_handler_that_raises_as_the_lock_is_released_loses_no_batch(num_raised, monkeypatch):
    number, found, handler = signal.SIGUSR1, [], Repeating(0)
    with Loader(range(8), batch_size=None, workers=0) as loader, handling(handler, number):
        batches = ahead(loader, 2)
        release = partial(_thread.interrupt_main, number)  # the handler runs at the next check for signals
        monkeypatch.setattr(batches, "_lock", SimpleNamespace(acquire=lambda _blocking: True, release=release))
        while len(found) < 8:
            handler.num_left = num_raised
            with contextlib.suppress(Repeated):
                found.extend(islice(batches, 1))
    assert list(map(int, found)) == list(range(8))
