"""What a newcomer does wrong is said at construction, before any process starts, with what to do instead."""

import numpy as np
import pytest
from helpers.faults import Numbers

from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer

FACES = pytest.mark.parametrize("make", [Loader, OrderedEnqueuer])


@FACES
def test_a_class_instead_of_an_instance(make):
    with pytest.raises(TypeError, match=r"the class Numbers: pass an instance of it, Numbers\(\.\.\.\)"):
        make(Numbers)


def test_a_class_as_a_generator():
    with pytest.raises(TypeError, match="pass an instance"):
        GeneratorEnqueuer(Numbers)


@FACES
def test_a_tuple_of_arrays(make):
    with pytest.raises(TypeError, match="a tuple of 2 arrays, which would be 2 batches: pass an object whose"):
        make((np.zeros((9, 3)), np.zeros(9)))


@FACES
def test_a_dict_of_columns(make):
    with pytest.raises(TypeError, match=r"a dict of columns \('x', 'y', \.\.\.\)"):
        make({"x": np.zeros(9), "y": np.zeros(9)})


def test_a_list_of_arrays_is_a_sequence_of_batches():
    with Loader([np.zeros(2), np.ones(2)], workers=0) as loader:
        assert [int(batch[0]) for batch in loader] == [0, 1]


def needs_an_argument(worker_id):
    """As torch's worker_init_fn."""


@pytest.mark.parametrize(
    ("option", "kind", "text"),
    [
        ({"batch_timeout": "3"}, TypeError, "batch_timeout must be a number of seconds or None, got '3'"),
        ({"batch_timeout": 0}, ValueError, "batch_timeout must be a number of seconds above 0, or None, got 0"),
        ({"max_batch_bytes": "1GB"}, TypeError, "max_batch_bytes must be a number of bytes or None, got '1GB'"),
        ({"worker_init": needs_an_argument}, TypeError, r"needs_an_argument\(worker_id\).*mpqueue.worker_info\(\)"),
        ({"copy": "no"}, TypeError, "copy must be True or False, got 'no'"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False, got 'yes'"),
        ({"restarts": "2"}, TypeError, "restarts must be an integer, got '2'"),
        ({"seed": 0.5}, TypeError, "seed must be an integer or None, got 0.5"),
    ],
)
@FACES
def test_a_wrong_option_is_named(make, option, kind, text):
    with pytest.raises(kind, match=text):
        make(Numbers(), **option)


def test_use_multiprocessing_must_be_true_or_false():
    with pytest.raises(TypeError, match="use_multiprocessing must be True or False, got 'yes'"):
        OrderedEnqueuer(Numbers(), "yes")


def test_threads_have_no_start_method():
    with pytest.raises(ValueError, match="start_method='spawn' is about worker processes"):
        Loader(Numbers(), backend="thread", start_method="spawn")


def test_a_state_that_is_none_is_named():
    with pytest.raises(ValueError, match="lacks seed, epoch, position"):
        Loader(Numbers(), workers=0).load_state_dict({})
    with pytest.raises(TypeError, match="takes what state_dict"):
        Loader(Numbers(), workers=0).load_state_dict(None)


@pytest.mark.parametrize(
    ("length", "kind", "text"),
    [(-3, ValueError, r"len\(Odd\) is -3"), (2.5, TypeError, r"len\(Odd\) must be an integer.*2.5")],
)
def test_an_impossible_length_is_named_with_its_class(length, kind, text):
    class Odd(Numbers):
        def __len__(self):
            return length

    with pytest.raises(kind, match=text):
        next(iter(Loader(Odd(), workers=0)))
