"""Too little shared memory: from the start, for one batch, or because other processes take it during a run.

The test's trainer gets its own file system if permitted; otherwise a reservation that fails simulates the lack.
"""

import errno
import os
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
from helpers.faults import Numbers, burns, numbers
from helpers.gates import Gate, pass_gate
from helpers.started_enqueuer import started
from helpers.trainer_processes import ran

from mpqueue import Loader
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory import segment

MIB = 1 << 20


def mounted(size):
    """Return a command that runs a process, and its descendants, with a /dev/shm of this size."""
    return ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "sh"]


def may_mount():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*mounted("1m"), "true"], capture_output=True).returncode == 0


with_mounts = pytest.mark.skipif(not may_mount(), reason="mounting in a new namespace is not permitted here")

BIG = """
messages = []  # crashes of workers and their signals
class Noting(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())
logging.getLogger("mpqueue").addHandler(Noting())
class Big(Numbers):
    def __init__(self, length=12, megabytes=3):
        self.length, self.size = length, megabytes << 17
    def __getitem__(self, index):
        return np.full(self.size, index)
def fill(but, name="fill"):
    fd = os.open("/dev/shm/" + name, os.O_CREAT | os.O_RDWR)
    while True:
        try:
            status = os.statvfs("/dev/shm")
            os.posix_fallocate(fd, 0, max(1, status.f_bavail * status.f_frsize - but))
        except OSError:  # workers have taken some of it in the meantime
            continue
        return fd
def whole(batch):
    assert (batch == batch[0]).all()
    return int(batch[0])
"""


def said_on_mount(script, size="1100m"):
    """Run a script after `BIG` with a /dev/shm of this size; return its lines."""
    return ran(BIG + script, command=mounted(size))[0]


@pytest.mark.sample(1)
@with_mounts
@pytest.mark.parametrize("size", ["64m", "1023m"])
def test_ring_uses_memory_file_if_dev_shm_is_small(size):
    """The 64 MiB of a container do not limit the ring, because there is enough memory."""
    said = said_on_mount(
        """
with OrderedEnqueuer(Big(megabytes=20), True) as enqueuer:
    enqueuer.start(2, 6)
    batches = enqueuer.get()
    say(*(whole(next(batches)) for _ in range(12)))
    say(enqueuer.statistics().ring_kind)
    used = os.statvfs("/dev/shm")
    say(used.f_blocks - used.f_bfree)
""",
        size,
    )
    assert said == [" ".join(map(str, range(12))), "memfd", "0"]


def test_ring_uses_memory_file_without_dev_shm(monkeypatch, tmp_path):
    monkeypatch.setattr(segment, "_SHM_FOLDER", str(tmp_path / "none"))
    with started(Numbers(), 2) as enqueuer:
        assert numbers(enqueuer.get(), 16) == 2 * list(range(8))
        assert enqueuer.statistics().ring_kind == "memfd"


STREAM = "mpqueue.Dataset.range(30).filter(lambda x: x % 3 > 0).map(lambda x: np.full(3 << 17, x)).shuffle(buffer=2)"


@pytest.mark.sample(1)
@with_mounts
@pytest.mark.parametrize(("source", "count"), [("Big()", 12), (STREAM, 20)], ids=["index", "stream"])
def test_full_dev_shm_shrinks_ring_and_all_batches_arrive(source, count):
    """Only three of the six batches that may be in flight fit.

    The trainer may end a worker with a later batch, if the batch that is due next needs its memory.
    """
    said = said_on_mount(f"""
source = {source}
fill(but=10 << 20)
with Loader(source, workers=2, max_queue_size=6, seed=1) as loader:
    taken = [whole(batch) for _ in range(3) for batch in loader]
    say(loader.statistics().ring_kind, "SIGBUS" in str(messages), loader.statistics().ring_bytes <= 10 << 20)
with Loader(source, workers=0, seed=1) as loader:
    say(taken == [whole(batch) for _ in range(3) for batch in loader], len(taken))
""")
    assert said == ["shm False True", f"True {3 * count}"]


