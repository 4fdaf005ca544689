"""A batch as a plain iterable: it runs its own input."""

import contextlib
import gc
import threading
import weakref

import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, Background
from helpers.concurrent_calls import in_threads
from helpers.finalizers import end_interrupted
from tf1.helpers.numbered_lines import NUMBERS

import mpqueue
from mpqueue import errors, train


@pytest.fixture(autouse=True)
def leaves_no_thread():
    """Check that no queue runner thread is left at the end."""
    yield
    mpqueue.reset_default_graph()
    gc.collect()
    assert runners_end()


def runner_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("QueueRunnerThread")]


def runners_end():
    """Wait for the threads of queue runners; return whether none is left."""
    for thread in runner_threads():
        thread.join(DEADLOCK_S)
    return runner_threads() == []


def numbers_in(batches):
    return [int(line) for batch in batches for line in batch]


def line_source(files, wrap):
    names = train.string_input_producer(files, num_epochs=1, shuffle=False)
    return wrap(mpqueue.TextLineReader(), names)


global_reader = global_names = None


def by_read_op(reader, names):
    return reader.read_op(names).map(lambda record: record[1:], dtypes=["string"], shapes=[()])


def by_closure(reader, names):
    return mpqueue.Source(lambda: [reader.read(names)[1]], ["string"], [()])


def by_half_filled_closure(reader, names):
    if reader is None:
        never = 1
    return mpqueue.Source(lambda: [reader.read(names)[1]] if names else never, ["string"], [()])


def by_default_argument(reader, names):
    return mpqueue.Source(lambda queue=names: [reader.read(queue)[1]], ["string"], [()])


def by_generator(reader, names):
    def lines():
        with contextlib.suppress(errors.OutOfRangeError):
            while True:
                yield [reader.read(names)[1]]

    return mpqueue.Source(lines().__next__, ["string"], [()])


def by_method(reader, names):
    class Lines:
        def __init__(self):
            self.queues = {"names": [names]}

        def next_line(self):
            return [reader.read(self.queues["names"][0])[1]]

    return mpqueue.Source(Lines().next_line, ["string"], [()])


def by_global(reader, names):
    global global_reader, global_names
    global_reader, global_names = reader, names
    return mpqueue.Source(read_global, ["string"], [()])


def read_global():
    return [(lambda: global_reader.read(global_names))()[1]]


def by_selection(reader, names):
    chosen = mpqueue.QueueBase.from_list(0, [names])
    return mpqueue.Source(lambda: [reader.read(chosen)[1]], ["string"], [()])


WRAPS = [
    by_read_op,
    by_closure,
    by_half_filled_closure,
    by_default_argument,
    by_generator,
    by_method,
    by_global,
    by_selection,
]


@pytest.fixture
def _no_globals():
    yield
    globals().pop("global_reader", None)
    globals().pop("global_names", None)


@pytest.mark.usefixtures("_no_globals")
@pytest.mark.parametrize("wrap", WRAPS)
def test_loop_starts_the_runners_of_queues_found_through_any_reference(numbered_files, wrap):
    batches = train.batch(line_source(numbered_files, wrap), 4, allow_smaller_final_batch=True)
    assert numbers_in(batches) == NUMBERS
    assert runner_threads() == []


def test_loop_starts_runners_of_chained_queues(numbered_files):
    """Chain: file names, lines, a queue filled by a custom callable, numbers, batches, batches of batches."""
    lines = line_source(numbered_files, by_read_op)
    middle = mpqueue.FIFOQueue(3, ["string"], [()])
    mpqueue.add_queue_runner(mpqueue.train.QueueRunner(middle, [lambda: middle.enqueue(lines())]))
    numbers = mpqueue.Source(middle.dequeue, "string", [()]).map(int, dtypes="int64", shapes=[()])
    inner = train.batch([numbers], 2, allow_smaller_final_batch=True)
    outer = train.batch([inner], 4, enqueue_many=True, shapes=[()], allow_smaller_final_batch=True)
    assert [batch.tolist() for batch in outer] == [NUMBERS[start : start + 4] for start in range(0, 15, 4)]


