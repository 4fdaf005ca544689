"""Streams in virtual shards: one order and one state for any number of workers and ranks, on every backend."""

import itertools
import threading

import numpy as np
import pytest
from helpers.gates import Gate, pass_gate
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Loader
from mpqueue.engine.epochs import Epochs
from mpqueue.errors import BatchTimeout
from mpqueue.worker.runners.runner import StreamEnd

pytestmark = pytest.mark.sample(1)

LANES = 4


class Numbers:
    """The numbers below ``size`` that are not multiples of ``left_out``, with a random one each; in unequal lanes."""

    def __init__(self, size, left_out=3):
        self.size, self.left_out = size, left_out

    def open_lane(self, run):
        return NumbersOfLane(self, run)

    def shape(self):
        return [f"numbers({self.size})", f"filter({self.left_out})"]


class NumbersOfLane:
    def __init__(self, source, run):
        self.source, self.run = source, run
        self.point, self.epoch = (run.lane, run.epoch) if run.state is None else run.state
        self.has_any = any(point % source.left_out for point in range(run.lane, source.size, run.num_lanes))

    def next(self):
        source, run = self.source, self.run
        while True:
            if self.point >= source.size:
                if not (run.endless and self.has_any):
                    raise StreamEnd
                self.point, self.epoch = run.lane, self.epoch + 1
            point, self.point = self.point, self.point + run.num_lanes
            if point % source.left_out:
                run.begin(run.seed, self.epoch, point)
                return np.array([self.epoch, point, mpqueue.rng().integers(1 << 30)])

    def save(self):
        return [self.point, self.epoch]


def rounds(streams):
    """Return the elements in round-robin order over the lanes."""
    return [element for turn in itertools.zip_longest(*streams) for element in turn if element is not None]


def expected(size, lanes=LANES, epoch=0, left_out=3):
    """Return the epoch and the number of each element, in order."""
    return rounds(
        [[(epoch, number) for number in range(lane, size, lanes) if number % left_out] for lane in range(lanes)]
    )


def named(batches):
    return [tuple(map(int, batch[:2])) for batch in batches]


def values(batches):
    return [tuple(map(int, batch)) for batch in batches]


def loader_of(size=40, *, workers=0, lanes=LANES, **options):
    return Loader(Numbers(size), workers=workers, lanes=lanes, seed=7, **options)


def test_stream_has_16_lanes_by_default():
    with loader_of(lanes=None) as loader:
        assert named(loader) == expected(40, 16)
        assert loader.state_dict()["lanes"] == 16


def on_all_ranks(world, states, count, **options):
    """Return a number of batches on each rank, and the states after them."""
    found, after = [], []
    for rank in range(world):
        with loader_of(100, lanes=8, shard=(rank, world), **options) as loader:
            if states is not None:
                loader.load_state_dict(states)
            found += values(loader if count is None else itertools.islice(loader, count))
            after.append(loader.state_dict())
    return found, after


@pytest.mark.filterwarnings("ignore:.*ranks share a stream")
def test_ranks_at_different_places_lose_no_batch():
    with loader_of(100, lanes=8) as loader:
        whole = values(loader)
    begun, states = [], []
    for rank, count in enumerate((3, 11)):
        with loader_of(100, lanes=8, shard=(rank, 2)) as loader:
            begun += values(itertools.islice(loader, count))
            states.append(loader.state_dict())
    rest, _ = on_all_ranks(4, states, None)
    assert sorted(begun + rest) == sorted(whole)


def endless(size, count, lanes=LANES):
    """Return a number of elements of a stream that restarts exhausted lanes."""
    kept = [[number for number in range(lane, size, lanes) if number % 3] for lane in range(lanes)]
    return rounds([[(epoch, number) for epoch in range(50) for number in of_lane] for of_lane in kept])[:count]


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_n_batches_continue_the_stream(workers, monkeypatch):
    """Batches computed ahead are not computed again, and no worker is restarted."""
    monkeypatch.setattr(Epochs, "restart_at", None)
    with loader_of(20, workers=workers, epoch_batches=7) as loader:
        assert len(loader) == 7
        epochs = []
        for number in range(6):
            assert loader.epoch == number
            epochs.append(named(loader))
        assert [len(epoch) for epoch in epochs] == [7] * 6
        assert list(itertools.chain.from_iterable(epochs)) == endless(20, 42)


@pytest.mark.parametrize(
    ("options", "queue"),
    [({"workers": 0}, 4), ({"workers": 2}, 1), ({"workers": 2}, 100), ({"workers": 2, "backend": "thread"}, 100)],
    ids=str,
)
def test_no_batch_is_dealt_beyond_first_epoch(options, queue):
    """In threads, not beyond any epoch: the state of the source that they belong to is unknown."""
    with loader_of(20, epoch_batches=7, max_queue_size=queue, **options) as loader:
        for _ in range(3 if options.get("backend") == "thread" else 1):
            batches = iter(loader)
            assert len(list(batches)) == 7
            assert not batches.pipeline.ledger.work_items


@pytest.mark.parametrize("workers", [0, 1])
def test_loop_over_abandoned_iterator_has_n_batches(workers):
    with Loader(iter(range(12)), workers=workers, backend="thread", epoch_batches=4) as loader:
        assert list(itertools.islice(loader, 2)) == [0, 1]
        assert [list(loader) for _ in range(2)] == [[2, 3, 4, 5], [6, 7, 8, 9]]


