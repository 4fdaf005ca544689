"""State machines for hypothesis that aim at rare states and count the transitions that they take.

Hypothesis's own state machines disable some rules in each example and prefer small numbers, and a rule that picks its
target blindly usually finds it in the wrong state: in 3,600 steps, a slot got from granted to leased three times. Here,
each step is drawn from the moves that are possible now, by weight, from a byte string. The byte 0 means "no step", so
hypothesis can shrink a failure to the necessary moves. A test requires a minimum count for each transition.
"""

from collections import Counter

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from helpers import sweeps


class AimingMachine:
    """A state machine. A subclass returns the possible steps from `moves` and asserts its invariants in `check`.

    A subclass calls ``self.reached[arrow] += 1`` when it takes a transition of the diagram.

    Args:
        steps: Bytes, two for each choice.
        reached: A `Counter` of transitions.
    """

    def __init__(self, steps, reached):
        self._steps, self._at = steps, 0
        self.reached = reached
        self.make()

    def make(self):
        """Create the initial state."""

    def moves(self):
        """Return the possible steps: a dictionary from (name, unique) to (weight, function)."""
        raise NotImplementedError

    def check(self):
        """Assert the invariants."""

    def finish(self):
        """Assert the conditions that hold at the end."""

    def choose(self, things):
        """Return one of the things, with equal probability; the first one if the bytes are used up."""
        number = int.from_bytes(self._steps[self._at : self._at + 2], "little")
        self._at += 2
        return things[number * len(things) >> 16]

    def run(self):
        self.check()
        while self._at < len(self._steps):
            moves = self.moves()
            name = self.choose(["nothing", *(name for name, (weight, _) in moves.items() for _ in range(weight))])
            if name != "nothing":
                note(name)
                moves[name][1]()
                self.check()
        self.finish()


def run_and_require(machine, arrows, at_least, *, examples, steps, shrinks=True):
    """Run a machine deterministically, and require that every arrow was taken at least ``at_least`` times.

    A sample has fewer examples, and may miss rare transitions.

    ``shrinks=False`` is for failures that take minutes to shrink, because each byte changes all later steps.
    """
    reached, examples = Counter(), sweeps.part_of(examples, 4)
    phases = set(settings().phases) - (set() if shrinks else {Phase.shrink, Phase.explain})

    @settings(
        derandomize=True, deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), phases=phases
    )
    @given(st.binary(min_size=2 * steps, max_size=2 * steps))
    def run(drawn):
        machine(drawn, reached).run()

    run()
    rare = {arrow: reached[arrow] for arrow in arrows if reached[arrow] < at_least}
    assert sweeps.is_sampled or not rare, f"these were taken less than {at_least} times: {rare}"
