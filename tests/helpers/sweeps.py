"""How much of a sweep a run tries: all of it, or a sample of it.

A sweep makes the same check at each line, place or moment, with each of many values, or in many random plays. A run that
leaves out the tests marked ``slow`` (``scripts/test``) tries a sample of each sweep. Any other run tries all of it.
"""

import pytest

is_sampled = False  # set by the configuration of the run


def part_of(number, share=8):
    """Return a number of repetitions, or this share of it in a sample."""
    return -(-number // share) if is_sampled else number


def step_of(step, share=8):
    """Return the distance between two places of a sweep: larger in a sample."""
    return step * share if is_sampled else step


def parametrize(names, values, *, sample, **options):
    """Parametrize a test. A sample has only so many of the values, evenly spaced: the others are marked ``slow``."""
    values, is_one = list(values), isinstance(names, str) and "," not in names
    chosen = {number * len(values) // sample for number in range(sample)}
    parameters = [value if at in chosen else _slow(value, is_one) for at, value in enumerate(values)]
    return pytest.mark.parametrize(names, parameters, **options)


def _slow(value, is_one):
    if isinstance(value, type(pytest.param())):
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.slow], id=value.id)
    return pytest.param(*([value] if is_one else value), marks=pytest.mark.slow)
