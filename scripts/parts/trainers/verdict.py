"""Comparison of a run that was killed and resumed with one that nothing disturbed.

A record is what came in a step: its number, the bits of the loss, the numbers of the samples. What holds of a step is
what the last part says that did it: the model that remains has seen that.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Record: TypeAlias = tuple[int, str, list[int]]


class Verdict(NamedTuple):
    """Differences of a run.

    Attributes:
        lost: Samples of the undisturbed run that the model has not seen.
        twice: Samples that it has seen more often.
        losses: Steps whose loss is another one, or that are missing.
        samples: Steps whose samples are others, or other in order.
        steps: How many steps the undisturbed run has.
    """

    lost: int
    twice: int
    losses: int
    samples: int
    steps: int

    def is_exact(self) -> bool:
        """Return whether nothing differs."""
        return not (self.lost or self.twice or self.losses or self.samples)

    def __str__(self) -> str:
        if self.is_exact():
            return f"all {self.steps} losses equal to the bit"
        told = f"{self.losses} of {self.steps} losses differ"
        if self.lost or self.twice:
            return f"{told}; {self.lost} samples lost, {self.twice} repeated"
        return f"{told}; {self.samples} steps of other samples" if self.samples else f"{told}; the same samples"


def judge(whole: Sequence[Record], parts: Sequence[Sequence[Record]]) -> Verdict:
    """Compare the parts of a run with the whole one."""
    holds: dict[int, Record] = {}
    for part in parts:
        if part:  # what was done behind the checkpoint is done anew
            holds = {step: record for step, record in holds.items() if step < part[0][0]}
        for record in part:
            holds[record[0]] = record
    wanted = Counter(number for _, _, numbers in whole for number in numbers)
    found = Counter(number for _, _, numbers in holds.values() for number in numbers)
    steps = {record[0]: record for record in whole}
    pairs = [(steps.get(step), holds.get(step)) for step in sorted({*steps, *holds})]
    return Verdict(
        (wanted - found).total(),
        (found - wanted).total(),
        sum(a is None or b is None or a[1] != b[1] for a, b in pairs),
        sum(a is None or b is None or a[2] != b[2] for a, b in pairs),
        len(steps),
    )
