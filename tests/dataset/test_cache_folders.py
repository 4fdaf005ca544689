"""The caches of a folder share its room: segments of caches that no process uses make room for new elements."""

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_processes
from helpers.footprint import DEADLOCK_S
from helpers.forked_calls import fork_of, status_of, status_of_fork
from helpers.wrapped_functions import wrap

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.caching import folders
from mpqueue.dataset.caching.caches import FolderCache, folder_usage
from mpqueue.dataset.caching.record_files import MISSING

pytestmark = pytest.mark.sample(1)

BOUND = 64_000
ITEM_BYTES = 500  # a record is a little longer


def item(number):
    return number, np.full(ITEM_BYTES, number % 251, np.uint8)


def filled(folder, key, count=1000, bound=BOUND):
    """Return a cache, after an attempt to store elements in it."""
    cache = FolderCache(str(folder), key, bound)
    fill(cache, count)
    return cache


def fill(cache, count=1000):
    cache.values(range(count), lambda numbers: [item(number) for number in numbers])


def fill_in_child(folder, key, count=1000, bound=BOUND):
    """Fill a cache in a process that exits afterwards."""
    assert status_of_fork(lambda: filled(folder, key, count, bound) and None) == 0


def kept(cache, count=1000):
    """Return the numbers of the elements that are stored, and check these."""
    found = [number for number in range(count) if cache.get(number) is not MISSING]
    for number in found:
        assert repr(cache.get(number)) == repr(item(number))
    return found


def data_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("*.data"))


@pytest.fixture(params=["disk", "shm"])
def folder(request, tmp_path):
    if request.param == "disk":
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield type(tmp_path)(path)


def test_bound_holds_for_the_folder_and_what_is_stored_stays(folder, caplog):
    cache = filled(folder, "a")
    assert BOUND * 0.9 < data_bytes(folder) <= BOUND
    assert max(path.stat().st_size for path in folder.glob("*.data")) <= BOUND // 8
    numbers = kept(cache)
    assert numbers == list(range(len(numbers)))
    fill(cache, 2000)
    assert kept(cache, 2000) == numbers
    (record,) = caplog.records
    assert "the limit max_bytes=64,000 is reached by caches that are in use" in record.getMessage()


def test_new_cache_removes_the_least_recently_opened_ones_first(folder):
    fill_in_child(folder, "old", 30)
    fill_in_child(folder, "middle", 30)
    fill_in_child(folder, "new", 30)
    for age, name in enumerate(["new", "middle", "old"]):
        os.utime(folder / f"{name}.1.use", (1000 - age, 1000 - age))
    before = {path.name for path in folder.glob("*.data")}
    cache = filled(folder, "another", 45)
    assert kept(cache) == list(range(45))
    assert data_bytes(folder) <= BOUND
    gone = before - {path.name for path in folder.glob("*.data")}
    assert gone
    assert not any(name.startswith("new") for name in gone)
    assert any(name.startswith("old") for name in gone)
    if any(name.startswith("middle") for name in gone):
        assert not list(folder.glob("old.*"))  # with its index and counters
    fill(cache)
    assert {path.name.partition(".")[0] for path in folder.glob("*.data")} == {"another"}
    usages, bound = folder_usage(str(folder))
    assert bound == BOUND
    ((usage, is_used),) = usages
    assert is_used
    assert usage.evictions == len(before)
    assert usage.stored == len(kept(cache))
    assert usage.size == data_bytes(folder)


def test_partly_removed_cache_serves_the_rest(folder):
    fill_in_child(folder, "old")
    filled(folder, "another", 20)
    old = FolderCache(str(folder), "old", BOUND)
    numbers = kept(old)
    assert 20 < len(numbers) < 120
    assert numbers[0] > 0
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    old.values(range(5), lambda missing: [item(number) for number in missing])


def use_until(folder, key, bound, pipe):
    cache = filled(folder, key, 40, bound)
    pipe.send("started")
    with contextlib.suppress(EOFError):
        pipe.recv()
    assert kept(cache) == list(range(40))


@contextlib.contextmanager
def used_by_another_process(folder, key, bound=BOUND):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=use_until, args=(folder, key, bound, theirs))
    process.start()
    assert ours.poll(DEADLOCK_S)
    assert ours.recv() == "started"
    yield process
    if process.is_alive():
        ours.send("end")
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    process.close()
    ours.close()
    theirs.close()


