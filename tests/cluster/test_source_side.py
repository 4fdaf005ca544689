"""The behavior of sources on a cluster: exceptions, hooks and changes, as with workers on one machine."""

import itertools
import threading

import numpy as np
import psutil
import pytest
from helpers.coroutines import end_out_of_order
from helpers.ray_cluster import WAIT_S, RandomBatches, agents, hash_of, until

import mpqueue
from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer


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
