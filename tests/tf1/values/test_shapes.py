"""Shapes of several components, and shapes from two sources."""

import pytest

from mpqueue.tf1.values import shapes


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
