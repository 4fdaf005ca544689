"""The core of a server, in all orders of events that hypothesis finds."""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from helpers.service_simulation import Consumer, Simulation, rules_of
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mpqueue.service.handshake import Hello, Resume
from mpqueue.service.records import DETACHED, LOST
from mpqueue.service.refusals import Misbehaved, Occupied, Refused
from mpqueue.service.routing import GROUP
from mpqueue.service.rules import Rules

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def epochs_of(simulation: Simulation, numbers: list[int], count: int) -> None:
    """Have these consumers loop over so many epochs, asking past everything, or fail if nothing moves any more."""
    for _ in range(10_000):
        if len(simulation.finished) + len(simulation.abandoned) >= count:
            return
        moved = simulation.give()
        for number in numbers:
            moved |= simulation.next(number)
            for turn in list(simulation.consumers[number].views):
                current = simulation.consumers[number].current
                if current is None or turn != current.turn:
                    simulation.release(number, turn)
        assert moved or simulation.core.is_running is False or simulation.give(), "nothing moves"
    raise AssertionError("the epochs do not end")


def test_each_rank_gets_every_so_many_th_batch_and_its_end_at_once():
    simulation = Simulation(rules_of(world=2, window=4), [6])
    simulation.attach(1, 0)
    simulation.attach(2, 1)
    simulation.next(1)
    simulation.settle(1)
    one = simulation.consumers[1]
    assert one.taken == [(0, 0), (0, 2), (0, 4)]
    assert one.counts == [3], "its end, while the other has not begun"
    assert simulation.finished == []
    simulation.next(2)
    simulation.settle(2)
    simulation.next(2)
    assert simulation.consumers[2].taken == [(0, 1), (0, 3), (0, 5)]
    assert simulation.finished == [0]
    assert simulation.holders == {turn: {1} for turn in one.views} | {
        turn: {2} for turn in simulation.consumers[2].views
    }


def simulated(**rules: Any) -> Simulation:
    lengths, known = rules.pop("lengths", [6]), rules.pop("known", True)
    return Simulation(rules_of(**{"window": 3, "grace_s": 5} | rules), lengths, known=known)


def attached(simulation: Simulation, *ranks: int | None) -> list[int]:
    """Attach consumers 1, 2, ... and have each begin its first loop."""
    numbers = list(range(1, len(ranks) + 1))
    for number, rank in zip(numbers, ranks, strict=True):
        assert simulation.attach(number, rank)
    for number in numbers:
        simulation.next(number)
    return numbers


def test_the_batches_that_a_dead_rank_has_not_taken_go_to_the_one_in_its_place_in_their_order():
    simulation = simulated(world=2, lengths=[8])
    attached(simulation, 0, 1)
    simulation.give(), simulation.give(), simulation.give(), simulation.give()
    simulation.next(1)  # holds batch 0, and has 2 before it
    dead = simulation.leave(1, died=True)
    assert dead.taken == []
    assert simulation.attach(3, 0)
    simulation.next(3)
    simulation.settle(2, 3)
    assert simulation.consumers[3].taken == [(0, 0), (0, 2), (0, 4), (0, 6)]
    assert simulation.consumers[2].taken == [(0, 1), (0, 3), (0, 5), (0, 7)]
    assert simulation.finished == [0]


def test_a_rank_that_somebody_has_is_occupied_until_that_one_is_gone():
    simulation = simulated(world=2)
    attached(simulation, 0, 1)
    with pytest.raises(Occupied):
        simulation.core.attach(9, Hello(rank=1), now=0.0)
    simulation.leave(2, died=True)
    assert simulation.attach(3, 1)


def test_the_group_is_told_of_a_dead_rank_when_its_grace_is_over_and_not_before():
    simulation = simulated(world=2)
    attached(simulation, 0, 1)
    simulation.leave(2, died=True)
    simulation.core.advance(4.9)
    assert simulation.consumers[1].cut is None
    assert simulation.core.due_at(4.9) == 5.0
    simulation.core.advance(5.0)
    assert simulation.consumers[1].cut == (LOST, "rank 1 left and was not replaced within grace_s")


@pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
@pytest.mark.parametrize("num_missed", [1, 2, 5, 20])
def test_ranks_finish_their_epoch_while_a_lost_rank_is_vacant(known: bool, num_missed: int):
    window = 2
    length = 2 * (1 + window + num_missed)
    simulation = simulated(world=2, window=window, lengths=[length], known=known)
    attached(simulation, 0, 1)
    simulation.settle(1)
    simulation.next(1)  # one more than it takes
    taken = simulation.leave(1, died=True).taken
    simulation.settle(2)
    assert simulation.consumers[2].taken == [(0, position) for position in range(1, length, 2)]
    assert simulation.consumers[2].counts == [length // 2], "the end of the epoch"
    kept = [turn for turn, holders in simulation.holders.items() if any(holder < 0 for holder in holders)]
    assert len(kept) <= window + 1, "a vacant place does not use up the slots"
    assert simulation.finished == []
    assert simulation.attach(3, 0)
    simulation.next(3)
    simulation.settle(3)
    assert taken + simulation.consumers[3].taken == [(0, position) for position in range(0, length, 2)]
    assert simulation.finished == [0]


def test_ranks_wait_for_the_next_consumer_of_a_lost_rank_until_it_has_caught_up():
    simulation = simulated(world=2, window=1, lengths=[40])
    attached(simulation, 0, 1)
    simulation.leave(1, died=True)
    for _ in range(20):
        simulation.give()
        simulation.next(2)
    num_taken = len(simulation.consumers[2].taken)
    assert 5 < num_taken < 20
    assert simulation.attach(3, 0)
    for _ in range(20):
        simulation.give()
        simulation.next(2)
    assert len(simulation.consumers[2].taken) <= num_taken + 3, "only what was offered before"
    simulation.next(3)
    simulation.settle(2, 3)
    assert simulation.consumers[3].taken == [(0, position) for position in range(0, 40, 2)]
    assert simulation.consumers[2].taken == [(0, position) for position in range(1, 40, 2)]


def test_ranks_wait_for_a_lost_rank_whose_batches_cannot_be_computed_again():
    simulation = simulated(world=2, window=2, lengths=[40], can_replay=False)
    attached(simulation, 0, 1)
    simulation.leave(1, died=True)
    simulation.settle(2)
    assert len(simulation.consumers[2].taken) <= 3, "a window, and one more"
    assert simulation.attach(3, 0)
    simulation.next(3)
    simulation.settle(2, 3)
    assert simulation.consumers[3].taken == [(0, position) for position in range(0, 40, 2)]


def test_the_next_consumer_of_a_lost_rank_may_die_while_it_catches_up():
    simulation = simulated(world=2, window=1, lengths=[30])
    attached(simulation, 0, 1)
    simulation.leave(1, died=True)
    simulation.settle(2)
    taken = []
    for number in range(3, 8):
        assert simulation.attach(number, 0)
        simulation.next(number)
        for _ in range(3):
            simulation.give()
            simulation.next(number)
        taken += simulation.leave(number, died=True).taken
    assert simulation.attach(8, 0)
    simulation.next(8)
    simulation.settle(8)
    assert taken + simulation.consumers[8].taken == [(0, position) for position in range(0, 30, 2)]


def test_a_group_that_lost_a_rank_goes_on_with_new_consumers_where_it_was():
    simulation = simulated(world=2, lengths=[4])
    attached(simulation, 0, 1)
    simulation.settle(1)
    taken = list(simulation.consumers[1].taken)
    simulation.leave(2, died=True)
    simulation.core.advance(5.0)
    simulation.leave(1, died=False)
    for number, rank in ((3, 0), (4, 1)):
        assert simulation.attach(number, rank)
        simulation.next(number)
    simulation.settle(3, 4)
    assert simulation.finished == [0]
    everything = taken + simulation.consumers[3].taken + simulation.consumers[4].taken
    assert sorted(place for place in everything if place[0] == 0) == [(0, position) for position in range(4)]


def test_a_rank_that_leaves_at_its_end_of_an_epoch_does_not_disturb_the_others_in_it():
    simulation = simulated(world=2, lengths=[4])
    attached(simulation, 0, 1)
    simulation.settle(1)
    simulation.leave(1, died=False)
    simulation.core.advance(100.0)
    simulation.settle(2)
    assert simulation.consumers[2].counts == [2]
    assert simulation.consumers[2].cut is None
    simulation.next(2)  # its next loop needs the rank that has left
    simulation.core.advance(100.0)
    assert simulation.consumers[2].cut == (LOST, "rank 0 left and was not replaced within grace_s")


def test_without_ranks_the_others_take_what_a_dead_consumer_had_in_order():
    simulation = simulated(window=2, lengths=[4])
    attached(simulation, None, None)
    while simulation.give():
        pass
    first, second = simulation.consumers[1], simulation.consumers[2]
    had = [handle.position for (handle,) in first.inbox]
    assert had
    simulation.leave(1, died=True)
    simulation.settle(2)
    simulation.next(2)
    assert sorted(second.taken) == [(0, position) for position in range(4)]
    assert second.counts == [4]


def test_without_ranks_an_epoch_ends_for_all_when_everything_was_taken():
    simulation = simulated(window=1, lengths=[2])
    attached(simulation, None, None)
    simulation.give(), simulation.give()
    simulation.next(1), simulation.next(1)
    assert simulation.consumers[1].taken == [(0, 0)]
    assert simulation.consumers[1].counts == [], "the other one's batch may come back"
    simulation.next(2), simulation.next(2)
    assert simulation.consumers[1].inbox[0] == [0, 1]


def test_a_consumer_that_comes_late_to_a_broadcast_gets_the_next_epoch_the_rest_or_all_of_it():
    simulation = simulated(mode="broadcast", lengths=[6], window=2)
    attached(simulation, None)
    simulation.give(), simulation.give()
    simulation.next(1), simulation.next(1)
    for number, join in ((2, "next"), (3, "now"), (4, "replay")):
        assert simulation.attach(number, None, join)
        simulation.next(number)
    for _ in range(10):
        simulation.settle(1, 3, 4)
        for number in (1, 3, 4):
            simulation.next(number)
        if simulation.finished:
            break
    assert simulation.consumers[1].taken[:6] == [(0, position) for position in range(6)]
    assert simulation.consumers[3].taken[0][1] >= 2
    assert simulation.consumers[3].taken[-1] == (0, 5)
    assert simulation.consumers[4].taken == [(0, position) for position in range(6)]
    assert simulation.consumers[2].epoch == 1
    assert simulation.consumers[2].taken == []


def test_nobody_holds_up_a_late_consumer_for_which_batches_are_computed_again():
    simulation = simulated(mode="broadcast", lengths=[8], window=2, slow="detach")
    attached(simulation, None)
    while simulation.give():
        pass
    assert simulation.attach(2, None, "replay")
    simulation.next(2)
    assert simulation.extras
    assert simulation.core.slow() == {}
    simulation.settle(2)
    assert simulation.core.slow().keys() == {1}, "it has caught up, and waits for what comes next"


def test_a_slow_consumer_is_waited_for_or_skipped_or_cut_off():
    for slow in ("wait", "skip", "detach"):
        simulation = simulated(mode="broadcast", lengths=[8], window=2, slow=slow)
        attached(simulation, None, None)
        for _ in range(20):
            simulation.give()
            simulation.next(1)
        first, second = simulation.consumers[1], simulation.consumers[2]
        if slow == "wait":
            assert len(first.taken) == 3
            assert [seat.consumer for seat in simulation.core.group.holding_up(0)] == [2]
        elif slow == "skip":
            assert len(first.taken) == 8
            assert simulation.core.group.by_consumer[2].num_skipped == 6
            assert second.num_missed == 6  # told ahead of the end
        else:
            simulation.detach(simulation.core.slow())
            assert second.cut is not None
            assert second.cut[0] == DETACHED
            assert first.cut is None
            simulation.settle(1)
            assert len(first.taken) == 8


def test_a_consumer_that_says_nothing_is_cut_off_and_its_slots_wait_for_its_end():
    simulation = simulated(lease_timeout=2.0, lengths=[4])
    attached(simulation, None)
    simulation.give()
    simulation.next(1)
    (turn,) = simulation.consumers[1].views
    simulation.core.advance(0.0)
    simulation.detach(simulation.core.silent(2.0))
    assert simulation.consumers[1].cut == (
        DETACHED,
        "this consumer sent no request for 2 s while it had batches (lease_timeout)",
    )
    assert simulation.holders[turn] == {1, GROUP}, "the group has it back, and it still looks at it"
    simulation.core.holders.close(1)
    assert simulation.holders[turn] == {GROUP}


def test_the_last_consumer_of_a_broadcast_that_leaves_ends_the_epoch():
    simulation = simulated(mode="broadcast", lengths=[4])
    attached(simulation, None)
    simulation.give()
    simulation.leave(1, died=True)
    assert simulation.abandoned == [0]
    assert simulation.holders == {}
    assert simulation.attach(2)
    assert simulation.consumers[2].epoch == 1


def test_a_generator_gives_each_rank_equally_many():
    simulation = simulated(world=2, lengths=[5], known=False)
    attached(simulation, 0, 1)
    simulation.settle(1, 2)
    simulation.next(1), simulation.next(2)
    assert [len(simulation.consumers[number].taken) for number in (1, 2)] == [2, 2]
    assert simulation.finished == [0]
    assert simulation.holders.keys() == simulation.consumers[1].views | simulation.consumers[2].views


def test_a_consumer_that_comes_back_to_a_new_server_goes_on_behind_what_it_has_taken():
    simulation = Simulation(rules_of(world=2, window=1), [6], had=[1, 1], frontier=2)
    resume = Resume(job="j", epoch=0, taken=(0, 2), count=2)
    simulation.consumers[1] = Consumer(1, 0, 0)
    simulation.core.attach(1, Hello(rank=0, resume=resume), now=0.0)
    assert simulation.attach(2, 1)
    simulation.next(1), simulation.next(2)
    simulation.settle(1, 2)
    simulation.next(1), simulation.next(2)
    assert simulation.consumers[1].taken == [(0, 4)]
    assert simulation.consumers[2].taken == [(0, 3), (0, 5)]
    assert simulation.finished == [0]


@pytest.mark.parametrize("length", range(6, 13))
@pytest.mark.parametrize("had", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2)], ids=str)
def test_ranks_that_had_unequally_many_of_a_server_that_died_get_equally_many_all_the_same(had, length):
    left = [position for position in range(length) if position // 3 >= had[position % 3]]
    simulation = Simulation(rules_of(world=3, window=1), [len(left)], known=False, order=left, had=had, has_opened=True)
    attached(simulation, 0, 1, 2)
    simulation.settle(1, 2, 3)
    for rank in range(3):
        simulation.next(rank + 1)
        taken = simulation.consumers[rank + 1].taken
        assert taken == [(0, position) for position in range(had[rank] * 3 + rank, length // 3 * 3, 3)]
    assert simulation.finished == [0]


def test_no_epoch_opens_before_those_are_back_or_gone_who_know_what_they_took():
    simulation = Simulation(rules_of(window=1), [3], awaited=[77])
    assert simulation.attach(1)
    simulation.next(1)
    assert simulation.opened is None
    simulation.consumers[2] = Consumer(2, None, 0)
    resume = Resume(job="j", epoch=0, taken=(0,), count=1)
    simulation.core.attach(2, Hello(resume=resume), now=0.0, pid=77)
    simulation.next(2)
    simulation.settle(1, 2)
    assert sorted(simulation.consumers[1].taken + simulation.consumers[2].taken) == [(0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("rules", "hello", "words"),
    [
        ({"world": 2}, Hello(), "rank must be 0 to 1, got"),
        ({"world": 2}, Hello(rank=2), "rank must be 0 to 1, got"),
        ({}, Hello(rank=0), "rank must be None"),
        ({}, Hello(join="replay"), 'mode="broadcast"'),
        ({"mode": "broadcast", "can_replay": False}, Hello(join="replay"), 'use join="now" or join="next"'),
        ({}, Hello(resume=Resume(job="j", epoch=3, taken=(), count=0)), "attach again without reconnect"),
    ],
)
def test_who_has_no_place_is_told_why(rules: dict[str, Any], hello: Hello, words: str):
    with pytest.raises(Refused, match=words):
        simulated(**rules).core.attach(1, hello, now=0.0)


def test_who_comes_back_too_late_to_a_broadcast_of_a_stream_is_told_so():
    """And whoever has missed nothing goes on."""
    rules = rules_of(mode="broadcast", window=1, can_replay=False)
    simulation = Simulation(rules, [6], frontier=3, has_opened=True)
    behind, level = (Resume(job="j", epoch=0, taken=(), count=count) for count in (2, 3))
    with pytest.raises(Refused, match="had 2 batches of epoch 0 and the others 3"):
        simulation.core.attach(1, Hello(resume=behind), now=0.0)
    assert simulation.core.attach(2, Hello(resume=level), now=0.0).replay_at is None


def test_what_no_consumer_of_ours_sends_is_misbehaviour():
    simulation = simulated(lengths=[4])
    attached(simulation, None)
    simulation.give()
    with pytest.raises(Misbehaved, match="released turn 99"):
        simulation.core.ask(1, 0, (99,), 0.0)
    with pytest.raises(Misbehaved, match="reported 2 taken batches, expected 0 to 1"):
        simulation.core.ask(1, 2, (), 0.0)
    with pytest.raises(Misbehaved, match="before the end of epoch 0"):
        simulation.core.begin(1, 0, 0.0)
    simulation.core.ask(1, 1, (1,), 0.0)
    with pytest.raises(Misbehaved, match="released turn 1"):
        simulation.core.ask(1, 1, (1,), 0.0)


MODES = [
    rules_of(world=2, window=3, grace_s=5),
    rules_of(world=3, window=1, grace_s=5),
    rules_of(window=3),
    rules_of(mode="broadcast", window=3),
    rules_of(mode="broadcast", window=2, slow="skip"),
]


class Story:
    """Draws what happens, and keeps what those have taken that are gone."""

    def __init__(self, data: st.DataObject, rules: Rules, lengths: list[int]) -> None:
        self.draw, self.rules = data.draw, rules
        self.simulation = Simulation(rules, lengths)
        self.past: list[Consumer] = []
        self.num = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            getattr(
                self, self.draw(st.sampled_from(["give", "next", "next", "next", "release", "come", "go", "wait"]))
            )()

    def give(self) -> None:
        self.simulation.give()

    def _one(self) -> int | None:
        numbers = sorted(self.simulation.consumers)
        return self.draw(st.sampled_from(numbers)) if numbers else None

    def next(self) -> None:
        number = self._one()
        if number is not None:
            self.simulation.next(number)

    def release(self) -> None:
        number = self._one()
        if number is not None and (views := sorted(self.simulation.consumers[number].views)):
            current = self.simulation.consumers[number].current
            turn = self.draw(st.sampled_from(views))
            if current is None or current.turn != turn:
                self.simulation.release(number, turn)

    def come(self) -> None:
        if len(self.simulation.consumers) >= 4:
            return
        self.num += 1
        rank = self.draw(st.integers(0, self.rules.mode.num_ranks - 1)) if self.rules.mode.num_ranks else None
        join = self.draw(st.sampled_from(["next", "now", "replay"])) if self.rules.mode.can_join_late else "next"
        if self.simulation.attach(self.num, rank, join):
            event(f"joined {join}")

    def go(self) -> None:
        number = self._one()
        if number is not None and self.draw(st.integers(0, 3)) == 0:
            it = self.simulation.consumers[number]
            event("left in the middle" if it.inbox or it.current else "left")
            self.past.append(
                self.simulation.leave(number, died=self.rules.mode.num_ranks > 0 or self.draw(st.booleans()))
            )

    def wait(self) -> None:
        self.simulation.now += 0.1
        self.simulation.core.advance(self.simulation.now)

    def everybody(self) -> list[Consumer]:
        return [*self.past, *self.simulation.consumers.values()]


@pytest.mark.parametrize("rules", MODES, ids=repr)
@FEW
@given(data=st.data(), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=2))
def test_nothing_is_lost_and_nothing_comes_twice(rules: Rules, data: st.DataObject, lengths: list[int]):
    mode = rules.mode
    lengths = [length * mode.num_shares for length in lengths]
    story = Story(data, rules, lengths)
    story.run(60)
    simulation = story.simulation
    # Then all that is missing comes, and everybody takes all.
    if mode.num_ranks:
        for rank in range(mode.num_ranks):
            if all(it.rank != rank for it in simulation.consumers.values()):
                story.num += 1
                assert simulation.attach(story.num, rank)
    elif not simulation.consumers:
        story.num += 1
        assert simulation.attach(story.num)
    done = len(simulation.finished) + len(simulation.abandoned)
    epochs_of(simulation, sorted(simulation.consumers), done + 2)
    taken = Counter(place for it in story.everybody() for place in it.taken)
    if mode.name == "split":
        for epoch in simulation.finished:
            assert {p: taken[epoch, p] for p in range(simulation.length(epoch))} == dict.fromkeys(
                range(simulation.length(epoch)), 1
            )
        assert max(taken.values()) == 1
    for it in story.everybody():
        if mode.num_ranks or mode.name == "broadcast":
            assert it.taken == sorted(it.taken), "in order"
        if mode.name == "broadcast":
            assert len(set(it.taken)) == len(it.taken)
    for number in sorted(simulation.consumers):
        simulation.leave(number, died=mode.num_ranks > 0)
    event(f"{min(len(simulation.finished), 3)} epochs or more")
    kept = {turn for turn, holders in simulation.holders.items() if any(holder > 0 for holder in holders)}
    assert kept == set(), "those who are gone hold nothing"


def test_what_several_dead_consumers_had_comes_in_the_order_of_the_epoch():
    simulation = simulated(window=2, lengths=[6])
    attached(simulation, None, None)
    while simulation.give():
        pass
    simulation.leave(1, died=True)
    simulation.leave(2, died=True)
    assert simulation.attach(3)
    simulation.next(3)
    simulation.settle(3)
    assert simulation.consumers[3].taken == [(0, position) for position in range(6)]


@pytest.mark.parametrize("rules", [{"world": 2}, {"mode": "broadcast", "world": 2}], ids=str)
def test_a_group_in_lock_step_is_not_stuck_with_a_window_of_one(rules: dict[str, Any]):
    simulation = simulated(window=1, lengths=[6], **rules)
    attached(simulation, *((0, 1) if rules["world"] and "mode" not in rules else (None, None)))
    for _ in range(3):
        for number in (1, 2):  # the second one asks for more only when the first has got its own
            while simulation.consumers[number].current is None:
                assert simulation.next(number) or simulation.give()
        for number in (1, 2):
            it = simulation.consumers[number]
            before = it.num_taken
            while it.num_taken == before or (it.current is None and not it.counts):
                assert simulation.next(number) or simulation.give()


@pytest.mark.parametrize(
    ("rules", "ranks"),
    [({"world": 2}, (0, 1)), ({}, (None, None)), ({"mode": "broadcast", "world": 2}, (None, None))],
    ids=["ranks", "first come", "broadcast"],
)
def test_nothing_is_lost_where_batches_come_as_they_are_ready(rules: dict[str, Any], ranks: tuple[Any, ...]):
    full = rules_of(**{"window": 2, "is_ordered": False} | rules)
    simulation = Simulation(full, [8], order=[5, 6, 7, 1, 4, 0, 3, 2])
    numbers = attached(simulation, *ranks)
    for _ in range(9):
        simulation.settle(*numbers)
        for number in numbers:
            if simulation.consumers[number].current is not None:
                simulation.next(number)
    taken = [sorted(position for _, position in simulation.consumers[number].taken) for number in numbers]
    if "mode" in rules:
        assert taken == [list(range(8))] * 2
    else:
        assert sorted(taken[0] + taken[1]) == list(range(8))
    assert simulation.finished == [0]


@pytest.mark.parametrize("count", [2, 5, 32])
def test_each_of_the_consumers_that_wait_gets_its_turn(count: int):
    simulation = simulated(window=10, lengths=[10 * count])
    numbers = attached(simulation, *[None] * count)
    served = []
    for _ in range(9 * count):
        assert simulation.give()
        served += [number for number in numbers if simulation.consumers[number].inbox and simulation.next(number)]
        assert all(it.current is None or not simulation.next(it.number) for it in simulation.consumers.values())
    assert sorted(served[:count]) == numbers, "nobody gets a second batch before all have one"
    for start in range(len(served) - count):
        assert served[start + count] == served[start], "and so on, in this order"


def test_a_consumer_that_has_fewer_batches_gets_the_next_one():
    simulation = simulated(window=4, lengths=[20])
    attached(simulation, None, None)
    while simulation.give():
        pass
    assert [simulation.core.group.by_consumer[number].load for number in (1, 2)] == [4, 4]
    for _ in range(3):
        simulation.next(2)
    while simulation.give():
        pass
    assert [simulation.core.group.by_consumer[number].load for number in (1, 2)] == [4, 4]
    positions = [handle.position for (handle,) in simulation.consumers[2].inbox]
    assert positions == [7, 8, 9]


@pytest.mark.parametrize("mode", ["split", "broadcast"])
def test_the_work_for_an_offer_does_not_grow_with_the_number_of_consumers(mode: Any):
    """A test by lines, not by calls: a walk over all seats needs no call."""

    def lines_of(count: int) -> float:
        simulation = simulated(mode=mode, window=4, lengths=[64])
        numbers = attached(simulation, *[None] * count)
        found = 0

        def trace(frame: Any, what: str, _: Any) -> Any:
            nonlocal found
            if "mpqueue" not in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
                return None
            found += what == "line"
            return trace

        def run() -> None:
            for _ in range(32):
                simulation.core.advance(0.0)
                simulation.core.group.is_starving()
                simulation.give()
                simulation.core.group.unasked()
                simulation.core.due_at(0.0)
                for number in numbers:
                    if simulation.consumers[number].inbox:
                        simulation.next(number), simulation.next(number)

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run()
        finally:
            sys.settrace(before)
        return found / sum(len(it.taken) for it in simulation.consumers.values())

    one, many = lines_of(1), lines_of(32)
    assert many < 1.5 * one, (one, many)


@dataclass(frozen=True)
class NoBatch:
    """An error that belongs to no batch."""

    epoch: int
    position: int = -1
    turn: int = 0
    is_extra: bool = False
    is_left_out: bool = False


def test_an_error_of_no_batch_is_told_to_those_who_wait_and_holds_up_nobody():
    simulation = simulated(lengths=[2])
    attached(simulation, None)
    assert simulation.attach(2), "one that never asks for anything"
    simulation.core.arrived(NoBatch(0))
    assert simulation.consumers[1].inbox[0] == (NoBatch(0),)
    simulation.settle(1)
    assert simulation.consumers[1].counts == [2]
    assert simulation.finished == [0]


def test_a_wait_for_a_batch_is_no_silence_of_who_has_some():
    simulation = simulated(lease_timeout=2.0, lengths=[4])
    attached(simulation, None)
    simulation.core.advance(50.0)
    simulation.give()
    simulation.core.advance(50.1)
    assert not simulation.core.silent(50.1), "it was given its first batch just now"
    assert simulation.core.due_at(50.1) == pytest.approx(52.1)
    assert list(simulation.core.silent(52.2)) == [1]


def test_a_wait_for_the_next_batch_with_the_latest_one_in_hand_is_not_silence():
    simulation = simulated(lease_timeout=2.0, lengths=[4])
    attached(simulation, None)
    simulation.give()
    simulation.next(1)
    (turn,) = simulation.consumers[1].views
    simulation.next(1)  # asks for the next batch, which is not there, and still holds the first one
    assert simulation.holders[turn] == {1}
    simulation.core.advance(50.0)
    assert not simulation.core.silent(50.0)
    assert simulation.core.due_at(50.0) is None
    simulation.give()
    simulation.core.advance(50.1)
    assert not simulation.core.silent(52.0), "the lease begins with the offer"
    assert list(simulation.core.silent(52.2)) == [1]


def resumed(simulation: Simulation, number: int, rank: int | None, epoch: int, taken: tuple[int, ...], count: int):
    simulation.consumers[number] = Consumer(number, rank, epoch)
    resume = Resume(job="j", epoch=epoch, taken=taken, count=count)
    seat = simulation.core.attach(number, Hello(rank=rank, resume=resume), now=0.0)
    simulation.consumers[number].epoch = seat.epoch


@pytest.mark.parametrize(
    ("rules", "ranks", "kwargs"),
    [
        ({"world": 2}, (0, 1), {"had": [2, 1], "frontier": 3}),
        ({"mode": "broadcast"}, (None, None), {"frontier": 3}),
    ],
    ids=["ranks", "broadcast"],
)
def test_a_server_whose_consumers_are_all_past_its_epoch_ends_it_and_goes_on(
    rules: dict[str, Any], ranks: tuple[Any, ...], kwargs: dict[str, Any]
):
    simulation = Simulation(rules_of(**{"window": 1} | rules), [4], **kwargs)
    for number, rank in enumerate(ranks, start=1):
        resumed(simulation, number, rank, 1, (), 0)
    for number in (1, 2):
        simulation.next(number)
    simulation.settle(1, 2)
    assert simulation.finished[0] == 0, "what was taken of it is not needed any more"
    taken = simulation.consumers[1].taken
    assert taken[:1] == [(1, 0)]
    assert simulation.core.epoch >= 1


def test_a_consumer_that_was_not_told_the_end_of_an_epoch_goes_on_with_the_next():
    simulation = Simulation(rules_of(window=1), [2], epoch=1)
    resumed(simulation, 1, None, 0, (0, 1), 0)
    assert simulation.consumers[1].epoch == 1
    simulation.next(1)
    simulation.settle(1)
    assert simulation.consumers[1].taken == [(1, 0), (1, 1)]


def test_a_broadcast_that_had_begun_before_its_server_died_does_not_wait_for_all_again():
    simulation = Simulation(rules_of(mode="broadcast", world=2, window=1), [3], has_opened=True)
    resumed(simulation, 1, None, 0, (0,), 1)
    simulation.next(1)
    simulation.settle(1)
    assert simulation.consumers[1].taken == [(0, 1), (0, 2)], "the other one may have died with the server"


@pytest.mark.parametrize(
    ("join", "expected"),
    [("next", (1, 0)), ("now", (0, 2)), ("replay", (0, 0))],
)
def test_who_comes_anew_to_a_broadcast_in_the_middle_of_which_its_server_died_is_late(
    join: str, expected: tuple[int, int]
):
    simulation = Simulation(rules_of(mode="broadcast", window=2), [4], frontier=2, has_opened=True)
    assert simulation.attach(1, None, join)
    simulation.next(1)
    simulation.settle(1)
    places = simulation.consumers[1].taken
    assert places[0] == expected
    assert places == [(expected[0], position) for position in range(expected[1], 4)]


def test_a_rank_that_died_with_its_server_is_not_waited_for_for_ever():
    rules = rules_of(world=2, window=1, grace_s=5)
    simulation = Simulation(rules, [4], had=[1, 0], frontier=1, has_opened=True)
    simulation.core.advance(100.0)
    assert simulation.attach(1, 0)
    simulation.next(1)
    simulation.core.advance(101.0)
    simulation.core.advance(105.9)
    assert simulation.consumers[1].cut is None, "it may be on its way"
    assert simulation.core.due_at(105.9) == 106.0
    simulation.core.advance(106.0)
    assert simulation.consumers[1].cut == (LOST, "rank 1 left and was not replaced within grace_s")


def test_a_rank_that_was_never_there_is_waited_for():
    simulation = simulated(world=2, lengths=[4])
    attached(simulation, 0)
    simulation.core.advance(0.0)
    simulation.core.advance(1000.0)
    assert simulation.consumers[1].cut is None
