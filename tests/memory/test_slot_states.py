"""The table of slots under random moves: each slot has one owner, an invalid move has no effect, no slot is lost."""

from dataclasses import dataclass
from functools import partial

import pytest
from helpers.interleaving import meanwhile
from helpers.state_machines import AimingMachine, run_and_require

from mpqueue.memory.slots import LARGE_BYTES, SlotError, SlotState, SlotTable, stride_for

STRIDE = 2 * LARGE_BYTES
FREE, GRANTED, READY, LEASED, SHARED, RETIRED = SlotState
ALLOWED = {"publish": {GRANTED}, "take": {READY}, "release": {GRANTED, READY, LEASED, SHARED}, "share": {READY}}
ARROWS = [
    "grant warm", "grant unowned", "grant from another", "grant none", "grant large warm", "grant large from another",
    "grant before a warm one", "grant large at last", "memory is short", "shrink large", "shrink large to large", "shrink", "publish", "publish held", "take", "reset",
    "release granted", "release ready", "release leased", "release shared",
    "retire ready", "retire leased", "retire shared", "share", "shared across a reset",
    *[f"let go {state.value}" for state in SlotState],
    *[f"worker of a {state.value} dies" for state in SlotState],
    *[f"refused {move} of {state.value}" for move, states in ALLOWED.items() for state in SlotState if state not in
    states],
    "refused publish of granted",
]  # fmt: skip


@dataclass
class Known:
    """The model's state of a slot."""

    state: SlotState = FREE
    turn: int = 0
    owner: int = -1
    high_water: int = 0
    held: bool = False


def all_of(table):
    """Return the whole state of a table as a string."""
    return list(map(repr, vars(table).values()))


