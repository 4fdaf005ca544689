"""Producers, batches and runners in graphs, beyond the golden cases."""

import numpy as np
import pytest
from golden.outcomes import ended
from tf1.compat.conftest import running, waiting_in
from tf1.helpers.input_ends import all_until_the_end

import mpqueue.compat.v1 as tf


def all_of(session, node, coord=None):
    """Return all values of a node until the end of input."""
    session.run(tf.local_variables_initializer())
    tf.train.start_queue_runners(session, coord)
    return all_until_the_end(session.make_callable(node))


def test_seeded_order_is_equal_in_sessions_and_differs_in_epochs(graph):
    number = tf.train.range_input_producer(20, num_epochs=2, seed=5).dequeue()
    orders = []
    for _ in range(2):
        with tf.Session(graph=graph) as session:
            orders.append([int(each) for each in all_of(session, number)])
    assert orders[0] == orders[1]
    assert sorted(orders[0][:20]) == sorted(orders[0][20:]) == list(range(20))
    assert orders[0][:20] != orders[0][20:]


def test_producer_with_uninitialized_local_variables_ends_and_join_raises(session):
    number = tf.train.range_input_producer(2, num_epochs=1).dequeue()
    coord = tf.train.Coordinator()
    tf.train.start_queue_runners(session, coord)
    with pytest.raises(tf.errors.OutOfRangeError, match=r"closed because of an error: .*FailedPreconditionError"):
        session.run(number)
    with pytest.raises(tf.errors.FailedPreconditionError, match="epochs"):
        coord.join()


def test_starting_runners_without_a_session_raises():
    tf.train.range_input_producer(2)
    with pytest.raises(ValueError, match="No default session"):
        tf.train.start_queue_runners()
    with pytest.raises(TypeError, match="coord="):
        tf.train.start_queue_runners(tf.train.Coordinator())


def test_graph_without_runners_warns(session, caplog):
    assert tf.train.start_queue_runners(session) == []
    assert "no queue runner" in caplog.text


def test_runner_is_recreated_from_its_proto(session):
    queue = tf.FIFOQueue(10, tf.int32, [()], name="numbers")
    runner = tf.train.QueueRunner(queue, [queue.enqueue(1), queue.enqueue(2)])
    definition = runner.to_proto()
    assert definition.queue_name == "numbers"
    assert definition.enqueue_op_name == ["numbers_enqueue", "numbers_enqueue_1"]
    again = tf.train.QueueRunner.from_proto(definition)
    assert again.name == "numbers"
    coord = tf.train.Coordinator()
    again.create_threads(session, coord, start=True)
    assert set(session.run(queue.dequeue_many(10)).tolist()) <= {1, 2}
    coord.request_stop()
    coord.join()
    with pytest.raises(KeyError):
        tf.train.QueueRunner.from_proto(tf.train.QueueRunnerDef(queue_name="unknown"))


def test_runner_accepts_only_nodes():
    queue = tf.FIFOQueue(10, tf.int32)
    with pytest.raises(TypeError, match="a node"):
        tf.train.QueueRunner(queue, [lambda: 1])


def test_closing_the_session_ends_its_runners(graph):
    queue = tf.FIFOQueue(1, tf.int32, [()])
    types = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
    runner = tf.train.QueueRunner(queue, [queue.enqueue(1)], queue_closed_exception_types=types)
    with tf.Session(graph=graph) as session:
        threads = runner.create_threads(session, start=True)
        waiting_in(session, queue)
    assert ended(*threads)
    assert runner.exceptions_raised == []


def test_a_batch_has_the_structure_of_an_example(session):
    number = tf.train.range_input_producer(4, num_epochs=1, shuffle=False).dequeue()
    batch = tf.train.batch({"number": number, "twice": [number, number]}, 2)
    results = all_of(session, batch)
    assert [each["number"].tolist() for each in results] == [[0, 1], [2, 3]]
    assert [each["twice"].tolist() for each in results] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]


def test_sequences_of_any_length_are_parsed_and_padded(session):
    def example(*tokens):
        made = tf.train.SequenceExample()
        made.context.feature["length"].int64_list.value.append(len(tokens))
        for token in tokens:
            made.feature_lists.feature_list["tokens"].feature.add().int64_list.value.append(token)
        return made.SerializeToString()

    examples = [example(1, 2, 3), example(4)]
    context, sequences = tf.parse_single_sequence_example(
        tf.train.input_producer(examples, num_epochs=1, shuffle=False).dequeue(),
        {"length": tf.FixedLenFeature([], tf.int64)},
        {"tokens": tf.FixedLenSequenceFeature([], tf.int64)},
    )
    batch = tf.train.batch([context["length"], sequences["tokens"]], 2, dynamic_pad=True)
    assert [each.get_shape().as_list() for each in batch] == [[2], [2, None]]
    ((lengths, tokens),) = all_of(session, batch)
    assert (lengths.tolist(), tokens.tolist()) == ([3, 1], [[1, 2, 3], [4, 0, 0]])


