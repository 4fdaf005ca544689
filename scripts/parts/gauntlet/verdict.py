"""The verdict on a killed and resumed run: lost samples, repeated samples, and their order.

Training after the last saved state is lost in a kill. So only the batches up to the state that the next part resumes
from count, and in the last part all batches.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from parts.resumed import lost_and_repeated

Batch = list[int]
Part = Sequence[Sequence[Batch]]  # the batches of each rank


class Verdict(NamedTuple):
    """The verdict on a run.

    Attributes:
        lost: Samples of the uninterrupted run that are missing, with multiplicity.
        twice: Samples that were delivered more often than in the uninterrupted run.
        in_order: Whether the batches and their order equal the uninterrupted run's.
    """

    lost: int
    twice: int
    in_order: bool


def stream(part: Part, *, splits_batch: bool = False) -> list[Batch]:
    """Return the batches of all ranks in one order: the first of each, the second of each, and so on.

    Args:
        part: The batches of each rank.
        splits_batch: Whether the batches of the ranks in one step are one batch, with its samples sorted.
    """
    steps = ([batch for batch in step if batch is not None] for step in itertools.zip_longest(*part))
    if splits_batch:
        return [sorted(itertools.chain(*step)) for step in steps]
    return list(itertools.chain(*steps))


def judge(uninterrupted: Sequence[Batch], parts: Sequence[Part], *, splits_batch: bool = False) -> Verdict:
    """Compare the parts of a run with an uninterrupted one.

    Args:
        uninterrupted: All batches of that run, from `stream`.
        parts: The batches of each part that count.
        splits_batch: Argument of `stream`.
    """
    lost, twice = lost_and_repeated(uninterrupted, (batch for part in parts for rank in part for batch in rank))
    return Verdict(lost, twice, _is_in_order(uninterrupted, parts, splits_batch=splits_batch))


def _is_in_order(uninterrupted: Sequence[Batch], parts: Sequence[Part], *, splits_batch: bool) -> bool:
    """Return whether each part continues after the previous one, and each rank's batches are in order.

    Ranks take batches in turn, except that one may have fewer left at the end of the epoch. So the batches of a part
    are compared as a set, and the batches of each rank as a sequence.
    """
    places = {tuple(batch): place for place, batch in enumerate(uninterrupted)}
    begun = 0
    for part in parts:
        ranks = [stream(part, splits_batch=True)] if splits_batch else part
        found = [[places.get(tuple(batch), -1) for batch in rank] for rank in ranks]
        count = sum(map(len, found))
        if any(rank != sorted(rank) for rank in found):
            return False
        if sorted(itertools.chain(*found)) != list(range(begun, begun + count)):
            return False
        begun += count
    return begun == len(uninterrupted)
