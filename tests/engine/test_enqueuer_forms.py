"""The two constructors of `OrderedEnqueuer`, Keras 2's and Keras 3's, and what a `Sequence` says of itself."""

import os
import threading

import numpy as np
import pytest

import mpqueue
from mpqueue import GeneratorEnqueuer, OrderedEnqueuer, Sequence


class Who(Sequence):
    """Each batch says how many workers there are, and what runs them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        in_caller = threading.current_thread() is threading.main_thread()
        kind = "process" if os.getpid() != self.trainer else "caller" if in_caller else "thread"
        return mpqueue.worker_info().num_workers, kind


def taken(enqueuer, *args, **kwargs):
    """What the first batch says after a start with these arguments."""
    enqueuer.sequence.trainer = os.getpid()
    with enqueuer:
        enqueuer.start(*args, **kwargs)
        return next(enqueuer.get())


@pytest.mark.parametrize(
    "make",
    [
        lambda: OrderedEnqueuer(Who(), workers=2, use_multiprocessing=True, max_queue_size=3, shuffle=False),
        lambda: OrderedEnqueuer(Who(), 2, True, 3, False),
        lambda: OrderedEnqueuer(Who(), np.int64(2), True),
        lambda: OrderedEnqueuer(Who(), True, workers=2),
        lambda: OrderedEnqueuer(Who(workers=2, use_multiprocessing=True)),
    ],
    ids=["Keras 3 by name", "Keras 3 by place", "a number of NumPy's", "a mixture", "the Sequence's own"],
)
def test_a_start_without_arguments_takes_the_numbers_that_were_given_before(make):
    assert taken(make()) == (2, "process")


@pytest.mark.parametrize("flag", [True, np.True_], ids=str)
def test_a_second_argument_that_is_a_flag_is_that_of_keras_2(flag):
    enqueuer = OrderedEnqueuer(Who(), flag, True)
    assert (bool(enqueuer.use_multiprocessing), enqueuer.shuffle) == (True, True)
    assert taken(enqueuer) == (1, "process")


def test_a_number_of_one_is_a_number_of_workers_and_no_flag():
    assert taken(OrderedEnqueuer(Who(), 1)) == (1, "thread")


def test_a_number_of_none_has_the_caller_compute():
    assert taken(OrderedEnqueuer(Who(), 0)) == (1, "caller")


def test_what_start_is_told_wins_for_that_start_alone():
    enqueuer = OrderedEnqueuer(Who(), workers=2)
    assert taken(enqueuer, workers=3) == (3, "thread")
    assert enqueuer.workers == 3
    assert taken(enqueuer) == (2, "thread")


def test_what_the_constructor_is_told_wins_over_the_sequence():
    sequence = Who(workers=3, use_multiprocessing=True, max_queue_size=4)
    assert taken(OrderedEnqueuer(sequence, workers=2, use_multiprocessing=False)) == (2, "thread")


def test_the_number_of_batches_computed_ahead_is_kept_too():
    with OrderedEnqueuer(Who(), 1, False, 3) as enqueuer:
        enqueuer.start()
        assert enqueuer._engine.pipeline.ledger.credit == 3


def test_a_sequence_may_be_told_later():
    sequence = Who()
    sequence.workers = 2
    assert taken(OrderedEnqueuer(sequence)) == (2, "thread")


def test_attributes_of_what_is_no_sequence_of_ours_say_nothing():
    class Crew:
        workers = ("Ada", "Grace")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.workers[index]

    assert taken(OrderedEnqueuer(Crew())) == "Ada"


def test_a_sequence_that_never_calls_its_base_serves():
    class Old(Who):
        def __init__(self):
            pass

    assert taken(OrderedEnqueuer(Old())) == (1, "thread")


def test_a_generator_starts_without_arguments_too():
    assert taken(GeneratorEnqueuer(lambda: iter([7]))) == 7


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: OrderedEnqueuer(Who(), 2, workers=3), "workers twice: 2 by its place, 3 by name"),
        (lambda: OrderedEnqueuer(Who(), True, False, 2), r"\(sequence, use_multiprocessing, shuffle\).* 1 more"),
        (lambda: OrderedEnqueuer(Who(), 2, True, 3, False, 5), "1 more: pass them by name"),
        (lambda: OrderedEnqueuer(Who(), "two"), "use_multiprocessing must be True or False, got 'two'"),
        (lambda: OrderedEnqueuer(Who(), workers="two"), "workers must be an integer, got 'two'"),
        (lambda: OrderedEnqueuer(Who(workers="two")), "workers must be an integer, got 'two'"),
    ],
)
def test_a_form_that_is_neither_is_a_type_error_that_says_so(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("options", [{"workers": -1}, {"max_queue_size": 0, "use_multiprocessing": True}], ids=str)
def test_impossible_numbers_are_refused_by_the_constructor(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OrderedEnqueuer(Who(), **options)
