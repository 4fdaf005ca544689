"""The constructors of `OrderedEnqueuer` in Keras 2 and Keras 3, and the arguments that a `Sequence` specifies."""

import gc
import os
import threading
import weakref

import numpy as np
import pytest

import mpqueue
from mpqueue import GeneratorEnqueuer, OrderedEnqueuer, Sequence

pytestmark = pytest.mark.sample(2)
KERAS_2 = r"OrderedEnqueuer\(sequence, use_multiprocessing, shuffle\)"
KERAS_3 = r"\(sequence, workers, use_multiprocessing, max_queue_size, shuffle\)"


class Who(Sequence):
    """Each batch contains the number of workers and their backend."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        in_caller = threading.current_thread() is threading.main_thread()
        kind = "process" if os.getpid() != self.trainer else "caller" if in_caller else "thread"
        return mpqueue.worker_info().num_workers, kind


def taken(enqueuer, *args, **kwargs):
    """Return the first batch after a start with these arguments."""
    enqueuer.sequence.trainer = os.getpid()
    with enqueuer:
        enqueuer.start(*args, **kwargs)
        return next(enqueuer.get())


class Two(Who):
    """Its attribute counts as passed to the constructor."""

    workers = 2


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: OrderedEnqueuer(Who(), workers=2, use_multiprocessing=True, max_queue_size=3), (2, "process")),
        (lambda: OrderedEnqueuer(Who(), 2, True, 3, False), (2, "process")),
        (lambda: OrderedEnqueuer(Who(), np.int64(2), True), (2, "process")),
        (lambda: OrderedEnqueuer(Who(), True, workers=2), (2, "process")),
        (lambda: OrderedEnqueuer(Who(workers=2, use_multiprocessing=True)), (2, "process")),
        (lambda: OrderedEnqueuer(Who(workers=3), workers=2, use_multiprocessing=False), (2, "thread")),
        (lambda: OrderedEnqueuer(Two()), (2, "thread")),
        (lambda: OrderedEnqueuer(Who(), 1), (1, "thread")),
        (lambda: OrderedEnqueuer(Who(), 0), (1, "caller")),
    ],
    ids=[
        "Keras 3 by name", "Keras 3 by place", "a number of NumPy's", "a mixture", "the Sequence's own",
        "rather than the Sequence's", "a class attribute", "one worker", "no workers",
    ],
)  # fmt: skip
def test_start_without_arguments_uses_the_constructors_numbers(make, expected):
    assert taken(make()) == expected


@pytest.mark.parametrize("flag", [True, np.True_], ids=str)
def test_bool_as_second_argument_is_the_signature_of_keras_2(flag):
    enqueuer = OrderedEnqueuer(Who(), flag, True)
    assert (bool(enqueuer.use_multiprocessing), enqueuer.shuffle) == (True, True)
    assert taken(enqueuer) == (1, "process")


def test_arguments_of_start_apply_to_that_start_only():
    enqueuer = OrderedEnqueuer(Who(), workers=2)
    assert taken(enqueuer, workers=3) == (3, "thread")
    assert enqueuer.workers == 3
    assert taken(enqueuer) == (2, "thread")


def test_max_queue_size_of_the_constructor_limits_the_batches_ahead(deadlock_s):
    has_begun = threading.Event()

    class Noting(Who):
        def __getitem__(self, index):
            if index == 3:
                has_begun.set()
            return index

    with OrderedEnqueuer(Noting(), 1, False, 3) as enqueuer:
        enqueuer.start()
        while enqueuer.queue.qsize() < 3:
            threading.Event().wait(0.001)
        assert not has_begun.is_set()
        assert next(enqueuer.get()) == 0
        assert has_begun.wait(deadlock_s)


def test_attributes_of_other_classes_are_ignored():
    class Crew:
        workers = ("Ada", "Grace")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.workers[index]

    assert taken(OrderedEnqueuer(Crew())) == "Ada"


def test_class_that_a_notebook_defines_again_is_freed():
    """A cache of `inspect` keeps it in Python 3.12.1, with all data that its methods refer to."""

    class Cell(Who):
        pass

    gone = weakref.ref(Cell)
    OrderedEnqueuer(Cell())
    del Cell
    gc.collect()
    assert gone() is None


def test_generator_enqueuer_starts_without_arguments():
    assert taken(GeneratorEnqueuer(lambda: iter([7]))) == 7


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: OrderedEnqueuer(Who(), 2, workers=3), TypeError, "multiple values for argument 'workers'"),
        (lambda: OrderedEnqueuer(Who(), True, False, 2), TypeError, rf"{KERAS_2}: too many positional arguments"),
        (lambda: OrderedEnqueuer(Who(), 2, True, 3, False, 5), TypeError, rf"{KERAS_3}: too many positional arguments"),
        (lambda: OrderedEnqueuer(Who(), "two"), TypeError, "use_multiprocessing must be True or False, got 'two'"),
        (lambda: OrderedEnqueuer(Who(), workers="two"), TypeError, "workers must be an integer, got 'two'"),
        (lambda: OrderedEnqueuer(Who(workers="two")), TypeError, "workers must be an integer, got 'two'"),
        (lambda: OrderedEnqueuer(Who(), workers=-1), ValueError, "workers"),
        (lambda: OrderedEnqueuer(Who(), max_queue_size=0, use_multiprocessing=True), ValueError, "max_queue_size"),
        (lambda: OrderedEnqueuer(Who(), wait_time="x"), TypeError, "wait_time .* a number of seconds or None, got 'x'"),
        (
            lambda: OrderedEnqueuer(Who()).start(max_queue_size=2, max_q_size=3),
            TypeError,
            "max_q_size=3 and max_queue_size=2 mean the same",
        ),
        (
            lambda: GeneratorEnqueuer(_drawn, False, pickle_safe=True),
            TypeError,
            "pickle_safe=True and use_multiprocessing=False mean the same",
        ),
    ],
)
def test_wrong_arguments_are_errors_with_a_message(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_sequence_has_the_default_attributes_of_keras():
    class Forgetful(Who):
        def __init__(self):
            """Does not call the constructor of the base class."""

    for sequence in (Who(), Forgetful()):
        assert (sequence.workers, sequence.use_multiprocessing, sequence.max_queue_size) == (1, False, 10)
        assert taken(OrderedEnqueuer(sequence)) == (1, "thread")
    sequence.workers = 2
    assert sequence.workers == 2
    assert taken(OrderedEnqueuer(sequence)) == (2, "thread")


@pytest.mark.parametrize(
    ("make", "args", "kwargs"),
    [
        (lambda: OrderedEnqueuer(Who(), True, wait_time=0.05), (2, 5, 0.05), {}),
        (lambda: OrderedEnqueuer(Who(), pickle_safe=True), (2,), {"max_q_size": 5, "wait_time": 0.05}),
        (lambda: OrderedEnqueuer(Who(workers=3), 2, pickle_safe=True), (), {"nb_worker": 2, "max_q_size": 5}),
    ],
    ids=["by place", "Keras 2.0", "Keras 1"],
)
def test_arguments_of_keras_1_and_2_0_keep_their_meaning(make, args, kwargs):
    assert taken(make(), *args, **kwargs) == (2, "process")


def _drawn():
    yield mpqueue.rng().random()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((True,), {"wait_time": 0.05, "random_seed": 3}),
        ((), {"pickle_safe": True, "seed": 3}),
        ((True, 0.05), {"seed": 3}),
        ((True, 3), {}),
    ],
)
def test_generator_enqueuer_accepts_old_arguments(args, kwargs):
    enqueuers = [GeneratorEnqueuer(_drawn, *args, **kwargs), GeneratorEnqueuer(_drawn, True, seed=3)]
    assert all(enqueuer.use_multiprocessing is True for enqueuer in enqueuers)
    first, second = (taken_from_generator(enqueuer) for enqueuer in enqueuers)
    assert first == second


def taken_from_generator(enqueuer):
    with enqueuer:
        enqueuer.start(workers=0)
        return next(enqueuer.get())
