"""The line of granted blocks: both sides take the same blocks in the same order."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mpqueue.tf1.queues.block_pool import BlockLine

STEPS = st.lists(st.one_of(st.tuples(st.just("add"), st.integers(0, 5)), st.tuples(st.just("take"), st.integers(0, 5))))


@given(STEPS)
def test_blocks_are_taken_in_the_order_in_which_they_were_granted(steps):
    line, expected, number = BlockLine(), deque(), 0
    for what, count in steps:
        if what == "add":
            granted = list(range(number, number + count))
            line.add(granted)
            expected.extend(granted)
            number += count
        elif count <= len(expected):
            assert line.take(count) == [expected.popleft() for _ in range(count)]
    assert [line.pop() for _ in range(len(line))] == list(expected)
