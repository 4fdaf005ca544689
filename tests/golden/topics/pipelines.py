"""string_input_producer -> reader -> decoder -> batch, on files of the folder."""

import functools

import numpy as np

import mpqueue
from golden.outcomes import assert_outcome, run_by_queue_runners
from golden.topics.batches import compare, examples_in, shapes_of
from golden.values import encode
from mpqueue import train
from mpqueue.examples.features import FixedLenFeature, VarLenFeature
from mpqueue.tf1.parsing.csv import decode_csv
from mpqueue.tf1.parsing.parse import parse_example


def run(case, folder):
    mpqueue.reset_default_graph()
    next_item = globals()[case["op"]](**case["args"])
    with run_by_queue_runners(case["expect"]) as coord:
        check(case, next_item, coord)


def check(case, next_item, coord):
    """Compare the items, and the state at the end."""
    expected = case["expect"]
    got = [encode(next_item()) for _ in expected["items"]]
    if case.get("random"):
        assert [shapes_of(batch) for batch in got] == [shapes_of(batch) for batch in expected["items"]]
    if not case.get("random") or case["args"]["allow_smaller_final_batch"]:
        compare(got, expected["items"], examples_in(expected["items"]) if case.get("random") else None)
    for what in ("end", "again"):
        assert_outcome(next_item, expected[what], what)
    assert coord.should_stop() == expected["should_stop_before_request"]


def csv_pipeline(files, num_epochs, skip_header_lines, read_up_to, batch_size, allow_smaller_final_batch, shuffle):
    names = train.string_input_producer(files, num_epochs, shuffle=shuffle)
    reader = mpqueue.TextLineReader(skip_header_lines=skip_header_lines)
    lines = reader.read_op(names) if read_up_to is None else reader.read_up_to_op(names, read_up_to)
    shape = () if read_up_to is None else (None,)
    rows = lines.map(keyed_row, dtypes=["string", np.int32, np.float32], shapes=[shape] * 3)
    return train.batch(
        rows, batch_size, enqueue_many=read_up_to is not None, allow_smaller_final_batch=allow_smaller_final_batch
    )


def keyed_row(record):
    key, value = record
    defaults = [np.array([], np.int32), np.array([-1], np.float32)]
    return [key, *decode_csv(value, defaults)]


def record_pipeline(files, num_epochs, batch_size, allow_smaller_final_batch, extra_required_feature):
    names = train.string_input_producer(files, num_epochs, shuffle=False)
    records = mpqueue.TFRecordReader().read_op(names)
    values = records.map(lambda record: record[1:], dtypes=["string"], shapes=[()])
    batches = train.batch(values, batch_size, allow_smaller_final_batch=allow_smaller_final_batch)
    features = {"id": FixedLenFeature((), np.int64), "w": VarLenFeature("string")}
    if extra_required_feature is not None:
        features[extra_required_feature] = FixedLenFeature((), np.int64)
    return batches.map(functools.partial(parse_example, features=features))