def test_loops_do_not_start_each_others_input(numbered_files):
    """A loop over the test data before training must not start or end the training data."""
    training = train.batch(line_source(numbered_files, by_read_op), 5)
    testing = train.batch(line_source(numbered_files, by_closure), 5)
    assert numbers_in(testing) == NUMBERS
    assert numbers_in(training) == NUMBERS


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(ZeroDivisionError, ("of mine",)), (errors.DataLossError, (None, None, "lost")), (SystemExit, (3,))],
)
def test_source_error_is_raised_after_preceding_batches(kind, arguments):
    error = kind(*arguments)
    examples = iter([1, 2, 3, 4, 5])

    def draw():
        number = next(examples)
        if number == 5:
            raise error
        return number

    batches = train.batch([mpqueue.Source(draw, "int32", [()])], 2)
    got = []
    with pytest.raises(type(error), match=str(error)):
        got.extend(batch.tolist() for batch in batches)
    assert got == [[1, 2], [3, 4]]
    with pytest.raises(type(error)):
        next(iter(batches))


def test_next_loop_continues_after_break(numbered_files):
    batches = train.batch(line_source(numbered_files, by_read_op), 5)
    for batch in batches:
        assert numbers_in([batch]) == NUMBERS[:5]
        break
    assert numbers_in([next(iter(batches))]) == NUMBERS[5:10]
    assert numbers_in(batches) == NUMBERS[10:]


def test_dropping_a_batch_op_stops_its_runners():
    for batch in train.batch([np.arange(3)], 5, enqueue_many=True):
        assert batch.tolist() == [0, 1, 2, 0, 1]
        break
    gc.collect()
    assert runners_end()


def test_close_stops_an_endless_input():
    batches = train.batch([np.arange(3)], 5, enqueue_many=True)
    next(iter(batches))
    batches.close()
    assert runner_threads() == []
    batches.close()
    with pytest.raises(errors.OutOfRangeError, match="read only once"):
        next(iter(batches))


def test_loop_after_the_end_of_input_raises_out_of_range():
    batches = train.batch([mpqueue.Source(iter([1, 2]).__next__, "int32", [()])], 1)
    assert len(list(batches)) == 2
    with pytest.raises(errors.OutOfRangeError, match="has ended; it can be read only once"):
        list(batches)


def test_loop_does_not_stop_runners_started_by_the_program(numbered_files):
    batches = train.batch(line_source(numbered_files, by_read_op), 5)
    coord = mpqueue.Coordinator()
    threads = mpqueue.start_queue_runners(coord=coord)
    assert numbers_in(batches) == NUMBERS
    assert set(runner_threads()) <= set(threads)
    assert not coord.should_stop()
    coord.request_stop()
    coord.join(threads)


def test_two_threads_share_one_input():
    batches = train.batch([mpqueue.Source(iter(range(1000)).__next__, "int64", [()])], 10)
    got = in_threads(*[lambda: list(batches)] * 2)
    assert sorted(number for into in got for batch in into for number in batch) == list(range(1000))


def test_closing_the_session_ends_the_loop_with_an_error():
    gate, started = threading.Event(), threading.Event()

    def second():
        started.set()
        gate.wait(DEADLOCK_S)
        return 2

    examples = iter([lambda: 1, second])
    batches = train.batch([mpqueue.Source(lambda: next(examples)(), "int32", [()])], 1)
    with mpqueue.Session() as session:
        loop = iter(batches)
        assert next(loop).tolist() == [1]
        started.wait(DEADLOCK_S)
        closing = Background(session.close)
        with pytest.raises(errors.CancelledError):
            next(loop)
        closing.finish()
    gate.set()
    with contextlib.suppress(errors.CancelledError):  # reported, unless `close` was faster
        batches.close()


def test_runners_start_with_the_first_batch(numbered_files):
    batches = train.batch(line_source(numbered_files, by_read_op), 5)
    iter(batches)
    assert runner_threads() == []
    with pytest.raises(errors.DeadlineExceededError):
        batches(timeout=0.01)


def test_unreferenced_batch_op_is_freed():
    batches = train.batch([counter()], 1)
    list(batches)
    ref = weakref.ref(batches)
    del batches
    assert ref() is None


def counter():
    return mpqueue.Source(iter(range(3)).__next__, "int32", [()])


def test_batch_op_with_failed_source_is_freed_with_its_error():
    def fail():
        raise ValueError("of mine")

    def loop():
        batches = train.batch([mpqueue.Source(fail, "int32", [()])], 2)
        with pytest.raises(ValueError, match="of mine"):
            list(batches)
        return weakref.ref(batches)

    batches = loop()
    gc.collect()
    assert batches() is None


def test_interrupt_while_a_batch_is_collected_is_raised_after_its_runners_are_stopped(monkeypatch):
    batches = [train.batch([counter()], 1)]
    next(iter(batches[0]))
    mpqueue.reset_default_graph()
    assert runner_threads()
    end_interrupted(monkeypatch, mpqueue.Coordinator, "request_stop", lambda: (batches.clear(), gc.collect()))
    runners_end()
