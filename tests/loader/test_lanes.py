"""Streams in virtual shards: one order and one state for any number of workers and ranks, on every backend."""

import itertools
import threading

import pytest
from helpers.gates import Gate, pass_gate

import mpqueue
from mpqueue import Dataset, Loader
from mpqueue.engine.epochs import Epochs
from mpqueue.errors import BatchTimeout

pytestmark = pytest.mark.sample(1)


def is_kept(number):
    return number % 3 > 0


def loader_of(size=40, *, workers=0, lanes=4, **options):
    """Return a loader of the numbers below a size that are no multiples of three, in unequal lanes."""
    return Loader(Dataset.range(size).filter(is_kept), workers=workers, lanes=lanes, **options)


def rounds(size, lanes, num_times=1):
    """Return the numbers of each lane, which begins again at its end, in turn of the lanes."""
    of_lanes = [num_times * list(filter(is_kept, range(lane, size, lanes))) for lane in range(lanes)]
    return [number for turn in itertools.zip_longest(*of_lanes) for number in turn if number is not None]


def test_stream_has_16_lanes_by_default():
    with loader_of(lanes=None) as loader:
        assert list(loader) == rounds(40, 16)
        assert loader.state_dict()["lanes"] == 16


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_n_batches_continue_the_stream(workers, monkeypatch):
    """Batches computed ahead are not computed again, and no worker is restarted."""
    monkeypatch.setattr(Epochs, "restart_at", None)
    with loader_of(20, workers=workers, epoch_batches=7) as loader:
        assert len(loader) == 7
        for number in range(6):
            assert loader.epoch == number
            assert list(loader) == rounds(20, 4, num_times=50)[7 * number : 7 * number + 7]


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
    with pytest.raises(RuntimeError, match=r"of 3 batches is .*Dataset is empty"):
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
    with loader_of(12, workers=3, **options) as loader:
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
