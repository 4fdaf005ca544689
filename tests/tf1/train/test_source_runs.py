"""Sources made of a reader and decoders return the same in runs of records as record by record."""

import contextlib
import threading
from functools import partial
from operator import itemgetter

import numpy as np
import pytest
from golden.outcomes import Background
from helpers.waits import until
from helpers.wrapped_functions import wrap
from tf1.helpers.input_ends import all_until_the_end, reach_the_end_during_a_run

import mpqueue
from mpqueue import python_io, train
from mpqueue.errors import InvalidArgumentError, OpError, OutOfRangeError
from mpqueue.tf1.train.source_runs import _SourceRuns, repeated

pytestmark = pytest.mark.usefixtures("long_runs")


def names_of(*paths):
    names = mpqueue.FIFOQueue(-1, ["string"], [()])
    names.enqueue_many([[str(path) for path in paths]])
    names.close()
    return names


def both_ways(make, paths, dtypes, names=None):
    """Return the results of an op record by record and in runs, including the elements after each error."""
    results = []
    for in_runs in (False, True):
        reader, source = make(names_of(*paths))
        queue = mpqueue.FIFOQueue(1000, dtypes, names=names)
        op = queue.enqueue_op(source)
        call = repeated(op, lambda: False) if in_runs else op
        assert (call is not op) is in_runs
        errors = []
        while not errors or errors[-1][0] is not OutOfRangeError:
            try:
                call()
            except OpError as error:
                errors.append((type(error), str(error), int(queue.size()), reader.num_records_produced()))
        elements = [queue.dequeue() for _ in range(int(queue.size()))]
        results.append((elements, errors, reader.num_records_produced(), reader.num_work_units_completed()))
    return results


def same_both_ways(*args):
    """Check that both results are equal, and return the elements."""
    one_by_one, in_runs = both_ways(*args)
    assert one_by_one == in_runs
    return in_runs[0]


def of_lines(*steps):
    def make(names):
        reader = mpqueue.TextLineReader()
        source = reader.read_op(names)
        for step in steps:
            source = source.map(step)
        return reader, source

    return make


COLUMNS = partial(mpqueue.decode_csv, record_defaults=[[0], [0.0], [b"x"]])


