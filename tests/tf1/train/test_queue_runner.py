"""Queue runners beyond the golden cases: sessions, unusual ops, several queues, and the collection of runners."""

import logging
import threading
from functools import partial

import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, ended
from helpers.signal_handlers import raising
from tf1.helpers.input_ends import all_until_the_end

import mpqueue
from mpqueue import Coordinator, FIFOQueue, Session, Source
from mpqueue.errors import CancelledError, InvalidArgumentError, OpError, OutOfRangeError
from mpqueue.train import QueueRunner, QueueRunnerDef


@pytest.fixture
def queue():
    return FIFOQueue(100, np.int32, (), name="q")


@pytest.fixture
def quiet(monkeypatch):
    """Silence errors in threads: a runner without a coordinator raises there on purpose."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)


def numbers(count):
    return Source(iter(range(count)).__next__, np.int32, ())


def drain(queue):
    return all_until_the_end(lambda: int(queue.dequeue(timeout=DEADLOCK_S)))


def test_closing_the_session_ends_the_threads_of_a_full_queue(quiet):
    queue = FIFOQueue(1, np.int32, ())
    runner = QueueRunner(queue, [queue.enqueue_op(lambda: np.int32(1))])
    with Session() as session:
        threads = runner.create_threads(session, start=True)
        assert queue.dequeue(timeout=DEADLOCK_S) == 1
    assert ended(*threads)
    (error,) = runner.exceptions_raised
    assert isinstance(error, CancelledError)


def test_cancel_op_wakes_consumers_after_the_session_is_closed(queue):
    """A queue outlives the session of its runner."""
    coord = Coordinator()
    session = Session()
    runner = QueueRunner(queue, [raising(ValueError("boom"))])
    session.close()
    runner.create_threads(session, coord, start=True, daemon=True)
    with pytest.raises(CancelledError):
        coord.join()
    assert queue.is_closed()


def test_open_session_is_the_default_session_of_runners(queue):
    """Runners without an explicit session end with the open session."""
    coord = Coordinator()
    with Session():
        QueueRunner(queue, [queue.enqueue_op(lambda: np.int32(1))]).create_threads(coord=coord, start=True)
        queue.dequeue(timeout=DEADLOCK_S)
    with pytest.raises(CancelledError):
        coord.join()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, ValueError])
def test_any_op_error_is_reported_to_the_coordinator(queue, kind):
    coord = Coordinator()
    QueueRunner(queue, [raising(kind("boom"))]).create_threads(coord=coord, start=True)
    with pytest.raises(kind):
        coord.join()
    assert queue.is_closed()


def test_consumers_of_a_failed_runner_learn_the_error(queue):
    """Also the consumers of a different queue, which a runner of the same coordinator fills."""
    coord, other = Coordinator(), FIFOQueue(100, np.int32, ())
    QueueRunner(other, [lambda: coord.wait_for_stop() and queue.dequeue()]).create_threads(coord=coord, start=True)
    QueueRunner(queue, [raising(ValueError("no such row"))]).create_threads(coord=coord, start=True)
    with pytest.raises(ValueError, match="no such row"):
        coord.join()
    for each in (queue, other):
        with pytest.raises(OutOfRangeError, match="closed because of an error: ValueError: no such row"):
            each.dequeue()


def test_consumers_learn_the_error_that_ended_the_input_of_the_last_op(queue):
    """The op ends before the runner cancels its queue."""
    coord, has_closed = Coordinator(), threading.Event()

    def end():
        coord.request_stop(ValueError("no such row"))
        raise OutOfRangeError(None, None, "the input was closed")

    def close():
        queue.close()
        has_closed.set()

    def cancel():
        assert has_closed.wait(DEADLOCK_S)
        queue.close(cancel_pending_enqueues=True)

    QueueRunner(queue, [end], close, cancel).create_threads(coord=coord, start=True)
    with pytest.raises(ValueError, match="no such row"):
        coord.join()
    with pytest.raises(OutOfRangeError, match="closed because of an error: ValueError: no such row"):
        queue.dequeue()


def test_consumers_of_a_runner_that_was_stopped_or_ended_learn_no_error(queue):
    coord, other = Coordinator(), FIFOQueue(100, np.int32, ())
    QueueRunner(other, [other.enqueue_op(numbers(1))]).create_threads(coord=coord, start=True)
    assert drain(other) == [0]
    coord.request_stop(ValueError("after the end"))
    with pytest.raises(ValueError, match="after the end"):
        coord.join()
    coord.clear_stop()
    QueueRunner(queue, [lambda: coord.wait_for_stop()]).create_threads(coord=coord, start=True)
    coord.request_stop()
    coord.join()
    for each in (queue, other):
        with pytest.raises(OutOfRangeError, match=r"size 0\)\.$"):
            each.dequeue()


@pytest.mark.parametrize("last_fails", [True, False])
def test_queue_closes_unless_the_last_op_fails(queue, quiet, last_fails):
    end, failure = OutOfRangeError(None, None, "the end"), ValueError("boom")

    def last():
        assert ended(threads[0])
        raise failure if last_fails else end

    threads = QueueRunner(queue, [raising(end if last_fails else failure), last]).create_threads()
    for thread in threads:
        thread.start()
    assert ended(*threads)
    assert queue.is_closed() is not last_fails


def test_an_error_of_the_close_op_is_logged_and_not_reported(queue, caplog):
    caplog.set_level(logging.INFO, "mpqueue")
    coord = Coordinator()
    runner = QueueRunner(queue, [queue.enqueue_op(numbers(1))], close_op=raising(ValueError("boom")))
    threads = runner.create_threads(coord=coord, start=True)
    assert ended(threads[0])
    assert not coord.should_stop()
    assert "boom" in caplog.text
    coord.request_stop()
    coord.join()


def test_each_session_gets_its_own_threads(queue):
    runner = QueueRunner(queue, [queue.enqueue_op(numbers(3))])
    one, other = Session(), Session()
    assert len(runner.create_threads(one)) == 1
    assert runner.create_threads(one) == []
    assert len(runner.create_threads(other)) == 1


def test_to_proto_names_custom_callables(queue):
    runner = QueueRunner(queue, [lambda: None, lambda: None], close_op=queue.close)
    definition = runner.to_proto()
    assert definition == QueueRunnerDef("q", ["q_enqueue", "q_enqueue_1"], "q_Close_1", "q_Close", [11])
    again = QueueRunner.from_proto(definition)
    assert again.enqueue_ops == runner.enqueue_ops
    assert again.close_op == queue.close


def test_to_proto_distinguishes_queues_with_the_same_name():
    runners = [QueueRunner(queue, [queue.enqueue_op(int)]) for queue in (FIFOQueue(1, int), FIFOQueue(2, int))]
    definitions = [runner.to_proto() for runner in runners]
    assert [definition.queue_name for definition in definitions] == ["fifo_queue", "fifo_queue_1"]
    for runner, definition in zip(runners, definitions, strict=True):
        assert QueueRunner.from_proto(definition).queue is runner.queue


def test_name_of_a_freed_queue_is_removed(queue):
    definition = QueueRunner(queue, [queue.enqueue_op(int)]).to_proto()
    with pytest.raises(KeyError, match="q_enqueue"):
        QueueRunner.from_proto(definition)
    assert queue.enqueue_op(int).name == "q_enqueue"


def test_scopes_are_removed_and_added():
    queue = FIFOQueue(1, int, name="input/q")
    runner = QueueRunner(queue, [queue.enqueue_op(int)])
    definition = runner.to_proto("input")
    assert definition.queue_name == "q"
    assert definition.enqueue_op_name == ["q_enqueue"]
    assert runner.to_proto("output") is None
    assert QueueRunner.from_proto(definition, "input").queue is queue


@pytest.mark.parametrize("field", ["queue_name", "close_op_name", "cancel_op_name"])
def test_an_unknown_name_is_a_key_error(queue, field):
    runner = QueueRunner(queue, [queue.enqueue_op(int)])
    definition = runner.to_proto()
    setattr(definition, field, "unknown")
    with pytest.raises(KeyError, match="unknown"):
        QueueRunner.from_proto(definition)


def test_codes_of_a_definition_are_the_closed_types(queue):
    runner = QueueRunner(queue, [int])
    definition = runner.to_proto()
    definition.queue_closed_exception_types = []
    assert QueueRunner.from_proto(definition).queue_closed_exception_types == (OutOfRangeError,)  # the default
    definition.queue_closed_exception_types = [99]
    with pytest.raises(KeyError, match="99"):
        QueueRunner.from_proto(definition)


def test_a_subclass_among_the_closed_types_has_the_code_of_its_base(queue):
    class Over(CancelledError):
        pass

    runner = QueueRunner(queue, [int], queue_closed_exception_types=(Over, OpError))
    assert runner.to_proto().queue_closed_exception_types == [1, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        *(
            (partial(QueueRunner, enqueue_ops=[int], queue_closed_exception_types=types), "tuple")
            for types in ((), (ValueError,), OutOfRangeError, (OutOfRangeError, "x"))
        ),
        *((partial(QueueRunner, enqueue_ops=ops), "op") for ops in ([3], int, 3)),
        (lambda _: QueueRunner(3, [print]), "QueueRunner requires a queue of mpqueue, got 3"),
        (lambda _: mpqueue.start_queue_runners(Coordinator()), "coord="),
        (lambda queue: QueueRunner(queue, [int]).create_threads(3), "Session"),
        (mpqueue.add_queue_runner, "QueueRunner"),
    ],
)
def test_wrong_argument_raises(queue, call, words):
    with pytest.raises(TypeError, match=words):
        call(queue)


def test_start_queue_runners_starts_the_runners_of_its_collection(queue):
    runner = QueueRunner(queue, [queue.enqueue_op(numbers(3))])
    other = QueueRunner(queue, [raising(InvalidArgumentError(None, None, "not started"))])
    mpqueue.add_queue_runner(runner)
    mpqueue.add_queue_runner(other, "others")
    assert mpqueue.get_queue_runners() == [runner]
    threads = mpqueue.start_queue_runners()
    assert [thread.daemon for thread in threads] == [True]
    assert drain(queue) == [0, 1, 2]
    mpqueue.reset_default_graph()
    assert mpqueue.get_queue_runners() == []


def test_starting_without_runners_warns(caplog):
    assert mpqueue.start_queue_runners() == []
    assert "no queue runner" in caplog.text


def test_wrong_coordinator_raises_before_threads_are_created(queue):
    runner = QueueRunner(queue, [queue.enqueue_op(numbers(1))])
    with pytest.raises(TypeError, match="coord must be a Coordinator or None, got 3"):
        runner.create_threads(coord=3, start=True)
    assert runner.create_threads(coord=Coordinator())  # the failed call has not started a run
