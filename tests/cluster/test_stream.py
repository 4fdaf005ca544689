"""The same stream, lanes and behavior of sources on one machine and on the nodes of a cluster, whatever fails."""

import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from helpers.coroutines import end_out_of_order
from helpers.gates import Gate
from helpers.logged_lanes import AtGate, Counted, all_of, computed, rest, running
from helpers.ray_cluster import WAIT_S, RandomBatches, agents, hash_of, until

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer
from mpqueue.errors import WorkerDied

OPTIONS = {"seed": 7, "shuffle": True}


def epochs(loader, count=2):
    return hash_of(batch for _ in range(count) for batch in loader)


@pytest.fixture(scope="module")
def expected():
    """The hash of two epochs without workers."""
    return epochs(Loader(RandomBatches(), workers=0, **OPTIONS))


def test_stream_of_one_node_is_the_same(other, expected):
    """Also if Ray's object store is full, because mpqueue does not use it."""
    import ray

    kept = [ray.put(np.ones(8 << 20, "u1")) for _ in range(14)]
    with Loader(RandomBatches(), workers=2, **other, **OPTIONS) as loader:
        assert epochs(loader) == expected
        assert [node.workers for node in loader.statistics().nodes] == [2]
        assert len(agents()) == 1
    assert len(kept) == 14


def test_stream_of_two_nodes_is_the_same_and_both_compute_batches(cluster, expected):
    with Loader(RandomBatches(), workers=2, backend="ray", **OPTIONS) as loader:
        assert epochs(loader) == expected
        earlier = loader.statistics()
        nodes = earlier.nodes
        assert len(list(loader)) == 24
        later = loader.statistics()
    since = [node.batches for node in (later - earlier).nodes]
    assert since == [two.batches - one.batches for one, two in zip(nodes, later.nodes, strict=True)]
    assert sum(since) > 0
    assert later.to_dict()["nodes"][0]["address"]
    assert [node.workers for node in nodes] == [1, 1]
    assert sum(node.batches for node in nodes) >= 48
    assert all(node.batches and node.bytes and not node.deaths for node in nodes)


def test_stream_continues_from_machine_to_cluster_and_back(cluster):
    """Saved in the middle of an epoch, with other numbers of workers each time."""
    source = RandomBatches(length=30)
    whole = [index for _numbers, index, _pid in Loader(source, workers=0, **OPTIONS)]
    state, parts, seen = None, [], []
    for options in ({"workers": 2}, {"workers": 2, "backend": "ray"}, {"workers": 1}):
        with Loader(source, **options, **OPTIONS) as loader:
            if state is not None:
                loader.load_state_dict(state)
            batches = iter(loader)
            for _ in range(10):
                numbers, index, _pid = next(batches)
                parts.append(numbers.copy())
                seen.append(int(index))
            state = loader.state_dict()
    assert seen == whole
    expected = [numbers for numbers, _index, _pid in Loader(source, workers=0, **OPTIONS)]
    np.testing.assert_array_equal(parts, expected)


