"""A worker is a child process for code that uses `multiprocessing`, whichever way it was started."""

import contextlib
import multiprocessing
import os
import warnings
from multiprocessing import managers, util
from pathlib import Path

import numpy as np
import pytest
from helpers.deadlock import DEADLOCK_S
from helpers.trainer_processes import ran

import mpqueue
from mpqueue import Loader, OrderedEnqueuer

pytestmark = pytest.mark.sample(1)

METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
FRESH = pytest.mark.parametrize("method", ["forkserver", "spawn"])

OBSERVER = """
import mpqueue
class Observer:
    def __len__(self):
        return 1
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
    said, output = ran(f"""{OBSERVER}
import multiprocessing
multiprocessing.set_start_method("spawn")
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
with Loader(Observer(), batch_size=None, workers=1, start_method={method!r}) as loader:
    list(loader)
say(multiprocessing.current_process().authkey.hex(), child.is_alive())
""")
    assert said[0] == "mpqueue-worker0 True False (1,) []"
    key, is_alive = said[3].split()
    assert said[1:3] == [f"True MainProcess True {key}", "spawn"]
    assert is_alive == "True"  # the worker has not terminated it, as its own child
    assert output == ""


@METHODS
def test_worker_that_imports_multiprocessing_later_has_the_same_parent(method):
    said, _ = ran(f"""{OBSERVER}
say("multiprocessing" in sys.modules)
with Loader(Observer(), batch_size=None, workers=1, start_method={method!r}) as loader:
    list(loader)
""", *(["-I"] if method == "spawn" else []))  # fmt: skip
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


class Proxied:
    """Samples in a dict of a manager."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return 400

    def __getitem__(self, index):
        return np.array([self.values[index]])


@pytest.fixture(scope="module")
def proxied():
    # Otherwise the manager chooses a path below TMPDIR, which may be too long for a socket.
    with managers.SyncManager(f"\0proxied-{os.getpid()}", b"a key that only proxies have") as manager:
        source = Proxied(manager.dict({index: index for index in range(400)}))
        assert source.values[0] == 0  # its connection now exists
        yield source


def from_loader(source, method):
    with Loader(source, batch_size=4, workers=2, start_method=method) as loader:
        return list(loader)


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


class Finalizing:
    """Reports its finalizers by a line of a file, and puts its samples into a queue."""

    def __init__(self, path, queue=None):
        self.path, self.queue, self.is_open = path, queue, False

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if not self.is_open:
            self.is_open = True
            import atexit
            from multiprocessing.util import Finalize

            Finalize(None, note, (self.path, "finalizer"), exitpriority=1)
            atexit.register(note, self.path, "atexit")
        if self.queue is not None:
            self.queue.put(index)
        return index


def note(path, word):
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()}\n")


@METHODS
def test_finalizers_of_a_worker_run_when_it_stops_and_those_of_the_trainer_do_not(tmp_path, method):
    path = tmp_path / "notes"
    of_trainer = util.Finalize(None, note, (path, "trainer"), exitpriority=1)
    try:
        with Loader(Finalizing(path), batch_size=None, workers=1, start_method=method) as loader:
            list(loader)
            (pid,) = [worker.pid for worker in loader.statistics().workers]
    finally:
        of_trainer.cancel()
    expected = [f"finalizer {pid}"] + [f"atexit {pid}"] * (method == "spawn")  # as in multiprocessing
    assert path.read_text().splitlines() == expected


def test_queue_of_a_worker_is_flushed_when_the_worker_stops(tmp_path):
    queue = multiprocessing.get_context("fork").Queue()
    with Loader(Finalizing(tmp_path / "notes", queue), batch_size=None, workers=1, start_method="fork") as loader:
        list(loader)
    assert [queue.get(timeout=DEADLOCK_S) for _ in range(2)] == [0, 1]


MEMORY = """
class Shared:
    def __init__(self, name):
        self.name, self.memory = name, None
    def __len__(self):
        return 4
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
    said, output = ran(f"""{MEMORY}
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
    assert output == ""


@METHODS
@pytest.mark.parametrize("imported", ["os", "multiprocessing", "multiprocessing.shared_memory"])
@pytest.mark.parametrize("unlinks", [False, True])
def test_shared_memory_of_another_program_remains_until_it_is_unlinked(method, imported, unlinks, tmp_path):
    memory = Path("/dev/shm", f"other-{tmp_path.parent.name}-{tmp_path.name}")
    memory.write_bytes(bytes([7] * 8))
    try:
        said, output = ran(f"""{MEMORY}
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
        assert (said, output) == (["[7, 7, 7, 7]"], "")
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


class Counting:
    """Counts its samples in a shared value."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return 8

    def __getitem__(self, index):
        with self.count.get_lock():
            self.count.value += 1
        return index


@METHODS
def test_value_of_the_same_start_method_is_shared_with_workers(method):
    count = multiprocessing.get_context(method).Value("i", 0)
    with Loader(Counting(count), batch_size=None, workers=2, start_method=method) as loader:
        assert list(loader) == list(range(8))
        assert count.value == 8


class Holding:
    def __init__(self, held):
        self.held = held

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


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
        with Loader(source, batch_size=None, workers=1) as loader:
            assert list(loader) == [0, 1]


@pytest.mark.parametrize("place", ["worker_init", "collate"])
def test_functions_with_objects_that_only_a_fork_can_share_are_inherited_by_a_fork(place):
    lock = unnamed("Lock")

    def locked(samples=None):
        with lock:
            return samples

    options = {"batch_size": 2, "workers": 1, place: locked}
    with pytest.raises(
        TypeError, match=rf'{place} \(its variable lock\).* cannot be pickled.*start_method="fork"'
    ) as raised:
        next(iter(Loader(Holding(0), start_method="forkserver", **options)))
    advises_init = place != "worker_init"
    assert ("Create it in the workers instead (in `worker_init`" in str(raised.value)) is advises_init
    assert ("Pass a function that creates its objects when it is called" in str(raised.value)) is not advises_init
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Loader(Holding(0), **options) as loader:
            assert [list(batch) for batch in loader] == [[0, 1]]


@FRESH
def test_error_of_a_torch_loader_names_its_own_argument(method):
    source = Holding(unnamed("Lock"))
    with pytest.raises(TypeError, match=r'held.* cannot be pickled.* pass multiprocessing_context="fork"'):
        from_torch(source, method)


class Unloadable(Holding):
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ConnectionError("the source cannot connect")


@FRESH
@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"workers": "auto"}])
def test_error_of_unpickling_is_the_error_of_the_loop(options, method):
    loader = Loader(Unloadable(0), **{"batch_size": 2, "workers": 2, "start_method": method, **options})
    with contextlib.closing(loader), pytest.raises(ConnectionError, match="the source cannot connect"):
        list(loader)
    assert loader.statistics().deaths == 0


@FRESH
def test_error_of_unpickling_is_the_error_of_a_torch_loop(method):
    with pytest.raises(ConnectionError, match="the source cannot connect"):
        from_torch(Unloadable(0), method)
