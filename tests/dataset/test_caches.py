"""`cache`: each element is computed once by any process; missing or damaged elements are computed again."""

import errno
import fcntl
import gc
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_processes, in_threads
from helpers.counted_calls import Calls
from helpers.file_formats import write_tar
from helpers.footprint import DEADLOCK_S
from helpers.forked_calls import status_of_fork
from helpers.pipelines import Failed, opened, outcomes_of, reopened, rest_of
from helpers.sweeps import step_of

import mpqueue
from mpqueue import Dataset, files
from mpqueue.dataset.caching import caches, record_files
from mpqueue.dataset.caching.caches import FolderCache, MemoryCache
from mpqueue.dataset.description.fingerprint import fingerprint_of
from mpqueue.dataset.transformations import cache

pytestmark = pytest.mark.sample(2)


class Counted(Calls):
    """A function that makes a sample of a number, and counts its calls."""

    def __call__(self, number):
        self.add()
        return {"number": number, "pixels": np.full((3, 4), number, np.float32), "drawn": mpqueue.rng().random()}


@pytest.fixture
def counted(tmp_path):
    return Counted(tmp_path / "calls")


def indexed_and_stream(base, *functions):
    """Return an indexed dataset and a stream with the same elements, which functions compute."""
    for dataset in (base, base.filter(lambda _: True)):
        for function in functions:
            dataset = dataset.map(function)
        yield dataset.cache()


def rows_of(loader):
    return sorted((row["number"], row["drawn"], row["pixels"].tolist()) for batch in loader for row in batch)


@pytest.mark.parametrize(
    ("is_stream", "in_folder", "kind"),
    [
        *((is_stream, in_folder, {"workers": 2}) for is_stream in (False, True) for in_folder in (False, True)),
        *((False, True, {"workers": 0}), (True, False, {"workers": 0})),
        *((is_stream, False, {"workers": 2, "backend": "thread"}) for is_stream in (False, True)),
    ],
    ids=str,
)
def test_second_epoch_calls_no_function(tmp_path, counted, kind, in_folder, is_stream):
    before = Dataset.range(40).map(counted)
    if is_stream:
        before = before.filter(lambda row: row["number"] % 3 > 0)
    expected = sorted((row["number"], row["drawn"], row["pixels"].tolist()) for row in before)
    counted.take()
    cached = before.cache(tmp_path / "kept") if in_folder else before.cache()
    with mpqueue.Loader(cached.batch(8, collate=list), seed=3, **kind) as loader:
        assert rows_of(loader) == expected
        assert counted.take() == 40
        for _ in range(2):
            assert rows_of(loader) == expected
    with mpqueue.Loader(cached.batch(5, collate=list), seed=4, workers=1) as loader:  # another number of workers
        assert rows_of(loader) == expected
    assert counted.take() == 0


def test_later_run_uses_the_cache_of_an_earlier_run(tmp_path, counted):
    def again():
        return Dataset.range(9).map(counted).cache(tmp_path / "kept")

    assert [row["number"] for row in again()] == list(range(9))
    assert counted.take() == 9
    assert [row["number"] for row in again()] == list(range(9))
    assert counted.take() == 0
    Dataset.range(9).map(counted).map(lambda row: row["number"]).cache(tmp_path / "kept")[3]
    assert counted.take() == 1  # other stages have separate elements


def test_arrays_are_read_only_views_from_the_first_epoch_on(tmp_path, counted):
    cached = Dataset.range(3).map(counted).cache(tmp_path)
    for _ in range(2):
        pixels = cached[1]["pixels"]
        assert pixels.tolist() == np.full((3, 4), 1.0).tolist()
        assert not pixels.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            pixels += 1


def test_cached_arrays_are_aligned_to_64_bytes(tmp_path):
    cached = Dataset.range(5).map(lambda number: np.arange(number + 1)).cache(tmp_path)
    list(cached)
    assert [row.ctypes.data % 64 for row in cached] == [0] * 5
    assert [len(row) for row in cached] == [1, 2, 3, 4, 5]


