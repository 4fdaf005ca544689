"""Each format read from URLs returns the same samples as from local files."""

import pickle

import fsspec.asyn
import pytest
from helpers.file_formats import SOURCES, comparable, several, write_all, write_array_record
from helpers.range_server import forget_file_systems

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files import array_record
from mpqueue.files.access import ranges

pytest.importorskip("pyarrow.parquet")
fsspec.asyn.get_loop()  # its thread remains for the life of the process


pytestmark = pytest.mark.usefixtures("own_file_systems")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("formats"))


@pytest.mark.parametrize(
    ("format", "where"), [*((format, "http") for format in SOURCES), ("tar", "memory"), ("parquet", "memory")]
)
def test_samples_equal_those_of_local_files(folder, format, where, web, memory):
    local = SOURCES[format](folder)
    names = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    indices = [*range(len(local) - 1, -1, -7), 0, 0, -1]
    wanted = [comparable(sample) for sample in several(local, indices)]
    web.files = names
    memory.pipe({f"/d/{name}": data for name, data in names.items()})
    source = SOURCES[format]("memory://d" if where == "memory" else web.url("").rstrip("/"))
    assert len(source) == len(local)
    for copy in (source, pickle.loads(pickle.dumps(source))):
        web.faults += ["busy", None, "cut"]
        assert [comparable(sample) for sample in several(copy, indices)] == wanted
        if hasattr(copy, "get_blocks"):
            found = copy.get_blocks([range(len(local) - 10, len(local)), range(3, 30)])[[5, 10]]
            assert [*map(comparable, found)] == [comparable(local[-5]), comparable(local[3])]


def test_unselected_columns_are_not_requested(folder, web):
    web.files["0.parquet"] = (folder / "0.parquet").read_bytes()
    source = files.Parquet(web.url("0.parquet"), ["int"])
    source[0]
    web.requests.clear()
    source[50]
    assert len(web.requests) == 1
    first, last = map(int, web.requests[0][1].removeprefix("bytes=").split("-"))
    assert last - first < 1000


def test_remote_file_that_changes_while_being_indexed_raises(folder, web):
    data = (folder / "0.tar").read_bytes()
    web.files["0.tar"] = data
    real = ranges.RangedFile.read

    def change(file, offset, length):
        found = real(file, offset, length)
        web.files["0.tar"] = data[:-1] + b"x"
        return found

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FileError, match=r"0\.tar: it changed"):
        patch.setattr(ranges.RangedFile, "read", change)
        files.Tar(web.url("0.tar"))


@pytest.mark.parametrize("threads", [1, 4])
def test_workers_use_separate_connections(folder, web, threads):
    web.files = {f"{i}.tar": (folder / f"{i}.tar").read_bytes() for i in range(2)}
    source = files.Tar(web.url("{0..1}.tar"))
    ports = {port for _, _, port in web.requests}
    web.requests.clear()
    with mpqueue.Loader(source, batch_size=16, shuffle=True, workers=2, threads=threads, seed=1) as loader:
        keys = [key for batch in loader for key in batch["__key__"]]
    assert sorted(keys) == [f"{number}-{i:03d}" for number in range(2) for i in range(100)]
    assert web.requests
    assert not ports & {port for _, _, port in web.requests}


def test_file_for_a_library_that_needs_a_path_is_downloaded_once(tmp_path, web, monkeypatch):
    """In several requests, with retries; again if its copy was deleted, or if the file has changed."""
    monkeypatch.setattr(array_record, "_REQUEST_BYTES", 5000)

    def data_of(numbers):
        return write_array_record(tmp_path / "a.array_record", [b"%d" % number for number in numbers]).read_bytes()

    web.files["a.array_record"], web.faults = data_of(range(500)), [None, "busy", None, "cut"]
    url, kept = web.url("a.array_record"), tmp_path / "kept"
    source = files.ArrayRecord(url, index=kept)
    assert source.__getitems__([499, 7, -1]) == [b"499", b"7", b"499"]
    asked = len(web.requests)
    copy = pickle.loads(pickle.dumps(source))
    assert copy[3] == b"3" and len(web.requests) == asked

    (gone,) = kept.glob("*.fetched")
    gone.unlink()
    assert pickle.loads(pickle.dumps(source))[4] == b"4" and len(web.requests) > asked

    web.files["a.array_record"] = data_of(range(1000, 1700))
    forget_file_systems()
    assert files.ArrayRecord(url, index=kept)[699] == b"1699"
    assert source[5] == b"5"

    gone.unlink()
    with pytest.raises(FileError, match=r"a\.array_record.*changed"):
        pickle.loads(pickle.dumps(source))[4]
    assert sorted(path.suffix for path in kept.iterdir()) == [".check", ".fetched", ".index", ".index"]
