"""Detection of the kernel's out-of-memory killer: its counters, in both versions of cgroups, and real kills."""

import os

import pytest
from helpers.control_groups import show_groups
from helpers.memory_groups import ENTER, memory_group
from helpers.trainer_processes import Trainer

from mpqueue.system.processes import oom
from mpqueue.system.processes.oom import OomCounter, find_counter, parse_kills


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
        ("nr_free_pages 5\noom_kill 123\nnuma_hit 9\n", 123),
        ("oom_kill\n", 0),
        ("oom_kill many\n", 0),
        ("", 0),
    ],
)
def test_parse_kills_reads_line_by_name(text, count):
    assert parse_kills(text) == count


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Returns a function that returns the counter of a process in a cgroup, on a machine with these files."""
    monkeypatch.setattr(oom, "_MACHINE", str(tmp_path / "vmstat"))

    def find(cgroup, *counters, root="/"):
        trees = (
            (root, tmp_path / "a v2"),
            ("/", tmp_path / "cpu", "cgroup", "cpu"),
            (root, tmp_path / "v1", "cgroup", "memory"),
        )
        show_groups(monkeypatch, tmp_path, cgroup, *trees)
        for name in counters:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("oom 1\noom_kill 1\n")
        path = find_counter.__wrapped__()
        return path and os.path.relpath(path, tmp_path)

    return find


@pytest.mark.parametrize(
    ("cgroup", "root", "counter"),
    [
        pytest.param("0::/user/job\n", "/", "a v2/user/job/memory.events", id="version-2"),
        pytest.param("0::/user/job\n", "/", "a v2/user/memory.events", id="parent"),
        pytest.param("0::/docker/abc/job\n", "/docker/abc", "a v2/job/memory.events", id="part-of-the-tree"),
        pytest.param("0::/docker/abc\n", "/docker/abc", "a v2/memory.events", id="container"),
        pytest.param("0::/other\n", "/docker/abc", "a v2/memory.events", id="another-namespace"),
        pytest.param("0::/../x\n", "/", "a v2/memory.events", id="outside-its-namespace"),
        pytest.param("4:memory:/docker/abc\n", "/", "v1/memory.oom_control", id="top-of-version-1"),
        pytest.param("5:cpu:/x\n4:memory:/job\n0::/y\n", "/", "v1/job/memory.oom_control", id="version-1"),
    ],
)
def test_counter_belongs_to_own_cgroup(found, cgroup, root, counter):
    assert found(cgroup, counter, "vmstat", root=root) == counter


def test_counter_of_machine_is_used_without_cgroup(found):
    assert found("0::/\n", "vmstat") == "vmstat"


def test_no_counter_is_found_without_kernel_support(found):
    assert found("") is None
    assert not OomCounter(None).take_kill()


def test_each_kill_is_attributed_once(tmp_path):
    path = tmp_path / "memory.events"
    path.write_text("oom_kill 5\n")
    counter = OomCounter(str(path))
    assert not counter.take_kill()
    path.write_text("oom_kill 7\n")
    assert [counter.take_kill() for _ in range(3)] == [True, True, False]


@pytest.fixture
def limited():
    """Create a memory cgroup (version 1) of 300 MiB."""
    with memory_group(300 << 20) as folder:
        yield folder


SCRIPT = """
class Hungry(Numbers):
    def __getitem__(self, index):
        if index == 3:
            {deed}
        return super().__getitem__(index)

{enter}
enqueuer = OrderedEnqueuer(Hungry(), True, restarts=1, start_method="{method}")
enqueuer.start(1)
batches = enqueuer.get()
say(*(int(next(batches)[0]) for _ in range(3)))
try:
    next(batches)
except mpqueue.errors.WorkerDied as error:
    say(error.oom_killed, error.signal_name, error.index, error.epoch, error.peak_memory_bytes >> 20)
    say(error)
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_batch_killed_by_oom_killer_is_reported(method, limited):
    script = SCRIPT.format(deed="np.ones(1 << 27)", enter=ENTER, method=method)
    with Trainer(script, env={"CGROUP": limited}) as trainer:
        assert trainer.heard() == "0 1 2"
        *what, peak_mb = trainer.heard().split()
        assert what == ["True", "SIGKILL", "3", "0"]
        assert 100 < int(peak_mb) < 400  # shared pages count, too
        text = trainer.heard()
        assert "died by SIGKILL while it computed index 3 of epoch 0" in text
        assert "out-of-memory killer did it" in text
        assert trainer.ended()[0] == 0
        assert trainer.left_nothing()


def test_other_sigkill_is_not_attributed_to_oom_killer(limited):
    script = SCRIPT.format(deed="os.kill(os.getpid(), signal.SIGKILL)", enter=ENTER, method="forkserver")
    with Trainer(script, env={"CGROUP": limited}) as trainer:
        assert trainer.heard() == "0 1 2"
        assert trainer.heard().startswith("False SIGKILL 3 0")
        assert "out-of-memory" not in trainer.heard()
        assert trainer.ended()[0] == 0