class SlotsAgainstAnOracle(AimingMachine):
    """A model of the owner of each slot, and of the order of the free slots."""

    def make(self):
        num_slots = self.choose(range(1, 6))
        self.table = SlotTable(num_slots, STRIDE)
        self.known = [Known() for _ in range(num_slots)]
        self.free = list(range(num_slots))[::-1]  # the last one is granted next
        self.turns = 0

    def moves(self):
        moves = {"all die": (1, self.all_die)}
        if self.table.shares_large:
            moves["memory is short"] = 1, self.memory_is_short
        for worker in range(3):
            moves[f"grant to {worker}"] = 6, partial(self.grant, worker)
            if any(known.owner == worker for known in self.known):
                moves[f"worker {worker} dies"] = 1, partial(self.a_worker_dies, worker)
        for index, known in enumerate(self.known):
            moves[f"let go of {index}"] = 8 if known.state is RETIRED else 2, partial(self.let_go, index)
            for move, states in ALLOWED.items():
                if known.state in states:
                    weight = {"publish": 8, "take": 4, "release": 5 if known.held else 2, "share": 4}[move]
                    moves[f"{move} {index}"] = weight, partial(getattr(self, move), index)
                else:
                    moves[f"{move} {index}, which is refused"] = 1, partial(self.is_refused, move, index)
            if known.state is FREE:
                moves[f"shrink {index}"] = 3, partial(self.shrink, index)
            if known.state is GRANTED:
                moves[f"publish too much in {index}"] = 1, partial(self.is_refused, "publish", index, STRIDE + 1)
        return moves

    def becomes_free(self, number):
        self.known[number].state, self.known[number].turn = FREE, 0
        self.free.append(number)

    def grant(self, worker):
        large = [number for number in self.free if self.known[number].high_water >= LARGE_BYTES]
        small = [number for number in self.free if number not in large]
        warm = [number for number in small if self.known[number].owner == worker]
        cold = [number for number in small if self.known[number].owner == -1]
        slot = self.table.grant(worker)
        if slot is None:
            assert not self.free
            self.reached["grant none"] += 1
            return
        is_own = any(self.known[number].owner == worker for number in large)
        if large and (is_own or self.table.shares_large or not small):
            self.is_last_of_the_large(slot.index, large, worker)
            self.reached["grant before a warm one"] += bool(warm)
            self.reached["grant large at last"] += not (is_own or self.table.shares_large)
        elif warm:
            assert slot.index == warm[-1]
            self.reached["grant warm"] += 1
        elif cold:
            assert slot.index == cold[-1]
            self.reached["grant unowned"] += 1
        else:
            last_of_its_worker = [n for n in small if self.known[n].owner == self.known[slot.index].owner]
            assert slot.index == last_of_its_worker[-1]
            self.reached["grant from another"] += 1
        self.turns += 1
        self.free.remove(slot.index)
        known = self.known[slot.index]
        known.state, known.turn, known.owner = GRANTED, self.turns, worker

    def is_last_of_the_large(self, number, large, worker):
        """Return whether it is the last large slot, among the worker's earlier slots, if it has any."""
        warm = [n for n in large if self.known[n].owner == worker]
        if warm:
            assert number == warm[-1]
            self.reached["grant large warm"] += 1
        else:
            assert number == [n for n in large if self.known[n].owner == self.known[number].owner][-1]
            self.reached["grant large from another"] += 1

    def memory_is_short(self):
        self.table.shares_large = False
        self.reached["memory is short"] += 1

    def shrink(self, number):
        known = self.known[number]
        left = self.choose([0, LARGE_BYTES - 1, LARGE_BYTES, STRIDE - 1])
        if left >= known.high_water:
            return
        is_large = known.high_water >= LARGE_BYTES
        self.table.shrink(self.table.slots[number], left)
        known.high_water = left
        if is_large:
            self.free.remove(number)
            self.free.append(number)
        kind = " large to large" if left >= LARGE_BYTES else " large" if is_large else ""
        self.reached[f"shrink{kind}"] += 1

    def publish(self, number):
        held, nbytes = self.choose([False, True]), self.choose([0, 1, LARGE_BYTES, STRIDE])
        self.table.publish(self.table.slots[number], nbytes, held)
        known = self.known[number]
        known.state, known.held, known.high_water = READY, held, max(known.high_water, nbytes)
        self.reached["publish held" if held else "publish"] += 1

    def take(self, number):
        self.table.take(self.table.slots[number])
        self.known[number].state = LEASED
        self.reached["take"] += 1

    def release(self, number):
        known = self.known[number]
        self.reached[f"{'retire' if known.held else 'release'} {known.state.value}"] += 1
        self.table.release(self.table.slots[number])
        if known.held:
            known.state = RETIRED
        else:
            self.becomes_free(number)

    def share(self, number):
        self.table.share(self.table.slots[number])
        self.reached["share"] += 1
        self.known[number].state = SHARED

    def is_refused(self, move, number, nbytes=1):
        slot, before = self.table.slots[number], all_of(self.table)
        with pytest.raises(SlotError):
            getattr(self.table, move)(slot, *[nbytes] * (move == "publish"))
        assert all_of(self.table) == before
        self.reached[f"refused {move} of {slot.state.value}"] += 1

    def let_go(self, number):
        known = self.known[number]
        self.reached[f"let go {known.state.value}"] += 1
        self.table.let_go(number)
        known.held = False
        if known.state is RETIRED:
            self.becomes_free(number)

    def a_worker_dies(self, worker):
        self.table.forget_worker(worker)
        for index, known in enumerate(self.known):
            if known.owner == worker:
                self.reached[f"worker of a {known.state.value} dies"] += 1
                if known.state is RETIRED:
                    self.becomes_free(index)
                known.held = False
        # Slots that were warm for the worker are appended to the slots without an owner.
        own = [number for number in self.free if self.known[number].owner == worker]
        self.free = [number for number in self.free if number not in own] + own
        for known in self.known:
            known.owner = -1 if known.owner == worker else known.owner

    def all_die(self):
        """Reset at any moment: slots with views are leased, shared slots remain shared, all others are free."""
        numbers = range(len(self.known))
        leased = [n for n in numbers if self.known[n].state is not SHARED and self.choose([False, True])]
        self.table.reset([self.table.slots[number] for number in leased])
        self.reached["reset"] += 1
        self.free.clear()
        for number in numbers:
            self.known[number].owner, self.known[number].held = -1, False
            if number in leased:
                self.known[number].state = LEASED
            elif self.known[number].state is SHARED:
                self.reached["shared across a reset"] += 1
            else:
                self.becomes_free(number)

    def check(self):
        table = self.table
        for index, (slot, known) in enumerate(zip(table.slots, self.known, strict=True)):
            expected = (known.state, known.turn, known.owner, known.high_water, known.held)
            assert (slot.index, slot.offset) == (index, index * STRIDE)
            assert (slot.state, slot.turn, slot.owner, slot.high_water, slot.held) == expected
        states = [known.state for known in self.known]
        counts = table.num_free, table.num_leased, table.num_retired
        assert counts == (states.count(FREE), states.count(LEASED) + states.count(SHARED), states.count(RETIRED))
        assert sorted(slot.index for slot in table.free_slots()) == sorted(self.free)
        large = [number for number in self.free if self.known[number].high_water >= LARGE_BYTES]
        assert sorted(slot.index for slot in table.free_large_slots()) == sorted(large)
        assert table.bytes_reserved() == sum(known.high_water for known in self.known)


def test_any_moves_agree_with_model():
    run_and_require(SlotsAgainstAnOracle, ARROWS, at_least=10, examples=150, steps=120)


@pytest.mark.parametrize("num_slots", [1, 3, 20, 5000])
@pytest.mark.parametrize("largest", [1 << 16, 1 << 30, 1 << 40])
def test_slots_fit_into_address_space_in_whole_pages(num_slots, largest):
    stride = stride_for(num_slots, largest)
    assert stride * num_slots <= largest
    assert stride % 4096 == 0
    assert stride <= 4 << 30
    assert stride == 4 << 30 or largest - stride * num_slots < 4096 * num_slots


def test_num_free_is_safe_during_concurrent_release():
    table, workers = SlotTable(100, STRIDE), iter(range(100))

    def serve():
        table.release(table.grant(next(workers)))  # the first slot of a worker

    serve()
    assert meanwhile(serve, lambda: table.num_free) in range(99, 101)
    assert next(workers) > 2