@with_mounts
def test_batch_that_never_fits_raises_with_remedy():
    said = said_on_mount("""
fill(but=2 << 20)
with Loader(Big(), workers=2, max_queue_size=4) as loader:
    try:
        next(iter(loader))
    except mpqueue.errors.SharedMemoryFull as error:
        say(error.bytes_asked, error.bytes_available, "docker run --shm-size" in str(error))
    say(loader.statistics().deaths)
    os.unlink("/dev/shm/fill")
""")
    requested, available, has_remedy = said[0].split()
    assert 3 * MIB <= int(requested) <= 3 * MIB + 4096
    assert 0 <= int(available) <= 2 * MIB
    assert has_remedy == "True"
    assert said[1] == "0"


@pytest.mark.slow
@with_mounts
def test_run_survives_other_processes_filling_dev_shm():
    """All memory is taken while batches are in flight, and returned later; no process is killed by SIGBUS."""
    said = said_on_mount("""
with OrderedEnqueuer(Big(megabytes=2), True) as enqueuer:
    enqueuer.start(2, 8)
    batches = enqueuer.get()
    found = [whole(next(batches)) for _ in range(3)]
    fd = fill(but=0)
    found += [whole(next(batches)) for _ in range(30)]
    os.ftruncate(fd, 0)
    found += [whole(next(batches)) for _ in range(15)]
    say(*found)
    say("SIGBUS" in str(messages))
""")
    assert said == [" ".join(map(str, [*range(12)] * 4)), "False"]


@with_mounts
def test_full_dev_shm_at_start_raises():
    """Not even the first page of the segment fits."""
    said = said_on_mount("""
import psutil
fill(but=0)
with Loader(Big(), workers=2) as loader:
    try:
        next(iter(loader))
    except (OSError, mpqueue.errors.SharedMemoryFull) as error:
        say(type(error).__name__)
mpqueue.shutdown()
say(*(p.name() for p in psutil.Process().children() if "resource_tracker" not in " ".join(p.cmdline())))
""")
    assert said == ["SharedMemoryFull", ""]


def short(fails):
    """Return a `worker_init` that fails to reserve more than 64 KiB for a slot while a function returns True."""

    def patch():
        real = os.posix_fallocate

        def fallocate(fd, offset, length):
            if length > 1 << 16 and fails():
                raise OSError(errno.ENOSPC, "no space left on device")
            real(fd, offset, length)

        os.posix_fallocate = fallocate

    return patch


class Wide(Numbers):
    def __getitem__(self, index):
        return np.full(1 << 18, index)


@pytest.mark.slow
def test_failing_reservation_raises_in_place_of_batch(tmp_path):
    (tmp_path / "full").touch()
    with Loader(Wide(4), workers=2, worker_init=short((tmp_path / "full").exists)) as loader:
        with pytest.raises(SharedMemoryFull, match=r"needs 2,0\d\d,\d\d\d bytes.*remount"):
            list(loader)
        (tmp_path / "full").unlink()
        assert [int(batch[0]) for batch in loader] == [1, 2, 3]
        assert loader.statistics().deaths == 0


@pytest.mark.slow
def test_temporarily_failing_reservation_loses_no_batch(tmp_path):
    """This holds while other batches wait to be taken: their delivery frees memory."""
    full = tmp_path / "full"

    class Opening(Wide):
        def __getitem__(self, index):
            if index == 5:
                pass_gate(self.address)
            return super().__getitem__(index)

    source = Opening(8)
    with Gate() as gate, Loader(source, workers=1, max_queue_size=3, worker_init=short(full.exists)) as loader:
        source.address = gate.address
        found = []
        for batch in loader:
            found.append(int(batch[0]))
            full.unlink(missing_ok=True)
            if found[-1] == 2:
                arrival = gate.arrival()  # 3 and 4 are ready, and not taken
                full.touch()
                arrival.let_go()
        assert found == list(range(8))


@pytest.mark.slow
def test_memory_freed_before_trainer_gives_up_is_used(tmp_path):
    """The trainer finds no memory to free and refuses; the worker tries once more and loses no batch."""
    with Loader(Wide(1), workers=1, worker_init=short(partial(burns, str(tmp_path / "fuse")))) as loader:
        assert [int(batch[0]) for batch in loader] == [0]
