"""Reading many records at once, and returning the last ones unread."""

import contextlib
import itertools

import pytest
from golden.outcomes import Background
from helpers.injected_exceptions import Strike, Struck
from helpers.waits import until
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
    for after in itertools.count(1):
        with contextlib.suppress(Struck), (strike := Strike(after)):
            reader.end_run(records[3:])
        reader.reset()
        reader.read(units, timeout=0)  # otherwise it raises DeadlineExceededError
        reader.reset()
        if strike.left > 0:
            break
    assert after > 5


def test_returned_records_are_available_while_other_thread_waits_for_a_file(tmp_path):
    """The thread that feeds the files may wait for these records before the next file."""
    path, names = tmp_path / "0.txt", mpqueue.FIFOQueue(-1, ["string"], [()])
    path.write_text("0\n1\n2\n")
    names.enqueue(str(path))
    reader = mpqueue.TextLineReader()
    assert len(reader.read_run(names, 100)) == 3
    waiting = Background(reader.read, names)
    until(lambda: names.queue_ref.num_waiting, "the call does not block")
    reader.end_run([(b"1", b"1"), (b"2", b"2")])
    assert reader.num_records_produced() == 1
    assert values(reader.read_run(names, 1)) == [1]
    reader.end_run([])
    assert reader.num_records_produced() == 2
    names.enqueue(str(path))
    names.close()
    assert waiting.finish()[1] == b"0"
    assert values(reader.read_run(names, 100)) == [2]
    assert values(reader.read_run(names, 100)) == [1, 2]
    assert reader.num_records_produced() == 6


def read_last_run(reader, names):
    """Read both files in runs, and return the last one, which remains open."""
    reader.read_run(names, 100)
    return reader.read_run(names, 100)


def test_wait_for_open_run_ends_at_timeout(names):
    reader = mpqueue.TextLineReader()
    last = read_last_run(reader, names)
    with pytest.raises(mpqueue.errors.DeadlineExceededError):
        Background(lambda: reader.read(names, timeout=0)).finish()
    reader.end_run(last)
    assert reader.read(names)[1] == b"10"


def test_run_of_ended_thread_is_not_waited_for(names):
    reader = mpqueue.TextLineReader()
    Background(read_last_run, reader, names).finish()
    with pytest.raises(mpqueue.errors.OutOfRangeError):
        reader.read(names)


def test_read_up_to_returns_records_returned_at_the_end(names, monkeypatch, deadlock_s):
    reader, at_end = mpqueue.TextLineReader(), event_at_the_end(monkeypatch)
    last = read_last_run(reader, names)
    other = Background(reader.read_up_to, names, 1)  # finds no unit, and waits for this run
    assert at_end.wait(deadlock_s)
    reader.end_run(last[2:])
    other.finish()
    assert [int(value) for value in reader.read_up_to(names, 100)[1]] == [13, 14]
    with pytest.raises(mpqueue.errors.OutOfRangeError):
        reader.read_up_to(names, 1)