@pytest.fixture
def lines(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("".join(f"{10 * number + n},{n}.5,word{n}\n" for n in range(9)))
    return [tmp_path / f"{number}.csv" for number in range(3)]


@pytest.mark.parametrize(
    ("steps", "dtypes", "some"),
    [
        ([], ["string", "string"], {}),
        ([itemgetter(1), COLUMNS], ["int32", "float32", "string"], {26: [28, 8.5, b"word8"]}),
        ([itemgetter(1), COLUMNS, itemgetter(0)], ["float64"], {0: 0.0, 1: 1.0, 2: 2.0}),
    ],
    ids=["lines with their keys", "columns of lines", "one column of another type"],
)
def test_lines_are_enqueued_equally(lines, steps, dtypes, some):
    elements = same_both_ways(of_lines(*steps), lines, dtypes)
    assert len(elements) == 27
    assert {place: elements[place] for place in some} == some


@pytest.mark.parametrize("bad", [{0}, {29}, {3, 4}, {0, 10, 29}, set(range(5, 30))])
def test_no_record_next_to_bad_ones_is_lost(tmp_path, bad):
    path = tmp_path / "some.csv"
    path.write_text("".join("bad\n" if n in bad else f"{n},1,a\n" for n in range(30)))
    elements = same_both_ways(of_lines(itemgetter(1), COLUMNS), [path], ["int32", "float32", "string"])
    assert [number for number, _, _ in elements] == [n for n in range(30) if n not in bad]


class Runs:
    """An op that enqueues 20 lines in runs; line ``bad`` is not a number.

    Attributes:
        good: The numbers of the other lines.
        stops_after: Number of enqueued lines after which the coordinator stops, or None.
    """

    def __init__(self, tmp_path, bad=None, capacity=100):
        path, self.good = tmp_path / "numbers.csv", [n for n in range(20) if n != bad]
        path.write_text("".join(f"{'x' if n == bad else n}\n" for n in range(20)))
        self.reader, self.stops_after = mpqueue.TextLineReader(), None
        source = self.reader.read_op(names_of(path)).map(itemgetter(1))
        source = source.map(partial(mpqueue.decode_csv, record_defaults=[[0]])).map(itemgetter(0))
        self.queue = mpqueue.FIFOQueue(capacity, ["int32"], [()])
        self.op = self.queue.enqueue_op(source)
        self.call = repeated(self.op, self.has_stopped)

    def has_stopped(self):
        return self.stops_after is not None and self.queue.size() >= self.stops_after

    def counts(self):
        """Return the numbers of enqueued and of read lines."""
        return self.queue.size(), self.reader.num_records_produced()

    def rest(self):
        """Return all numbers, including numbers enqueued before."""
        self.stops_after, numbers = None, []
        with pytest.raises(OutOfRangeError):
            while True:
                numbers += self.queue.dequeue_many(self.queue.size()).tolist()
                with contextlib.suppress(InvalidArgumentError):
                    self.call()
        return numbers + self.queue.dequeue_many(self.queue.size()).tolist()


@pytest.mark.parametrize("bad", [None, 7])
def test_stop_returns_records_that_were_not_enqueued(tmp_path, bad):
    runs = Runs(tmp_path, bad)
    runs.stops_after = 0
    runs.call()
    assert runs.counts() == (1, 1)
    assert runs.rest() == runs.good
    assert runs.reader.num_records_produced() == 20


def test_one_record_is_in_flight_in_a_run_with_a_bad_record(tmp_path):
    """The op's thread checks for a stop between its calls, so a stop leaves the other records to the reader."""
    runs = Runs(tmp_path, bad=7)
    for number in range(1, 8):
        runs.call()
        assert runs.counts() == (number, number)
    with pytest.raises(InvalidArgumentError):
        runs.call()
    assert runs.rest() == runs.good


@pytest.mark.parametrize(("capacity", "room"), [(100, 5), (100, 1), (100, 0), (2, 1), (2, 0)])
@pytest.mark.parametrize("bad", [None, 2])
def test_records_are_returned_if_other_threads_took_the_room(tmp_path, monkeypatch, capacity, room, bad):
    """If one of the remaining records is bad, the records after it are returned before the others."""
    runs, requests = Runs(tmp_path, bad, capacity), []

    def less_on_the_second_call(set_aside, count):
        requests.append(count)
        return set_aside(min(count, room) if len(requests) == 2 else count)

    wrap(monkeypatch, runs.queue.queue_ref, "set_aside", less_on_the_second_call)
    runs.call()
    num_taken = 1 if bad is not None and room > bad else max(1, room)
    assert requests[1] == min(capacity, 20)
    assert runs.counts() == (num_taken, num_taken)
    assert runs.rest() == runs.good


def batches(one, _other):
    return train.batch(one, 1, num_threads=2, capacity=100, shapes=[()])


def joined(*both):
    return train.batch_join(both, 1, capacity=100, shapes=[()])


def shuffled(one, _other):
    return train.shuffle_batch(one, 1, 100, 1, num_threads=2, shapes=[()])


def shuffled_and_joined(*both):
    return train.shuffle_batch_join(both, 1, 100, 1, shapes=[()])


@pytest.mark.parametrize("make", [batches, joined, shuffled, shuffled_and_joined])
def test_records_returned_while_another_thread_is_at_the_end_are_not_lost(tmp_path, monkeypatch, deadlock_s, make):
    reach_the_end_during_a_run(monkeypatch, deadlock_s, keeps=1)
    path = tmp_path / "numbers.csv"
    path.write_text("".join(f"{n}\n" for n in range(20)))
    reader, names = mpqueue.TextLineReader(), train.string_input_producer([str(path)], num_epochs=1)
    column = partial(mpqueue.decode_csv, record_defaults=[[0]])
    sources = [reader.read_op(names).map(itemgetter(1)).map(column, dtypes=["int32"]) for _ in range(2)]
    assert sorted(int(number) for (number,) in make(*sources)) == [*range(20)]
    assert reader.num_records_produced() == 20


def test_records_after_a_bad_one_are_not_lost_while_another_thread_is_at_the_end(tmp_path, monkeypatch, deadlock_s):
    """Without a coordinator, an error ends one thread. The others continue, and the last one closes the queue."""
    reach_the_end_during_a_run(monkeypatch, deadlock_s, keeps=None)
    failed = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: failed.append(arguments.exc_type))
    runs = Runs(tmp_path, bad=2)
    threads = train.QueueRunner(runs.queue, [runs.op, runs.op]).create_threads(mpqueue.Session(), start=True)
    numbers = all_until_the_end(lambda: int(runs.queue.dequeue(timeout=deadlock_s)))
    for thread in threads:
        thread.join()
    assert (sorted(numbers), failed) == (runs.good, [InvalidArgumentError])


