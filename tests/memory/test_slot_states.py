"""The table of slots under any moves: each slot has one owner, a refused move changes nothing, no slot gets lost."""

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpqueue.memory.slots import SlotError, SlotState, SlotTable, stride_for

STRIDE = 4096
workers = st.integers(-1, 3)
picks = st.integers(0, 63)
FREE, GRANTED, READY, LEASED, RETIRED = SlotState


class SlotsAgainstAnOracle(RuleBasedStateMachine):
    """The oracle is one dictionary: who has which slot. Moves of any slot in any state are tried."""

    @initialize(num_slots=st.integers(1, 6))
    def make(self, num_slots):
        self.table = SlotTable(num_slots, STRIDE)
        self.expected = dict.fromkeys(range(num_slots), FREE)
        self.held = set()
        self.owners = {}
        self.turns = set()

    def slot(self, pick):
        return self.table.slots[pick % len(self.table.slots)]

    def tries(self, slot, move, allowed, then):
        """Make a move that is to be refused in all states but the allowed ones."""
        before = copy.deepcopy(self.table)
        if self.expected[slot.number] in allowed:
            move()
            self.expected[slot.number] = then
        else:
            with pytest.raises(SlotError):
                move()
            assert self.table == before

    @rule(worker=workers)
    def grant(self, worker):
        warm = [n for n, state in self.expected.items() if state is FREE and self.owners.get(n, -1) == worker]
        slot = self.table.grant(worker)
        if slot is None:
            assert FREE not in self.expected.values()
            return
        assert self.expected[slot.number] is FREE
        assert not slot.held
        assert slot.number in warm or not warm  # one that the worker wrote before, if there is any
        assert slot.turn not in self.turns
        self.turns.add(slot.turn)
        self.expected[slot.number], self.owners[slot.number] = GRANTED, worker

    @rule(pick=picks, nbytes=st.sampled_from([0, 1, STRIDE, STRIDE + 1]), held=st.booleans())
    def publish(self, pick, nbytes, held):
        slot = self.slot(pick)
        allowed = {GRANTED} if nbytes <= STRIDE else set()
        self.tries(slot, lambda: self.table.publish(slot, nbytes, held), allowed, READY)
        if held and self.expected[slot.number] is READY and slot.held:
            self.held.add(slot.number)

    @rule(pick=picks)
    def take(self, pick):
        slot = self.slot(pick)
        self.tries(slot, lambda: self.table.take(slot), {READY}, LEASED)

    @rule(pick=picks)
    def release(self, pick):
        slot = self.slot(pick)
        then = RETIRED if slot.number in self.held else FREE
        self.tries(slot, lambda: self.table.release(slot), {GRANTED, READY, LEASED}, then)

    @rule(pick=picks)
    def let_go(self, pick):
        number = self.slot(pick).number
        self.table.let_go(number)
        self.held.discard(number)
        if self.expected[number] is RETIRED:
            self.expected[number] = FREE

    @rule(worker=st.integers(0, 3))
    def a_worker_dies(self, worker):
        self.table.forget_worker(worker)
        for number, owner in self.owners.items():
            if owner == worker:
                self.owners[number] = -1
                self.held.discard(number)
                if self.expected[number] is RETIRED:
                    self.expected[number] = FREE

    @rule(picked=st.sets(picks))
    def all_die_in_the_middle_of_anything(self, picked):
        leased = [self.slot(pick).number for pick in picked]
        self.table.reset([slot for slot in self.table.slots if slot.number in leased])
        self.held.clear()
        self.owners.clear()
        self.expected = {number: LEASED if number in leased else FREE for number in self.expected}

    @invariant()
    def each_slot_has_one_owner(self):
        if not hasattr(self, "table"):
            return
        table = self.table
        assert {slot.number: slot.state for slot in table.slots} == self.expected
        states = list(self.expected.values())
        counts = table.num_free, table.num_leased, table.num_retired
        assert counts == (states.count(FREE), states.count(LEASED), states.count(RETIRED))
        free = [slot.number for slot in table.free_slots()]
        assert len(free) == len(set(free))
        assert {number for number, state in self.expected.items() if state is FREE} == set(free)
        turns = [slot.turn for slot in table.slots if slot.state in {GRANTED, READY}]
        assert 0 not in turns
        assert len(turns) == len(set(turns))


SlotsAgainstAnOracle.TestCase.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=60
)
TestSlotsAgainstAnOracle = pytest.mark.slow(SlotsAgainstAnOracle.TestCase)


@pytest.mark.parametrize("num_slots", [1, 3, 20, 5000])
@pytest.mark.parametrize("largest", [1 << 16, 1 << 30, 1 << 40])
def test_all_slots_fit_into_the_address_space_on_whole_pages(num_slots, largest):
    stride = stride_for(num_slots, largest)
    assert stride * num_slots <= largest
    assert stride % 4096 == 0
    assert stride <= 4 << 30
