"""The same stream, and the same lanes, on one machine and on the nodes of a cluster, whatever fails."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.gates import Gate
from helpers.logged_lanes import AtGate, Counted, all_of, computed, rest, running
from helpers.ray_cluster import RandomBatches, agents, hash_of

import mpqueue
from mpqueue import Loader
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