def test_run_length_is_limited_by_the_room_in_the_queue(tmp_path):
    runs = Runs(tmp_path, capacity=7)
    core = runs.queue.queue_ref
    runs.call()
    assert runs.counts() == (7, 7)
    runs.queue.dequeue_many(3)
    runs.call()
    assert runs.counts() == (7, 10)
    waiting = Background(runs.call)  # blocks in the full queue, with one record read
    until(lambda: core.num_waiting, "the call does not block")
    assert runs.reader.num_records_produced() == 11
    runs.queue.dequeue_many(7)
    waiting.finish()
    assert core.set_aside(7) == 6  # room that is not needed was released


def test_reset_drops_returned_records(tmp_path):
    runs = Runs(tmp_path, bad=2)
    runs.call()
    runs.reader.reset()
    with pytest.raises(OutOfRangeError):
        runs.call()
    assert runs.reader.num_records_produced() == 0


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "some.tfrecord"
    with python_io.TFRecordWriter(path) as writer:
        for number in range(30):
            example = train.Example()
            example.features.feature["image"].bytes_list.value.append(bytes(range(number, number + 8)))
            example.features.feature["label"].int64_list.value.append(number)
            example.features.feature["numbers"].float_list.value.extend([0.5] * (number % 3))
            writer.write(example.SerializeToString())
    return path


def of_records(features, *steps):
    def make(names):
        reader = mpqueue.TFRecordReader()
        source = reader.read_op(names).map(itemgetter(1))
        for step in (partial(mpqueue.parse_single_example, features=features), *steps):
            source = source.map(step)
        return reader, source

    return make


IMAGE, LABEL = mpqueue.FixedLenFeature([], "string"), mpqueue.FixedLenFeature([], "int64")


def test_parsed_records_by_name(records):
    make = of_records({"image": IMAGE, "label": LABEL})
    elements = same_both_ways(make, [records], ["string", "int64"], ["image", "label"])
    assert elements[3] == {"image": bytes(range(3, 11)), "label": 3}


NUMBERS = mpqueue.FixedLenSequenceFeature([], "float32", allow_missing=True)


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (of_records({"image": IMAGE}, itemgetter("image"), partial(mpqueue.decode_raw, out_type=np.uint8)), "uint8"),
        (of_records({"numbers": NUMBERS}, itemgetter("numbers")), "float32"),
    ],
    ids=["parsed and decoded", "of variable length, record by record"],
)
def test_arrays_of_records_are_enqueued_equally(records, make, dtype):
    (elements, *rest), (others, *other_rest) = both_ways(make, [records], [dtype])
    assert [each.tolist() for each in elements] == [each.tolist() for each in others]
    assert rest == other_rest


@pytest.mark.parametrize("function", [lambda example: example, partial(mpqueue.decode_csv, b"1,2")])
def test_unknown_function_is_called_per_record(lines, function):
    source = mpqueue.TextLineReader().read_op(names_of(*lines)).map(function)
    op = mpqueue.FIFOQueue(10, ["string", "string"]).enqueue_op(source)
    assert type(repeated(op, lambda: False)) is not _SourceRuns


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_batch_of_a_source_with_runs(lines, workers):
    reader = mpqueue.TextLineReader()
    names = train.string_input_producer([str(path) for path in lines], num_epochs=2, shuffle=False)
    columns = reader.read_op(names).map(itemgetter(1)).map(COLUMNS, dtypes=["int32", "float32", "string"])
    batches = train.batch(columns, 10, shapes=[(), (), ()], allow_smaller_final_batch=True, workers=workers)
    numbers = [int(number) for batch in batches for number in batch[0]]
    assert numbers == [10 * file + n for file in range(3) for n in range(9)] * 2
    assert reader.num_records_produced() == 54
