"""Records read by copies of a reader in other processes are counted in the original reader."""

import contextlib
import signal
import sys
import threading

import pytest
from helpers.forked_calls import status_of_fork
from helpers.injected_exceptions import StruckException
from helpers.queue_processes import Other
from helpers.signal_handlers import handling, raising
from tf1.helpers.stray_writes import be_disconnected

import mpqueue
from mpqueue import errors, train
from mpqueue.tf1.queues.remote import RemoteQueue

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def work(*units):
    queue = mpqueue.FIFOQueue(100, ["string"], [()])
    if units:
        queue.enqueue_many([list(units)])
    return queue


def counts(reader, *_):
    return reader.num_records_produced(), reader.num_work_units_completed()


def read(reader, queue):
    return reader.read(queue)


def read_to_the_end(reader, queue):
    while True:
        try:
            reader.read(queue, timeout=30)
        except errors.OutOfRangeError:
            return


def give_up_a_call(_reader, queue):
    with pytest.raises(LookupError):
        queue.queue_ref.dequeue(30, raising(LookupError("as a handler of a signal")))


@pytest.fixture
def files(tmp_path):
    """Create three files of five lines."""
    for number in range(3):
        (tmp_path / str(number)).write_text("line\n" * 5)
    return [str(tmp_path / str(number)) for number in range(3)]


@contextlib.contextmanager
def copied(*units, kind=mpqueue.TextLineReader):
    """Yield a reader, a queue of work units, and a process with copies of both."""
    reader, queue = kind(), work(*units)
    with Other(reader, queue) as other:
        yield reader, queue, other


def test_counts_of_several_processes_are_added_to_local_counts(files):
    with copied(*files) as (reader, queue, one), Other(reader, queue, method="spawn") as two:
        reader.read(queue)
        one.ask(read)
        two.ask(read)
        one.ask(read)
        assert counts(reader) == (4, 0)
        queue.close()
        one.ask(read_to_the_end)
        two.ask(read_to_the_end)
        assert counts(reader) == (11, 2)
        read_to_the_end(reader, queue)
        assert counts(reader) == (15, 3)
    assert counts(reader) == (15, 3)


def test_counts_of_killed_process_are_kept(files):
    with copied(*files) as (reader, queue, one):
        one.ask(read)
        one.ask(read)
        one.kill()
    assert counts(reader) == (2, 0)
    with Other(reader, queue) as two:  # the same words of memory
        two.ask(read)
        assert counts(reader) == (3, 0)
    assert counts(reader) == (3, 0)


def test_copy_continues_counting_after_undone_call(files):
    """Its thread has reconnected by then, and its former words may belong to another connection."""
    with copied(*files) as (reader, queue, one):
        one.ask(read)
        one.ask(give_up_a_call)
        with Other(reader, queue) as two:
            two.ask(read)
            one.ask(lambda reader, queue: reader.read_up_to(queue, 10))
            room = two.ask(lambda _reader, queue: queue.queue_ref.set_aside(1))
            assert room == 0, "a unit was counted into the limit of another's window"
            assert counts(reader) == (6, 1)


def test_counts_of_a_thread_are_kept_while_another_thread_reconnects(tmp_path):
    """The thread that has joined owns the connection. Other threads may count through it."""
    (tmp_path / "lines").write_text("line\n" * 2000)

    def count_amid_renewals(reader, queue):
        counter = threading.Thread(target=lambda: [reader.read(queue) for _ in range(1999)])
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            counter.start()
            while counter.is_alive():
                give_up_a_call(reader, queue)
        finally:
            sys.setswitchinterval(interval)
            counter.join()

    with copied(str(tmp_path / "lines"), "a unit for the calls that fail") as (reader, _, other):
        other.ask(read)
        other.ask(count_amid_renewals)
        assert counts(reader) == (2000, 0)


def test_record_is_returned_although_counting_fails(files):
    """Its thread has reconnected since the last count, and the owner has closed that connection, too."""

    def be_cut_off(_reader, queue):
        with pytest.raises(errors.CancelledError):
            be_disconnected(queue)

    with copied(*files) as (reader, _, other):
        other.ask(read)
        other.ask(give_up_a_call)
        other.ask(be_cut_off)
        assert other.ask(read) == (f"{files[0]}:2".encode(), b"line")
        assert other.ask(counts) == (2, 0)
        assert counts(reader) == (1, 0)


def test_handler_exception_during_count_is_raised(files):
    def read_amid_a_signal(reader, queue):
        RemoteQueue.join_tally = lambda *_: signal.raise_signal(signal.SIGALRM)
        with handling(raising(StruckException), signal.SIGALRM), pytest.raises(StruckException):
            reader.read(queue)

    with copied(*files) as (_, _, other):
        other.ask(read)
        other.ask(give_up_a_call)
        other.ask(read_amid_a_signal)


def test_reset_restarts_counts_and_keeps_units_of_copies(files):
    with copied(*files) as (reader, _, other):
        other.ask(read)
        reader.reset()
        assert counts(reader) == (0, 0)
        other.ask(lambda reader, queue: reader.read_up_to(queue, 4))
        assert counts(reader) == (4, 0)
    assert counts(reader) == (4, 0)


def test_reset_of_copy_does_not_change_original(files):
    with copied(*files) as (reader, _, other):
        other.ask(read)
        other.ask(lambda reader, _: reader.reset())
        assert other.ask(counts) == (0, 0)
        other.ask(read)
        assert counts(reader) == (2, 0)


def test_saved_state_contains_counts_of_all_copies():
    with copied("a", "b", kind=mpqueue.IdentityReader) as (reader, queue, other):
        other.ask(read)
        reader.read(queue)
        saved = reader.serialize_state()
    fresh = mpqueue.IdentityReader()
    fresh.restore_state(saved)
    assert counts(fresh) == (2, 2)


def test_fork_of_copy_is_counted(files):
    def read_in_a_fork(reader, queue):
        reader.read_up_to(queue, 10)
        status_of_fork(lambda: len(reader.read_up_to(queue, 10)[1]))

    with copied(*files) as (reader, _, other):
        other.ask(read_in_a_fork)
        assert counts(reader) == (10, 2)


def test_queue_of_other_owner_is_not_counted():
    def read_own(reader, queue):
        own = work("x")
        reader.read(own)
        reader.read(queue)

    with copied("a", kind=mpqueue.IdentityReader) as (reader, _, other):
        other.ask(read_own)
        assert other.ask(counts) == (2, 2)
        assert counts(reader) == (1, 1)


def test_selection_of_queues_is_counted(files):
    reader = mpqueue.TextLineReader()
    chosen = mpqueue.QueueBase.from_list(1, [work(), work(*files)])
    with Other(reader, chosen, method="fork") as other:
        other.ask(read)
        assert counts(reader) == (1, 0)


def test_batches_of_worker_processes_are_counted_in_the_reader(files):
    names = train.string_input_producer(files, num_epochs=2)
    reader = mpqueue.TextLineReader()
    lines = reader.read_op(names).map(lambda record: record[1:], dtypes=["string"], shapes=[()])
    batches = list(train.batch(lines, 4, 2, allow_smaller_final_batch=True, workers="process"))
    assert sum(map(len, batches)) == 30
    assert counts(reader) == (30, 6)
