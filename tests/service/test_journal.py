"""The journal of a server: what it says after any end of its writer."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqueue.control.progress import Place
from mpqueue.errors import ServiceError
from mpqueue.service.journal import Journal, Recovered, Survivor, place_in, read_journal, started_at


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


def test_it_says_what_was_taken_by_whom_and_who_was_there(path: str):
    written(path, (0, 0), (1, 1), (0, 2))
    found = read_journal(path)
    assert found == Recovered("job", 7, 3, {0: {0, 2}, 1: {1}}, {11: Survivor(100, 5)}, {"order": [2, 1]})
    assert [found.count_of(rank, 2) for rank in (0, 1, 2)] == [2, 1, 0]
    assert found.pairs() == [(0, 0), (0, 2), (1, 1)]


def test_there_is_none_before_its_writer_has_begun(path: str):
    assert read_journal(path) is None
    Path(path).touch()
    assert read_journal(path) is None


def test_a_new_epoch_forgets_what_was_taken_before_and_keeps_who_is_there(path: str):
    journal = Journal(path, "job", 7)
    journal.begin(0, None)
    journal.note_arrival(11, Survivor(100, 5))
    journal.note_taken(4, 0)
    journal.begin(1, None)
    journal.close()
    assert read_journal(path) == Recovered("job", 7, 1, {}, {11: Survivor(100, 5)}, None)
    assert not os.path.exists(f"{path}.new")


def test_one_that_is_taken_over_says_the_same_again(path: str):
    written(path, (0, 0), (1, 1))
    found = read_journal(path)
    assert found is not None
    again = Journal(path, found.job, found.seed)
    again.begin(found.epoch, found.state, found.pairs())
    again.close()
    assert read_journal(path) == Recovered("job", 7, 3, {0: {0}, 1: {1}}, {}, {"order": [2, 1]})


@given(cut=st.integers(0, 200))
def test_wherever_its_writer_was_killed_it_says_what_was_written_wholly(
    tmp_path_factory: pytest.TempPathFactory, cut: int
):
    path = str(tmp_path_factory.mktemp("torn") / "journal")
    written(path, (0, 0), (0, 1), (0, 2))
    data = Path(path).read_bytes()
    head = data.index(b"\n") + 1
    length = max(head, len(data) - cut)
    Path(path).write_bytes(data[:length])
    found = read_journal(path)
    assert found is not None
    num_records = (length - head) // 32
    assert found.taken.get(0, set()) == set(range(max(0, min(3, num_records - 2))))


@given(at=st.integers(0, 95), flip=st.integers(1, 255))
def test_a_record_that_was_written_over_ends_it(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int):
    path = str(tmp_path_factory.mktemp("flipped") / "journal")
    written(path, (0, 0))
    data = bytearray(Path(path).read_bytes())
    head = data.index(b"\n") + 1
    data[head + at] ^= flip
    Path(path).write_bytes(data)
    found = read_journal(path)
    assert found is not None
    survivors = {11: Survivor(100, 5), 12: Survivor(101, 6)}
    assert found.taken == {}
    assert found.survivors == dict(list(survivors.items())[: at // 32])


@pytest.mark.parametrize(
    "text", ["hello\n", '{"journal": 9, "job": "j", "seed": 1, "epoch": 0, "state": null}\n', "[]\n"]
)
def test_a_file_that_is_no_journal_is_refused(path: str, text: str):
    Path(path).write_text(text)
    with pytest.raises(ServiceError, match=r"is no journal of a server .* choose another path, or remove it"):
        read_journal(path)


def test_what_cannot_be_synced_is_told_and_does_not_end_it(
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
    assert tried.wait(60), "its thread goes on"
    journal.close()
    assert "Input/output error" in caplog.text
    found = read_journal(path)
    assert found is not None
    assert found.taken == {0: {1}}


def test_it_can_be_read_by_its_user_alone(path: str):
    written(path)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_stream_goes_on_with_the_first_position_that_is_missing():
    found = Recovered("job", 7, 2, {0: {0, 2, 4}, 1: {1}})
    assert place_in(found, broadcast=False) == Place(2, 3, (4,))


def test_a_broadcast_goes_on_where_the_slowest_was_who_may_come_back():
    found = Recovered("job", 7, 2, {11: {0, 1, 2}, 12: {0}, 13: {0, 1}}, {11: Survivor(1, 1), 13: Survivor(2, 2)})
    assert place_in(found, broadcast=True) == Place(2, 2)
    assert place_in(Recovered("job", 7, 2, {11: {0}}, {12: Survivor(1, 1)}), broadcast=True) == Place(2, 0)


def test_those_who_have_not_come_back_yet_are_awaited_by_the_next_server_too(path: str):
    journal = Journal(path, "job", 7)
    journal.await_back([Survivor(100, 5), Survivor(101, 6), Survivor(102, 7)])
    journal.begin(3, None)
    journal.note_arrival(1, Survivor(100, 5))
    journal.note_given_up(102)
    journal.close()
    found = read_journal(path)
    assert found is not None
    assert sorted(found.survivors.values()) == [Survivor(100, 5), Survivor(101, 6)]


def test_a_process_is_told_from_another_of_its_id_by_its_start():
    assert started_at(os.getpid()) > 0
    assert started_at(os.getpid()) == started_at(os.getpid())
    assert started_at(2**22 + 1) == 0


def test_what_was_left_out_between_is_behind_a_rank_as_what_it_has_taken(path: str):
    written(path, (1, 1), (1, 5))  # and 3 was left out
    assert read_journal(path).count_of(1, 2) == 3
