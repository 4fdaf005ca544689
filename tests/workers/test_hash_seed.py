"""Sets of strings have one order in all workers of a trainer, and in those of its next run."""

import os

import numpy as np
import pytest
from helpers.outside import ran
from workers.test_fork_server import fork_servers, kill_fork_server

import mpqueue
from mpqueue import Loader

METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn"])


class Hashes:
    """Each batch: the number of the worker, its hash of a string, and what it sees of the variable."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        shown = int(os.environ.get("PYTHONHASHSEED", "-1"))
        return np.array([mpqueue.worker_info().id, hash("a name"), shown])


def stream():
    yield Hashes()[0]


def hashes(method, workers=2, **options):
    """The hashes of all workers: each has a stream of its own."""
    with Loader(stream, workers=workers, start_method=method, **options) as loader:
        found = [tuple(map(int, batch)) for batch in loader]
    assert {number for number, _, _ in found} == set(range(workers))
    return {value for _, value, _ in found}


@METHODS
def test_all_workers_of_a_pool_have_one_and_it_is_no_matter_how_they_start(method):
    assert len(hashes("forkserver") | hashes(method)) == 1


def test_it_is_the_same_after_the_death_of_a_fork_server():
    with Loader(Hashes(), workers=2) as loader:
        before = {int(batch[1]) for batch in loader}
        kill_fork_server()
        after = {int(batch[1]) for _ in range(3) for batch in loader}
    assert before == after
    assert len(after) == 1


_SAYING = """
class Hashes(Numbers):
    def __getitem__(self, index):
        return np.array([hash("a name")])

for method in "forkserver", "spawn":
    with Loader(Hashes(), workers=2, start_method=method, seed=1) as loader:
        say(*{int(batch[0]) for batch in loader})
say(hash("a name"))
"""


def test_it_is_the_same_in_another_run_of_the_trainer():
    runs = [ran(_SAYING)[0] for _ in range(2)]
    assert len({word for fork_server, spawn, _ in runs for word in (fork_server, spawn)}) == 1


def test_where_the_variable_is_set_it_is_the_trainers():
    said, _ = ran(_SAYING, env={"PYTHONHASHSEED": "7"})
    assert len(set(said)) == 1


@METHODS
def test_the_environment_of_workers_shows_the_variable_only_if_the_trainers_does(method, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with Loader(Hashes(), workers=1, start_method=method) as loader:
        assert {int(batch[2]) for batch in loader} == {-1}
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    with Loader(Hashes(), workers=1, start_method=method) as loader:
        assert {int(batch[2]) for batch in loader} == {5}


def test_a_parked_fork_server_serves_a_stream_of_another_seed():
    mpqueue.shutdown()
    first = hashes("forkserver", seed=1)
    parked = fork_servers()
    assert hashes("forkserver", seed=2) == first
    assert fork_servers() == parked
    assert len(parked) == 1


def test_a_parked_fork_server_of_another_choice_is_left_alone(monkeypatch):
    mpqueue.shutdown()
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    first, parked = hashes("forkserver"), fork_servers()
    monkeypatch.setenv("PYTHONHASHSEED", "6")
    assert hashes("forkserver") != first
    assert set(fork_servers()) - set(parked)
    mpqueue.shutdown()
