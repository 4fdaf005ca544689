"""The journal of a server after any crash of its writer."""

import base64
import errno
import json
import os
import pickle
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.others import Other
from helpers.server_directories import STRANGER, become, needs_root
from hypothesis import given
from hypothesis import strategies as st

from mpqueue.errors import ServiceError
from mpqueue.service.journal import Journal, Recovered, Survivor, read_journal, started_at


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def written(path: str, *taken: tuple[int, int]) -> None:
    journal = Journal(path, "job", 7)
    journal.begin(3, {"order": [2, 1]})
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


def test_new_journal_has_no_file_before_first_epoch(path: str):
    assert read_journal(path) is None
    Path(path).touch()
    assert read_journal(path) is None


def test_new_epoch_drops_taken_batches_and_keeps_consumers(path: str):
    journal = Journal(path, "job", 7)
    journal.begin(0, None)
    journal.note_arrival(11, Survivor(100, 5))
    journal.note_taken(4, 0)
    journal.begin(1, None)
    journal.close()
    assert read_journal(path) == Recovered("job", 7, 1, {}, {11: Survivor(100, 5)}, None)
    assert not os.path.exists(f"{path}.new")


@given(cut=st.integers(0, 200))
def test_complete_records_survive_a_kill_at_any_byte(tmp_path_factory: pytest.TempPathFactory, cut: int):
    path = str(tmp_path_factory.mktemp("torn") / "journal")
    written(path, (0, 0), (0, 1), (0, 2))
    data = Path(path).read_bytes()
    head = data.index(b"\n") + 1
    length = max(head, len(data) - cut)
    Path(path).write_bytes(data[:length])
    recovered = read_journal(path)
    assert recovered is not None
    num_records = (length - head) // 32
    assert recovered.taken.get(0, set()) == set(range(max(0, min(3, num_records - 2))))


