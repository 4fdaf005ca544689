"""The checksum of a saved state: the same in every process, and different after each change."""

import pytest

from mpqueue.plan.states.checksums import checksum_of

VALUES = [None, True, False, 0, 1, 1.5, "", "1", b"", b"1", [], [1], [1, None], {}, {"a": 1}, {"a": None}]


def test_values_of_any_type_have_different_checksums():
    assert len({checksum_of(value) for value in VALUES}) == len(VALUES)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 1_664_705_656),
        (True, 2_997_919),
        (7, 1_160_187_430),
        (b"one", 147_098_242),
        ({"seed": 3, "counts": [1, 2], "order": None}, 624_284_506),
    ],
)
def test_checksum_is_unchanged(value, expected):
    """Other checksums need another version of the states."""
    assert checksum_of(value) == expected
