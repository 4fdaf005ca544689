"""Where a restarted server resumes: the frontier of the batches that its consumers took."""

from hypothesis import given
from hypothesis import strategies as st

from mpqueue.service.routing.modes import Frontier, SlowestConsumer


@given(start=st.integers(0, 5), taken=st.lists(st.integers(0, 12)))
def test_frontier_is_first_untaken_position_if_one_consumer_takes_each_batch(start: int, taken: list[int]):
    frontier = Frontier(start)
    for position in taken:
        frontier.add(position, 1)
    first = next(position for position in range(start, 20) if position not in taken)
    assert frontier.position(()) == first
    assert frontier.ahead() == tuple(sorted({position for position in taken if position > first}))


def test_frontier_is_slowest_present_consumer_if_all_take_each_batch():
    frontier = SlowestConsumer(2)
    for position, who in ((0, 1), (5, 1), (3, 2), (9, 3)):
        frontier.add(position, who)
    assert frontier.position([1, 2]) == 4
    assert frontier.position([1, 3]) == 6
    assert frontier.position([1, 4]) == 2, "a consumer without taken batches counts from the start"
    assert frontier.position([]) == 2
    assert frontier.ahead() == ()
