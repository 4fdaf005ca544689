"""Pipelines of examples return the same for many records at once as record by record."""

import numpy as np
import pytest

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.records import RecordPlan, record_plan
from mpqueue.tf1.compat.train.record_runs import RecordRuns

pytestmark = pytest.mark.usefixtures("long_runs")


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


class Pipeline:
    """A pipeline from lines of files through ``example(line)`` to a queue, run step by step in this thread."""

    def __init__(self, files, example, capacity=100, reader=tf.TextLineReader, should_stop=lambda: False):
        self.names = tf.FIFOQueue(100, tf.string, [[]])
        self.reader = reader()
        self.key, self.value = self.reader.read(self.names)
        parts = example(self.value)
        self.queue = tf.FIFOQueue(capacity, [each.dtype for each in parts])
        self.op, self.taken = self.queue.enqueue(parts), self.queue.dequeue()
        self.counts = [self.reader.num_records_produced(), self.reader.num_work_units_completed()]
        self.size = self.queue.size()
        self.session = tf.Session()
        self.session.run([self.names.enqueue_many([files])])
        self.session.run(self.names.close())
        self.plan = Plan([self.op], ())
        self.one_by_one = self.session.make_callable(self.op)
        parts = record_plan(self.plan)
        self.together = parts and RecordRuns(parts, {}, self.session.running, should_stop, self.one_by_one)

    def run(self, call):
        """Return all results: the elements, the error at the end, and the reader's counters."""
        try:
            for _ in range(1000):
                call()
        except tf.errors.OpError as error:
            end = type(error), str(error), error.op and error.op.name
        elements = [self.session.run(self.taken) for _ in range(self.session.run(self.size))]
        return elements, end, self.session.run(self.counts)


def as_number(line):
    return [tf.string_to_number(line, tf.int32)]


def both_ways(files, example, **options):
    outputs = []
    for way in ("one_by_one", "together"):
        with tf.Graph().as_default():
            pipeline = Pipeline(files, example, **options)
            call = getattr(pipeline, way)
            assert call is not None
            outputs.append(pipeline.run(call))
    return outputs


def same_both_ways(files, example, **options):
    """Check that both results are equal, and return them."""
    one_by_one, together = both_ways(files, example, **options)
    assert one_by_one == together
    return together


def test_record_that_fails_an_assertion_is_named(tmp_path):
    def example(line):
        number = tf.string_to_number(line, tf.int32)
        with tf.control_dependencies([tf.Assert(number < 30, [number])]):
            return [tf.identity(number)]

    _, end, _ = same_both_ways([write(tmp_path / "lines", range(40))], example)
    assert "30" in end[1]


def test_stop_takes_effect_between_records(tmp_path):
    checks = []
    files = [write(tmp_path / "lines", range(40))]
    pipeline = Pipeline(files, as_number, should_stop=lambda: checks.append(0) or True)
    pipeline.together()
    assert checks
    assert pipeline.session.run([pipeline.size, *pipeline.counts]) == [1, 1, 0]
    assert pipeline.session.run(pipeline.taken) == 0
    elements, _, _ = pipeline.run(pipeline.one_by_one)
    assert elements == [*range(1, 40)]


def test_examples_of_different_shapes_are_enqueued_one_by_one(tmp_path):
    def example(line):
        return [tf.range(tf.string_to_number(line, tf.int32)), line]

    (elements, *rest), (others, *other_rest) = both_ways([write(tmp_path / "lines", range(20))], example)
    assert rest == other_rest
    assert [(each[0].tolist(), each[1]) for each in elements] == [(each[0].tolist(), each[1]) for each in others]


def test_repeatedly_failing_runs_are_disabled(tmp_path, monkeypatch):
    attempts = []

    def cannot(*_args):
        attempts.append(1)
        raise RuntimeError

    files = [write(tmp_path / f"{n}", range(10)) for n in range(5)]
    monkeypatch.setattr(RecordPlan, "examples", cannot)
    pipeline = Pipeline(files, as_number)
    elements, _, counts = pipeline.run(pipeline.together)
    assert (elements, counts) == ([*range(10)] * 5, [50, 5])
    assert len(attempts) < 25


def random(line):
    return [tf.random_uniform([]) + tf.string_to_number(line)]


def of_python(line):
    return [tf.py_func(lambda text: np.float32(text), [line], tf.float32)]


def with_a_variable(line):
    return [tf.Variable(1.0) + tf.string_to_number(line)]


def of_another_queue(line):
    queue = tf.FIFOQueue(3, tf.float32, [[]])
    return [queue.dequeue() + tf.string_to_number(line)]


def of_a_branch(line):
    number = tf.string_to_number(line)
    return [tf.cond(number > 1, lambda: number, lambda: -number)]


@pytest.mark.parametrize("example", [random, of_python, with_a_variable, of_another_queue, of_a_branch])
def test_stateful_operations_run_record_by_record(example, tmp_path):
    assert Pipeline([], example).together is None


def test_whole_file_reader_returns_one_record_at_a_time(tmp_path):
    files = [write(tmp_path / f"{n}", [n]) for n in range(5)]
    elements, _, _ = same_both_ways(files, lambda value: [value], reader=tf.WholeFileReader)
    assert elements == [b"%d\n" % n for n in range(5)]
