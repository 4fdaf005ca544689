"""What scripts/benchmark.py measures: every feed gives the right batches, every floor does its work."""

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import SCRIPTS, script

import mpqueue

NUM_BATCHES, NUM_WORKERS = 60, 2
# In a process of its own: a feed starts threads, or imports what does. Prints the indices in which each batch of
# `Numbered` says that it is.
TAKE = """
import itertools, json, sys
import numpy as np
from numbered import Numbered
from parts.benchmark.feeds import FEEDS
from parts.benchmark.peers import PEERS


def told(batch):
    return [int(np.asarray(each).flat[0]) for each in (*batch["pair"], batch["large"])]


if __name__ == "__main__":
    name, length, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if name in PEERS:
        PEERS[name].load()
    with FEEDS[name](Numbered(length), 2, 8) as batches:
        taken = [told(next(batches)) for _ in range(count)]
    print(json.dumps(taken))
"""
NUMBERED = """
import numpy as np

class Numbered:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        assert 0 <= index < self.length
        return {"pair": (np.full((3, 2), index, np.float32), np.array([index])), "large": np.full(20_000, index)}
"""


def take(name, folder, length, count):
    (folder / "numbered.py").write_text(NUMBERED)
    (folder / "take.py").write_text(TAKE)
    paths = [str(folder), str(SCRIPTS), str(Path(mpqueue.__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, str(folder / "take.py"), name, str(length), str(count)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", script("parts.benchmark.feeds").FEEDS)
def test_a_feed_gives_every_batch_whole_and_in_its_turn(name, tmp_path, request):
    """Two and a half epochs. Where workers are not waited for in turn, the batches of each are in order, and all come."""
    peers = script("parts.benchmark.peers")
    if name not in script("parts.benchmark.feeds").OURS and not request.config.getoption("--peers"):
        pytest.skip("peers can hang (so does the end of a Pool that kills a writing worker): --peers tries them, too")
    if peers.missing([name]):
        pytest.skip(f"{name} is not installed")
    length = 24
    taken = take(name, tmp_path, length, NUM_BATCHES)
    assert all(len(set(parts)) == 1 for parts in taken)
    indices = [parts[0] for parts in taken]
    if name not in peers.PEERS or peers.PEERS[name].is_ordered:
        assert indices == [index % length for index in range(NUM_BATCHES)]
        return
    for worker in range(NUM_WORKERS):
        own = [index for index in indices if index % NUM_WORKERS == worker]
        assert own == [index % length for index in range(worker, NUM_WORKERS * len(own) + worker, NUM_WORKERS)]


def test_batches_asked_for_come_in_order_and_no_more_are_asked_for():
    """The bound that executors lack."""
    asked = []
    stream = script("parts.benchmark.in_flight").in_order(
        lambda index: asked.append(index) or index, lambda index: index, 3
    )
    assert list(itertools.islice(stream, 4)) == [0, 1, 2, 3]
    assert asked == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["tiny", "small", "small in place", "ragged", "strings", "tree", "skewed"])
def test_a_workload_gives_the_same_batch_for_the_same_index(name):
    """So that it does not matter which worker computes it; and it has no end."""
    source = script("parts.benchmark.workloads").WORKLOADS[name].make()
    assert pickle.dumps(source[3]) == pickle.dumps(source[3])
    assert script("parts.benchmark.sizes").array_bytes(source[3]) > 0
    assert len(source) == script("parts.benchmark.in_flight").ENDLESS


def test_ragged_batches_are_all_of_another_shape():
    """As many as a measurement may take at once; and strings vary in length."""
    sources = script("parts.benchmark.sources")
    ragged, strings = sources.Ragged(), sources.Strings()
    assert len({ragged[index].shape for index in range(0, 37249, 9)}) == len(range(0, 37249, 9))
    lengths = {len(text) for index in range(10) for text in strings[index]}
    assert len(lengths) > 200
    assert max(lengths) <= 4000


@pytest.fixture
def made_slots(monkeypatch):
    """The slots that floors make, so that a test can look into them."""
    shared, made = script("parts.benchmark.shared_slots"), []

    class Watched(shared.Slots):
        def __init__(self, nbytes):
            super().__init__(nbytes)
            made.append(self)

    monkeypatch.setattr(shared, "Slots", Watched)
    return made


def test_slots_hold_what_was_copied_into_them(made_slots):
    """Arrays of a tree lie one after the other, in two slots by turns."""
    source = [{"a": np.arange(5), "b": (np.full((2, 3), at, np.uint8), np.array([7.0, at]))} for at in range(3)]
    produce = script("parts.benchmark.shared_slots").into_slots(source)
    (room,) = made_slots
    turns = []
    for index in range(3):
        produce(index)
        turns.append(room.turn)
        begin = room.turn * room.nbytes
        assert np.frombuffer(room.memory, np.int64, 5, begin).tolist() == [0, 1, 2, 3, 4]
        assert np.frombuffer(room.memory, np.uint8, 6, begin + 64).tolist() == [index] * 6
        assert np.frombuffer(room.memory, np.float64, 2, begin + 128).tolist() == [7.0, index]
    assert turns == [1, 0, 1]


def test_what_is_written_in_place_lies_in_a_slot(made_slots, monkeypatch):
    """`mpqueue.empty` gives memory of the slots, as in a worker."""
    monkeypatch.setattr(mpqueue, "empty", mpqueue.empty)  # it is put back
    source = script("parts.benchmark.sources").CopiesInPlace(np.arange(10.0))
    script("parts.benchmark.shared_slots").written_in_slots(source)(0)
    (room,) = made_slots
    assert np.frombuffer(room.memory, np.float64, 10, room.turn * room.nbytes).tolist() == list(range(10))


@pytest.mark.parametrize("name", ["memcpy", "processes", "slots", "shared writes"])
def test_a_floor_gives_a_rate(name):
    """Two processes, very briefly."""
    source = script("parts.benchmark.sources").CopiesInPlace(np.zeros(100))
    assert script("parts.benchmark.floors").FLOORS[name](source, 2, 0.01) > 0


def test_a_consumer_finds_what_a_feed_costs():
    """Every figure of the table."""
    inline = script("parts.benchmark.feeds").FEEDS["no workers"]
    found = script("parts.benchmark.consuming").consume(inline, [np.zeros(3), np.ones(3)], 0, 1, 0.01)
    expected = {"rate", "first_ms", "trainer_ms", "workers_ms", "waiting", "stop_ms"}
    assert expected <= set(found) <= expected | {"memory_mb", "shared_mb"}
    assert 0 <= found["waiting"] <= 1


def test_memory_beyond_the_ring_is_told_by_workload():
    """Where the system tells it; the ring itself, and what the trainer had before, are not in it."""
    found = script("parts.benchmark.memory").beyond_the_ring("tiny", 1)
    assert set(found) == ({"tiny"} if sys.platform == "linux" else set())


def test_a_wake_up_is_later_than_the_batch():
    """One clock for all processes: no latency is negative."""
    latencies = script("parts.benchmark.wakeup").wake_ups(script("parts.benchmark.feeds").FEEDS["mpqueue"])
    assert len(latencies) == 200
    assert min(latencies) > 0


@pytest.mark.parametrize("peer", ["mpqueue", "queue.Queue"])
def test_shuffled_batches_are_of_32_elements(peer):
    """Of either way to shuffle that needs nothing installed."""
    with script("parts.benchmark.shuffling").SHUFFLERS[peer]() as take_batch:
        assert [np.shape(take_batch()) for _ in range(20)] == [(32, 16)] * 20
