"""Sources made of a reader and decoders give the same in runs of records as record by record."""

from functools import partial
from operator import itemgetter

import numpy as np
import pytest

import mpqueue
from mpqueue import python_io, train
from mpqueue.errors import InvalidArgumentError, OpError
from mpqueue.train import record_runs
from mpqueue.train.source_runs import repeated


class LongRuns:
    wanted = 64

    def note(self, *_measured):
        """Stay as long."""


@pytest.fixture(autouse=True)
def _long_runs(monkeypatch):
    """Runs are as long as they can be from the first one on, however slow this machine is."""
    monkeypatch.setattr(record_runs, "RunLength", LongRuns)


def names_of(*paths):
    names = mpqueue.FIFOQueue(-1, ["string"], [()])
    names.enqueue_many([[str(path) for path in paths]])
    names.close()
    return names


def both_ways(make, paths, dtypes, names=None):
    """What an op of a source gives, record by record and in runs."""
    found = []
    for in_runs in (False, True):
        reader, source = make(names_of(*paths))
        queue = mpqueue.FIFOQueue(1000, dtypes, names=names)
        op = queue.enqueue_op(source)
        call = repeated(op, lambda: False) if in_runs else op
        assert (call is not op) is in_runs
        try:
            while True:
                call()
        except OpError as error:
            end = type(error), str(error)
        elements = [queue.dequeue() for _ in range(int(queue.size()))]
        found.append((elements, end, reader.num_records_produced(), reader.num_work_units_completed()))
    return found


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


def test_lines_with_their_keys(lines):
    one_by_one, in_runs = both_ways(of_lines(), lines, ["string", "string"])
    assert one_by_one == in_runs
    assert len(in_runs[0]) == 27


def test_columns_of_lines(lines):
    one_by_one, in_runs = both_ways(of_lines(itemgetter(1), COLUMNS), lines, ["int32", "float32", "string"])
    assert one_by_one == in_runs
    assert in_runs[0][-1] == [28, 8.5, b"word8"]


def test_one_column_of_another_type(lines):
    one_by_one, in_runs = both_ways(of_lines(itemgetter(1), COLUMNS, itemgetter(0)), lines, ["float64"])
    assert one_by_one == in_runs
    assert in_runs[0][:3] == [0.0, 1.0, 2.0]


def test_a_bad_line_is_an_error_after_the_lines_before_it(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("".join(f"{n},1,a\n" for n in range(20)) + "bad,1,a\n" + "5,5,a\n")
    one_by_one, in_runs = both_ways(of_lines(itemgetter(1), COLUMNS), [path], ["int32", "float32", "string"])
    assert one_by_one == in_runs
    assert (len(in_runs[0]), in_runs[1][0], in_runs[2]) == (20, InvalidArgumentError, 21)


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
    one_by_one, in_runs = both_ways(make, [records], ["string", "int64"], ["image", "label"])
    assert one_by_one == in_runs
    assert in_runs[0][3] == {"image": bytes(range(3, 11)), "label": 3}


def test_parsed_and_decoded_records(records):
    make = of_records({"image": IMAGE}, itemgetter("image"), partial(mpqueue.decode_raw, out_type=np.uint8))
    (elements, *rest), (others, *other_rest) = both_ways(make, [records], ["uint8"])
    assert np.array_equal(elements, others)
    assert rest == other_rest


def test_features_of_any_length_go_in_record_by_record(records):
    numbers = mpqueue.FixedLenSequenceFeature([], "float32", allow_missing=True)
    (elements, *rest), (others, *other_rest) = both_ways(
        of_records({"numbers": numbers}, itemgetter("numbers")), [records], ["float32"]
    )
    assert [each.tolist() for each in elements] == [each.tolist() for each in others]
    assert rest == other_rest


@pytest.mark.parametrize("function", [lambda example: example, partial(mpqueue.decode_csv, b"1,2")])
def test_what_is_not_known_is_called_for_each_record(lines, function):
    source = mpqueue.TextLineReader().read_op(names_of(*lines)).map(function)
    op = mpqueue.FIFOQueue(10, ["string", "string"]).enqueue_op(source)
    assert repeated(op, lambda: False) is op


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_batch_of_such_a_source(lines, workers):
    reader = mpqueue.TextLineReader()
    names = train.string_input_producer([str(path) for path in lines], num_epochs=2, shuffle=False)
    columns = reader.read_op(names).map(itemgetter(1)).map(COLUMNS, dtypes=["int32", "float32", "string"])
    numbers = []
    kinds = {"shapes": [(), (), ()], "allow_smaller_final_batch": True, "workers": workers}
    for batch in train.batch(columns, 10, **kinds):
        numbers += batch[0].tolist()
    assert numbers == [10 * file + n for file in range(3) for n in range(9)] * 2
    assert reader.num_records_produced() == 54