def test_same_index_twice_returns_two_objects(counted):
    cached = Dataset.range(3).map(counted).cache()
    for _ in range(2):
        first, second = cached.__getitems__([2, 2])
        assert first is not second
        assert first["number"] == second["number"] == 2
    assert counted.take() == 1


def test_element_that_raises_is_not_cached(counted):
    fails = [True]

    def now_and_then(row):
        if row["number"] == 5 and fails:
            raise OSError("a broken disk")
        return row

    for cached in indexed_and_stream(Dataset.range(9), counted, now_and_then):
        fails[:] = [True]
        for _ in range(2):
            found = numbers_and_errors(cached)
            assert found.count("OSError") == 1
            assert sorted(number for number in found if number != "OSError") == [0, 1, 2, 3, 4, 6, 7, 8]
        fails.clear()
        counted.take()
        assert sorted(numbers_and_errors(cached)) == list(range(9))
        assert counted.take() == 1
        assert sorted(numbers_and_errors(cached)) == list(range(9))
        assert counted.take() == 0


BETWEEN = {  # stages between a function that raises and the cache
    "threads": lambda before: before.map(abs, threads=2),
    "filter": lambda before: before.filter(lambda number: number % 2 == 0, threads=2),
    "flat_map": lambda before: before.flat_map(lambda number: [number, -number]),
}


