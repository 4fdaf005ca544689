"""Shapes of several components, and shapes from two sources."""

import pytest

from mpqueue.tf1.values import shapes


class TensorShape:
    """A shape like TensorFlow's."""

    rank = 1

    def as_list(self):
        return [2]


@pytest.mark.parametrize(
    ("value", "count", "expected"),
    [([2, 3], 1, [(2, 3)]), ([[2, 3]], 1, [(2, 3)]), ([[2], None], 2, [(2,), None]), (TensorShape(), 1, [(2,)])],
)
def test_single_shape_is_accepted_instead_of_list(value, count, expected):
    assert shapes.as_shapes(value, count) == expected


@pytest.mark.parametrize(("value", "count"), [([[2]], 2), ([2, 3], 2), ([[], []], 1)])
def test_wrong_number_of_shapes_raises_value_error(value, count):
    with pytest.raises(ValueError, match="shapes, one for each dtype, got"):
        shapes.as_shapes(value, count)


@pytest.mark.parametrize("value", [3, "ab", {1: 2}, None])
def test_shapes_must_be_a_list(value):
    with pytest.raises(TypeError, match="list of shapes"):
        shapes.as_shapes(value, 1)


def test_known_shapes_have_no_unknown_dimension():
    assert shapes.as_known_shapes(None, 1, "FIFOQueue") is None
    assert shapes.as_known_shapes([[2], []], 2, "FIFOQueue") == [(2,), ()]
    for value in ([[None]], [None, []]):
        with pytest.raises(ValueError, match="FIFOQueue requires fully known shapes"):
            shapes.as_known_shapes(value, len(value), "FIFOQueue")


@pytest.mark.parametrize(
    ("left", "right", "merged", "common"),
    [
        (None, None, None, None),
        (None, (2,), (2,), None),
        ((2,), None, (2,), None),
        ((2, None), (None, 3), (2, 3), (None, None)),
        ((2, 3), (2, 3), (2, 3), (2, 3)),
        ((None,), (None,), (None,), (None,)),
    ],
)
def test_compatible_shapes_are_merged(left, right, merged, common):
    assert shapes.is_compatible(left, right)
    assert shapes.merged(left, right) == merged
    assert shapes.common_shape(left, right) == common


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [((2,), (3,), (None,)), ((2, 3), (2, 4), (2, None)), ((2,), (2, 2), None), ((), (1,), None)],
)
def test_incompatible_shapes_raise_value_error(left, right, common):
    assert not shapes.is_compatible(left, right)
    with pytest.raises(ValueError, match="not compatible"):
        shapes.merged(left, right)
    assert shapes.common_shape(left, right) == common


def test_sizes_are_merged():
    assert [shapes.merged_size(*sizes) for sizes in ((2, 2), (2, None), (None, 2), (None, None))] == [2, 2, 2, None]
    with pytest.raises(ValueError, match="2 and 3"):
        shapes.merged_size(2, 3)


def test_shapes_are_formatted_as_in_tensorflow():
    assert [shapes.text(shape) for shape in (None, (), (2, None))] == ["<unknown>", "[]", "[2,?]"]
