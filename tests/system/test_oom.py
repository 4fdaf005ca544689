"""Detection of the kernel's out-of-memory killer: its counters, in both versions of cgroups, and real kills."""

import contextlib
import os

import pytest
from helpers.outside import Trainer

from mpqueue.system.oom import OomCounter, find_counter, parse_kills

_MEMORY = "/sys/fs/cgroup/memory"


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


V1_MOUNT = "34 25 0:30 {root} {at} rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
V2_MOUNT = "30 23 0:26 {root} {at} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
CPU_MOUNT = "33 25 0:29 / {at} rw - cgroup cgroup rw,cpu\n"


def machine(folder, cgroup, mounts, counters):
    """Create a machine's /proc; ``{at}`` in mounts is a folder of the test."""
    at = folder / "mounted"
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(cgroup)
    (proc / "self" / "mountinfo").write_text(mounts.replace("{at}", str(at)))
    for name, text in counters.items():
        path = at / name if not name.startswith("proc/") else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(proc), at


@pytest.mark.parametrize(
    ("cgroup", "mounts", "counter"),
    [
        pytest.param("0::/user/job\n", V2_MOUNT.replace("{root}", "/"), "user/job/memory.events", id="version-2"),
        pytest.param(
            "0::/docker/abc/job\n", V2_MOUNT.replace("{root}", "/docker/abc"), "job/memory.events", id="its-own-part"
        ),
        pytest.param("0::/docker/abc\n", V2_MOUNT.replace("{root}", "/docker/abc"), "memory.events", id="container"),
        pytest.param("0::/else\n", V2_MOUNT.replace("{root}", "/docker/abc"), "memory.events", id="another-namespace"),
        pytest.param(
            "5:cpu:/x\n4:memory:/job\n0::/y\n",
            CPU_MOUNT + V1_MOUNT.replace("{root}", "/"),
            "job/memory.oom_control",
            id="version-1",
        ),
    ],
)  # fmt: skip
def test_counter_belongs_to_own_cgroup(cgroup, mounts, counter, tmp_path):
    proc, at = machine(tmp_path, cgroup, mounts, {counter: "oom 1\noom_kill 1\n"})
    assert find_counter(proc) == str(at / counter)


def test_counter_of_machine_is_used_without_cgroup(tmp_path):
    proc, _ = machine(tmp_path, "0::/\n", V2_MOUNT.replace("{root}", "/"), {"proc/vmstat": "a 1\noom_kill 4\n"})
    assert find_counter(proc) == f"{proc}/vmstat"


def test_no_counter_is_found_without_kernel_support(tmp_path):
    proc, _ = machine(tmp_path, "", "", {})
    assert find_counter(proc) is None
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
    folder = f"{_MEMORY}/mpqueue-test-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"cannot make a memory cgroup (version 1): {error}")
    with open(f"{folder}/memory.limit_in_bytes", "w") as file:
        file.write(str(300 << 20))
    yield folder
    while True:
        with contextlib.suppress(OSError):  # while a process is still exiting
            os.rmdir(folder)
            break


SCRIPT = """
class Hungry(Numbers):
    def __getitem__(self, index):
        if index == 3:
            {deed}
        return super().__getitem__(index)

with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
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


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_batch_killed_by_oom_killer_is_reported(method, limited):
    script = SCRIPT.format(deed="np.ones(1 << 27)", method=method)
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
    script = SCRIPT.format(deed="os.kill(os.getpid(), signal.SIGKILL)", method="forkserver")
    with Trainer(script, env={"CGROUP": limited}) as trainer:
        assert trainer.heard() == "0 1 2"
        assert trainer.heard().startswith("False SIGKILL 3 0")
        assert "out-of-memory" not in trainer.heard()
        assert trainer.ended()[0] == 0
