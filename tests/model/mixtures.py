"""The input of each sample of a mixture: the plain definition of weights, blocks, schedules and changes.

Weights are exact if their sum divides 512: each block has the *quota* of each input, in a shuffled order. A *span* is
a range of samples with the same weights. It begins with a new block, and each input continues where it is.
"""

import functools
import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from model.numbers import shuffled

BLOCK = 512


class Span(NamedTuple):
    """The samples from ``start`` on, with their weights.

    A mixture with ``stop="all"`` reads the ``needed`` inputs completely: those used from here on, as planned.
    """

    start: int
    weights: tuple[float, ...]
    needed: frozenset[int]


def quotas(weights):
    """Return the number of samples of each input in a block."""
    parts = [Fraction(weight) / Fraction(sum(weights)) for weight in weights]
    common = math.lcm(*(part.denominator for part in parts))
    return [int(part * common * (BLOCK // common)) for part in parts]


def plan(schedule, changes, epoch):
    """Return the spans of the schedule of an epoch, and the changes ``(sample, weights)`` that cut them.

    A change ``(epoch, sample, weights)`` of an earlier epoch, or at sample 0, replaces the whole schedule.
    """
    cuts = []
    for of, at, weights in changes:
        if of < epoch or (of == epoch and not at):
            schedule = ((0, weights),)
        elif of == epoch:
            cuts.append((at, weights))
    return spans_of(schedule), cuts


def spans_of(schedule):
    """Return the spans of a schedule."""
    used = [used_by(weights) for _, weights in schedule]
    return [Span(start, weights, frozenset().union(*used[index:])) for index, (start, weights) in enumerate(schedule)]


def used_by(weights):
    return frozenset(index for index, weight in enumerate(weights) if weight)


def block(span, words, number, counts):
    """Return the inputs of a block in their order, which depends on the words, the span and the block's number."""
    inputs = np.repeat(np.arange(len(counts)), counts)
    return shuffled(inputs, *words, *([span.start] if span.start else []), number).tolist()


def lane_pick(spans, words, pick, lane, lanes):
    """Return the input of a pick of a lane, and its span: pick n of lane l is sample ``n * lanes + l``."""
    starts = [max(0, -(-(span.start - lane) // lanes)) for span in spans]
    number = max(at for at, start in enumerate(starts) if start <= pick)
    counts = quotas(spans[number].weights)
    of, inside = divmod(pick - starts[number], sum(counts))
    return block(spans[number], words, of, counts)[inside], spans[number]


def index_picks(spans, cuts, lengths, stop, words):
    """Yield the input of each sample of a mixture with an index, until it ends.

    A change cuts the earlier plan. It has no effect in an epoch that ends before its sample.
    """
    if not cuts:
        given = [0] * len(lengths)
        ends = [*(span.start for span in spans[1:]), None]
        for span, end in zip(spans, ends, strict=True):
            if (yield from _picks_of(span, given, lengths, stop, words, end)):
                return
        return
    *earlier, (at, weights) = cuts
    before = list(itertools.islice(index_picks(spans, earlier, lengths, stop, words), at))
    yield from before
    if len(before) == at:
        given = [before.count(number) for number in range(len(lengths))]
        yield from _picks_of(Span(at, weights, used_by(weights)), given, lengths, stop, words, None)


def _picks_of(span, given, lengths, stop, words, end):
    """Yield the inputs of a span, count them in ``given``, and return whether the mixture ends with it."""
    left = tuple(None if length is None else length - count for length, count in zip(lengths, given, strict=True))
    positions, is_last = _extent(span, left, stop, None if end is None else end - span.start)
    counts = quotas(span.weights)
    size = sum(counts)
    for number in itertools.count() if positions is None else range(-(-positions // size)):
        is_whole = positions is None or (number + 1) * size <= positions
        for at in block(span, words, number, counts if is_whole else apportioned(counts, positions - number * size)):
            given[at] += 1
            yield at
    return is_last


@functools.lru_cache(10_000)
def _extent(span, left, stop, most):
    """Return the number of samples of a span, and whether the mixture ends with it.

    With "first", it ends with the most samples that the inputs can provide. With "all", it ends with the fewest that
    use up all needed inputs.
    """
    counts = quotas(span.weights)
    used = used_by(span.weights)
    if stop == "first":
        known = {at: each for at in used if (each := left[at]) is not None}
        if not known:
            return most, False
        whole = min(each // counts[at] for at, each in known.items())
        sizes = range(sum(counts) - 1, -1, -1)
        positions = whole * sum(counts) + next(
            positions for positions in sizes
            if all(apportioned(counts, positions)[at] <= each - whole * counts[at] for at, each in known.items())
        )  # fmt: skip
        return (positions, True) if most is None or positions < most else (most, False)
    if stop == "never" or any(left[at] is None for at in span.needed):
        return most, False
    needed = {at: left[at] or 0 for at in span.needed}
    if span.start and all(each <= 0 for each in needed.values()):
        return 0, True
    if any(each > 0 for at, each in needed.items() if at not in used):
        return most, False  # a later span reads the rest of these
    needed = {at: each for at, each in needed.items() if at in used}
    whole = max(max(0, -(-each // counts[at]) - 1) for at, each in needed.items())
    positions = whole * sum(counts) + next(
        positions for positions in range(1, sum(counts) + 1)
        if all(apportioned(counts, positions)[at] >= each - whole * counts[at] for at, each in needed.items())
    )  # fmt: skip
    return (positions, True) if most is None or positions <= most else (most, False)


def apportioned(counts, positions):
    """Return the quotas of a shorter block, by largest remainders; the first of equal ones is preferred."""
    size = sum(counts)
    shares = [count * positions // size for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda at: -(counts[at] * positions % size))
    for at in by_remainder[: positions - sum(shares)]:
        shares[at] += 1
    return shares
