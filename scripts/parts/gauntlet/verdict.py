"""The verdict on a killed and resumed run: samples lost, samples twice, and the order beside an undisturbed run.

What a trainer learnt behind its last saved state is gone with it. So what counts of each part of a run is what came up
to the state that the next part goes on from, and of the last part everything.
"""

import collections
import itertools
from collections.abc import Sequence
from typing import NamedTuple

Batch = list[int]
Part = Sequence[Sequence[Batch]]  # the batches of each rank


class Verdict(NamedTuple):
    """The verdict on a run.

    Attributes:
        lost: Samples of the undisturbed run that did not come, or not as often.
        twice: Samples that came more often than in the undisturbed run.
        in_order: The batches are those of the undisturbed run, in its order.
    """

    lost: int
    twice: int
    in_order: bool


def stream(part: Part, *, splits_batch: bool = False) -> list[Batch]:
    """Return the batches of all ranks in one order: the first of each, the second of each, and so on.

    Args:
        part: The batches of each rank.
        splits_batch: What the ranks get in one step is one batch; its samples are sorted then.
    """
    steps = ([batch for batch in step if batch is not None] for step in itertools.zip_longest(*part))
    if splits_batch:
        return [sorted(itertools.chain(*step)) for step in steps]
    return list(itertools.chain(*steps))


def judge(undisturbed: Sequence[Batch], parts: Sequence[Part], *, splits_batch: bool = False) -> Verdict:
    """Compare a run's parts with an undisturbed one.

    Args:
        undisturbed: All its batches, by `stream`.
        parts: What counts of each part.
        splits_batch: As `stream` has it.
    """
    wanted = collections.Counter(itertools.chain(*undisturbed))
    found = collections.Counter(number for part in parts for rank in part for batch in rank for number in batch)
    in_order = _is_in_order(undisturbed, parts, splits_batch=splits_batch)
    return Verdict((wanted - found).total(), (found - wanted).total(), in_order)


def _is_in_order(undisturbed: Sequence[Batch], parts: Sequence[Part], *, splits_batch: bool) -> bool:
    """Return True if each part goes on where the one before ended, and each rank's batches are in order.

    Ranks go round the batches, but where one has fewer left at the end of the epoch: so what a part has of all is
    compared as a set, and each rank's own as a sequence.
    """
    places = {tuple(batch): place for place, batch in enumerate(undisturbed)}
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
    return begun == len(undisturbed)