def test_cache_that_a_process_uses_is_not_removed(folder, caplog):
    with used_by_another_process(folder, "used") as process:
        cache = filled(folder, "another")
        assert len(list(folder.glob("used.1.*"))) > 2
        assert 10 < len(kept(cache)) < 90
        assert data_bytes(folder) <= BOUND
        assert len(caplog.records) == 1
        process.kill()
        process.join()
        again = filled(folder, "third")  # a killed process uses no cache
        assert len(kept(again)) > len(kept(cache)) / 4
        assert not list(folder.glob("used.1.*"))


def test_smallest_bound_of_the_running_processes_holds(folder):
    with used_by_another_process(folder, "small", 40_000):
        large, none = filled(folder, "large", bound=10 * BOUND), filled(folder, "none", bound=None)
        assert folder_usage(str(folder))[1] == 40_000
        assert data_bytes(folder) <= 40_000
        del large, none
    filled(folder, "again", bound=2 * BOUND)
    assert 40_000 < data_bytes(folder) <= 2 * BOUND


def test_element_larger_than_a_segment_is_not_stored(folder, caplog):
    cache = FolderCache(str(folder), "k", 4000)
    assert cache.values([1], lambda _: [item(1)])[0][0] == 1
    assert kept(cache, 3) == []
    assert "is larger than a segment" in caplog.text


def test_part_of_the_file_system_is_a_bound(folder):
    cache = Dataset.range(9).cache(folder, max_bytes="20%").root.cache
    status = os.statvfs(folder)
    assert cache.max_bytes == status.f_blocks * status.f_frsize * 20 // 100
    assert pickle.loads(pickle.dumps(cache)).max_bytes == cache.max_bytes
    assert Dataset.range(9).cache(folder / "new" / "one", max_bytes="12.5 %").root.cache.max_bytes < cache.max_bytes


def test_mapped_elements_stay_valid_after_their_removal(folder):
    fill_in_child(folder, "old")
    old = FolderCache(str(folder), "old", BOUND)
    held = [old.get(number) for number in range(50)]
    del old
    filled(folder, "another")
    assert not list(folder.glob("old.*.data"))
    for index, value in enumerate(held):
        assert repr(value) == repr(item(index))


STEPS = [("unlink", calls, when) for calls in range(1, 6) for when in ("before", "after")]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("step", "calls", "when"), STEPS)
def test_process_killed_while_it_removes_segments_damages_nothing(tmp_path, step, calls, when):
    fill_in_child(tmp_path, "old", 30)
    fill_in_child(tmp_path, "older", 12)
    real, done = os.unlink, []

    def fatal(path, **options):
        done.append(path)
        if len(done) == calls and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, **options)
        if len(done) == calls:
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        folders.os.unlink = fatal
        filled(tmp_path, "another")

    assert status_of_fork(run) == -signal.SIGKILL
    for key in ("old", "older", "another"):
        cache = FolderCache(str(tmp_path), key, BOUND)
        kept(cache)
        del cache
    cache = filled(tmp_path, "next")
    assert len(kept(cache)) > 80
    assert data_bytes(tmp_path) <= BOUND
    assert {path.name.partition(".")[0] for path in tmp_path.glob("*.data")} == {"next"}


def write_all(folder, key, order):
    cache = FolderCache(folder, key, BOUND)
    for number in order:
        assert repr(cache.values([number], lambda numbers: [item(each) for each in numbers])) == repr([item(number)])


@pytest.mark.slow
def test_processes_that_fill_several_caches_at_once_stay_below_the_bound(tmp_path):
    fill_in_child(tmp_path, "old")
    orders = [range(80), range(79, -1, -1), [*range(40, 80), *range(40)]]
    in_processes(write_all, [(str(tmp_path), key, order) for key in ("a", "b") for order in orders])
    assert data_bytes(tmp_path) <= BOUND
    for key in ("a", "b"):
        assert len(kept(FolderCache(str(tmp_path), key, BOUND))) > 5


