"""Remote files: concurrent range requests with retries, and detection of changed files."""

import os
import threading

import fsspec.asyn
import pytest
from helpers.forked_calls import status_of_fork

from mpqueue.errors import FileError
from mpqueue.files.access import ranges
from mpqueue.files.access.names import expand
from mpqueue.files.access.opened import IndexedFile, OpenFiles, read_whole
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.window import open_window

fsspec.asyn.get_loop()  # its thread remains for the life of the process
DATA = bytes(range(256)) * 4000


pytestmark = pytest.mark.usefixtures("own_file_systems")


@pytest.fixture
def web(web):
    web.files["a.bin"] = DATA
    return web


@pytest.fixture
def memory(memory):
    memory.pipe("/data/a.bin", DATA)
    return memory


def opened(*names):
    return OpenFiles(IndexedFile.of_all(names))


def test_bytes_of_urls_are_read_by_position(web, memory):
    files = opened(web.url("a.bin"), "memory://data/a.bin", "simplecache::memory://data/a.bin")
    for number in range(3):
        assert files.read(number, 3, 4) == DATA[3:7]
        assert files.read(number, 7, 0) == b""
        assert files.read(number, len(DATA) - 1, 1) == DATA[-1:]
        with pytest.raises(FileError, match=r"a\.bin, byte 1,023,999: cannot read 2 bytes"):
            files.read(number, len(DATA) - 1, 2)


def test_adjacent_pieces_are_one_request_and_others_concurrent(web, tmp_path):
    (tmp_path / "b.bin").write_bytes(DATA[::-1])
    files = opened(web.url("a.bin"), str(tmp_path / "b.bin"))
    apart = [(0, 500_000, 10), (1, 5, 7), (0, 70, 30), (0, 0, 10), (0, 90, 100), (0, 60_000, 1), (1, 0, 3)]
    pieces = [FileRange(*piece) for piece in [*apart, (0, 500_100, 10)]]
    web.requests.clear()
    contents = [DATA, DATA[::-1]]
    assert files.read_all(pieces) == [contents[f][start : start + n] for f, start, n in pieces]
    assert sorted(requested for _, requested, _ in web.requests) == ["bytes=0-60000", "bytes=500000-500109"]


def test_requests_are_concurrent(web):
    """The server answers the first of eight requests when it has received the last one."""
    files = opened(web.url("a.bin"))
    together = threading.Barrier(8)
    seen = []
    web.files = Waiting(web.files, lambda: seen.append(together.wait(60)))
    starts = range(0, 800_000, 100_000)
    assert files.read_all([FileRange(0, start, 5) for start in starts]) == [DATA[start:][:5] for start in starts]
    assert sorted(seen) == list(range(8))


class Waiting(dict):
    """Files that exist only after an event."""

    def __init__(self, files, wait):
        super().__init__(files)
        self._wait = wait

    def get(self, name):
        self._wait()
        return super().get(name)


@pytest.mark.parametrize("fault", ["busy", "drop", "cut"])
def test_temporary_failures_are_retried(web, fault):
    web.faults += [fault, fault]
    files = opened(web.url("a.bin"))
    for length in (10, 100_000):
        web.faults += [fault] * 3
        assert files.read(0, 5, length) == DATA[5 : 5 + length]
    assert web.faults == []


def test_silent_server_is_retried(web, monkeypatch):
    files = opened(web.url("a.bin"))
    monkeypatch.setattr(ranges, "_SILENCE_S", 0.5)
    web.faults += ["silent"]
    assert files.read(0, 5, 10) == DATA[5:15]


def test_persistent_failure_raises_an_error_with_file_and_cause(web):
    files = opened(web.url("a.bin"))
    for fault, cause in (("busy", "status 503"), ("drop", "Disconnected"), ("cut", "not enough data|Payload")):
        web.faults[:] = [fault] * 12  # aiohttp retries as well
        with pytest.raises(OSError, match=rf"6 attempts; the last error was .*({cause}).*/a\.bin"):
            files.read(0, 0, 1000)


def test_missing_file_is_not_retried(web, memory):
    for name in (web.url("none"), "memory://none"):
        with pytest.raises(FileNotFoundError, match="none"):
            IndexedFile.of(name)
    assert len(web.requests) == 1


