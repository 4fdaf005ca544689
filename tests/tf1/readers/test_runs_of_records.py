"""Reading many records at once, and returning the last ones unread."""

import threading

import pytest
from helpers.injected_exceptions import Strike, Struck
from tf1.helpers.fake_queues import FakeQueue
from tf1.helpers.input_ends import event_at_the_end

import mpqueue


@pytest.fixture
def names(tmp_path):
    """Create two files of five numbered lines."""
    queue = mpqueue.FIFOQueue(-1, ["string"], [()])
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("".join(f"{10 * number + line}\n" for line in range(5)))
        queue.enqueue(str(tmp_path / f"{number}.txt"))
    queue.close()
    return queue


def values(records):
    return [int(value) for _, value in records]


def test_interrupt_at_any_step_of_end_run_leaves_reader_unlocked(tmp_path):
    (tmp_path / "0.txt").write_text("0\n1\n2\n3\n")
    reader, units = mpqueue.TextLineReader(), FakeQueue(*[str(tmp_path / "0.txt")] * 1000)
    records = reader.read_run(units, 4)
    after, is_struck = 0, True
    while is_struck:
        after, is_struck = after + 1, False
        try:
            with Strike(after):
                reader.end_run(records[3:])
        except Struck:
            is_struck = True
        reader.reset()
        reader.read(units, timeout=0)  # otherwise it raises DeadlineExceededError
        reader.reset()
    assert after > 5


def test_returned_records_are_available_while_other_thread_waits_for_a_file(tmp_path):
    """The thread that feeds the files may wait for these records before the next file."""
    path, names = tmp_path / "0.txt", mpqueue.FIFOQueue(-1, ["string"], [()])
    path.write_text("0\n1\n2\n")
    names.enqueue(str(path))
    reader, found = mpqueue.TextLineReader(), []
    assert len(reader.read_run(names, 100)) == 3
    waiting = threading.Thread(target=lambda: found.append(reader.read(names)[1]))
    waiting.start()
    while not names.queue_ref.num_waiting:
        pass
    reader.end_run([(b"1", b"1"), (b"2", b"2")])
    assert reader.num_records_produced() == 1
    assert values(reader.read_run(names, 1)) == [1]
    reader.end_run([])
    assert reader.num_records_produced() == 2
    names.enqueue(str(path))
    names.close()
    waiting.join()
    assert found == [b"0"]
    assert values(reader.read_run(names, 100)) == [2]
    assert values(reader.read_run(names, 100)) == [1, 2]
    assert reader.num_records_produced() == 6


def test_wait_for_open_run_ends_at_timeout(names):
    reader, failed = mpqueue.TextLineReader(), []
    reader.read_run(names, 100)
    last = reader.read_run(names, 100)

    def read():
        with pytest.raises(mpqueue.errors.DeadlineExceededError) as error:
            reader.read(names, timeout=0)
        failed.append(error)

    other = threading.Thread(target=read)
    other.start()
    other.join()
    assert failed
    reader.end_run(last)
    assert reader.read(names)[1] == b"10"


def test_run_of_ended_thread_is_not_waited_for(names):
    reader = mpqueue.TextLineReader()
    thread = threading.Thread(target=lambda: (reader.read_run(names, 100), reader.read_run(names, 100)))
    thread.start()
    thread.join()
    with pytest.raises(mpqueue.errors.OutOfRangeError):
        reader.read(names)


def test_read_up_to_returns_records_returned_at_the_end(names, monkeypatch, deadlock_s):
    reader, at_end = mpqueue.TextLineReader(), event_at_the_end(monkeypatch)
    reader.read_run(names, 100)
    last = reader.read_run(names, 100)
    other = threading.Thread(target=lambda: reader.read_up_to(names, 1))  # finds no unit, and waits for this run
    other.start()
    assert at_end.wait(deadlock_s)
    reader.end_run(last[2:])
    other.join()
    assert [int(value) for value in reader.read_up_to(names, 100)[1]] == [13, 14]
    with pytest.raises(mpqueue.errors.OutOfRangeError):
        reader.read_up_to(names, 1)
