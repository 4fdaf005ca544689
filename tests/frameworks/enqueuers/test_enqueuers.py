"""Enqueuers beyond the golden cases of Keras: epochs, several generators, bad calls."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.engine_parts import work_items_of
from helpers.mapped_values import Follows
from helpers.started_enqueuer import started

from mpqueue import Dataset, GeneratorEnqueuer, OrderedEnqueuer, Sequence

STREAM = Dataset.range(200).shuffle().filter(bool)
by_way = pytest.mark.parametrize(
    ("processes", "workers"), [(True, 2), (False, 2), (True, 0)], ids=["processes", "threads", "inline"]
)


class Counting(Sequence):
    """Item i of epoch e is 100 * e + i."""

    def __init__(self, length=4):
        self.length, self.epoch = length, 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.array([100 * self.epoch + index])

    def on_epoch_end(self):
        self.epoch += 1


def take(generator, count):
    return [int(next(generator)[0]) for _ in range(count)]


def test_epoch_end_runs_without_a_request_for_a_batch():
    ended = threading.Event()

    class Telling(Counting):
        def on_epoch_end(self):
            super().on_epoch_end()
            ended.set()

    with OrderedEnqueuer(Telling()) as enqueuer:
        enqueuer.start()
        take(enqueuer.get(), 4)
        assert ended.wait(60)


def test_error_of_on_epoch_end_is_raised_by_the_following_next():
    class Raising(Counting):
        def on_epoch_end(self):
            raise OSError("the next epoch's file is missing")

    with started(Raising(), 2) as enqueuer:
        batches = enqueuer.get()
        take(batches, 4)
        with pytest.raises(OSError, match="the next epoch's file is missing"):
            next(batches)
        assert not enqueuer.is_running()


def test_calls_in_the_wrong_order_raise_with_the_remedy():
    enqueuer = OrderedEnqueuer(Counting())
    enqueuer.stop()
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        next(enqueuer.get())
    enqueuer.start()
    with pytest.raises(RuntimeError, match=r"already running.*stop\(\)"):
        enqueuer.start()
    enqueuer.stop()
    enqueuer.stop()
    assert not enqueuer.is_running()


def test_generator_keeps_the_enqueuer_alive_and_may_be_read_in_another_thread():
    def batches():
        enqueuer = OrderedEnqueuer(Counting(), True)
        enqueuer.start(2)
        return enqueuer.get()

    generator = batches()
    assert in_threads(lambda: take(generator, 6)) == [[0, 1, 2, 3, 100, 101]]


@pytest.mark.parametrize("processes", [True, False])
def test_stop_unblocks_a_waiting_consumer(processes):
    release = threading.Event()

    class Stuck(Counting):
        def __getitem__(self, index):
            if processes:
                import signal

                signal.pause()
            release.wait(60)

    options = {"start_method": "fork"} if processes else {}
    enqueuer = OrderedEnqueuer(Stuck(), processes, **options)
    enqueuer.start()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, enqueuer.get())
        enqueuer.stop()
        release.set()
        assert reading.result(60) == []


def test_queue_reports_ready_batches_and_returns_items(deadlock_s):
    with started(Counting(50), 2, 4) as enqueuer:
        while enqueuer.queue.qsize() < 4:
            threading.Event().wait(0.001)
        assert not enqueuer.queue.empty()
        assert enqueuer.queue.get()[0] == 0
        assert take(enqueuer.get(), 1) == [1]


def test_keras_attributes_exist():
    one, two = OrderedEnqueuer(Counting()), OrderedEnqueuer(Counting())
    assert "not started" in repr(two)
    assert isinstance(one.sequence, Counting)
    assert two.uid > one.uid
    with two:
        two.start(3, 5)
        assert two.workers == 3
        two.join_end_of_epoch()
    assert repr(two) == "<OrderedEnqueuer of Counting, stopped>"


@pytest.mark.parametrize("processes", [True, False])
def test_length_near_2_to_the_63_does_not_become_a_list(processes):
    with OrderedEnqueuer(Counting(2**63 - 1), processes) as enqueuer:
        enqueuer.start(2)
        assert take(enqueuer.get(), 5) == [0, 1, 2, 3, 4]


def test_threads_use_the_callers_own_object():
    class Noting(Counting):
        seen = ()

        def __getitem__(self, index):
            self.seen = (*self.seen, index)
            return super().__getitem__(index)

    sequence = Noting()
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start()
        take(enqueuer.get(), 4)
    assert sequence.seen[:4] == (0, 1, 2, 3)


def test_unordered_epoch_returns_every_item_once():
    with started(Counting(20), 3, 6, ordered=False) as enqueuer:
        batches = enqueuer.get()
        assert sorted(take(batches, 20)) == list(range(20))
        assert sorted(take(batches, 20)) == list(range(100, 120))


def test_a_generator_object_is_inherited_by_fork_with_one_warning():
    enqueuer = GeneratorEnqueuer((number for number in range(5)), True)
    with pytest.warns(RuntimeWarning, match="cannot be sent to worker processes.*forked from this process"):
        enqueuer.start(2)
    assert sorted(enqueuer.get()) == sorted(2 * list(range(5)))
    enqueuer.stop()


def test_exception_of_a_generator_takes_precedence_over_its_end():
    inside = threading.Event()

    class Failing:
        def __init__(self):
            self.calls, self.lock = 0, threading.Lock()

        def __next__(self):
            with self.lock:
                self.calls += 1
                call = self.calls
            if call == 1:
                inside.wait(60)
                raise KeyError("a bad record")
            inside.set()
            raise StopIteration

    enqueuer = GeneratorEnqueuer(Failing())
    enqueuer.start(2)
    with pytest.raises(KeyError, match="a bad record"):
        list(enqueuer.get())
    assert not enqueuer.is_running()


def test_plain_generator_in_several_threads_raises_that_it_is_not_thread_safe():
    entered, release = threading.Event(), threading.Event()

    def slow():
        entered.set()
        release.wait(60)
        yield 1

    enqueuer = GeneratorEnqueuer(slow())
    enqueuer.start(1)
    assert entered.wait(60)
    other = GeneratorEnqueuer(enqueuer.sequence)
    other.start(1)
    with pytest.raises(RuntimeError, match="not thread-safe"):
        next(other.get())
    release.set()
    assert list(enqueuer.get()) == [1]
    enqueuer.stop()


def test_sequence_has_only_the_names_of_keras():
    public = {name for name in dir(Sequence()) if not name.startswith("_")}
    assert public == {"on_epoch_end", "workers", "use_multiprocessing", "max_queue_size"}
    with pytest.raises(NotImplementedError):
        Sequence()[0]
    with pytest.raises(NotImplementedError):
        len(Sequence())


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: OrderedEnqueuer(7), TypeError, "no __getitem__ and no __len__"),
        (lambda: OrderedEnqueuer(iter([1])), TypeError, "GeneratorEnqueuer"),
        (lambda: GeneratorEnqueuer([1, 2]), TypeError, "iterator"),
        (lambda: GeneratorEnqueuer(Counting()), TypeError, "OrderedEnqueuer"),
        (lambda: OrderedEnqueuer(Counting(), seed="x"), TypeError, "seed"),
        (lambda: OrderedEnqueuer(Counting(), start_method="forked"), ValueError, "forkserver.*spawn.*forked"),
        (lambda: OrderedEnqueuer(Counting()).start(-1), ValueError, "workers.*-1"),
        (lambda: OrderedEnqueuer(Counting()).start(1.5), TypeError, "workers.*1.5"),
        (lambda: OrderedEnqueuer(Counting()).start(1, -1), ValueError, "max_queue_size"),
        (lambda: OrderedEnqueuer(Counting(), True).start(1, 0), ValueError, "unbounded.*threads only"),
        (lambda: OrderedEnqueuer(Counting(0), True).start(), ValueError, r"the source is empty: len\(Counting\) is 0"),
        (lambda: OrderedEnqueuer(Counting(-1), True).start(), ValueError, r"len\(Counting\)"),
        (lambda: OrderedEnqueuer(Counting("x"), True).start(), TypeError, "integer"),
        (lambda: GeneratorEnqueuer(iter(()), random_seed=1, seed=2), ValueError, "random_seed"),
        (lambda: OrderedEnqueuer(STREAM), TypeError, "stage 2, filter.*GeneratorEnqueuer, .*mpqueue.keras.accelerate"),
        (lambda: GeneratorEnqueuer(Dataset.range(4)), TypeError, "by index.*OrderedEnqueuer"),
        (lambda: GeneratorEnqueuer(STREAM, lanes=0), ValueError, "lanes must be 1 or more"),
        (lambda: GeneratorEnqueuer(iter([1]), lanes=2), ValueError, "an iterator"),
    ],
)
def test_bad_input_is_rejected_before_any_process_starts(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_threads_may_be_unbounded():
    with OrderedEnqueuer(Counting(30)) as enqueuer:
        enqueuer.start(2, 0)
        while enqueuer.queue.qsize() < 30:
            threading.Event().wait(0.001)
        assert take(enqueuer.get(), 31)[-1] == 100


class HookedFollows(Follows):
    def on_epoch_end(self):
        """Have no effect; the method only has to exist."""


@pytest.mark.parametrize("kind", [Follows, HookedFollows])
@by_way
def test_epoch_begins_with_the_content_of_shared_memory_at_its_first_batch(tmp_path, kind, processes, workers):
    sequence = kind(tmp_path / "value")
    with OrderedEnqueuer(sequence, processes) as enqueuer:
        enqueuer.start(workers, 10)
        batches = enqueuer.get()
        assert take(batches, 4) == [0] * 4
        for epoch in range(1, 4):
            enqueuer.join_end_of_epoch()
            assert not work_items_of(enqueuer)
            sequence.value[0] = epoch
            assert take(batches, 4) == [epoch] * 4


@by_way
def test_sequence_and_order_are_read_at_each_start(processes, workers):
    enqueuer = OrderedEnqueuer([np.array([index]) for index in range(4)], processes, seed=1)
    for sequence, shuffle in ((range(10, 13), False), (Counting(40), True)):
        enqueuer.sequence, enqueuer.shuffle = sequence, shuffle
        with enqueuer:
            enqueuer.start(workers)
            numbers = [int(np.ravel(next(batches))[0]) for batches in [enqueuer.get()] for _ in sequence]
        expected = list(sequence) if not shuffle else list(range(40))
        assert sorted(numbers) == expected
        assert (numbers != expected) is shuffle
    enqueuer.sequence = 3
    with pytest.raises(TypeError, match="int"):
        enqueuer.start(workers)
    assert not enqueuer.is_running()


def test_generator_is_read_at_each_start():
    enqueuer = GeneratorEnqueuer(lambda: iter([1]))
    for _ in range(2):
        enqueuer.sequence = lambda: iter([2, 3])
        with enqueuer:
            enqueuer.start()
            assert list(enqueuer.get()) == [2, 3]
