"""State machines that aim, and count what they reach: one that never gets anywhere proves nothing.

Hypothesis's own state machines switch off some of their rules in each example and draw small numbers more often than
others, and what a rule picks blindly is in the wrong state most of the time: in 3,600 steps a slot got from granted to
leased three times. Here each step is drawn evenly among the moves that are possible now, by their weights, out of a
string of bytes; the byte 0 is "nothing happens", so that hypothesis shrinks a failure to the moves that it needs. And a
test requires that each arrow of the diagram was taken often.
"""

from collections import Counter

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st


class AimingMachine:
    """A state machine; a subclass says in `moves` what can be done now, and in `check` what holds at any time.

    Where it takes an arrow of the diagram it calls ``self.reached[arrow] += 1``.

    Args:
        steps: Two bytes for each choice.
        reached: Counts arrows.
    """

    def __init__(self, steps, reached):
        self._steps, self._at = steps, 0
        self.reached = reached
        self.make()

    def make(self):
        """Begin."""

    def moves(self):
        """What can be done now: a dictionary of (name, unique) to (weight, function)."""
        raise NotImplementedError

    def check(self):
        """What holds at any time."""

    def finish(self):
        """What holds at the end."""

    def choose(self, things):
        """One of the things, each as likely as any; the first one when the string is at its end."""
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
    """Run a machine, always the same way, and require that every arrow was taken ``at_least`` times.

    ``shrinks=False`` is for machines whose failures shrink for minutes: each byte changes all that follows.
    """
    reached = Counter()
    phases = set(settings().phases) - (set() if shrinks else {Phase.shrink, Phase.explain})

    @settings(
        derandomize=True, deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), phases=phases
    )
    @given(st.binary(min_size=2 * steps, max_size=2 * steps))
    def run(drawn):
        machine(drawn, reached).run()

    run()
    rare = {arrow: reached[arrow] for arrow in arrows if reached[arrow] < at_least}
    assert not rare, f"these were taken less than {at_least} times: {rare}"
