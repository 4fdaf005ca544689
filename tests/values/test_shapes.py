"""Static shapes, converted from different representations."""

import numpy as np
import pytest

from mpqueue.values import shapes


class Dimension:
    """A dimension like TensorFlow 1's."""

    def __init__(self, value):
        self.value = value


class TensorShape:
    """A shape like TensorFlow's: iterating over one of unknown rank raises."""

    def __init__(self, sizes):
        self._sizes = sizes
        self.rank = None if sizes is None else len(sizes)

    def as_list(self):
        return list(self._sizes)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (3, (3,)),
        (np.int64(3), (3,)),
        (np.array(3), (3,)),
        (Dimension(3), (3,)),
        (Dimension(None), (None,)),
        ((), ()),
        ([2, None], (2, None)),
        (range(3), (0, 1, 2)),
        (np.array([2, 3]), (2, 3)),
        ((Dimension(2), Dimension(None)), (2, None)),
        (TensorShape([2, None]), (2, None)),
        (TensorShape(None), None),
    ],
)
def test_all_representations_of_shape_are_converted(value, expected):
    assert shapes.as_shape(value) == expected


@pytest.mark.parametrize("value", ["12", b"1", [1.5], ["a"], 2.5, [[1]]])
def test_shape_without_integers_is_type_error(value):
    with pytest.raises(TypeError, match="is no"):
        shapes.as_shape(value)


def test_negative_size_is_value_error():
    with pytest.raises(ValueError, match="at least 0 elements, got -1"):
        shapes.as_shape([2, -1])
