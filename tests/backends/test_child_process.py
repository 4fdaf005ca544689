"""A worker is a child process for code that uses `multiprocessing`, whichever way it was started."""

import multiprocessing
import os
import warnings
from multiprocessing import managers, util
from pathlib import Path

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.faults import Fault, StrikesWhenUnpickled
from helpers.one_epoch import one_epoch
from helpers.quiet_trainers import lines_of
from helpers.trainer_processes import ran

import mpqueue
from mpqueue import Loader, OrderedEnqueuer

pytestmark = pytest.mark.sample(1)

METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
FRESH = pytest.mark.parametrize("method", ["forkserver", "spawn"])

OBSERVER = """
import mpqueue
class Observer(Numbers):
    def __getitem__(self, index):
        import multiprocessing
        this, parent = multiprocessing.current_process(), multiprocessing.parent_process()
        say(this.name, this.pid == os.getpid(), this.daemon, this._identity, multiprocessing.active_children())
        say(parent.pid == ITSELF, parent.name, parent.is_alive(), this.authkey.hex())
        say(multiprocessing.get_start_method(allow_none=True))
        return 0
"""


@METHODS
def test_worker_has_the_name_parent_and_key_of_a_child(method):
    said = lines_of(f"""{OBSERVER}
import multiprocessing
multiprocessing.set_start_method("spawn")
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
with Loader(Observer(1), workers=1, start_method={method!r}) as loader:
    list(loader)
say(multiprocessing.current_process().authkey.hex(), child.is_alive())
""")
    assert said[0] == "mpqueue-worker0 True False (1,) []"
    key, is_alive = said[3].split()
    assert said[1:3] == [f"True MainProcess True {key}", "spawn"]
    assert is_alive == "True"  # the worker has not terminated it, as its own child


@METHODS
def test_worker_that_imports_multiprocessing_later_has_the_same_parent(method):
    script = f"""{OBSERVER}
say("multiprocessing" in sys.modules)
with Loader(Observer(1), workers=1, start_method={method!r}) as loader:
    list(loader)
"""
    said, _ = ran(script, *(["-I"] if method == "spawn" else []))
    assert said[1] == "mpqueue-worker0 True False (1,) []"
    assert said[2].startswith("True MainProcess True ")


@METHODS
def test_worker_has_the_command_line_of_the_trainer(method):
    said, _ = ran(f"""
class Parsing:
    def __len__(self):
        return 1
    def __getstate__(self):
        return {{"changed": len(sys.argv)}}
    def __setstate__(self, state):  # as a module does that the source imports
        self.at_start = sys.argv
    def __getitem__(self, index):
        say(*sys.argv, sys.argv == getattr(self, "at_start", sys.argv))
        return 0
for sys.argv in ["train.py", "--rate", "3"], ["train.py", "-v"]:
    with Loader(Parsing(), batch_size=None, workers=1, start_method={method!r}) as loader:
        list(loader)
""")
    assert said == ["train.py --rate 3 True", "train.py -v True"]


@pytest.fixture(scope="module")
def proxied():
    # Otherwise the manager chooses a path below TMPDIR, which may be too long for a socket.
    with managers.SyncManager(f"\0proxied-{os.getpid()}", b"a key that only proxies have") as manager:
        values = manager.dict({index: index for index in range(400)})
        source = Computed(lambda index: np.array([values[index]]), 400)
        assert source[0] == 0  # its connection now exists
        yield source


def from_loader(source, method):
    return one_epoch(source, batch_size=4, workers=2, start_method=method)


def from_torch(source, method):
    torch = pytest.importorskip("mpqueue.torch")
    return list(torch.DataLoader(source, 4, num_workers=2, multiprocessing_context=method))


def from_enqueuer(source, method):
    with OrderedEnqueuer(source, True, start_method=method) as enqueuer:
        enqueuer.start(2)
        batches = enqueuer.get()
        return [next(batches) for _ in range(400)]


def from_server(source, method):
    name = f"proxies {os.getpid()}"
    with mpqueue.Server(name, source, batch_size=4, workers=2, start_method=method, seed=0):
        with mpqueue.attach(name, timeout=DEADLOCK_S) as consumer:
            return [batch.copy() for batch in consumer]


