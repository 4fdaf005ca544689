"""Comparison of a killed and resumed run with an uninterrupted one.

A record belongs to a step: its number, the bits of the loss, and the numbers of the samples. If several parts ran the
same step, the record of the last one counts, because the final model has seen that one.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from parts.resumed import lost_and_repeated

Record: TypeAlias = tuple[int, str, list[int]]


class Verdict(NamedTuple):
    """Differences of a run.

    Attributes:
        lost: Samples of the uninterrupted run that the model has not seen.
        twice: Samples that it has seen more often.
        losses: Steps with a different loss, or without one.
        samples: Steps with different samples, or a different order.
        steps: Number of steps of the uninterrupted run.
    """

    lost: int
    twice: int
    losses: int
    samples: int
    steps: int

    def is_exact(self) -> bool:
        """Return whether the runs are equal."""
        return not (self.lost or self.twice or self.losses or self.samples)

    def __str__(self) -> str:
        if self.is_exact():
            return f"all {self.steps} losses equal to the bit"
        losses = f"{self.losses} of {self.steps} losses differ"
        if self.lost or self.twice:
            return f"{losses}; {self.lost} samples lost, {self.twice} repeated"
        return f"{losses}; different order" if self.samples else f"{losses}; the same samples"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict with the most differences."""
    return max(verdicts, key=lambda each: (each.losses, each.lost + each.twice, each.samples))


def judge(whole: Sequence[Record], parts: Sequence[Sequence[Record]]) -> Verdict:
    """Compare the parts of a run with the uninterrupted one."""
    holds: dict[int, Record] = {}
    for part in parts:
        if part:  # steps after the checkpoint are repeated
            holds = {step: record for step, record in holds.items() if step < part[0][0]}
        for record in part:
            holds[record[0]] = record
    lost, twice = lost_and_repeated((record[2] for record in whole), (record[2] for record in holds.values()))
    steps = {record[0]: record for record in whole}
    pairs = [(steps.get(step), holds.get(step)) for step in sorted({*steps, *holds})]
    return Verdict(
        lost,
        twice,
        sum(a is None or b is None or a[1] != b[1] for a, b in pairs),
        sum(a is None or b is None or a[2] != b[2] for a, b in pairs),
        len(steps),
    )
