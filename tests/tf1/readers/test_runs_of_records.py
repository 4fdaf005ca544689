"""Many records at once, and the last of them given back."""

import pytest

import mpqueue


@pytest.fixture
def names(tmp_path):
    """Two files of five numbered lines."""
    queue = mpqueue.FIFOQueue(-1, ["string"], [()])
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("".join(f"{10 * number + line}\n" for line in range(5)))
        queue.enqueue(str(tmp_path / f"{number}.txt"))
    queue.close()
    return queue


def values(records):
    return [int(value) for _, value in records]


def counts(reader):
    return reader.num_records_produced(), reader.num_work_units_completed()


def test_a_run_ends_with_its_file_and_does_not_look_for_the_end(names):
    reader = mpqueue.TextLineReader()
    assert values(reader.read_run(names, 3)) == [0, 1, 2]
    assert values(reader.read_run(names, 100)) == [3, 4]
    assert counts(reader) == (5, 0)
    assert values(reader.read_run(names, 100)) == [10, 11, 12, 13, 14]
    assert counts(reader) == (10, 1)
    with pytest.raises(mpqueue.errors.OutOfRangeError):
        reader.read_run(names, 1)
    assert counts(reader) == (10, 2)


def test_records_that_are_given_back_are_read_next_and_counted_once(names):
    reader = mpqueue.TextLineReader()
    records = reader.read_run(names, 4)
    reader.unread(records[1:])
    assert counts(reader) == (1, 0)
    assert reader.read(names) == records[1]
    assert values(reader.read_run(names, 100)) == [2, 3]
    assert values(reader.read_run(names, 100)) == [4]
    assert counts(reader) == (5, 0)


def test_a_reset_forgets_records_that_were_given_back(names):
    reader = mpqueue.TextLineReader()
    reader.unread(reader.read_run(names, 4))
    reader.reset()
    assert values(reader.read_run(names, 1)) == [10]
    assert counts(reader) == (1, 0)