@pytest.mark.parametrize("data", [DATA[:1000], DATA[::-1], DATA * 2], ids=["shrunk", "other", "grown"])
@pytest.mark.parametrize("where", ["web", "memory"])
def test_file_that_changes_between_reads_raises_an_error_with_its_name(web, memory, where, data):
    name = web.url("a.bin") if where == "web" else "memory://data/a.bin"
    files = opened(name)
    assert files.read(0, 2000, 2) == DATA[2000:2002]
    web.files["a.bin"] = data
    memory.pipe("/data/a.bin", data)
    with pytest.raises(FileError, match=rf"{name}: it has changed since it was indexed: it had 1,024,000"):
        files.read(0, 2000, 2)
    with pytest.raises(FileError, match=r"a\.bin: it has changed"):
        files.read_all([FileRange(0, 10, 5), FileRange(0, 500_000, 5)])
    assert opened(name).read(0, 10, 5) == data[10:15]


def test_file_removed_between_reads_raises_file_not_found(web, memory):
    for name, store in ((web.url("a.bin"), web.files), ("memory://data/a.bin", memory.store)):
        files = opened(name)
        store.clear()
        with pytest.raises(FileNotFoundError, match=r"a\.bin"):
            files.read(0, 0, 1)


def test_server_without_range_requests_raises_before_any_read(web):
    web.has_ranges = False
    with pytest.raises(FileError, match=r"a\.bin: the server must support range requests"):
        opened(web.url("a.bin"))
    assert read_whole(web.url("a.bin")) == DATA


def test_change_visible_only_in_the_size_is_detected(web):
    web.has_etags = False
    files = opened(web.url("a.bin"))
    assert files.read(0, 0, 2) == DATA[:2]
    web.files["a.bin"] += b"x"
    with pytest.raises(FileError, match="it has changed"):
        files.read(0, 0, 2)


def test_an_empty_file_has_no_bytes(web):
    web.files["empty"] = b""
    assert opened(web.url("empty")).read(0, 0, 0) == b""


def test_forked_child_has_separate_connections(web):
    """It sends requests while its parent does, and neither receives the other's answers."""
    files = opened(web.url("a.bin"))
    assert files.read(0, 0, 3) == DATA[:3]
    ports = {port for _, _, port in web.requests}
    web.requests.clear()
    assert status_of_fork(lambda: all(files.read(0, i, 2) == DATA[i : i + 2] for i in range(100))) == 1
    assert not ports & {port for _, _, port in web.requests}
    web.requests.clear()
    assert files.read(0, 0, 3) == DATA[:3]
    assert {port for _, _, port in web.requests} <= ports


def test_user_random_generators_are_not_used(web):
    import random

    random.seed(1)
    before = random.getstate()
    web.faults += ["busy"] * 2
    opened(web.url("a.bin"))
    assert random.getstate() == before


def test_scan_reads_ahead_in_blocks(web):
    web.files["large"] = data = os.urandom(1 << 20) * 24
    with open_window(web.url("large")) as window:
        assert window.size == len(data)
        web.requests.clear()
        for at in range(0, len(data), 100_000):
            assert window.read(at, 512) == data[at : at + 512]
        assert window.read(len(data), 10) == b""
        assert window.read(len(data) - 5, 10) == data[-5:]
    assert len(web.requests) == 12  # of 2 MB


def test_patterns_match_the_files_of_a_file_system(web, memory):
    memory.pipe({f"/data/{i}.tar": b"" for i in range(3)})
    assert expand("memory://data/*.tar") == [f"memory://data/{i}.tar" for i in range(3)]
    assert expand("simplecache::memory://data/[12].tar") == [f"simplecache::memory://data/{i}.tar" for i in (1, 2)]
    assert expand("memory://data/{1..2}.tar") == ["memory://data/1.tar", "memory://data/2.tar"]
    with pytest.raises(FileNotFoundError, match=r"no file matches memory://data/\*\.zip"):
        expand("memory://data/*.zip")
    web.files |= {"x/1.tar": b"", "x/2.tar": b"", "x/3.bin": b""}
    assert expand(web.url("x/*.tar")) == [web.url("x/1.tar"), web.url("x/2.tar")]
    assert expand(web.url("a.bin?of=[*]")) == [web.url("a.bin?of=[*]")]


def test_path_that_is_not_a_file_raises(memory):
    with pytest.raises(FileError, match="it is a folder"):
        IndexedFile.of("memory://data")
    with pytest.raises(ValueError, match="nothing"):
        expand("nothing://x/y")
