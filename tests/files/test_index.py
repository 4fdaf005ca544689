"""The index: created once, atomically, by one process of a host, and separate for other files."""

import errno
import fcntl
import functools
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.file_formats import rewritten
from helpers.file_parts import path_of
from helpers.footprint import DEADLOCK_S
from helpers.forked_calls import status_of_fork
from helpers.sweeps import step_of
from helpers.wrapped_functions import wrap

from mpqueue.errors import FileError
from mpqueue.files import JSONLines
from mpqueue.files.access.opened import OpenFiles
from mpqueue.files.indexing import index as index_module
from mpqueue.files.indexing import index_file, scanning
from mpqueue.files.indexing.index import Index
from mpqueue.system.paths.own_files import DamagedFile


def scan(path):
    """Return the bytes of a file, and their number."""
    with open(path, "rb") as file:
        data = file.read()
    if data == b"bad":
        raise FileError(path, 0, "it is bad")
    return {"bytes": np.frombuffer(data, np.uint8), "sizes": np.array([len(data)]), "none": np.empty(0, "<i4")}


def scan_noting(log, path):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {os.path.basename(path)}\n")
    return scan(path)


def scan_dying(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / name for name in ("a", "b", "c")]
    for path, data in zip(found, (b"123", b"", b"45"), strict=True):
        path.write_bytes(data)
    return [str(path) for path in found]


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def test_arrays_are_concatenated_in_the_order_of_the_files(paths, cache):
    index = Index("bytes", 1, paths, scan, cache)
    assert index["bytes"].tobytes() == b"12345"
    assert index.starts("bytes").tolist() == [0, 3, 3, 5]
    assert index["sizes"].tolist() == [3, 0, 2]
    assert index["none"].tolist() == []
    assert not index["bytes"].flags.writeable
    assert [file.path for file in index.files] == [os.path.realpath(path) for path in paths]
    assert [file.size for file in index.files] == [3, 0, 2]
    assert index.total_bytes() == 5


def test_index_is_created_once(paths, cache, tmp_path):
    noting = functools.partial(scan_noting, str(tmp_path / "log"))
    first = Index("bytes", 1, paths, noting, cache)
    second = Index("bytes", 1, paths, noting, cache)
    copy = pickle.loads(pickle.dumps(second))
    assert first["bytes"].tobytes() == second["bytes"].tobytes() == copy["bytes"].tobytes()
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert os.listdir(cache) == [os.path.basename(first.path)]


def test_other_files_formats_and_versions_have_other_indexes(paths, cache):
    described = [("bytes", 1, paths), ("other", 1, paths), ("bytes", 2, paths), ("bytes", 1, paths[:2])]
    indexes = [Index(*each, scan, cache) for each in described]
    os.utime(paths[0], ns=(10**18, 10**18))
    indexes.append(Index("bytes", 1, paths, scan, cache))
    assert len({index.path for index in indexes}) == 5