class Trees:
    """Batches of all kinds: nested, ragged, strings, objects, allocated in the slot, empty, large."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        made = mpqueue.empty((index % 3, 5), "f4")
        made[...] = index
        return {
            "made": made,
            "ragged": [np.arange(number) for number in range(index % 4)],
            "text": f"batch {index}",
            "object": {"set": {index}, "none": None},
            "large": np.full((index * 40_000,), index, "i8"),
            "names": np.array(["a", "bcd"] * index),
        }


def test_batches_of_all_kinds_arrive_unchanged_from_another_node(other):
    with Loader(Trees(), workers=2, **other) as loader:
        for _ in range(2):
            for index, batch in enumerate(loader):
                expected = Trees()[index]
                assert batch["text"] == expected["text"]
                assert batch["object"] == expected["object"]
                for name in ("made", "large", "names"):
                    np.testing.assert_array_equal(batch[name], expected[name])
                assert [part.tolist() for part in batch["ragged"]] == [part.tolist() for part in expected["ragged"]]


def test_lane_of_killed_worker_on_node_continues_from_snapshot(other, tmp_path):
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        source = Counted(tmp_path / "log", at=AtGate(gate.address, tmp_path / "fuse", 1, 8))
        source.is_always_saved = True
        with running(source, workers=2, lanes=4, **other) as pipeline:
            results = pool.submit(rest, pipeline)
            gate.arrival().kill()
            whole = all_of(Counted(tmp_path / "other"), workers=0, lanes=4)
            assert results.result() == whole
            assert pipeline.backend.statistics().restarts == 1
            assert all(start.state is not None for start in pipeline.progress.point().starts)
    assert all(number >= 6 for (_, number), count in computed(tmp_path / "log").items() if count > 1)


def test_sample_that_crashes_worker_on_node_is_lost_alone(other):
    trainer = os.getpid()

    def kills(number):
        if number == 9 and os.getpid() != trainer:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    dataset = mpqueue.Dataset.range(24).map(kills).shuffle(buffer=3).batch(2)
    results, errors = [], []
    with mpqueue.Loader(dataset, workers=2, lanes=4, seed=1, restarts=1, **other) as stream:
        batches = iter(stream)
        while True:
            try:
                results += next(batches).tolist()
            except StopIteration:
                break
            except WorkerDied as error:
                errors.append(error)
    assert sorted(results) == [number for number in range(24) if number != 9]
    assert [any("for sample 9 " in note for note in error.__notes__) for error in errors] == [True]


class Unlucky(Exception):
    """Defined in a script, not in a module that a node could import."""


class Raising(RandomBatches):
    def __getitem__(self, index):
        if index == 3:
            raise Unlucky(f"row {index}")
        return super().__getitem__(index)


def test_exception_keeps_type_and_place_with_traceback_of_node(other):
    with Loader(Raising(6), workers=2, copy=True, **other) as loader:
        batches, seen = iter(loader), []
        with pytest.raises(Unlucky, match="row 3") as caught:
            for _, index, _ in batches:
                seen.append(int(index))
        assert seen == [0, 1, 2]
        assert "raise Unlucky" in str(caught.value.__cause__)
        assert "index 3 of epoch 0" in "".join(caught.value.__notes__)
        assert [int(index) for _, index, _ in batches] == [4, 5]


def test_errors_on_nodes_are_skipped_and_counted(other):
    with Loader(Raising(6), workers=2, on_error="skip", copy=True, **other) as loader:
        assert [int(index) for _, index, _ in loader] == [0, 1, 2, 4, 5]
        assert loader.statistics().skipped == 1


class Awaited(RandomBatches):
    async def __getitem__(self, index):
        await end_out_of_order(index)
        return super().__getitem__(index)


def test_coroutines_run_on_nodes(other):
    with Loader(RandomBatches(12), workers=0, seed=3) as loader:
        expected = [value.tolist() for value, *_ in loader]
    with Loader(Awaited(12), workers=2, concurrency=5, seed=3, copy=True, **other) as loader:
        found = list(loader)
    assert [value.tolist() for value, *_ in found] == expected
    assert [int(index) for _, index, _ in found] == list(range(12))


class Growing(RandomBatches):
    """Changes itself at the end of an epoch: a little, or in a large array."""

    def __init__(self, big=0):
        super().__init__(6)
        self.epoch, self.table = 0, np.zeros(big, "u1")

    def __getitem__(self, index):
        return np.array([self.epoch, self.table[-1] if len(self.table) else 0]), index, 0

    def on_epoch_end(self):
        self.epoch += 1
        if len(self.table):
            self.table[:] = self.epoch


@pytest.mark.parametrize("big", [0, 4 << 20, 20 << 20], ids=["by a patch", "by a large patch", "from a new image"])
def test_change_in_on_epoch_end_reaches_all_nodes_before_next_epoch(cluster, big):
    with Loader(Growing(big), workers=2, backend="ray") as loader:
        for epoch in range(3):
            for state, _index, _ in loader:
                assert state.tolist() == [epoch, epoch if big else 0]
        assert loader.statistics().deaths == 0


class Settling(Growing):
    """Changes itself twice."""

    def on_epoch_end(self):
        if self.epoch < 2:
            super().on_epoch_end()


def test_returning_node_has_changes_of_on_epoch_end(cluster):
    patient = {"deadline_s": WAIT_S}  # the end of a connection reveals the kill; silence would only mean a busy machine
    with Loader(Settling(), workers=2, backend="ray", ray_options=patient) as loader:
        epochs = itertools.count()

        def spread():
            epoch = min(2, next(epochs))
            assert {tuple(state.tolist()) for state, _index, _ in loader} == {(epoch, 0)}
            return [node.workers for node in loader.statistics().nodes]

        assert spread() == spread() == [1, 1]
        (agent,) = agents()
        psutil.Process(agent).kill()
        until(lambda: spread() == [1, 1] and agents() not in ([], [agent]), "the return of the node")
        spread()
        assert loader.statistics().deaths == 1


def note_worker():
    global noted
    noted = mpqueue.worker_info().id + 1


noted = 0


class Noted(RandomBatches):
    def __getitem__(self, index):
        return np.zeros(1, "u1"), noted, mpqueue.worker_info().num_workers


def test_worker_init_runs_first_in_each_worker_on_nodes(cluster):
    with Loader(Noted(20), workers=2, backend="ray", worker_init=note_worker) as loader:
        seen = {(int(note), int(number)) for _, note, number in loader}
    assert seen == {(1, 2), (2, 2)}


def test_source_that_cannot_be_pickled_is_an_error_without_fork(cluster):
    source = RandomBatches()
    source.lock = threading.Lock()
    with pytest.raises(TypeError, match="lock cannot be pickled"):
        next(iter(Loader(source, workers=1, backend="ray")))


def fail(*_):
    raise Unlucky("no data here")


class Unloadable(RandomBatches):
    def __reduce__(self):
        return fail, ()


def test_source_that_cannot_be_unpickled_on_node_raises_its_exception(other):
    with pytest.raises(Unlucky, match="no data here"):
        next(iter(Loader(Unloadable(), workers=1, **other)))


def test_held_array_of_slot_is_not_overwritten_on_node(other):
    with Loader(Holding(), workers=1, copy=True, **other) as loader:
        for value, index, _ in loader:
            assert value.tolist() == [int(index)] * 4


class Holding(RandomBatches):
    """Keeps the arrays that it created in slots."""

    def __init__(self):
        super().__init__(30)
        self.kept = []

    def __getitem__(self, index):
        made = mpqueue.empty(4, "i8")
        made[...] = index
        self.kept.append(made)
        assert [array.tolist() for array in self.kept] == [[int(array[0])] * 4 for array in self.kept]
        del self.kept[:-3]
        return made, index, 0


def test_ordered_enqueuers_have_workers_on_nodes(other):
    expected = hash_of(Loader(RandomBatches(), workers=0, seed=5))
    with OrderedEnqueuer(RandomBatches(), seed=5, **other) as enqueuer:
        enqueuer.start(workers=2)
        batches = enqueuer.get()
        assert hash_of(next(batches) for _ in range(24)) == expected
        assert [node.workers for node in enqueuer.statistics().nodes] == [2]


def test_generator_enqueuers_have_workers_on_nodes(other):
    with GeneratorEnqueuer(elements, **other) as enqueuer:
        enqueuer.start(workers=1)
        assert [int(element[0]) for element in enqueuer.get()] == list(range(10))


def elements():
    for index in range(10):
        yield np.array([index])


def test_server_provides_batches_computed_on_nodes(other, tmp_path, monkeypatch):
    monkeypatch.setenv("MPQUEUE_HOME", str(tmp_path))
    expected = hash_of(Loader(RandomBatches(), workers=0, seed=5))
    with (
        mpqueue.Server("server", RandomBatches(), workers=2, seed=5, **other) as server,
        mpqueue.attach("server", timeout=30) as consumer,
    ):
        assert hash_of(consumer) == expected
        assert [node.workers for node in server.statistics().nodes] == [2]


def test_torch_loader_has_workers_on_nodes(other):
    pytest.importorskip("torch")
    from mpqueue.torch import DataLoader

    rows = [np.full(3, index) for index in range(20)]
    loader = DataLoader(rows, batch_size=4, num_workers=2, **other)
    assert [batch[:, 0].tolist() for batch in loader] == [list(range(start, start + 4)) for start in range(0, 20, 4)]
    assert [node.batches for node in loader.statistics().nodes] == [5]
