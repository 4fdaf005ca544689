"""The stages `scan` and `take_while`: the state of each lane, its exact resume, and errors."""

import itertools
import json
import pickle

import hypothesis
import numpy as np
import pytest
from helpers.pipelines import Failed, opened, rest_of
from helpers.sweeps import part_of
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from mpqueue import Dataset
from mpqueue.dataset.lanes.state_codes import code_of, state_of
from mpqueue.worker.runners.runner import StreamEnd


def add(total, number):
    return total + number, (number, total + number)


def keep(_):
    return True


def below_50(number):
    return number < 50


# -- scan


def test_scan_makes_an_indexed_dataset_a_stream():
    numbers = Dataset.range(10).scan(0, add)
    assert "a stream" in repr(numbers)
    assert "1: scan(0, add)" in repr(numbers)
    with pytest.raises(TypeError, match=r"stage 1, scan\(0, add\), makes it a stream"):
        len(numbers)


def collect(state, number):
    """Modify the state in place, and return it as a part of the element."""
    state["seen"].append(number)
    state["sum"] += number
    return state, (number, state["seen"], state["sum"])


def test_initial_state_is_not_modified():
    initial = {"seen": [], "sum": 0}
    rest_of(opened(Dataset.range(5).scan(initial, collect)))
    assert initial == {"seen": [], "sum": 0}


def test_element_that_is_the_state_keeps_its_value():
    history = Dataset.range(4).scan([], lambda seen, number: (seen.append(number) or seen, seen)).batch(4, collate=list)
    assert rest_of(opened(history)) == [[[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda state, element: element, r"must return a tuple \(state, element\), .*, got 0"),
        (lambda state, element: (state, element, 1), r"must return a tuple \(state, element\), .*, got \(0, 0, 1\)"),
        (lambda state, element: (state, None), r"without None as an element, got \(0, None\)"),
        (lambda state, element: ({1}, element), "a state that is not plain data: expected numbers, .*, got set"),
        (lambda state, element: (np.array([object()]), element), "not plain data: .* got ndarray"),
    ],
)
def test_wrong_result_of_the_function_raises(function, message):
    with pytest.raises(TypeError, match=message):
        opened(Dataset.range(3).scan(0, function)).next()


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
        stn.arrays(st.sampled_from([np.float32, np.int64, np.bool_, np.complex128]), stn.array_shapes(min_side=0)),
        st.builds(np.float32, st.floats(width=32)),
    ),
    lambda items: st.one_of(
        st.lists(items, max_size=4), st.lists(items, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.tuples(st.integers())), items, max_size=3),
    ),
)  # fmt: skip


@hypothesis.given(state=PLAIN)
@hypothesis.settings(max_examples=part_of(100, 4))
def test_code_of_a_state_keeps_types_and_values_also_as_json(state):
    code = code_of(state)
    saved = json.loads(json.dumps(code))
    again = state_of(tuple(saved) if type(saved) is list else saved)
    assert pickle.dumps(plain(again)) == pickle.dumps(plain(state))


def plain(value):
    """Return a value that is equal for equal types and values, and has no shared objects."""
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.str, list(value.shape), value.tobytes()]
    if isinstance(value, np.generic):
        return ["scalar", value.dtype.str, value.tobytes()]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(plain, value)]
    if isinstance(value, dict):
        return ["dict", *[[plain(key), plain(item)] for key, item in value.items()]]
    return [type(value).__name__, repr(value)]


# -- take_while


def test_function_of_take_while_is_not_called_after_the_end():
    calls = []

    def note(number):
        calls.append(number)
        return number < 3

    lane = opened(Dataset.range(100).filter(keep).take_while(note).batch(2))
    assert [batch.tolist() for batch in rest_of(lane)] == [[0, 1], [2]]
    with pytest.raises(StreamEnd):
        lane.next()
    assert calls == [0, 1, 2, 3]


def test_take_while_ends_an_endless_dataset_and_starts_again_in_each_pass():
    assert sorted(Dataset.range(100).repeat().take_while(below_50)) == sorted(
        number for lane in range(16) for number in itertools.takewhile(below_50, range(lane, 100, 16))
    )
    assert rest_of(opened(Dataset([1, 60, 2]).take_while(below_50).repeat(3))) == [1, 1, 1]


def test_error_of_take_while_replaces_its_element():
    def check(number):
        if number == 1:
            raise ValueError("no 1")
        return number < 3

    assert rest_of(opened(Dataset.range(9).take_while(check))) == [0, Failed("ValueError", "no 1"), 2]


def test_wrong_verdict_of_take_while_raises():
    with pytest.raises(TypeError, match=r"take_while\(.*\) must return True or False for each sample, got int: 1"):
        opened(Dataset([1]).take_while(lambda number: 1)).next()
