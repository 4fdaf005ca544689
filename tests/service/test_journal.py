"""The journal of a server after any crash of its writer."""

import base64
import errno
import fcntl
import json
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.queue_processes import Other
from helpers.refused_calls import refusing
from helpers.server_directories import STRANGER, become, needs_root
from helpers.signal_handlers import handling, raising

from mpqueue.errors import ServiceError
from mpqueue.service.serving.journal import _MARK, Journal, Recovered, Survivor, lock_journal, read_journal, started_at
from mpqueue.system.paths.own_files import seal


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def begun(path: str, epoch: int = 0, state: object = None) -> Journal:
    journal = Journal(path, "job", 7)
    journal.begin(epoch, state)
    return journal


def written(path: str, *taken: tuple[int, int]) -> None:
    journal = begun(path, 3, {"order": [2, 1]})
    journal.note_arrival(11, Survivor(100, 5))
    journal.note_arrival(12, Survivor(101, 6))
    for who, position in taken:
        journal.note_taken(position, who)
    journal.note_departure(12)
    journal.close()


def test_journal_contains_taken_batches_and_consumers(path: str):
    written(path, (0, 0), (1, 1), (0, 2))
    recovered = read_journal(path)
    assert recovered == Recovered("job", 7, 3, {0: {0, 2}, 1: {1}}, {11: Survivor(100, 5)}, {"order": [2, 1]})
    assert [recovered.count_of(rank, 2) for rank in (0, 1, 2)] == [2, 1, 0]
    assert recovered.pairs() == [(0, 0), (0, 2), (1, 1)]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_new_journal_has_no_file_before_first_epoch(path: str):
    assert read_journal(path) is None


def test_new_epoch_drops_taken_batches_and_keeps_consumers(path: str):
    journal = begun(path)
    journal.note_arrival(11, Survivor(100, 5))
    journal.note_taken(4, 0)
    journal.begin(1, None)
    journal.close()
    assert read_journal(path) == Recovered("job", 7, 1, {}, {11: Survivor(100, 5)}, None)
    assert not os.path.exists(f"{path}.new")


def head_bytes(data: bytes) -> int:
    return data.index(b"}\n") + 2


def test_complete_records_survive_a_kill_at_any_byte(path: str, caplog):
    written(path, (0, 0), (0, 1), (0, 2))
    data = Path(path).read_bytes()
    head = head_bytes(data)
    for length in range(head, len(data) + 1):
        for lost in (b"", bytes(70)):  # after a power failure, the file may have its size and lack its last blocks
            content = data[:length] + lost
            Path(path).write_bytes(content)
            caplog.clear()
            # The zeros at the end of a record need not be written.
            num_records = sum(content[at : at + 32] == data[at : at + 32] for at in range(head, len(data), 32))
            num_taken = num_records - 2  # after two arrivals
            assert read_journal(path).taken.get(0, set()) == set(range(max(0, min(3, num_taken))))
            is_torn = len(content) != head + 32 * num_records
            assert ["is incomplete" in record.getMessage() for record in caplog.records] == [True] * is_torn


def test_damaged_record_before_the_last_one_raises_and_names_the_way_out(path: str):
    written(path, (0, 0), (0, 1))
    data = Path(path).read_bytes()
    head = head_bytes(data)
    for at in range(head, len(data) - 32):
        Path(path).write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        whole = head + (at - head) // 32 * 32
        with pytest.raises(ServiceError, match=f"damaged at byte {whole} of .*truncate -s {whole} {path}") as caught:
            read_journal(path)
    assert "Restore the file from a copy" in str(caught.value)
    os.truncate(path, whole)
    assert read_journal(path).taken == {0: {0}}


@pytest.mark.parametrize("change", ["missing", "repeated", "swapped", "of another journal"])
def test_intact_records_in_another_order_are_refused(path: str, change: str):
    written(path, (0, 0), (0, 1), (0, 2))
    data = Path(path).read_bytes()
    head = head_bytes(data)
    a, b, *rest = (data[at : at + 32] for at in range(head, len(data), 32))
    written(f"{path}.other", (0, 5))
    other = Path(f"{path}.other").read_bytes()[-64:-32]
    records = {"missing": [b], "repeated": [a, a, b], "swapped": [b, a], "of another journal": [a, other, b]}[change]
    Path(path).write_bytes(data[:head] + b"".join([*records, *rest]))
    with pytest.raises(ServiceError, match="is damaged at byte"):
        read_journal(path)


