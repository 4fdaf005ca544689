"""Arithmetic on static shapes."""

import itertools

import numpy as np
import pytest

from mpqueue.tf1.compat.ops.dims import axis_in, broadcast, count, merged_all, with_rank


def test_merged_shapes_keep_all_known_sizes():
    assert merged_all([]) is None
    assert merged_all([None, (None, 3), (2, None)]) == (2, 3)
    with pytest.raises(ValueError, match="2"):
        merged_all([(2,), None, (3,)])


def test_elements_are_counted_if_all_sizes_are_known():
    assert [count(dims) for dims in (None, (), (3,), (2, 3), (2, 0), (2, None))] == [None, 1, 3, 6, 0, None]


def test_with_rank_returns_a_shape_of_known_rank():
    assert with_rank(None, 2) == (None, None)
    assert with_rank((None, 3), 2) == (None, 3)
    with pytest.raises(ValueError, match=r"^Shape must be rank 1 but is rank 2: \[\?,3\]$"):
        with_rank((None, 3), 1)
    with pytest.raises(ValueError, match=r"^Image must be rank 3 but is rank 0: \[\]$"):
        with_rank((), 3, "Image")


def test_axes_are_counted_from_the_left():
    assert [axis_in(axis, 3) for axis in range(-3, 3)] == [0, 1, 2, 0, 1, 2]
    for axis, rank in ((3, 3), (-4, 3), (0, 0), (-1, 0), (1, 0)):
        with pytest.raises(
            ValueError, match=rf"^axis {axis} is not in the interval \[{-rank}, {rank}\) for an array of "
        ):
            axis_in(axis, rank)
    with pytest.raises(ValueError, match=r"^dim 5 "):
        axis_in(5, 1, "dim")


SIZES = [None, 0, 1, 2, 3]


def known_results(left, right):
    """Return the sizes of all possible results, by NumPy's rules."""
    outputs = set()
    for one, other in itertools.product(SIZES[1:] if left is None else [left], SIZES[1:] if right is None else [right]):
        try:
            outputs.add(np.broadcast_shapes((one,), (other,))[0])
        except ValueError:
            continue
    return outputs


@pytest.mark.parametrize(("left", "right"), list(itertools.product(SIZES, SIZES)))
def test_sizes_broadcast_as_in_numpy(left, right):
    results = known_results(left, right)
    if not results:
        with pytest.raises(
            ValueError, match=rf"must be equal, but are {left} and {right}: shapes \[{left}\] and \[{right}\] do"
        ):
            broadcast((left,), (right,))
        return
    (size,) = broadcast((left,), (right,))
    if None in (left, right):  # the result of 0 and an unknown size is 0, but TensorFlow does not infer it
        known = right if left is None else left
        assert size == (known if known is not None and known > 1 else None)
        assert size is None or size in results
    else:
        assert {size} == results


def test_shapes_of_different_ranks_broadcast_from_the_right():
    assert broadcast((2, 1, 3), (4, 1)) == broadcast((4, 1), (2, 1, 3)) == (2, 4, 3)
    assert broadcast((), (2,)) == (2,)
    assert broadcast((3,), (5, 3)) == broadcast((5, 3), (3,)) == (5, 3)
    assert broadcast(None, (2,)) is broadcast((2,), None) is None