def test_batch_size_can_be_fed(session):
    number = tf.train.range_input_producer(10, shuffle=False).dequeue()
    size = tf.placeholder(tf.int32, [])
    batch = tf.train.batch([number], size)
    assert batch.get_shape().as_list() == [None]
    with running(session):
        assert [len(session.run(batch, {size: each})) for each in (3, 1, 0, 5)] == [3, 1, 0, 5]


def rows_of_one_value_each(number):
    return tf.SparseTensor([[0, 0], [1, 1]], tf.stack([number, number + 10]), [2, 4])


def as_many_values(number):
    return tf.SparseTensor(tf.expand_dims(tf.range(number), 1), tf.fill([number], "v"), tf.stack([number]))


@pytest.mark.parametrize(
    ("make", "many", "indices", "values", "shape"),
    [
        (rows_of_one_value_each, True, [[0, 0], [1, 1], [2, 0]], [0, 10, 1], [3, 4]),
        (as_many_values, False, [[1, 0], [2, 0], [2, 1]], [b"v"] * 3, [3, 2]),
    ],
)
def test_sparse_examples_are_batched_as_sparse_tensors(session, make, many, indices, values, shape):
    number = tf.cast(tf.train.range_input_producer(3, num_epochs=1, shuffle=False).dequeue(), tf.int64)
    batch = tf.train.batch([make(number)], 3, enqueue_many=many)
    assert isinstance(batch, tf.SparseTensor)
    assert batch.indices.get_shape().as_list() == [None, 2]
    result = all_of(session, batch)[0]
    assert [part.tolist() for part in result] == [indices, values, shape]


def test_invalid_sparse_example_is_an_error_of_its_enqueue(session):
    example = tf.sparse_placeholder(tf.float32, [3])
    batch = tf.train.batch([example], 1)
    (enqueue,) = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)[0].enqueue_ops
    with pytest.raises(tf.errors.InvalidArgumentError, match="values must have shape"):
        session.run(enqueue, {example: (np.zeros((2, 1)), np.zeros(3), [3])})
    session.run(enqueue, {example: ([[1]], [5.0], [3])})
    assert session.run(batch).values.tolist() == [5.0]


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tf.train.batch([1], 2, enqueue_many=True), ValueError, "scalar"),
        (lambda: tf.train.batch([1], -1), ValueError, "0 or more"),
        (lambda: tf.train.batch([1], 2, num_threads=0), ValueError, "num_threads must be 1 or more"),
        (lambda: tf.train.batch([1], 2, num_threads=2.0), TypeError, "num_threads must be an integer"),
        (lambda: tf.train.shuffle_batch([1], 2, "9", 2), TypeError, "capacity must be an integer"),
        (lambda: tf.train.string_input_producer(None), ValueError, "None"),
        (lambda: tf.train.string_input_producer(3), TypeError, "of dtype string, got 3"),
        (lambda: tf.parse_single_example("", ["a"]), TypeError, "features must be a mapping"),
        (lambda: tf.decode_csv("a,b", [[1], [1]], select_cols=[1, 0]), ValueError, "select_cols must be increasing"),
        (lambda: tf.random_uniform([2], seed=1.5), TypeError, "seed must be an integer"),
        (lambda: tf.set_random_seed("a"), TypeError, "seed must be an integer"),
        (lambda: tf.train.batch_join([[1], [2, 3]], 2), ValueError, "same number"),
        (lambda: tf.train.batch_join([[[1]], [[1, 2]]], 2), ValueError, "not compatible"),
    ],
)
def test_invalid_arguments_raise_at_graph_construction(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_empty_list_of_names_at_run_time_raises(session, tmp_path):
    matches = tf.train.match_filenames_once(str(tmp_path / "*.txt"))
    name = tf.train.string_input_producer(matches, num_epochs=1).dequeue()
    coord = tf.train.Coordinator()
    assert all_of(session, name, coord) == []
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-null"):
        coord.join()


def test_reader_closes_its_file_when_the_session_ends(graph, tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    queue = tf.FIFOQueue(1, tf.string, [()])
    line = tf.TextLineReader().read(queue).value
    with tf.Session(graph=graph) as session:
        session.run(queue.enqueue(str(tmp_path / "lines.txt")))
        assert session.run(line) == b"one"
    with tf.Session(graph=graph) as session:  # its reader is between two work units
        session.run(queue.enqueue(str(tmp_path / "lines.txt")))
        assert session.run(line) == b"one"
