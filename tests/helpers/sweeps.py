"""How much of a sweep a run tries: all of it, or a sample of it.

A sweep makes the same check at each line, place or moment, with each of many values, or in many random plays. A run that
leaves out the tests marked ``slow`` (``scripts/test``) tries a sample of each sweep. Any other run tries all of it.

Of a parametrized test, a sample has the number of values of the marker ``sample`` of the test, or of its module.
"""

import collections

is_sampled = False  # set by the configuration of the run


def part_of(number, share=8):
    """Return a number of repetitions, or this share of it in a sample."""
    return -(-number // share) if is_sampled else number


def step_of(step, share=8):
    """Return the distance between two places of a sweep: larger in a sample."""
    return step * share if is_sampled else step


def outside_of_sample(items):
    """Return the collected tests that are in no sample: of each test with a marker, all but evenly spaced parameters."""
    tests = collections.defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    found = []
    for same in tests.values():
        marker = same[0].get_closest_marker("sample")
        number = min(len(same), marker.args[0]) if marker else len(same)
        chosen = {at * len(same) // number for at in range(number)}
        found += [item for at, item in enumerate(same) if at not in chosen]
    return found