@pytest.mark.parametrize("is_empty", [False, True], ids=["cached", "resumed-without-cache"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("between", BETWEEN)
def test_errors_change_the_number_of_no_element(between, on_error, is_empty):
    def read(number):
        if number in failing:
            raise OSError("a broken disk")
        return number

    stages, skip = BETWEEN[between], None if on_error == "raise" else [].append
    # The errors of the pass that fills the cache, and of a pass that reads it.
    for stored, later in [({12}, {12, 17}), ({12}, {5}), ({12}, {0, 3, 17}), ({12}, {10}), ({28}, {6, 7, 29})]:
        first, second = (stages(Dataset.range(30).filter(lambda _: True).map(read)).cache() for _ in range(2))
        failing, num_kept = stored, min(stored)
        rest_of(opened(first))
        failing = later
        lane = opened(first, skip=skip)
        found = rest_of(lane, 6)
        if is_empty:
            num_kept, lane = abs(found[-1]) + 1, reopened(second, lane, skip=skip)
        found = [one for one in found + rest_of(lane) if not isinstance(one, Failed)]
        expected = [number for number in range(30) if number < num_kept or number not in later]
        assert found == rest_of(opened(stages(Dataset(expected)))), (stored, later)
        failing = set()
        whole = rest_of(opened(stages(Dataset.range(30))))
        assert rest_of(opened(first)) == rest_of(opened(second)) == whole


@pytest.mark.parametrize("is_empty", [False, True], ids=["cached", "resumed-without-cache"])
def test_snapshot_after_an_error_has_the_rest_of_a_block(monkeypatch, is_empty):
    monkeypatch.setattr(cache, "clock_ns", lambda: 0)  # all elements are cheap

    def raising(*numbers):
        def call(number):
            if number in numbers:
                raise OSError(f"a broken disk at {number}")
            return threading.Lock() if number == 8 else number

        return call

    def stream():
        return Dataset.range(40).filter(lambda _: True).map(raising(22)).cache().map(raising(2, 33)).batch(5)

    whole, num_waiting = rest_of(opened(stream())), 0
    assert [one.kind for one in whole if isinstance(one, Failed)] == ["OSError", "TypeError", "OSError", "OSError"]
    for count in range(len(whole)):
        dataset = stream()
        lane = opened(dataset)
        rest_of(lane, count)
        num_waiting += any(state.get("waiting") for state in lane.save()["stages"] if "kept_to" in state)
        again = reopened(stream() if is_empty else dataset, lane)
        np.testing.assert_equal(rest_of(again), whole[count:])
    assert num_waiting


def numbers_and_errors(dataset):
    with mpqueue.Loader(dataset, workers=0) as loader:
        found = outcomes_of(iter(loader).__next__)
    return [one.kind if isinstance(one, Failed) else one["number"] for one in found]


def test_unpicklable_elements_raise_an_error_with_a_remedy():
    for cached in indexed_and_stream(Dataset.range(3), lambda _: threading.Lock()):
        with pytest.raises(TypeError, match="pickle") as caught:
            next(iter(cached))
        assert "move it before the stage that makes this element" in "".join(caught.value.__notes__)


# -- Complete or absent


def texts(numbers):
    return [(number, np.arange(number + 2, dtype=np.int16)) for number in numbers]


class Asked:
    """A compute function that records its requests."""

    def __init__(self):
        self.numbers = []

    def __call__(self, numbers):
        self.numbers += numbers
        return texts(numbers)


def is_right(found, numbers):
    return repr(found) == repr(texts(numbers))


def cache_in(folder, key="k", max_bytes=None):
    return FolderCache(str(folder), key, max_bytes)


def not_stored(folder, numbers):
    """Return the numbers of the elements that a cache in a folder computes, after a check of all its elements."""
    asked = Asked()
    assert is_right(cache_in(folder).values(numbers, asked), numbers)
    return asked.numbers


def computed_in_two_requests(cache, numbers, caplog, words):
    """Return the numbers of the elements that a cache computes, after a check of its only warning."""
    asked = Asked()
    caplog.clear()
    for _ in range(2):
        assert is_right(cache.values(numbers, asked), numbers)
    (record,) = caplog.records
    assert words in record.getMessage()
    return asked.numbers


def paths_of(folder):
    (data,) = folder.glob("*.data")
    (index,) = folder.glob("*.index")
    return data, index


def test_truncated_files_still_serve_complete_elements(tmp_path):
    numbers = [0, 1]
    assert not_stored(tmp_path, numbers) == numbers
    whole = {path: path.read_bytes() for path in paths_of(tmp_path)}
    for path, content in whole.items():
        for cut in {*range(0, len(content), step_of(1 if path.name.endswith(".index") else 3)), len(content)}:
            path.write_bytes(content[:cut])
            computed = not_stored(tmp_path, numbers)
            if path.name.endswith(".index"):
                assert computed == numbers[cut // 32 :]
            else:
                assert computed == numbers[len(numbers) - len(computed) :]
                assert bool(computed) == (cut < len(content))
            assert not_stored(tmp_path, numbers) == []  # the recomputed elements are stored again
            for each, before in whole.items():
                each.write_bytes(before)


def test_changed_bytes_are_never_served(tmp_path):
    numbers = [0, 1]
    not_stored(tmp_path, numbers)
    for path in paths_of(tmp_path):
        content = path.read_bytes()
        for at in range(0, len(content), step_of(1)):
            damaged = bytearray(content)
            damaged[at] ^= 0x41
            path.write_bytes(damaged)
            not_stored(tmp_path, numbers)
        path.write_bytes(content)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


STEPS = [
    *(("writev", when) for when in ("before", "after", 0, 1, 63, 64, 65, 100)),
    *(("pwrite", when) for when in ("before", "after", 1, 8, 16, 27, 28, 31)),
]


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_writer_killed_at_any_step_keeps_complete_elements(tmp_path, step, when):
    """Also in the middle of a system call, after the kernel has written some bytes."""
    real = {"writev": os.writev, "pwrite": os.pwrite}[step]
    calls = []

    def fatal(fd, data, *position):
        calls.append(fd)
        if len(calls) < 3:
            return real(fd, data, *position)
        if when == "after":
            real(fd, data, *position)
        elif when != "before":
            flat = b"".join(data)[:when] if step == "writev" else data[:when]
            real(fd, [flat] if step == "writev" else flat, *position)
        return die()

    def run():
        setattr(record_files.os, step, fatal)
        cache = cache_in(tmp_path)
        for number in range(5):
            cache.values([number], texts)

    assert status_of_fork(run) == -signal.SIGKILL
    numbers = list(range(5))
    kept = 3 if (step, when) == ("pwrite", "after") else 2
    assert not_stored(tmp_path, numbers) == numbers[kept:]
    assert not_stored(tmp_path, numbers) == []


def test_concurrent_writes_of_processes_leave_complete_elements(tmp_path):
    def write(numbers):
        cache = cache_in(tmp_path)
        for number in numbers:
            assert is_right(cache.values([number], texts), [number])

    in_processes(write, [(range(200),), (range(199, -1, -1),), ([*range(100, 200), *range(100)],)])
    assert not_stored(tmp_path, range(200)) == []


def test_concurrent_writes_of_threads_leave_complete_elements():
    cache = MemoryCache(None)
    in_threads(*[lambda: [cache.values([number], texts) for number in range(200)]] * 3)
    asked = Asked()
    assert is_right(cache.values(range(200), asked), range(200))
    assert asked.numbers == []


# -- Elements that cannot be stored


def test_elements_beyond_max_bytes_are_computed_with_one_warning(counted, caplog):
    cached = Dataset.range(10).map(counted).cache(max_bytes=1200)
    for _ in range(2):
        assert [row["number"] for row in cached] == list(range(10))
    calls = counted.take()
    assert 12 < calls < 20
    (record,) = caplog.records
    assert "the limit max_bytes=1,200 is reached. Stored elements are used" in record.getMessage()


@pytest.mark.parametrize("is_short", [False, True])
def test_full_disk_keeps_cached_elements_and_computes_the_rest(tmp_path, monkeypatch, caplog, is_short):
    cache, real, numbers = cache_in(tmp_path), os.writev, list(range(6))
    cache.values([0, 1], texts)

    def full(fd, parts):
        if is_short:
            return real(fd, [b"".join(parts)[:70]])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_files.os, "writev", full)
    words = "o space left"
    assert computed_in_two_requests(cache, numbers, caplog, words) == [2, 3, 4, 5] * 2
    monkeypatch.undo()  # the disk has space again
    not_stored(tmp_path, numbers)
    assert not_stored(tmp_path, numbers) == []


def test_lookup_of_missing_elements_allocates_no_memory():
    """In memory, as on a tmpfs, reading a hole through a map allocates a page, and raises SIGBUS without space."""
    earlier = set(os.listdir("/proc/self/fd"))
    cache = MemoryCache(None)
    opened = set(os.listdir("/proc/self/fd")) - earlier
    files_of_cache = [int(fd) for fd in opened if os.path.exists(f"/proc/self/fd/{fd}")]
    assert is_right(cache.values([5000], texts), [5000])
    assert cache.get(1 << 62) is record_files.MISSING
    index = max(files_of_cache, key=lambda fd: os.fstat(fd).st_size)
    before = os.fstat(index).st_blocks
    assert 0 < before < os.fstat(index).st_size // 512  # it is sparse
    for opened in (cache, pickle.loads(pickle.dumps(cache))):
        assert [opened.get(number) for number in range(0, 5000, 10)] == [record_files.MISSING] * 500
        assert is_right([opened.get(5000)], [5000])
    assert os.fstat(index).st_blocks == before


def test_read_only_folder_serves_cached_elements(tmp_path, monkeypatch, caplog):
    not_stored(tmp_path, [0, 1])
    real = os.open

    def read_only(path, flags, *mode):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags, *mode)

    monkeypatch.setattr(caches.os, "open", read_only)
    assert not_stored(tmp_path, [0, 1]) == []
    assert not caplog.records
    words = "the files are read-only (Permission denied)"
    assert computed_in_two_requests(cache_in(tmp_path), [1, 2], caplog, words) == [2, 2]
    with pytest.raises(PermissionError) as caught:
        Dataset.range(3).cache(tmp_path, name="another")
    assert "use a writable folder" in "".join(caught.value.__notes__)


def test_folder_that_is_a_file_raises_when_the_dataset_is_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((FileExistsError, NotADirectoryError)) as caught:
        Dataset.range(3).cache(tmp_path / "file")
    assert "use a writable folder" in "".join(caught.value.__notes__)


def link(path):
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def give_away(path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)


STRANGE = {
    "another user's": (give_away, "uid 12345"),
    "its group may write": (lambda path: path.chmod(0o664), r"other users may write to .* \(mode 0664\): .*chmod go-w"),
    "all may write": (lambda path: path.chmod(0o646), r"other users may write to .* \(mode 0646\)"),
    "a link": (link, "symbolic link"),
    "a pipe": (pipe, "not a regular file"),
}


@pytest.mark.parametrize("which", ["data", "index"])
@pytest.mark.parametrize(("make", "words"), STRANGE.values(), ids=STRANGE)
def test_files_that_other_users_could_have_written_are_rejected(tmp_path, make, words, which):
    """Their content is unpickled."""
    numbers = Dataset.range(3)
    list(numbers.cache(tmp_path, name="k"))
    (path,) = tmp_path.glob(f"*.{which}")
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PermissionError, match=words) as caught:
        numbers.cache(tmp_path, name="k")
    assert str(path) in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_are_private_to_the_user_for_any_umask(tmp_path):
    before = os.umask(0)
    try:
        list(Dataset.range(3).cache(tmp_path, name="k"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_released_memory_cache_computes_all_elements(caplog):
    cache = MemoryCache(None)
    copy = pickle.loads(pickle.dumps(cache))
    assert is_right(copy.values([1], texts), [1])
    asked = Asked()
    assert is_right(cache.values([1], asked), [1])
    assert asked.numbers == []
    late = pickle.loads(pickle.dumps(cache))
    del cache
    gc.collect()
    assert computed_in_two_requests(late, [1], caplog, "use cache(folder)") == [1, 1]


# -- After a stop


class Held:
    """A function that waits, for one number, until it may continue."""

    def __init__(self, number):
        self.number, self.has_begun, self.may_go_on = number, threading.Event(), threading.Event()

    def __call__(self, number):
        if number == self.number:
            self.has_begun.set()
            assert self.may_go_on.wait(DEADLOCK_S)
        return number


def end_threads():
    """Wait for the threads of stopped loaders."""
    gc.collect()  # helper threads end with their stages
    for thread in threading.enumerate():
        if thread.name.startswith("mpqueue"):
            thread.join(DEADLOCK_S)
            assert not thread.is_alive()


def always(number):
    return True


@pytest.mark.parametrize(
    ("stream", "options"), [(False, {"batch_size": 2}), (False, {"batch_size": 2, "threads": 2}), (True, {})]
)
def test_threads_that_outlive_their_loader_do_not_write_into_the_folder(tmp_path, stream, options):
    held, folder = Held(3), tmp_path / "cache"
    numbers = Dataset.range(8).filter(always) if stream else Dataset.range(8)
    cached = numbers.map(held).cache(folder, name="k")
    with mpqueue.Loader(cached, workers=1, backend="thread", **options) as loader:
        next(iter(loader))
        assert held.has_begun.wait(DEADLOCK_S)
        assert list(folder.iterdir())
    shutil.rmtree(folder)
    held.may_go_on.set()
    end_threads()
    assert not folder.exists()
    assert list(loader)[-1] is not None  # the next loop uses the folder again
    loader.stop()
    assert (folder / "k.1.index").stat().st_size


@pytest.mark.parametrize("options", [{"workers": 0, "lanes": 1}, {"workers": 1, "lanes": 1, "backend": "thread"}])
def test_calls_in_helper_threads_that_outlive_their_loader_do_not_store_results(tmp_path, options):
    held, folder = Held(3), tmp_path / "cache"

    @mpqueue.cached(folder, key=lambda _: "k")
    def result(number):
        return held(number)

    loader = mpqueue.Loader(Dataset.range(8).filter(always).map(result, threads=2), **options)
    next(iter(loader))
    assert held.has_begun.wait(DEADLOCK_S)
    loader.stop()
    shutil.rmtree(folder)
    held.may_go_on.set()
    del loader
    end_threads()
    assert not folder.exists()


class Telling:
    """A reentrant lock that reports, after an event, that a thread waits for it."""

    def __init__(self, after, has_waiter):
        self.lock, self.after, self.has_waiter = threading.RLock(), after, has_waiter

    def __enter__(self):
        if not self.lock.acquire(blocking=False):
            if self.after.is_set():
                self.has_waiter.set()
            self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


@pytest.mark.parametrize(("owner", "name"), [(FolderCache, "_open"), (record_files.RecordFiles, "_publish")])
def test_stop_waits_for_a_thread_that_writes_into_the_folder(tmp_path, monkeypatch, owner, name):
    writes, may_go_on, order, method = threading.Event(), threading.Event(), [], getattr(owner, name)

    def held(*arguments):
        writes.set()
        assert may_go_on.wait(DEADLOCK_S)
        found = method(*arguments)
        order.append("wrote")
        return found

    monkeypatch.setattr(caches, "_opening", Telling(writes, may_go_on))
    monkeypatch.setattr(record_files, "RLock", lambda: Telling(writes, may_go_on))
    folder = tmp_path / "cache"
    data = Dataset.range(8).cache(folder, name="k")
    loader = mpqueue.Loader(data, batch_size=2, workers=1, backend="thread")
    next(iter(loader))
    loader.stop()
    monkeypatch.setattr(owner, name, held)
    try:
        shutil.rmtree(folder)
        loop = iter(loader)
        assert writes.wait(DEADLOCK_S)
        loader.stop()
        order.append("stopped")
    finally:
        may_go_on.set()
    shutil.rmtree(folder)
    del loop
    end_threads()
    assert not folder.exists()
    assert order == ["wrote", "stopped"]


class ReleasesWhilePickled:
    """A value that releases a cache when it is pickled first, as the stop of a loader in another thread does."""

    def __init__(self, cache):
        self.releases = [cache.release]

    def __reduce__(self):
        while self.releases:
            self.releases.pop()()
        return str, ("value",)


def test_value_is_stored_though_another_loader_releases_the_cache_meanwhile(tmp_path):
    cache = cache_in(tmp_path)
    assert cache.put(1, ReleasesWhilePickled(cache)) == "value"
    assert cache.get(1) == "value"
    assert cache.counts()[1] == 1


# -- Keys


def made_of(code, **names):
    scope = dict(names, __name__="__main__")
    exec(code, scope)
    return scope["f"]


CHANGES = [("LIMIT = 3", "LIMIT = 4"), ("'b'", "'c'"), ("+", "-"), ("in {", "not in {")]


def test_key_depends_on_the_stages_before_the_cache():
    def key(dataset):
        return fingerprint_of(dataset.root)

    plain = "def f(x):\n    return helper(x) + LIMIT\ndef helper(x):\n    return x in {'a', 'b'}\nLIMIT = 3"
    first = key(Dataset([1, 2]).map(made_of(plain)))
    assert key(Dataset([1, 2]).map(made_of("\n\n# a comment\n" + plain))) == first
    others = [
        Dataset([1, 3]).map(made_of(plain)),
        Dataset([1, 2]).map(made_of(plain)).map(made_of(plain)),
        Dataset([1, 2]).skip(0).map(made_of(plain)),
        *(Dataset([1, 2]).map(made_of(plain.replace(*change))) for change in CHANGES),
        *(Dataset([1, 2]).map(lambda x, by=by: x * by) for by in (1, 1.0, True)),
        *(Dataset(np.arange(9) + by) for by in range(2)),
        *(Dataset(np.arange(9)).map(Shifts(by).apply) for by in range(2)),
    ]
    keys = [key(dataset) for dataset in others]
    assert len({first, *keys}) == len(keys) + 1
    assert [key(dataset) for dataset in others] == keys


class Shifts:
    def __init__(self, by):
        self.by, self.itself = by, self

    def apply(self, x):
        return x + self.by


RUN = """
import sys
from mpqueue import Dataset
from mpqueue.dataset.description.fingerprint import fingerprint_of
from mpqueue.dataset.transformations import cache
STOPS = {"the", "a", "of", "and"}
class Parse:
    words = frozenset({"x", "y", "z"})
    def __call__(self, x):
        return x in {"k", "l", "m"} or x in STOPS or x in self.words
print(fingerprint_of(Dataset([str(i) for i in range(9)]).map(Parse()).map(lambda x: STOPS).root))
"""


def test_key_is_the_same_in_another_run():
    command = [sys.executable, "-c", RUN]
    (key,) = {subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": seed}) for seed in ("1", "2")}
    assert len(key.strip()) == 32


def test_changed_files_have_another_key(tmp_path):
    def keys():
        mapped = np.memmap(tmp_path / "array", np.uint8, "r")
        tar = files.Tar(tmp_path / "a.tar", index=tmp_path)
        tar[0]  # caches state in the object
        return [fingerprint_of(Dataset(source).root) for source in (mapped, mapped[2:], mapped[3:], tar)]

    def write(content):
        (tmp_path / "array").write_bytes(content)
        write_tar(tmp_path / "a.tar", [("1.txt", content)])

    write(b"12345678")
    before = keys()
    assert keys() == before
    assert len(set(before)) == 4
    write(b"123456789")
    assert not set(keys()) & set(before)


LOCK = threading.Lock()


def test_dataset_without_a_key_needs_a_name(tmp_path):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"pass one, cache\(folder, name="):
        Dataset.range(3).map(lambda x: lock and x).cache(tmp_path)
    assert list(Dataset.range(3).map(lambda x: lock and x).cache(tmp_path, name="mine")) == [0, 1, 2]
    # Globals of a module are not part of the key.
    assert Dataset.range(3).map(lambda x: LOCK and x).cache(tmp_path)[2] == 2


def test_cache_after_shuffle_warns(caplog):
    Dataset.range(9).shuffle().map(str).cache()
    assert "all epochs have the order of the first one" in caplog.text
    caplog.clear()
    chosen = Dataset.range(9).shuffle().take(3).cache().shuffle()
    assert sorted(chosen.repeat(2)) == sorted(2 * list(chosen))
    assert not caplog.records


def test_folder_without_free_inodes_is_as_a_full_disk(tmp_path, monkeypatch, caplog):
    """New files cannot be created. Existing ones are used, and other elements are computed, with one warning."""
    not_stored(tmp_path, [0])
    real = os.open

    def full(path, flags, *mode):
        if flags & os.O_CREAT and not os.path.exists(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real(path, flags, *mode)

    monkeypatch.setattr(caches.os, "open", full)
    for name, found in (("k", [0]), ("other", [])):
        words = f"no more values can be stored: [Errno 28] No space left on device: '{tmp_path}/"
        computed = computed_in_two_requests(cache_in(tmp_path, name, 1 << 20), [0, 1], caplog, words)
        assert computed == [number for number in [0, 1] if number not in found] * 2

    def make(path, *mode, **options):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)

    monkeypatch.setattr(caches.os, "makedirs", make)
    not_stored(tmp_path / "new", [0, 1])


def test_folder_without_locks_is_as_a_full_disk(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    words = f"as on a file system without locks: '{tmp_path}'"
    assert computed_in_two_requests(cache_in(tmp_path), [0, 1], caplog, words) == [0, 1, 0, 1]


def test_tilde_in_the_folder_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert list(Dataset.range(3).cache("~/elements", max_bytes="20%")) == [0, 1, 2]
    assert mpqueue.cached(pathlib.Path("~/results"))(_double)(3) == 6
    assert sorted(os.listdir(tmp_path)) == ["elements", "results"]


def _double(number):
    return 2 * number