@pytest.mark.parametrize("text", ["hello\n", '{"journal": 2, "job": "j", "seed": 1, "epoch": 0, "state": null}\n', ""])
def test_file_of_another_kind_is_refused(path: str, text: str):
    Path(path).write_text(text)
    with pytest.raises(ServiceError, match=r"is not a journal of this version .* choose another path, or remove it"):
        read_journal(path)


def test_failed_sync_is_logged_and_does_not_end_the_server(path, monkeypatch, caplog):
    tried = threading.Event()

    def fails(fd: int) -> None:
        tried.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    journal = begun(path, 3)
    assert tried.wait(60)
    tried.clear()
    journal.note_taken(1, 0)
    assert tried.wait(60), "its thread continues"
    journal.close()
    assert "Input/output error" in caplog.text
    assert read_journal(path).taken == {0: {1}}


def test_new_file_is_synced_before_it_replaces_the_old_one(path: str, monkeypatch: pytest.MonkeyPatch):
    steps: list[tuple[str, str]] = []

    def note(name: str) -> None:
        call = getattr(os, name)

        def noted(*arguments: object) -> object:
            steps.append((threading.current_thread().name, name))  # a thread syncs, too
            return call(*arguments)

        monkeypatch.setattr(os, name, noted)

    for name in ("fdatasync", "rename", "fsync"):
        note(name)
    journal = begun(path, 3)
    journal.begin(4, None)
    journal.close()
    here = [name for thread, name in steps if thread == threading.current_thread().name]
    assert here[:6] == ["fdatasync", "rename", "fsync"] * 2


def test_second_user_of_a_journal_is_refused(path: str):
    unlock = lock_journal(path)
    with pytest.raises(ServiceError, match=f"{path} is in use by the server in process {os.getpid()}: stop that serv"):
        lock_journal(path)
    unlock()
    assert not os.listdir(os.path.dirname(path))
    lock_journal(path)()


def test_file_system_without_locks_is_reported(path: str, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOSYS))
    lock_journal(path)()
    assert "has no locks: no other server may use it at the same time" in caplog.text


def test_next_server_also_waits_for_survivors_not_yet_back(path: str):
    journal = Journal(path, "job", 7)
    journal.await_back({-1: Survivor(100, 5), -2: Survivor(100, 5), -3: Survivor(101, 6), -4: Survivor(102, 7)})
    journal.begin(3, None)
    journal.note_arrival(1, Survivor(100, 5))
    journal.note_given_up(102)
    journal.close()
    assert sorted(read_journal(path).survivors.values()) == [Survivor(100, 5), Survivor(100, 5), Survivor(101, 6)]


@pytest.mark.parametrize(("has_ranks", "taken"), [(False, {-1: {5}, -2: {0, 4}, 0: {3, 9}}), (True, None)])
def test_consumers_of_the_next_server_get_no_number_of_an_earlier_one(has_ranks: bool, taken):
    before = {2: {5}, 3: {0, 4}, 1: {3}, 7: {9}}  # the consumers 1 and 7 have left
    recovered = Recovered(taken=dict(before), survivors={2: Survivor(100, 5), 3: Survivor(101, 6)})
    recovered.renumber(has_ranks=has_ranks)
    assert recovered.survivors == {-1: Survivor(100, 5), -2: Survivor(101, 6)}
    assert recovered.taken == (before if has_ranks else taken)


def test_process_is_identified_by_its_start_time():
    assert started_at(os.getpid()) > 0
    assert started_at(os.getpid()) == started_at(os.getpid())
    assert started_at(2**22 + 1) == 0


def test_state_of_a_source_is_restored_exactly(path: str):
    """With its types, which JSON would change, and its shared references."""
    order = [1, (True, 1.0, float("inf"), b"x", "\ud83d"), {None: 1 << 5000}]
    state = {"old": order, "new": order, "numpy": [np.float32(1.5), np.random.default_rng(3).bit_generator.state]}
    journal = begun(path, 0, state)
    journal.close()
    back = read_journal(path).state
    assert repr(back) == repr(state)
    assert back["old"] is back["new"]


def test_journal_of_another_version_is_refused(path: str):
    written(path)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:15] + b"\x09" + data[16:])
    with pytest.raises(ServiceError, match=r"is not a journal of this version .*version 9"):
        read_journal(path)


def write_state(path: str, pickled: bytes) -> None:
    """Write a journal with a pickle as the state of the source."""
    head = {"job": "j", "seed": 1, "epoch": 0, "state": {"pickle": base64.b64encode(pickled).decode()}}
    Path(path).write_bytes(seal(_MARK, json.dumps(head).encode() + b"\n"))