@METHODS
@pytest.mark.parametrize("read", [from_loader, from_torch, from_enqueuer, from_server])
def test_proxy_of_a_manager_that_was_used_before_gives_the_right_samples(proxied, read, method):
    got = np.concatenate([np.asarray(batch).ravel() for batch in read(proxied, method)])
    assert got.tolist() == list(range(400))


def note(path, word):
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()}\n")


@METHODS
def test_finalizers_of_a_worker_run_when_it_stops_and_those_of_the_trainer_do_not(tmp_path, method):
    path = tmp_path / "notes"

    def register(_):
        import atexit
        from multiprocessing.util import Finalize

        Finalize(None, note, (path, "finalizer"), exitpriority=1)
        atexit.register(note, path, "atexit")

    of_trainer = util.Finalize(None, note, (path, "trainer"), exitpriority=1)
    try:
        with Loader(Computed(register, 1), workers=1, start_method=method) as loader:
            list(loader)
            (pid,) = [worker.pid for worker in loader.statistics().workers]
    finally:
        of_trainer.cancel()
    expected = [f"finalizer {pid}"] + [f"atexit {pid}"] * (method == "spawn")  # as in multiprocessing
    assert path.read_text().splitlines() == expected


def test_queue_of_a_worker_is_flushed_when_the_worker_stops():
    queue = multiprocessing.get_context("fork").Queue()
    one_epoch(Computed(queue.put, 2), workers=1, start_method="fork")
    assert [queue.get(timeout=DEADLOCK_S) for _ in range(2)] == [0, 1]


MEMORY = """
class Shared(Numbers):
    def __init__(self, name):
        self.length, self.name, self.memory = 4, name, None
    def __getitem__(self, index):
        if self.name is None:
            return 0
        from multiprocessing import shared_memory
        self.memory = self.memory or shared_memory.SharedMemory(self.name)
        return self.memory.buf[0]
def create():
    from multiprocessing import shared_memory
    created = shared_memory.SharedMemory(create=True, size=8)
    created.buf[0] = 7
    return created
def read(loader):
    return [int(sample) for sample in loader]
"""


@METHODS
@pytest.mark.parametrize("is_late", [False, True])
def test_shared_memory_of_the_trainer_remains_after_the_workers(method, is_late):
    """With ``is_late``, the trainer has neither shared memory nor a tracker when the workers start."""
    said = lines_of(f"""{MEMORY}
memory = None if {is_late} else create()
source = Shared(memory and memory.name)
with Loader(source, batch_size=None, workers=2, start_method={method!r}) as loader:
    read(loader)
    memory = memory or create()
    source.name = memory.name
    say(read(loader))
mpqueue.shutdown()
with Loader(source, batch_size=None, workers=1, start_method={method!r}) as loader:
    say(read(loader))
mpqueue.shutdown()
memory.close()
memory.unlink()
""")
    assert said == ["[7, 7, 7, 7]"] * 2


@METHODS
@pytest.mark.parametrize("imported", ["os", "multiprocessing", "multiprocessing.shared_memory"])
@pytest.mark.parametrize("unlinks", [False, True])
def test_shared_memory_of_another_program_remains_until_it_is_unlinked(method, imported, unlinks, tmp_path):
    memory = Path("/dev/shm", f"other-{tmp_path.parent.name}-{tmp_path.name}")
    memory.write_bytes(bytes([7] * 8))
    try:
        said = lines_of(f"""{MEMORY}
import {imported}
class Unlinking(Shared):
    def __getitem__(self, index):
        value = super().__getitem__(index)
        if {unlinks} and index == 3:
            self.memory.unlink()
        return value
with Loader(Unlinking({memory.name!r}), batch_size=None, workers=1, start_method={method!r}) as loader:
    say(read(loader))
mpqueue.shutdown()
""")
        assert said == ["[7, 7, 7, 7]"]
        assert memory.exists() is not unlinks
    finally:
        memory.unlink(missing_ok=True)


