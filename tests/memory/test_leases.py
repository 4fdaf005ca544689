"""Leases alone: a slot belongs to the consumer until the last view of its batch is deleted."""

import sys
from functools import partial

import numpy as np
import pytest
from helpers.interleaving import meanwhile
from helpers.plain_memory import PlainMemory
from helpers.state_machines import AimingMachine, run_and_require

from mpqueue.memory.ring import Leases
from mpqueue.memory.slots import Slot
from mpqueue.telemetry.clock import clock_ns

TWO_ARRAYS = np.dtype([("a", "<i4", (2,)), ("b", "u1", (3,))])


def numbered_memory():
    memory = PlainMemory(200)
    memory.memory[:] = range(200)
    return memory


@pytest.fixture
def leases():
    return Leases(numbered_memory())


def test_end_of_lease_is_timed_and_reported_later(leases):
    slot, notified = Slot(3, 8), []
    base = leases.lease(slot, 4, None)
    leases.watch_end(slot, notified.append)
    before = clock_ns()
    del base
    after = clock_ns()
    assert not notified
    assert leases.take_ended() == [slot]
    (ended,) = notified
    assert before <= ended <= after


def test_no_python_code_runs_at_end_of_lease(leases):
    """A signal handler could run there, and its exception would be lost."""
    slot, called = Slot(3, 8), []
    bases = [leases.lease(slot, 4, None)]
    leases.watch_end(slot, called.append)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    bases.clear()
    sys.setprofile(None)
    assert not called
    assert len(leases.have_ended) == 1


def test_lease_that_ends_during_reset_is_reported_afterwards():
    """Otherwise its slot would remain leased forever."""
    numbers_held = set()
    for num_lines in range(20):
        leases = Leases(numbered_memory())
        lines, kept = iter(range(num_lines)), [leases.lease(Slot(0, 0), 4, None)]
        held = meanwhile(lambda: next(lines, None) is None and kept.clear(), leases.reset)  # noqa: B023
        kept.clear()
        assert leases.take_ended() == held
        numbers_held.add(len(held))
    assert numbers_held == {0, 1}


ARROWS = [
    "lease", "lease again", "another view", "a view goes", "the last view goes", "several end", "notified",
    "reset of held", "reset of ended", "reset of none",
]  # fmt: skip


class LeasesAgainstAnOracle(AimingMachine):
    """A model that knows the views of each slot, and the order of their ends."""

    def make(self):
        self.leases = Leases(numbered_memory())
        self.slots = [Slot(number, 40 * number) for number in range(5)]
        self.views, self.ended, self.had = {}, [], set()

    def moves(self):
        moves = {}
        for number in range(len(self.slots)):
            if number in self.views:
                moves[f"a view of {number}"] = 2, partial(self.another_view, number)
                moves[f"a view of {number} goes"] = 3, partial(self.a_view_goes, number)
            elif number not in self.ended:
                moves[f"lease {number}"] = 3, partial(self.lease, number)
        if self.ended:
            moves["the watchers are notified"] = 1, self.check_notified
        return moves | {"all views go": (1, self.all_views_go), "reset": (2, self.reset)}

    def lease(self, number):
        structure = self.choose([None, TWO_ARRAYS])
        base = self.leases.lease(self.slots[number], 11, structure)
        assert base.tobytes() == bytes(range(40 * number, 40 * number + 11))
        self.views[number] = [base]
        self.reached["lease again" if number in self.had else "lease"] += 1
        self.had.add(number)

    def another_view(self, number):
        view = self.choose(self.views[number])
        if view.dtype.names:
            view = view[self.choose(["a", "b"])]
        self.views[number].append(view[1:] if view.ndim else view[...])
        self.reached["another view"] += 1

    def a_view_goes(self, number):
        views = self.views[number]
        views.pop(self.choose(range(len(views))))
        if views:
            self.reached["a view goes"] += 1
            return
        del self.views[number]
        self.ended.append(number)
        self.reached["the last view goes"] += 1
        self.reached["several end"] += len(self.ended) > 1

    def all_views_go(self):
        while self.views:
            self.a_view_goes(self.choose(list(self.views)))

    def check_notified(self):
        assert self.leases.take_ended() == [self.slots[number] for number in self.ended]
        self.ended = []
        self.reached["notified"] += 1

    def reset(self):
        """Reset as after an interrupt: ended leases count as reported."""
        self.reached["reset of ended"] += bool(self.ended)
        self.reached["reset of held" if self.views else "reset of none"] += 1
        held = self.leases.reset()
        assert sorted(slot.index for slot in held) == sorted(self.views)
        self.ended = []

    def check(self):
        assert [lease.of.index for lease in self.leases.have_ended] == self.ended
        assert self.leases.num_live == len(self.views) + len(self.ended)


def test_views_keep_slots_and_each_end_is_reported_once():
    run_and_require(LeasesAgainstAnOracle, ARROWS, at_least=25, examples=80, steps=50)


def test_lease_undone_by_interrupt_does_not_end_later_lease(leases):
    """The traceback of the interrupt may keep the lease and its view for long, while the slot is leased again."""
    slot = Slot(1, 100)
    undone = leases.lease(slot, 64, None)
    kept_by_a_traceback = leases._live[slot.index]
    view = leases.lease(slot, 64, None)
    del undone
    assert kept_by_a_traceback() is None
    assert leases.take_ended() == []
    assert leases.num_live == 1
    del view
    assert leases.take_ended() == [slot]
    assert leases.num_live == 0
