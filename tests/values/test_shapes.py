"""Static shapes: read from whatever names one, compared and merged."""

import numpy as np
import pytest

from mpqueue.values import shapes


class Dimension:
    """As TensorFlow 1 has them."""

    def __init__(self, value):
        self.value = value


class TensorShape:
    """As TensorFlow has them: iterating over one of unknown rank is an error."""

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
def test_whatever_names_a_shape_is_one(value, expected):
    assert shapes.as_shape(value) == expected


@pytest.mark.parametrize("value", ["12", b"1", [1.5], ["a"], 2.5, [[1]]])
def test_what_holds_no_integers_is_no_shape(value):
    with pytest.raises(TypeError, match="is no"):
        shapes.as_shape(value)


def test_a_negative_size_is_a_value_error():
    with pytest.raises(ValueError, match="size -1"):
        shapes.as_shape([2, -1])
