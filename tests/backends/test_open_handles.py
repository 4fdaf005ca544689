"""Handles that a source holds open: each worker reads files at its own position, or an error names the remedy."""

import contextlib
import csv
import gzip
import io
import multiprocessing
import os
import socket
import sqlite3
import sys
import tarfile
import tempfile
import threading
import types
import warnings
import zipfile

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.faults import Numbers
from helpers.forked_calls import status_of_fork
from helpers.gates import Gate, pass_gate
from helpers.one_epoch import one_epoch
from helpers.proxies import Proxy
from helpers.started_enqueuer import started

import mpqueue
from mpqueue import Loader
from mpqueue.backends.sending import open_handles
from mpqueue.system.descriptors import open_files

pytestmark = pytest.mark.shared_fork_server

ROW_BYTES = 64
ROWS = [b"%04d" % number * (ROW_BYTES // 4) for number in range(16)]


class Rows(Numbers):
    """Reads rows by seeking; two workers alternate, each between the seek and the read of the other."""

    def __init__(self, gate, opened):
        super().__init__(2)
        self.gate, self.file = gate, opened

    def seek(self, index):
        self.file.seek((3 + 9 * index) * ROW_BYTES)

    def __getitem__(self, index):
        self.seek(index)
        pass_gate(self.gate)
        return np.frombuffer(self.file.read(ROW_BYTES), np.uint8)


class Plain(Rows):
    def __getitem__(self, index):
        return index


def in_file(path, opened=open, mode="rb", **options):
    with gzip.open(path, "wb") if opened is gzip.open else open(path, "wb") as file:
        file.write(b"".join(ROWS))
    return opened(path, mode, **options)


def nameless(path):
    """A temporary file with a part that is still buffered."""
    file = tempfile.TemporaryFile(dir=path.parent)
    file.write(b"".join(ROWS))
    return file


def deleted(path):
    file = in_file(path)
    path.unlink()
    return file


OPENED = {
    "buffered": in_file,
    "raw": lambda path: in_file(path, buffering=0),
    "nameless": nameless,
    "deleted": deleted,
    "compressed": lambda path: in_file(path, gzip.open),
}


def read_interleaved(loader_or_batches, gate):
    """Make both workers seek before one reads."""
    arrivals = [gate.arrival(), gate.arrival()]
    for arrival in arrivals:
        arrival.let_go()
    return [bytes(batch) for batch in loader_or_batches]


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.filterwarnings("ignore:the source cannot be sent")
def test_workers_that_inherit_an_open_file_read_at_their_own_positions(kind, tmp_path):
    with Gate() as gate, OPENED[kind](tmp_path / "rows") as file:
        with Loader(Rows(gate.address, file), workers=2) as loader:
            batches = iter(loader)
            assert read_interleaved(batches, gate) == [ROWS[3], ROWS[12]]


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
def test_reads_of_the_trainer_do_not_move_the_position_of_a_worker(tmp_path):
    with Gate() as gate, in_file(tmp_path / "rows", buffering=0) as file:
        with Loader(Rows(gate.address, file), workers=1) as loader:
            batches = iter(loader)
            for index in range(2):
                arrival = gate.arrival()
                file.seek(0)
                arrival.let_go()
                assert bytes(next(batches)) == ROWS[3 + 9 * index]


class OpenedWhenUnpickled(Rows):
    """Like programs that close the file in `__getstate__`: the fork server opens it once for all workers."""

    def __getstate__(self):
        return self.gate, self.file.name, self.file.mode

    def __setstate__(self, state):
        gate, path, mode = state
        self.__init__(gate, open(path, mode))


@pytest.mark.sample(1)
@pytest.mark.parametrize("mode", ["rb", "rb+"])
def test_workers_with_a_file_opened_while_unpickling_read_at_their_own_positions(mode, tmp_path):
    with Gate() as gate, in_file(tmp_path / "rows", mode=mode) as file:
        with started(OpenedWhenUnpickled(gate.address, file), 2) as enqueuer:
            batches = enqueuer.get()
            assert read_interleaved((next(batches) for _ in range(2)), gate) == [ROWS[3], ROWS[12]]


class Archived(Numbers):
    """Members of an archive, read repeatedly by two workers at the same time."""

    def __init__(self, archive, read):
        super().__init__(len(ROWS))
        self.archive, self.read = archive, read

    def __getitem__(self, index):
        return [self.read(self.archive, str(index)) for _ in range(20)] == [ROWS[index]] * 20


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
def test_each_worker_reads_its_members_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        for index, row in enumerate(ROWS):
            archive.writestr(str(index), row)
    with tarfile.open(tmp_path / "tar", "w") as archive:
        for index, row in enumerate(ROWS):
            info = tarfile.TarInfo(str(index))
            info.size = len(row)
            archive.addfile(info, io.BytesIO(row))
    for opened, read in (
        (zipfile.ZipFile(tmp_path / "zip"), lambda archive, name: archive.read(name)),
        (tarfile.open(tmp_path / "tar"), lambda archive, name: archive.extractfile(name).read()),
    ):
        with opened, Loader(Archived(opened, read), workers=2) as loader:
            assert list(loader) == [True] * len(ROWS)


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_each_worker_reads_its_arrays_of_an_open_npz(backend, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", rows=np.arange(60)[:, None].repeat(100, 1), other=np.arange(1000))
    with np.load(tmp_path / "a.npz") as arrays:  # access to the class of its attribute ``f`` raises
        rows = Computed(lambda index: (arrays["rows"][index] == index).all() and len(arrays["other"]) == 1000, 60)
        rows.arrays = arrays
        # One thread: two would share the offset of the archive's file, and ZipFile does not lock each seek (3.13.0).
        assert one_epoch(rows, workers=2 if backend == "process" else 1, backend=backend) == [True] * 60


def test_file_that_is_invisible_in_the_source_is_reopened(tmp_path):
    """The file of an iterator in C, or of a library."""
    (tmp_path / "table").write_text("".join(f"{number},\n" for number in range(4000)))

    with open(tmp_path / "table") as file:
        lines = csv.reader(file)
        next(lines)
        rest = Computed(lambda _: [int(line[0]) for line in lines] == list(range(1, 4000)), 2)
        assert one_epoch(rest, workers=2, start_method="fork") == [True, True]


def test_position_is_that_at_the_fork(tmp_path):
    with in_file(tmp_path / "rows", buffering=0) as file:
        file.seek(5 * ROW_BYTES)
        shared = open_files.shared_files()
        file.seek(0)
        assert status_of_fork(lambda: open_files.reopen(shared) or file.read(4) == b"0005") == 1
        assert file.read(4) == b"0000"


def piped():
    read_end, write_end = os.pipe()
    os.close(write_end)
    return open(read_end, "rb")


def connected():
    ours, theirs = socket.socketpair()
    with theirs, ours:
        return ours.makefile("rb")


def bare_socket():
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


def bare_connection():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.close()
    return ours


@pytest.mark.parametrize(
    ("make", "what", "options"),
    [
        (piped, "a pipe", {}),
        (connected, "a socket", {"start_method": "fork"}),
        (bare_socket, "a socket", {}),
        (bare_connection, "a pipe", {"start_method": "fork"}),
    ],
)
def test_pipes_and_sockets_for_several_workers_are_rejected_before_a_start(make, what, options):
    with make() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loader = Loader(Archived({"input": stream}, bytes.join), workers=2, **options)
        with pytest.raises(TypeError, match=rf"source\.archive\['input'\] is {what}.*2 worker.*__getstate__"):
            next(iter(loader))
        loader.close()


class OfAForkedClient:
    """Like database clients that reconnect in a child."""

    def __init__(self, sock):
        self.pid, self.sock = os.getpid(), sock


def test_objects_made_for_several_processes_are_accepted():
    listening, datagrams = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    with connected() as closed:
        pass
    with bare_socket() as sock, listening, datagrams:
        held = [multiprocessing.Queue(), OfAForkedClient(sock), listening, datagrams, closed]
        open_handles.refuse_what_forks_share(held, 2)
        with pytest.raises(TypeError, match="is a socket"):
            open_handles.refuse_what_forks_share([held, sock], 2)


@pytest.mark.parametrize(
    "hold", [list, tuple, lambda files: dict(enumerate(files)), lambda files: [{"file": Proxy(f)} for f in files]]
)
def test_all_writable_files_of_a_source_are_found(hold, tmp_path):
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(in_file(tmp_path / str(number), mode="r+b")) for number in range(100)]
        found = open_handles.opened_for_writing(types.SimpleNamespace(files=["a name"] * 3000, more=hold(files)))
        assert {one.fd for one in found} == {file.fileno() for file in files}


def test_descriptor_number_reused_before_the_fork_is_left_alone(tmp_path):
    with in_file(tmp_path / "one") as one, in_file(tmp_path / "other") as other:
        shared = [file for file in open_files.shared_files() if file.file.fd == one.fileno()]
        os.dup2(other.fileno(), one.fileno())
        open_files.reopen(shared)
        other.seek(4)
        assert os.lseek(one.fileno(), 0, os.SEEK_CUR) == 4  # still the same open file


@pytest.mark.filterwarnings("ignore:the source cannot be sent")
def test_one_worker_may_read_a_pipe():
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as stream, open(write_end, "wb", buffering=0) as pipe:
        pipe.write(ROWS[0])

        with Loader(Computed(lambda index: stream.read(4 if index < 2 else 0)), workers=1) as loader:
            assert [next(iter(loader))] == [b"0000"]


def test_database_that_must_not_cross_a_fork_is_one_warning(tmp_path):
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("create table rows (row blob)")
        database.executemany("insert into rows values (?)", [(row,) for row in ROWS])

    def read(database, name):
        return database.execute("select row from rows limit 1 offset ?", (int(name),)).fetchone()[0]

    with Loader(Archived(database, read), workers=2, start_method="fork") as loader:
        with pytest.warns(RuntimeWarning, match=r"source\.archive is a sqlite3\.Connection .* forbids") as caught:
            assert list(loader) == [True] * len(ROWS)
        assert len(caught) == 1
    database.close()


class OfTheUser(sqlite3.Connection):
    pass


def test_subclasses_cursors_and_transactions_of_databases_are_warnings(monkeypatch):
    lmdb = types.ModuleType("lmdb")
    lmdb.Environment, lmdb.Transaction = type("Environment", (), {}), type("Transaction", (), {})
    monkeypatch.setitem(sys.modules, "lmdb", lmdb)
    database = sqlite3.connect(":memory:", factory=OfTheUser)
    for held, name in (
        (database, r"sqlite3\.Connection"),
        (database.cursor(), r"sqlite3\.Cursor"),
        ([database, database.cursor()], r"sqlite3\.Connection"),
        (Proxy(database), r"sqlite3\.Connection"),
        (lmdb.Environment(), r"lmdb\.Environment"),
        (type("Derived", (lmdb.Transaction,), {})(), r"lmdb\.Transaction"),
    ):
        with pytest.warns(RuntimeWarning, match=f" is a {name} that was opened before .* forbids") as caught:
            open_handles.refuse_what_forks_share({"held": held}, 2)
        assert len(caught) == 1
    database.close()


class Locked(Rows):
    def __init__(self, gate, opened):
        super().__init__(gate, opened)
        self.lock = threading.Lock()

    def __getitem__(self, index):
        with self.lock:
            self.seek(index)
            return self.file.read(ROW_BYTES)


@pytest.mark.parametrize("held", [lambda file: file, Proxy])
def test_file_shared_by_threads_without_a_lock_is_a_warning(held, tmp_path):
    with in_file(tmp_path / "rows") as file:
        with Loader(Plain("", held(file)), workers=2, backend="thread") as loader:
            with pytest.warns(RuntimeWarning, match=r"source\.file is an open file .*all worker threads"):
                assert list(loader) == [0, 1]
        for quiet in ({"source": Locked("", file), "workers": 2}, {"source": Plain("", file), "workers": 1}):
            with warnings.catch_warnings(), Loader(**quiet, backend="thread") as loader:
                warnings.simplefilter("error")
                assert len(list(loader)) == 2
    assert mpqueue.worker_info() is None