@FRESH
def test_shared_memory_that_workers_create_is_removed_at_the_end_of_the_trainer(method):
    said, output = ran(f"""
class Creating(Numbers):
    def __getitem__(self, index):
        from multiprocessing import shared_memory
        say(shared_memory.SharedMemory(create=True, size=8).name)
        return 0
from multiprocessing import shared_memory
with Loader(Creating(1), batch_size=None, workers=1, start_method={method!r}) as loader:
    list(loader)
mpqueue.shutdown()
say(os.path.exists("/dev/shm/" + OUT) or sorted(os.listdir("/dev/shm")))
""")
    name, names = said
    assert name in names
    assert "leaked shared_memory" in output
    assert not os.path.exists(f"/dev/shm/{name}")


@pytest.fixture(scope="module", autouse=True)
def _arena():
    """Create the memory of all shared values, which `multiprocessing` keeps until the end of the process."""
    multiprocessing.Value("i", 0)


@METHODS
def test_value_of_the_same_start_method_is_shared_with_workers(method):
    def counted(index):
        with count.get_lock():
            count.value += 1
        return index

    count = multiprocessing.get_context(method).Value("i", 0)
    assert one_epoch(Computed(counted), workers=2, start_method=method) == list(range(8))
    assert count.value == 8


class Holding(Computed):
    def __init__(self, held):
        super().__init__(int, 2)
        self.held = held


UNNAMED = {  # objects of the start method "fork", with their arguments
    "Lock": (), "RLock": (), "Semaphore": (1,), "BoundedSemaphore": (1,), "Condition": (), "Event": (), "Value": ("i",),
    "Array": ("i", 2), "Barrier": (2,), "Queue": (), "SimpleQueue": (), "JoinableQueue": (),
}  # fmt: skip


def unnamed(kind):
    return getattr(multiprocessing.get_context("fork"), kind)(*UNNAMED[kind])


@FRESH
@pytest.mark.parametrize("kind", UNNAMED)
def test_objects_that_only_a_fork_can_share_name_it_in_the_error(kind, method):
    source = Holding(unnamed(kind))
    with pytest.raises(TypeError, match=r'source\.held.* cannot be pickled.* pass start_method="fork"'):
        next(iter(Loader(source, batch_size=None, workers=1, start_method=method)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the default falls back to a fork
        assert one_epoch(source, batch_size=None, workers=1) == [0, 1]


@pytest.mark.parametrize("place", ["worker_init", "collate"])
def test_functions_with_objects_that_only_a_fork_can_share_are_inherited_by_a_fork(place):
    lock = unnamed("Lock")

    def locked(samples=None):
        with lock:
            return samples

    options = {"batch_size": 2, "workers": 1, place: locked}
    problem = rf'{place} \(its variable lock\).* cannot be pickled.*start_method="fork"'
    with pytest.raises(TypeError, match=problem) as raised:
        next(iter(Loader(Holding(0), start_method="forkserver", **options)))
    advises_init = place != "worker_init"
    assert ("Create it in the workers instead (in `worker_init`" in str(raised.value)) is advises_init
    assert ("Pass a function that creates its objects when it is called" in str(raised.value)) is not advises_init
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert [list(batch) for batch in one_epoch(Holding(0), **options)] == [[0, 1]]


@FRESH
def test_error_of_a_torch_loader_names_its_own_argument(method):
    source = Holding(unnamed("Lock"))
    with pytest.raises(TypeError, match=r'held.* cannot be pickled.* pass multiprocessing_context="fork"'):
        from_torch(source, method)


@FRESH
@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"workers": "auto"}])
def test_error_of_unpickling_is_the_error_of_the_loop(options, method):
    source = StrikesWhenUnpickled(Fault("raise"))
    with Loader(source, **{"batch_size": 2, "workers": 2, "start_method": method, **options}) as loader:
        with pytest.raises(ValueError, match="a bad record"):
            list(loader)
        assert loader.statistics().deaths == 0


@FRESH
def test_error_of_unpickling_is_the_error_of_a_torch_loop(method):
    with pytest.raises(ValueError, match="a bad record"):
        from_torch(StrikesWhenUnpickled(Fault("raise")), method)
