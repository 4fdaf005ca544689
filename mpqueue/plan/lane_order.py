"""The order of the elements of virtual shards (lanes), as arithmetic.

Elements are taken from the lanes in turn: element 0 of each lane, then element 1 of each, and so on. A lane that
has no more elements is left out.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Element(NamedTuple):
    """An element of a lane.

    Attributes:
        lane: The local number of the lane.
        unit: The number of the element in its lane.
    """

    lane: int
    unit: int


def element_at(position: int, num_lanes: int, ends: Mapping[int, int]) -> Element | None:
    """Return the element at a position of the stream, or None if the stream is shorter.

    Args:
        position: Number of elements before it.
        num_lanes: Number of lanes.
        ends: Number of elements of the lanes that end; the others count as endless.
    """
    low, high = 0, position + 1  # the number of whole rounds before the element is at least `low` and below `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _before(middle, num_lanes, ends) <= position else (low, middle)
    left = position - _before(low, num_lanes, ends)
    # Within a round, the lanes that still have an element follow in the order of their numbers.
    live = [lane for lane in range(num_lanes) if ends.get(lane, low + 1) > low]
    return Element(live[left], low) if left < len(live) else None


def counts_before(element: Element, num_lanes: int, ends: Mapping[int, int]) -> tuple[int, ...]:
    """Return the number of elements of each lane before an element."""
    return tuple(
        min(ends.get(lane, element.unit + 1), element.unit + (lane < element.lane)) for lane in range(num_lanes)
    )


def _before(rounds: int, num_lanes: int, ends: Mapping[int, int]) -> int:
    """Return the number of elements in the first rounds."""
    return rounds * (num_lanes - len(ends)) + sum(min(end, rounds) for end in ends.values())