def test_cache_that_is_removed_while_it_is_opened_is_created_again(tmp_path, monkeypatch):
    """Between the opening of the mark and its lock."""
    fill_in_child(tmp_path, "old")
    real, removed = fcntl.flock, []

    def late(fd, how):
        if how == fcntl.LOCK_SH and not removed:
            removed.append(fd)
            fill_in_child(tmp_path, "another")
            assert not list(tmp_path.glob("old.*"))
        return real(fd, how)

    monkeypatch.setattr(folders.fcntl, "flock", late)
    old = FolderCache(str(tmp_path), "old", BOUND)
    assert removed
    assert kept(old) == []
    assert (tmp_path / "old.1.use").exists()
    filled(tmp_path, "third")
    fill(old, 5)
    assert (tmp_path / "old.1.use").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_cache_of_another_user_counts_and_is_not_removed(tmp_path):
    fill_in_child(tmp_path, "theirs", 30)
    for path in tmp_path.glob("theirs.*"):
        os.chown(path, 12345, -1)
    cache = filled(tmp_path, "mine")
    assert len(list(tmp_path.glob("theirs.*"))) > 2
    assert 10 < len(kept(cache)) < 90
    assert data_bytes(tmp_path) <= BOUND
    with pytest.raises(PermissionError, match="uid 12345"):
        FolderCache(str(tmp_path), "theirs", BOUND)


def test_child_forked_while_a_thread_adds_a_segment_does_not_keep_the_lock(tmp_path, monkeypatch):
    reached, forked = threading.Event(), threading.Event()
    cache = FolderCache(str(tmp_path), "k", BOUND)

    def slow(segments_in, folder):
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            assert forked.wait(DEADLOCK_S)
        return segments_in(folder)

    with monkeypatch.context() as patch:
        wrap(patch, folders, "_segments_in", slow)
        thread = threading.Thread(target=fill, args=(cache, 40))
        thread.start()
        assert reached.wait(DEADLOCK_S)
        read_end, write_end = os.pipe()

        def fill_later():
            os.close(write_end)
            os.read(read_end, 1)
            fill(cache, 40)
            return kept(cache) == list(range(40))

        pid = fork_of(fill_later)
        forked.set()
        thread.join()
        fill(FolderCache(str(tmp_path), "another", BOUND), 3)  # would wait for the child
        os.close(write_end)
        os.close(read_end)
        assert status_of(pid) == 1
    assert kept(cache, 100) == list(range(40))


def test_cache_without_its_segments_is_filled_again(tmp_path):
    """The index names a segment that does not exist."""
    for _ in range(3):
        dataset = Dataset.range(20).map(str).cache(tmp_path, max_bytes=1_000_000)
        for _ in range(2):
            assert list(dataset) == list(map(str, range(20)))
        segments = list(tmp_path.glob("*.data"))
        assert segments
        for path in segments:
            path.unlink()


class Items:
    """The elements of `item`, for a cache; and the elements of a cached method, for a loader."""

    def __len__(self):
        return 1000

    def __getitem__(self, number):
        return item(number)


def as_stage(folder, name):
    return Dataset(Items()).cache(folder, name=name, max_bytes=BOUND)


def as_method(folder, name):
    class Decoded(Items):
        @mpqueue.cached(folder, max_bytes=BOUND, version=name)
        def decoded(self, number):
            return item(number)[1]

        def __getitem__(self, number):
            return self.decoded(number)

    return Decoded()


def as_function(folder, name):
    @mpqueue.cached(folder, max_bytes=BOUND, version=name)
    def decode(number):
        return item(number)[1]

    return Dataset.range(1000).map(decode)


@pytest.mark.parametrize("made", [as_stage, as_method, as_function])
@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"workers": 1}, {"workers": 2, "backend": "thread"}, {"workers": 1, "start_method": "fork"}],
)
def test_cache_of_a_stopped_loader_makes_room_for_others(tmp_path, made, options):
    """In the same job: its datasets still exist. While the loader runs, also between epochs, it does not."""

    def used():
        usages, bound = folder_usage(str(tmp_path))
        return [is_used for _, is_used in usages], bound

    first, second = (made(tmp_path, name) for name in ("a", "b"))
    if options.get("backend") == "thread" and made is not as_stage:
        pytest.skip("results of other threads than the main one are not stored")
    loader = mpqueue.Loader(first, batch_size=100, on_error="raise", **options)
    for _ in loader:
        pass
    assert used() == ([True], BOUND)
    loader.stop()
    held = loader.statistics().caches
    assert held[0].stored > 50
    if made is not as_stage:  # the second dataset has opened its cache, which is empty
        assert used() == ([False], None)
    with mpqueue.Loader(second, batch_size=100, **options) as other:
        for _ in other:
            pass
    (cache,) = other.statistics().caches
    assert cache.stored > 50 and cache.evictions > 0
    loader.stop()
    for _ in loader:  # opened again
        break
    assert True in used()[0]
    loader.stop()