def test_state_that_cannot_be_unpickled_raises_clear_error(path: str):
    write_state(path, b"cno_such_module\nState\n.")
    with pytest.raises(ServiceError, match=r"no_such_module.*choose another path, or remove it"):
        read_journal(path)


class Alarm(Exception):
    """The exception of a signal handler."""


def test_handler_that_raises_while_a_state_is_unpickled_is_not_an_error_of_the_journal(path: str):
    write_state(path, pickle.dumps(Signalling()))
    with handling(raising(Alarm), signal.SIGUSR1), pytest.raises(Alarm):
        read_journal(path)


def test_consumer_that_is_back_is_never_counted_twice(path: str, monkeypatch: pytest.MonkeyPatch):
    """Wherever the server is killed: the next one would wait for two consumers of the process, until they are late."""
    survivor, counts = Survivor(100, 5), []
    journal = Journal(path, "job", 7)
    journal.await_back({-1: survivor})
    journal.begin(0, None)
    write = os.write

    def look(fd: int, data: bytes) -> int:
        written = write(fd, data)
        counts.append(len(read_journal(path).survivors))
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", look)
        journal.note_arrival(11, survivor)
    journal.close()
    assert set(counts) == {1}
    assert read_journal(path).survivors == {11: survivor}


class Signalling:
    """Sends a signal to this process when unpickled."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGUSR1,)


@pytest.mark.parametrize("num_written", [0, 1, 31])
def test_no_record_follows_one_that_could_not_be_written(path: str, monkeypatch: pytest.MonkeyPatch, num_written: int):
    """A server may continue after an error, and the disk may have room again."""
    journal = begun(path)
    journal.note_arrival(11, Survivor(100, 5))
    journal.note_taken(0, 0)
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) == 32 and num_written:
            return write(fd, data[:num_written])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr(os, "write", full)
        journal.note_taken(1, 0)
    for call in (lambda: journal.note_taken(2, 0), lambda: journal.note_departure(11)):
        with pytest.raises(OSError, match="an earlier record of the journal could not be written: restart the server"):
            call()
    assert read_journal(path).taken == {0: {0}}
    journal.begin(1, None)
    journal.note_taken(2, 0)
    journal.close()
    assert read_journal(path).taken == {0: {2}}


# Data of other users is neither read nor overwritten


class Marking:
    """Creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plant(path: str, mark: Path) -> None:
    write_state(path, pickle.dumps(Marking(mark)))


@pytest.fixture
def mark(tmp_path: Path):
    position = tmp_path / "code_ran"
    yield position
    assert not position.exists()


def test_link_in_place_of_next_file_is_not_followed(path: str, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.symlink(precious, f"{path}.new")
    written(path, (0, 0))
    assert precious.read_text() == "precious"
    assert not os.path.islink(path)
    assert read_journal(path).taken == {0: {0}}


def test_failed_rewrite_keeps_the_old_file_and_leaves_no_new_one(path: str, monkeypatch: pytest.MonkeyPatch):
    journal = begun(path)
    journal.note_taken(4, 0)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the journal cannot be written"):
        patch.setattr(os, "write", refusing(errno.ENOSPC))
        journal.begin(1, None)
    assert os.listdir(os.path.dirname(path)) == ["journal"]
    assert read_journal(path) == Recovered("job", 7, 0, {0: {4}})
    journal.begin(1, None)
    journal.close()
    assert read_journal(path) == Recovered("job", 7, 1)


@needs_root
@pytest.mark.parametrize("name", ["journal", "journal.new", "journal.lock"])
def test_other_user_in_shared_folder_can_only_prevent_start(tmp_path: Path, mark: Path, name: str):
    """Root may remove all files, so the server's user is a separate one here."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    for parent in [tmp_path, *tmp_path.parents]:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    with Other() as stranger, Other() as server:
        stranger.ask(become, STRANGER)
        server.ask(become, STRANGER - 1)
        stranger.ask(plant, str(folder / name), mark)
        error = server.ask(refused_journal, str(folder / "journal"))
    assert f"belongs to uid {STRANGER}" in error if name == "journal" else f"{folder / name}" in error


def refused_journal(path: str) -> str:
    try:
        lock_journal(path)
        read_journal(path)
        written(path)
    except (ServiceError, OSError) as error:
        return str(error)
    return ""


def test_journal_without_standard_input_is_synced(path: str, monkeypatch: pytest.MonkeyPatch):
    """Its descriptor is not 0."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    standard_input = os.dup(0)
    os.close(0)
    try:
        journal = begun(path, 3)
        journal.close()
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)
    assert synced
    assert min(synced) > 2