def test_index_is_stored_in_the_users_cache(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert Index("bytes", 1, paths, scan).path.startswith(str(tmp_path / "mine" / "mpqueue"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Index("bytes", 1, paths, scan).path.startswith(str(tmp_path / "home" / ".cache" / "mpqueue"))


def test_read_only_folder_raises_an_error_with_a_remedy(paths, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file") as caught:
        Index("bytes", 1, paths, scan, str(tmp_path / "file"))
    assert "index=" in str(caught.value)
    assert caught.value.filename.startswith(str(tmp_path / "file"))


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "shutil.copyfileobj", "tempfile.TemporaryFile", "os.open"])
def test_full_disk_raises_an_error_with_index_and_remedy(paths, cache, monkeypatch, call):
    def full(*_given, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    os.mkdir(cache)
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(OSError, match=r"No space left on device.*index=") as caught:
            index_module.open_or_make(f"{cache}/a.index", lambda writer: writer.add("a", np.arange(9)))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.startswith(cache)
    assert os.listdir(cache) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_folder_without_locks_raises_an_error_with_index_and_remedy(paths, cache, monkeypatch, code):
    def none(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match=r"a file system without locks\. .*index=") as caught:
        Index("bytes", 1, paths, scan, cache)
    assert caught.value.errno == code
    assert caught.value.filename.startswith(f"{cache}/")


def test_folder_in_place_of_an_index_raises_an_error_with_its_name(paths, cache):
    path = Index("bytes", 1, paths, scan, cache).path
    os.unlink(path)
    os.mkdir(path)
    with pytest.raises(PermissionError, match=f"{path} is not a regular file: pass another folder as index="):
        Index("bytes", 1, paths, scan, cache)


def test_user_without_a_home_folder_gets_a_remedy(paths, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as on a system without a home folder
    with pytest.raises(FileNotFoundError, match=r"no home folder.*index=.*XDG_CACHE_HOME"):
        Index("bytes", 1, paths, scan)


@pytest.mark.parametrize("replace", [True, False])
def test_file_rewritten_with_equal_size_and_time_is_indexed_again(paths, cache, replace):
    old = Index("bytes", 1, paths, scan, cache)
    rewritten(paths[0], b"789", replace=replace)
    assert Index("bytes", 1, paths, scan, cache)["bytes"].tobytes() == b"78945"
    assert old["bytes"].tobytes() == b"12345"
    with pytest.raises(FileError, match="differs from the file with which the source was created"):
        pickle.loads(pickle.dumps(old))["bytes"]


def test_new_modes_and_links_of_a_file_do_not_count_as_changes(paths, cache, tmp_path):
    """They change its ctime. A running program continues to read, and so do new workers after another program's new
    index.
    """
    old = Index("bytes", 1, paths, scan, cache)
    before = os.stat(paths[0]).st_ctime_ns
    while os.stat(paths[0]).st_ctime_ns == before:
        os.chmod(paths[0], 0o600)
        os.chmod(paths[0], 0o644)
    os.link(paths[0], tmp_path / "link")
    assert Index("bytes", 1, paths, scan, cache)["bytes"].tobytes() == b"12345"
    again = pickle.loads(pickle.dumps(old))
    assert again["bytes"].tobytes() == b"12345"
    for files in (old.files, again.files):
        assert OpenFiles(files).read(0, 0, 3) == b"123"


def test_copy_of_a_source_raises_after_another_program_has_indexed_a_rewritten_file(tmp_path, cache):
    """The new file has the same positions, so the new index differs only in the ctime."""
    path = tmp_path / "a.jsonl"
    path.write_text("1\n2\n")
    data = pickle.dumps(JSONLines(path, index=cache))
    assert pickle.loads(data)[0] == 1
    rewritten(path, b"3\n4\n")
    assert JSONLines(path, index=cache)[0] == 3
    with pytest.raises(FileError, match="differs from the file with which the source was created"):
        pickle.loads(data)[0]


def test_another_inode_alone_does_not_count_as_a_change(paths, cache):
    """Some network file systems change inodes. A change needs another ctime, too."""
    (first, *_) = Index("bytes", 1, paths, scan, cache).files
    with_other = first._replace
    assert first.is_same(with_other(inode=7))
    assert first.is_same(with_other(ctime=7, attributes=7))
    assert not first.is_same(with_other(ctime=7))
    assert not first.is_same(with_other(inode=7, ctime=7))
    assert OpenFiles([with_other(inode=7)]).read(0, 0, 3) == b"123"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FileError("a", 0, "it is bad")])
def test_error_of_a_scan_is_raised_if_the_folder_is_deleted_in_between(cache, error):
    def make(_writer):
        shutil.rmtree(cache)
        raise error

    with pytest.raises(type(error)) as caught:
        index_module.open_or_make(f"{cache}/a.index", make)
    assert caught.value is error


def test_lock_of_another_process_is_kept_if_the_folder_was_deleted_in_between(cache):
    os.mkdir(cache)
    with index_module.locked(f"{cache}/a.lock"):
        shutil.rmtree(cache)
        os.mkdir(cache)
        with open(f"{cache}/a.lock", "w"):  # a lock of a different process
            pass
    assert os.listdir(cache) == ["a.lock"]


def test_file_that_changes_while_being_indexed_raises(paths, cache):
    def scan_touching(path):
        os.utime(path, ns=(10**18, 10**18))
        return scan(path)

    with pytest.raises(FileError, match="a: it changed while it was being indexed"):
        Index("bytes", 1, paths, scan_touching, cache)
    assert os.listdir(cache) == []


@pytest.mark.parametrize("change", ["changed", "same"])
def test_process_without_the_index_creates_the_same_one(paths, cache, change):
    index = Index("bytes", 1, paths, scan, cache)
    pickled = pickle.dumps(index)
    os.unlink(index.path)
    assert index["bytes"].tobytes() == b"12345"  # mapped before the change
    if change == "changed":
        os.utime(paths[1], ns=(10**18, 10**18))
        with pytest.raises(FileError, match="differs from the file"):
            pickle.loads(pickled)["bytes"]
    else:
        assert pickle.loads(pickled)["bytes"].tobytes() == b"12345"


def test_truncation_of_an_index_is_detected(paths, cache):
    path = Path(Index("bytes", 1, paths, scan, cache).path)
    whole = path.read_bytes()
    for length in [*range(40), *range(40, len(whole), 101)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile):
            index_file.read(str(path))


def test_changed_bit_anywhere_in_an_index_is_detected(paths, cache):
    """In every byte except padding between arrays and the version; for these, the arrays are right, or created again."""
    index = Index("bytes", 1, paths, scan, cache)
    arrays = {name: array.tobytes() for name, array in index_file.read(index.path).items()}
    whole = Path(index.path).read_bytes()
    num_noticed = 0
    positions = range(0, len(whole), step_of(1))
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        Path(index.path).write_bytes(damaged)
        try:
            found = index_file.read(index.path)
            assert found is None or {name: array.tobytes() for name, array in found.items()} == arrays
        except DamagedFile:
            num_noticed += 1
    assert num_noticed >= len(positions) - 64 * (len(arrays) + 1) - 1


def test_damaged_index_is_created_again_with_one_warning(paths, cache, caplog):
    index = Index("bytes", 1, paths, scan, cache)
    whole = Path(index.path).read_bytes()
    flipped = [bytearray(whole) for _ in range(5)]
    for damaged, position in zip(flipped, (0, 20, 40, whole.index(b"12345"), len(whole) - 1), strict=True):
        damaged[position] ^= 1
    for damaged in (whole[:-101], *flipped):
        Path(index.path).write_bytes(damaged)
        caplog.clear()
        for _ in range(2):
            assert Index("bytes", 1, paths, scan, cache)["bytes"].tobytes() == b"12345"
        assert ["the index is damaged" in record.getMessage() for record in caplog.records] == [True]
        assert Path(index.path).read_bytes() == whole


def test_index_that_was_damaged_since_the_trainer_read_it_is_created_again_by_a_worker(paths, cache):
    index = Index("bytes", 1, paths, scan, cache)
    pickled, whole = pickle.dumps(index), Path(index.path).read_bytes()
    Path(index.path).write_bytes(whole.replace(b"12345", b"12375"))
    assert pickle.loads(pickled)["bytes"].tobytes() == b"12345"
    assert Path(index.path).read_bytes() == whole


def test_index_that_another_program_removes_at_once_raises_an_error_with_a_remedy(paths, cache, monkeypatch):
    def finish_and_remove(finish, writer):
        finish(writer)
        os.unlink(path_of(writer))

    wrap(monkeypatch, index_file.IndexWriter, "finish", finish_and_remove)
    with pytest.raises(
        OSError, match=r"removed or damaged as soon as it was written. .* pass another folder as index="
    ):
        Index("bytes", 1, paths, scan, cache)


def test_index_of_another_version_is_created_again_without_a_warning(paths, cache, caplog):
    index = Index("bytes", 1, paths, scan, cache)
    with open(index.path, "r+b") as file:
        file.seek(15)
        file.write(b"\x02")
    assert Index("bytes", 1, paths, scan, cache)["bytes"].tobytes() == b"12345"
    assert caplog.records == []


def test_two_concurrent_processes_scan_once(paths, cache, tmp_path, monkeypatch):
    """The second process starts during the scan of the first, which waits until the second one waits for it."""
    log, context = str(tmp_path / "log"), multiprocessing.get_context("fork")
    is_scanning, is_waiting = context.Event(), context.Event()

    def second():
        assert is_scanning.wait(DEADLOCK_S)
        flock = fcntl.flock
        monkeypatch.setattr(fcntl, "flock", lambda *given: (is_waiting.set(), flock(*given)))
        assert Index("bytes", 1, paths, functools.partial(scan_noting, log), cache)["bytes"].tobytes() == b"12345"

    def scan_while_another_waits(path):
        is_scanning.set()
        assert is_waiting.wait(DEADLOCK_S)
        return scan_noting(log, path)

    process = context.Process(target=second)
    process.start()
    assert Index("bytes", 1, paths, scan_while_another_waits, cache)["bytes"].tobytes() == b"12345"
    process.join()
    assert process.exitcode == 0
    process.close()
    assert [line.split()[1] for line in Path(log).read_text().splitlines()] == ["a", "b", "c"]
    assert len(os.listdir(cache)) == 1


@pytest.mark.parametrize("call", ["scan", "os.fsync", "os.replace", "shutil.copyfileobj"])
def test_sigkill_leaves_no_partial_index_under_the_final_name(paths, cache, tmp_path, monkeypatch, call):
    def make():
        if call != "scan":
            monkeypatch.setattr(call, scan_dying)
        Index("bytes", 1, paths, scan_dying if call == "scan" else scan, cache)

    assert status_of_fork(make) == -signal.SIGKILL
    noting = functools.partial(scan_noting, str(tmp_path / "log"))
    index = Index("bytes", 1, paths, noting, cache)
    assert index["bytes"].tobytes() == b"12345"
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert os.listdir(cache) == [os.path.basename(index.path)]


@pytest.fixture
def in_children(monkeypatch):
    """Use two child processes, however small the files are."""
    monkeypatch.setattr(scanning, "_BYTES_OF_A_CHILD", 1)
    monkeypatch.setattr(scanning, "num_cpus", lambda: 2)
    monkeypatch.syspath_prepend(os.path.dirname(__file__))


def importable(name):
    import test_index as found  # imported as in the child processes

    return getattr(found, name)


def test_child_processes_return_scans_in_the_order_of_the_files(paths, cache, tmp_path, in_children):
    noting = functools.partial(importable("scan_noting"), str(tmp_path / "log"))
    index = Index("bytes", 1, paths, noting, cache)
    assert index["bytes"].tobytes() == b"12345"
    assert index.starts("bytes").tolist() == [0, 3, 3, 5]
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == ["a", "b", "c"]
    assert str(os.getpid()) not in {line.split()[0] for line in lines}


@pytest.mark.parametrize(
    ("scan", "words"), [("scan", "c, byte 0: it is bad"), ("scan_dying", "the process .* exited .*, with status -9")]
)
def test_failed_scan_in_a_child_process_is_raised_and_leaves_no_files(paths, cache, in_children, scan, words):
    Path(paths[2]).write_bytes(b"bad")
    with pytest.raises(FileError, match=words):
        Index("bytes", 1, paths, importable(scan), cache)
    assert os.listdir(cache) == []


def test_only_a_long_scan_shows_a_progress_bar(paths, cache, monkeypatch, capsys):
    Index("bytes", 1, paths[:2], scan, cache)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(index_module, "_BAR_AFTER_S", 0)
    real = index_module.bar_class()
    monkeypatch.setattr(index_module, "bar_class", lambda: lambda **given: real(**given | {"disable": False}))
    Index("bytes", 1, paths, scan, cache)
    assert "indexing 3 files: 100%" in capsys.readouterr().err


def test_index_is_created_without_tqdm(paths, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert Index("bytes", 1, paths, scan, cache)["bytes"].tobytes() == b"12345"
