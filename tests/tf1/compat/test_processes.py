"""Enqueue operations of a script in worker processes."""

import contextlib
import os

import numpy as np
import pytest
from tf1.compat.conftest import running
from tf1.helpers.numbered_lines import NUMBERS

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.train import processes


@pytest.fixture(autouse=True)
def _used(monkeypatch):
    """Enable worker processes."""
    monkeypatch.setattr(processes, "_choice", [])
    tf.use_processes()


def process_id(stateful, *inputs):
    return tf.py_func(lambda *_: np.int64(os.getpid()), inputs, tf.int64, stateful=stateful)


def scalars(*tensors):
    for tensor in tensors:
        tensor.set_shape([])
    return list(tensors)


@contextlib.contextmanager
def started_runners():
    """Yield a session with the runners of its graph. They stop at the end of the block, or of their input."""
    with tf.Session() as session, running(session), contextlib.suppress(tf.errors.OutOfRangeError):
        yield session


def all_batches(fetches):
    """Return all results of a pipeline until it ends, with its components as flat lists."""
    got = [[] for _ in fetches]
    with started_runners() as session:
        while True:
            for into, part in zip(got, session.run(fetches), strict=True):
                into.extend(np.ravel(part).tolist())
    return got


def lines_of(files, **options):
    return tf.TextLineReader().read(tf.train.string_input_producer(files, num_epochs=1, **options))


def test_batches_are_decoded_in_worker_processes(numbered_files):
    value = tf.string_to_number(lines_of(numbered_files).value, tf.int32)
    example = scalars(value, process_id(False, value))
    numbers, pids = all_batches(tf.train.batch(example, 4, num_threads=3, allow_smaller_final_batch=True))
    assert sorted(numbers) == NUMBERS
    assert os.getpid() not in pids


@pytest.mark.parametrize(("setting", "used"), [("process", True), ("thread", False), ("", False)])
def test_environment_variable_enables_processes_until_a_call_decides(monkeypatch, setting, used):
    monkeypatch.setattr(processes, "_choice", [])
    monkeypatch.setenv("MPQUEUE_WORKERS", setting)
    assert processes.are_enabled() is used
    tf.use_processes(not used)
    assert processes.are_enabled() is not used


def test_invalid_environment_variable_raises(monkeypatch):
    monkeypatch.setattr(processes, "_choice", [])
    monkeypatch.setenv("MPQUEUE_WORKERS", "fibre")
    with pytest.raises(ValueError, match=r"MPQUEUE_WORKERS must be .* got 'fibre'"):
        processes.are_enabled()


def variable():
    return tf.Variable(np.int64(7)) + 0


def counter():
    return tf.train.limit_epochs(tf.constant(np.int64(1)), 100)


def seeded():
    return tf.random_uniform([], 0, 100, tf.int64, seed=3)


def chosen_by_a_variable():
    kept = tf.Variable(True)
    return tf.cond(tf.constant(True) & kept, lambda: tf.constant(np.int64(1)), lambda: tf.constant(np.int64(2)))


def chosen_variable():
    kept = tf.Variable(np.int64(7))
    return tf.cond(tf.constant(True), lambda: kept.read_value(), lambda: tf.constant(np.int64(2)))


def own_queue_of_a_branch():
    def made():
        queue = tf.FIFOQueue(1, [tf.int64], [[]])
        with tf.control_dependencies([queue.enqueue([np.int64(1)])]):
            return queue.dequeue()

    return tf.cond(tf.constant(True), made, lambda: tf.constant(np.int64(2)))


def stateful_function():
    return tf.py_func(lambda: np.int64(1), [], tf.int64)


def records_read():
    return tf.TextLineReader().num_records_produced()


def pids_with(touched, queue):
    example = scalars(touched, process_id(False, touched))
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue(example)]))
    values, pids = queue.dequeue_many(6)
    with started_runners() as session:
        return set(session.run([values, pids])[1].tolist())


def unseeded():
    return tf.random_uniform([], 0, 100, tf.int64)


def chosen():
    return tf.cond(tf.constant(True), lambda: tf.constant(np.int64(1)), lambda: tf.constant(np.int64(2)))


BOUND = [variable, counter, seeded, chosen_by_a_variable, chosen_variable]
BOUND += [own_queue_of_a_branch, stateful_function, records_read]


@pytest.mark.parametrize("make", [*BOUND, unseeded, chosen])
def test_operation_runs_in_its_thread_if_it_has_session_state_and_otherwise_in_a_worker(make):
    queue = tf.FIFOQueue(10, [tf.int64, tf.int64], [[], []])
    pids = pids_with(make(), queue)
    assert pids == {os.getpid()} if make in BOUND else os.getpid() not in pids


def test_operation_with_feeds_runs_in_its_thread():
    fed = tf.placeholder(tf.int64, [])
    queue = tf.FIFOQueue(10, [tf.int64], [[]])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue(fed)]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="feed"), started_runners() as session:
        session.run(queue.dequeue())


def test_queue_selected_at_run_time_is_reachable_from_workers():
    queues = [tf.FIFOQueue(10, [tf.int64], [[]]) for _ in range(2)]
    chosen = tf.QueueBase.from_list(1, queues)
    tf.train.add_queue_runner(tf.train.QueueRunner(chosen, [chosen.enqueue(process_id(False))]))
    with started_runners() as session:
        assert session.run(queues[1].dequeue()) != os.getpid()


def test_queues_are_filled_in_processes_in_a_chain(numbered_files):
    """Process lines in one process, numbers in another, and batches in this one."""
    lines = tf.FIFOQueue(5, [tf.string], [[]])
    tf.train.add_queue_runner(tf.train.QueueRunner(lines, [lines.enqueue(lines_of(numbered_files).value)] * 2))
    number = tf.string_to_number(lines.dequeue(), tf.int32)
    batch = tf.train.shuffle_batch([number], 5, 20, 5, num_threads=2)
    assert sorted(all_batches([batch])[0]) == NUMBERS


def test_reader_of_the_session_counts_records_of_workers(numbered_files):
    reader = tf.TextLineReader()
    value = reader.read(tf.train.string_input_producer(numbered_files, num_epochs=2)).value
    batch = tf.train.batch([value], 5, num_threads=2, allow_smaller_final_batch=True)
    counts = reader.num_records_produced(), reader.num_work_units_completed()
    with started_runners() as session:
        with pytest.raises(tf.errors.OutOfRangeError):
            while True:
                session.run(batch)
        assert session.run(counts) == (30, 6)


def test_error_names_the_operation_and_follows_preceding_batches(tmp_path):
    (tmp_path / "lines.txt").write_text("0\n1\n2\nthree\n4\n")
    value = tf.string_to_number(lines_of([str(tmp_path / "lines.txt")]).value, tf.int32, name="number")
    batch = tf.train.batch([value], 2, allow_smaller_final_batch=True)
    got = []
    with pytest.raises(tf.errors.InvalidArgumentError, match="three") as caught, started_runners() as session:
        while True:
            got.append(session.run(batch).tolist())
    assert got == [[0, 1], [2]]
    assert caught.value.op is tf.get_default_graph().get_operation_by_name("number")