def test_empty_stream_with_epoch_batches_raises():
    loader = loader_of(0, epoch_batches=3)
    with pytest.raises(RuntimeError, match=r"of 3 batches is .*Numbers is empty"):
        next(iter(loader))


def test_iterator_has_epochs_of_n_batches_until_its_end():
    with Loader(iter(range(8)), workers=0, epoch_batches=3) as loader:
        assert [list(loader) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
        with pytest.raises(RuntimeError, match="has returned all of its elements"):
            iter(loader)
    with Loader(iter(range(6)), workers=0, epoch_batches=3) as loader:
        assert [list(loader) for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(RuntimeError, match="has returned all of its elements"):
            list(loader)


@pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (1, "thread"), (1, "process")])
def test_load_after_end_of_iterator_yields_copy_of_worker_again(workers, backend):
    with Loader(iter(range(3)), workers=workers, backend=backend) as loader:
        state = loader.state_dict()
        assert list(loader) == [0, 1, 2]
        loader.load_state_dict(state)
        if workers and backend == "process":
            assert list(loader) == [0, 1, 2]
        with pytest.raises(RuntimeError, match="has returned all of its elements"):
            iter(loader)


def share():
    """Yield two of three numbers, sharded by the function itself."""
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 30, info.num_shards):
        if number % 3:
            yield 0, number


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"workers": 3, "backend": "thread"}], ids=str)
def test_generator_function_has_the_requested_number_of_lanes(options):
    with Loader(share, lanes=LANES, **options) as loader:
        assert [named(loader) for _ in range(2)] == [expected(30)] * 2
        found = named(itertools.islice(loader, 7))
        state = loader.state_dict()
    with Loader(share, lanes=LANES, workers=1) as loader:
        loader.load_state_dict(state)
        assert found + named(loader) == expected(30)


@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2, "start_method": "fork"}], ids=str)
def test_state_dict_in_another_thread_is_consistent(options):
    """The state is consistent: the batches of the epoch match all lanes, and snapshots are not ahead of them."""
    found, is_over = [], threading.Event()
    with loader_of(3000, **options) as loader:

        def look():
            while not is_over.is_set():
                found.append(loader.state_dict())

        looking = threading.Thread(target=look)
        looking.start()
        count = len(list(loader))
        is_over.set()
        looking.join()
    assert count == 2000
    for state in found[:: max(1, len(found) // 100)]:
        counts = state["counts"]
        if any(counts):
            assert state["position"] == sum(counts)
            assert max(counts) - min(counts) <= 1
        for count, start in zip(counts, state.get("starts", ()), strict=False):
            assert start is None or start[0] <= count


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lanes": 2, "backend": "thread"}, r"2 lanes, .*1 of the workers .*workers=2; or lanes=4,"),
        (
            {"lanes": 4, "shard": (0, 2), "epoch_batches": 4},
            r"4 lanes .2 on each of 2 ranks., .*workers=2; or lanes=8,",
        ),
    ],
)
def test_workers_without_lane_are_warned_about_once(options, told):
    with Loader(Numbers(12), workers=3, **options) as loader:
        with pytest.warns(UserWarning, match=f"3 workers run a stream of {told}") as warned:
            assert len(list(loader)) > 0
        assert {warning.filename for warning in warned} == {__file__}
        list(loader)  # a warning would be an error here


def test_hanging_unordered_stream_raises_each_time():
    """The hanging thread has the older work item, and the next one was taken before."""
    other_has_come, end = threading.Event(), threading.Event()

    def elements():
        lane = mpqueue.worker_info().id
        if not lane:
            other_has_come.wait()
        yield lane
        if not lane:
            end.wait()

    with Loader(elements, backend="thread", workers=2, ordered=False, batch_timeout=1.0) as loader:
        batches = iter(loader)
        assert next(batches) == 1
        other_has_come.set()
        assert next(batches) == 0
        for _ in range(2):
            with pytest.raises(BatchTimeout):
                next(batches)
        end.set()


@pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (2, "process"), (2, "thread")])
def test_random_numbers_of_element_depend_on_place_not_on_lanes(workers, backend):
    def drawing():
        for _ in range(8 // mpqueue.worker_info().num_lanes):
            yield mpqueue.rng().random()

    def drawn(lanes):
        return batches_of(drawing, lanes=lanes, workers=workers, backend=backend, seed=5)

    assert drawn(2) == drawn(4) == drawn(8)


@pytest.mark.parametrize(
    ("backend", "lanes", "max_queue_size"),
    [("process", None, 2), ("process", 16, 10), ("thread", None, 10), ("thread", 2, 2)],
)
def test_slow_worker_does_not_block_others_without_order(backend, lanes, max_queue_size):
    with Gate() as gate:
        address, count, passed = gate.address, 48, []

        def elements():
            info = mpqueue.worker_info()
            if info.id == 0 and not passed:
                passed.append(info.shard_id)
                pass_gate(address)
            yield from range(info.shard_id, count, info.num_shards)

        options = {"workers": 2, "backend": backend, "max_queue_size": max_queue_size}
        with Loader(elements, lanes=lanes, ordered=False, **options) as loader:
            batches = iter(loader)
            arrival = gate.arrival()
            found = [next(batches) for _ in range(count // 2)]
            assert 0 not in found
            arrival.let_go()
            assert sorted([*found, *batches]) == list(range(count))
