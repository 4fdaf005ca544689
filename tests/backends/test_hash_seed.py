"""Sets of strings have the same order in all workers of a trainer, and in its next run."""

import os

import pytest
from backends.test_fork_server import fork_servers, kill_fork_server
from helpers.computed_source import Computed
from helpers.one_epoch import one_epoch
from helpers.trainer_processes import ran

import mpqueue
from mpqueue import Loader

pytestmark = pytest.mark.new_interpreter


def hashes_of(_):
    """Return the number of the worker, its hash of a string, and the variable in its environment."""
    shown = int(os.environ.get("PYTHONHASHSEED", "-1"))
    return mpqueue.worker_info().id, hash("a name"), shown


def hashes(method):
    """Return the hashes of two workers; each has its own stream."""
    found = one_epoch(lambda: iter([hashes_of(0)]), workers=2, start_method=method)
    assert {batch[0] for batch in found} == {0, 1}
    return {batch[1] for batch in found}


def test_seed_is_the_same_after_a_crash_of_the_fork_server():
    with Loader(Computed(hashes_of), workers=2) as loader:
        before = {batch[1] for batch in loader}
        kill_fork_server()
        after = {batch[1] for _ in range(3) for batch in loader}
    assert before == after
    assert len(after) == 1


_SAYING = """
class Hashes(Numbers):
    def __getitem__(self, index):
        return np.array([hash("a name")])
for method in "forkserver", "spawn":
    with Loader(Hashes(), workers=1, start_method=method, seed=1) as loader:
        say(*{int(batch[0]) for batch in loader})
say(hash("a name"))
"""


def test_seed_is_the_same_in_another_run_of_the_trainer():
    (fork_server, spawn, _), _ = ran(_SAYING)
    assert {int(fork_server), int(spawn)} == hashes("forkserver")


def test_variable_sets_the_seed_of_workers():
    said, _ = ran(_SAYING, env={"PYTHONHASHSEED": "7"})
    assert len(set(said)) == 1


@pytest.mark.slow
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_environment_of_workers_has_the_variable_only_if_the_trainers_has(method, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert {batch[2] for batch in one_epoch(Computed(hashes_of), workers=1, start_method=method)} == {-1}
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    assert {batch[2] for batch in one_epoch(Computed(hashes_of), workers=1, start_method=method)} == {5}


@pytest.mark.slow
def test_parked_fork_server_with_another_hash_seed_is_not_used(monkeypatch):
    mpqueue.shutdown()
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    first, parked = hashes("forkserver"), fork_servers()
    monkeypatch.setenv("PYTHONHASHSEED", "6")
    assert hashes("forkserver") != first
    assert set(fork_servers()) - set(parked)
    mpqueue.shutdown()
