"""input_producer and its kin, and limit_epochs."""

from collections import Counter

from helpers.waits import settled

import mpqueue
from golden.outcomes import Background, assert_outcome, is_error, run_by_queue_runners
from golden.values import decode, encode
from mpqueue import train

SETTLED_S = 0.1  # for a row too many to show up


def run(case, folder):
    mpqueue.reset_default_graph()
    expected = case["expect"]
    if is_error(expected):
        assert_outcome(lambda: make(case), expected, case["op"])
        return
    made = make(case)
    with run_by_queue_runners(expected) as coord:
        check_queue(made, expected)
        check_items(case, next_item(made), expected)
        check_end(coord, lambda: made.is_closed(), expected)


def make(case, functions=train, of_unknown_shape=lambda rows: mpqueue.Source(lambda: rows, rows.dtype)):
    """Call the function of a case, of a module like `mpqueue.train`."""
    args = {name: decode(value) for name, value in case["args"].items() if name != "unknown_shape"}
    if case["args"].get("unknown_shape"):
        args["input_tensor"] = of_unknown_shape(args["input_tensor"])
    return getattr(functions, case["op"])(**args)


def next_item(made):
    if isinstance(made, mpqueue.QueueBase):
        return made.dequeue
    return made if callable(made) else lambda: made


def check_queue(queue, expected):
    if "queue_dtype" not in expected:
        return
    assert str(queue.dtypes[0]) == expected["queue_dtype"]
    assert list(queue.shapes[0]) == expected["queue_shape"]
    settle(queue.size, expected["filled_to"])


def settle(current_size, size):
    """The prefetch comes to so many rows, and stays there."""
    assert settled(current_size, lambda found: found == size, SETTLED_S) == size


def check_items(case, next_one, expected):
    if case.get("random"):
        got = [encode(next_one()) for _ in expected["items"]]
        for epoch in epochs(case, len(got)):
            assert multiset(got[epoch]) == multiset(expected["items"][epoch])
    else:
        for place, item in enumerate(expected["items"]):
            assert_outcome(next_one, item, f"item {place}")
    for what in ("end", "again"):
        outcome = expected.get(what)
        if outcome == {"blocked": True}:
            assert Background(next_one).is_blocked(), "did not block"
        elif outcome is not None:
            assert_outcome(next_one, outcome, what)


def epochs(case, count):
    """The items epoch by epoch: each is a whole permutation."""
    size = count // (case["args"].get("num_epochs") or 1) or 1
    return [slice(start, start + size) for start in range(0, count, size)]


def multiset(items):
    return Counter(str(item) for item in items)


def check_end(coord, is_closed, expected):
    assert coord.should_stop() == expected["should_stop_before_request"]
    if "closed" in expected:
        assert is_closed() == expected["closed"]
