"""What feeding accepts."""

import mpqueue
from golden.outcomes import assert_outcome
from golden.values import decode
from mpqueue.values.sparse import SparseTensorValue


def run(case, folder):
    play(case, fed_and_run)


def play(case, function):
    """Call a function with the arguments of a case, and compare its outcome."""
    args = {name: value if name == "shape" else decode(value) for name, value in case["args"].items()}
    expected = case["expect"]
    assert_outcome(lambda: function(case, args), expected.get("output", expected), case["op"])


def fed_and_run(case, args):
    placeholder = getattr(mpqueue, case["op"])(**args)
    feed = case["feed"]
    return mpqueue.run(placeholder, None if feed is None else {placeholder: fed_value(feed)})


def fed_value(feed):
    if feed["as"] == "tuple":
        return tuple(decode(part) for part in feed["value"])
    if feed["as"] == "SparseTensorValue":
        return SparseTensorValue(*(decode(part) for part in feed["value"]))
    return decode(feed["value"])