@given(at=st.integers(0, 95), flip=st.integers(1, 255))
def test_overwritten_record_ends_the_journal(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int):
    path = str(tmp_path_factory.mktemp("flipped") / "journal")
    written(path, (0, 0))
    data = bytearray(Path(path).read_bytes())
    head = data.index(b"\n") + 1
    data[head + at] ^= flip
    Path(path).write_bytes(data)
    recovered = read_journal(path)
    assert recovered is not None
    survivors = {11: Survivor(100, 5), 12: Survivor(101, 6)}
    assert recovered.taken == {}
    assert recovered.survivors == dict(list(survivors.items())[: at // 32])


@pytest.mark.parametrize(
    "text", ["hello\n", '{"journal": 9, "job": "j", "seed": 1, "epoch": 0, "state": null}\n', "[]\n"]
)
def test_file_of_another_kind_is_refused(path: str, text: str):
    Path(path).write_text(text)
    with pytest.raises(ServiceError, match=r"is not a journal of a server .* choose another path, or remove it"):
        read_journal(path)


def test_failed_sync_is_logged_and_does_not_end_the_server(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    tried = threading.Event()

    def fails(fd: int) -> None:
        tried.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    journal = Journal(path, "job", 7)
    journal.begin(3, None)
    assert tried.wait(60)
    tried.clear()
    journal.note_taken(1, 0)
    assert tried.wait(60), "its thread continues"
    journal.close()
    assert "Input/output error" in caplog.text
    recovered = read_journal(path)
    assert recovered is not None
    assert recovered.taken == {0: {1}}


def test_only_its_user_can_read_it(path: str):
    written(path)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_next_server_also_waits_for_survivors_not_yet_back(path: str):
    journal = Journal(path, "job", 7)
    journal.await_back([Survivor(100, 5), Survivor(101, 6), Survivor(102, 7)])
    journal.begin(3, None)
    journal.note_arrival(1, Survivor(100, 5))
    journal.note_given_up(102)
    journal.close()
    recovered = read_journal(path)
    assert recovered is not None
    assert sorted(recovered.survivors.values()) == [Survivor(100, 5), Survivor(101, 6)]


def test_process_is_identified_by_its_start_time():
    assert started_at(os.getpid()) > 0
    assert started_at(os.getpid()) == started_at(os.getpid())
    assert started_at(2**22 + 1) == 0


# The state of a source is restored exactly


def same(one, other):
    """Return whether two values are equal, with the same types at all levels and the same shared references."""
    return pickle.dumps(one) == pickle.dumps(other)


def state_in(path: str, state: object) -> object:
    journal = Journal(path, "job", 7)
    journal.begin(0, state)
    journal.close()
    recovered = read_journal(path)
    assert recovered is not None
    return recovered.state


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(max_size=8)
    | st.sampled_from([float("inf"), 1 << 5000, "\ud83d" + "\ude00", np.float32(1.5), np.int64(2)])
)
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(state=STATES)
def test_state_is_restored_exactly(tmp_path_factory: pytest.TempPathFactory, state: object):
    back = state_in(str(tmp_path_factory.mktemp("state") / "journal"), state)
    assert back == state
    assert repr(back) == repr(state)  # equal values of different types: True and 1, 1 and 1.0


@pytest.mark.parametrize(
    "state",
    [
        random.Random(3).getstate(),
        np.random.default_rng(3).bit_generator.state,
        np.random.RandomState(3).get_state(),
    ],
    ids=["random", "Generator", "RandomState"],
)
def test_state_of_random_generator_is_restored_exactly(path: str, state: object):
    assert same(state_in(path, state), state)


def test_shared_and_recursive_references_are_preserved(path: str):
    order = [1]
    back = state_in(path, {"old": order, "new": order})
    assert back["old"] is back["new"]
    order.append(order)
    back = state_in(path, order)
    assert back[1] is back


def test_journal_of_previous_version_is_read(path: str):
    head = {"journal": 1, "job": "job", "seed": 7, "epoch": 3}
    for state in (None, {"order": (2, 1)}):
        packed = None if state is None else base64.b64encode(pickle.dumps(state)).decode()
        Path(path).write_text(json.dumps(head | {"state": packed}) + "\n")
        assert read_journal(path) == Recovered("job", 7, 3, state=state)
    Path(path).write_text(json.dumps(head | {"journal": 2, "state": {"json": {"order": [2, 1]}}}) + "\n")
    assert read_journal(path) == Recovered("job", 7, 3, state={"order": [2, 1]})


def test_state_that_cannot_be_unpickled_raises_clear_error(path: str):
    lost = base64.b64encode(b"cno_such_module\nState\n.").decode()
    Path(path).write_text(
        json.dumps({"journal": 2, "job": "j", "seed": 1, "epoch": 0, "state": {"pickle": lost}}) + "\n"
    )
    with pytest.raises(ServiceError, match=r"no_such_module.*choose another path, or remove it"):
        read_journal(path)


# Data of other users is neither read nor overwritten


class Marking:
    """Creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plant(path: str, mark: Path) -> None:
    state = base64.b64encode(pickle.dumps(Marking(mark))).decode()
    Path(path).write_text(json.dumps({"journal": 1, "job": "j", "seed": 1, "epoch": 0, "state": state}) + "\n")


@pytest.fixture
def mark(tmp_path: Path):
    place = tmp_path / "code_ran"
    yield place
    assert not place.exists()


def test_file_of_another_user_is_not_read(path: str, mark: Path, monkeypatch: pytest.MonkeyPatch):
    plant(path, mark)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ServiceError, match=rf"belongs to uid {owner}, but this server runs as uid {owner + 1}: use a "):
        read_journal(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_writable_by_others_is_not_read(path: str, mark: Path, mode: int):
    plant(path, mark)
    os.chmod(path, mode)
    with pytest.raises(ServiceError, match=rf"other users may write to .*mode {mode:04o}.*chmod go-w {path}"):
        read_journal(path)


def test_target_of_link_is_not_read(path: str, mark: Path):
    plant(f"{path}.real", mark)
    os.symlink(f"{path}.real", path)
    with pytest.raises(ServiceError, match="is a symbolic link, expected a file: use a journal in a folder where only"):
        read_journal(path)


def test_pipe_in_its_place_does_not_block(path: str):
    os.mkfifo(path)
    with pytest.raises(ServiceError, match="is not a regular file"):
        read_journal(path)


def test_link_in_place_of_next_file_is_not_followed(path: str, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.symlink(precious, f"{path}.new")
    written(path, (0, 0))
    assert precious.read_text() == "precious"
    assert not os.path.islink(path)
    assert read_journal(path).taken == {0: {0}}


def test_unfinished_next_file_does_not_prevent_restart(path: str):
    Path(f"{path}.new").write_text("half")
    written(path)
    assert not os.path.exists(f"{path}.new")


def test_failed_rewrite_keeps_the_old_file_and_leaves_no_new_one(path: str, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(path, "job", 7)
    journal.begin(0, None)
    journal.note_taken(4, 0)

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the journal cannot be written"):
        patch.setattr(os, "write", full)
        journal.begin(1, None)
    assert os.listdir(os.path.dirname(path)) == ["journal"]
    assert read_journal(path) == Recovered("job", 7, 0, {0: {4}})
    journal.begin(1, None)
    journal.close()
    assert read_journal(path) == Recovered("job", 7, 1)


@needs_root
@pytest.mark.parametrize("name", ["journal", "journal.new"])
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
        journal = Journal(path, "job", 7)
        journal.begin(3, None)
        journal.close()
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)
    assert synced
    assert min(synced) > 2
