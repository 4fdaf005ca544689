"""Batches with sources that are called in worker processes."""

import os
import signal
import sys
from functools import partial

import numpy as np
import pytest
from helpers.gates import Gate, pass_gate
from tf1.helpers.input_ends import all_until_the_end
from tf1.helpers.numbered_lines import NUMBERS

import mpqueue
from mpqueue import errors, train
from mpqueue.tf1.train import process_op


def decode(record):
    """Return the number on a line, and the ID of the process that decoded it."""
    return [np.int64(record[1]), np.int64(os.getpid())]


def lines_of(files, function=decode, dtypes=("int64", "int64"), num_epochs=1):
    """Return a source that calls a function with each line of files."""
    names = train.string_input_producer(files, num_epochs=num_epochs, shuffle=False)
    return mpqueue.TextLineReader().read_op(names).map(function, dtypes=[*dtypes], shapes=[()] * len(dtypes))


def together(batches):
    """Return all numbers, and the set of process IDs."""
    parts = [np.concatenate(part) for part in zip(*batches, strict=True)]
    return parts[0].tolist(), set(parts[1].tolist())


def in_order(source, others):
    return train.batch(source, 4, 3, allow_smaller_final_batch=True, workers="process")


def shuffled_and_joined(source, others):
    return train.shuffle_batch_join([source, *others], 4, 50, 10, allow_smaller_final_batch=True, workers="process")


@pytest.mark.parametrize("make", [in_order, shuffled_and_joined])
def test_several_worker_processes_share_one_queue_of_work_units(numbered_files, make):
    names = train.string_input_producer(numbered_files, num_epochs=1)
    sources = [
        mpqueue.TextLineReader().read_op(names).map(decode, dtypes=["int64", "int64"], shapes=[(), ()])
        for _ in range(3)
    ]
    numbers, pids = together(make(sources[0], sources[1:]))
    assert sorted(numbers) == NUMBERS
    assert os.getpid() not in pids


def test_worker_runs_a_closure_over_a_queue_and_a_reader(numbered_files):
    names = train.string_input_producer(numbered_files, num_epochs=1)
    reader = mpqueue.TextLineReader()

    def example():
        return {"line": reader.read(names)[1], "pid": os.getpid()}

    source = mpqueue.Source(example, ["string", "int64"], [(), ()], ["line", "pid"])
    got = list(train.batch(source, 5, 2, workers="process"))
    assert sorted(int(line) for batch in got for line in batch["line"]) == NUMBERS
    assert os.getpid() not in {pid for batch in got for pid in batch["pid"]}


def test_slices_and_batches_of_batches_run_in_worker_processes():
    rows = train.slice_input_producer([np.arange(12), np.arange(12) * 10], num_epochs=1, shuffle=False)
    inner = train.batch(rows, 3)
    outer = train.batch(inner, 6, enqueue_many=True, workers="process")
    assert [[part.tolist() for part in batch] for batch in outer] == [
        [list(range(6)), list(range(0, 60, 10))],
        [list(range(6, 12)), list(range(60, 120, 10))],
    ]


def test_rows_of_variable_length_are_padded():
    words = train.input_producer(np.arange(1, 5), num_epochs=1, shuffle=False)
    source = mpqueue.Source(words.dequeue, "int64", [()]).map(np.ones, dtypes=["float64"], shapes=[(None,)])
    (batch,) = train.batch(source, 4, dynamic_pad=True, workers="process")
    assert batch.sum(axis=1).tolist() == [1, 2, 3, 4]


def test_source_with_epoch_counter_runs_in_its_thread():
    counted = train.limit_epochs(mpqueue.Source(os.getpid, ["int64"], [()]), 6)
    batches = list(train.batch(counted, 2, 3, workers="process"))
    assert np.array(batches).tolist() == [[os.getpid()] * 2] * 3


def test_outer_batch_runs_in_a_worker_if_only_the_inner_one_counts_epochs():
    counted = train.limit_epochs(mpqueue.Source(os.getpid, ["int64"], [()]), 6)
    inner = train.batch(counted, 2)
    source = inner.map(lambda pids: [pids, os.getpid()], dtypes=["int64", "int64"], shapes=[(2,), ()])
    for batch in train.batch(source, 3, workers="process"):
        assert batch[0].tolist() == [[os.getpid()] * 2] * 3
        assert os.getpid() not in batch[1]


def test_source_with_placeholder_runs_in_its_thread():
    fed = mpqueue.placeholder_with_default(np.int64(3), [])
    source = mpqueue.Source(lambda: [fed(), os.getpid()], ["int64", "int64"], [(), ()])
    batches = train.batch(source, 2, workers="process")
    assert next(iter(batches))[1].tolist() == [os.getpid()] * 2
    batches.close()


BAD = 7


def fail_at_bad(record):
    if int(record[1]) == BAD:
        raise errors.InvalidArgumentError(None, None, f"record {record[0].decode()} is bad")
    return [np.int64(record[1])]


@pytest.fixture
def twelve_lines(tmp_path):
    """Create a file of twelve numbered lines, and return its path in a list."""
    (tmp_path / "lines.txt").write_text("".join(f"{number}\n" for number in range(12)))
    return [tmp_path / "lines.txt"]


def test_error_of_a_bad_record_is_reported_to_the_coordinator(twelve_lines):
    batches = train.batch(lines_of(twelve_lines, fail_at_bad, ["int64"]), 2, workers="process")
    coord = train.Coordinator()
    threads = train.start_queue_runners(coord=coord)
    assert [batch.tolist() for batch in all_until_the_end(batches)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(errors.InvalidArgumentError, match=r"lines.txt:8 is bad") as caught:
        coord.join(threads)
    assert "in fail_at_bad" in str(caught.value.__cause__)


def test_worker_crash_is_reported_after_preceding_batches(twelve_lines):
    with Gate() as gate:

        def wait_at_bad(record):
            if int(record[1]) == BAD:
                pass_gate(gate_address)
            return [np.int64(record[1])]

        gate_address = gate.address
        loop = iter(train.batch(lines_of(twelve_lines, wait_at_bad, ["int64"]), 2, workers="process"))
        got = [next(loop).tolist()]
        arrival = gate.arrival()
        os.kill(arrival.pid, signal.SIGKILL)
        with pytest.raises(errors.WorkerDied):
            got.extend(batch.tolist() for batch in loop)
        arrival.let_go()
    assert got == [[0, 1], [2, 3], [4, 5]]


def test_breaking_a_loop_over_worker_processes(numbered_files):
    batches = train.batch(lines_of(numbered_files, num_epochs=None), 4, 2, workers="process")
    for numbers, _ in batches:
        assert len(numbers) == 4
        break
    batches.close()


@pytest.mark.parametrize("make", [train.batch, train.shuffle_batch])
def test_workers_must_be_threads_or_processes(make):
    sizes = (2,) if make is train.batch else (2, 20, 5)
    with pytest.raises(ValueError, match="got 'fibre'"):
        make([np.arange(3)], *sizes, workers="fibre")


def test_sys_exit_in_an_op_raises_worker_raised():
    with pytest.raises(errors.WorkerRaised, match="SystemExit: 6"):
        process_op.run_in_worker(partial(sys.exit, 6), None)
